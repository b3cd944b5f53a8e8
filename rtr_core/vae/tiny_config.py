"""What a tiny autoencoder is made of, read off the shapes of its tensors."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ..errors import WeightsError
from ..shapes import Stride
from .causal import PICTURE_CHANNELS

Shapes = Mapping[str, Sequence[int]]


@dataclass(frozen=True, kw_only=True)
class TinyVaeConfig:
    """A stage halves (or doubles) height and width, and divides (or multiplies) time by its factor.

    `encoder_widths` and `decoder_widths` have one entry before the first stage and one per stage.
    """

    channels: int = 16  # of a latent
    encoder_widths: tuple[int, ...] = (64, 64, 64, 64)
    decoder_widths: tuple[int, ...] = (256, 128, 64, 64)
    encoder_time: tuple[int, ...] = (2, 2, 1)
    decoder_time: tuple[int, ...] = (1, 2, 2)
    depth: int = 3  # memory layers per stage
    patch: int = 1  # pixels folded into channels before the encoder, per side
    shortcut: bool = False  # a linear map between groups of pixels and latents, beside the layers

    def __post_init__(self):
        stages = {len(self.encoder_time), len(self.decoder_time)}
        stages |= {len(self.encoder_widths) - 1, len(self.decoder_widths) - 1}
        if len(stages) != 1:
            raise WeightsError(
                "A tiny autoencoder has one time factor per stage and one width more, in encoder "
                f"and decoder alike. Stages counted: {sorted(stages)}."
            )
        if math.prod(self.encoder_time) != math.prod(self.decoder_time):
            raise WeightsError(
                f"The encoder makes one latent frame of {math.prod(self.encoder_time)} frames, "
                f"but the decoder gives {math.prod(self.decoder_time)} back."
            )
        if self.depth < 1:
            raise WeightsError(f"A stage needs at least 1 memory layer, not {self.depth}.")

    @property
    def stride(self) -> Stride:
        side = self.patch * 2 ** len(self.encoder_time)
        return Stride(math.prod(self.encoder_time), side, side)

    @classmethod
    def infer(cls, shapes: Shapes) -> "TinyVaeConfig":
        """The config of the autoencoder whose tensors have these shapes."""
        try:
            return _infer(shapes)
        except (IndexError, ZeroDivisionError) as error:
            raise WeightsError(
                "These tensors are not a tiny autoencoder in the layout of TAEHV. "
                "Choose a file such as taew2_1 or taew2_2."
            ) from error


TAEW2_1 = TinyVaeConfig()
TAEW2_2 = replace(TAEW2_1, channels=48, patch=2)


def _infer(shapes: Shapes) -> TinyVaeConfig:
    # Three kinds of layers have weights: plain convolutions, time factors and memory layers.
    narrow, widen = _in_order(shapes, "encoder", "weight"), _in_order(shapes, "decoder", "weight")
    pools = _in_order(shapes, "encoder", "conv.weight")
    grows = _in_order(shapes, "decoder", "conv.weight")
    memories = _in_order(shapes, "encoder", "conv.0.weight")
    return TinyVaeConfig(
        channels=narrow[-1][0],
        encoder_widths=tuple(outputs for outputs, *_ in narrow[:-1]),
        decoder_widths=tuple(outputs for outputs, *_ in widen[:-1]),
        encoder_time=tuple(inputs // outputs for outputs, inputs, *_ in pools),
        decoder_time=tuple(outputs // inputs for outputs, inputs, *_ in grows),
        depth=len(memories) // len(pools),
        patch=math.isqrt(narrow[0][1] // PICTURE_CHANNELS),
        shortcut="encoder_shortcut.weight" in shapes,
    )


def _in_order(shapes: Shapes, side: str, tail: str) -> list[Sequence[int]]:
    """The shapes of all tensors `side.<number>.tail`, by number."""
    pattern = re.compile(rf"{side}\.(\d+)\.{re.escape(tail)}")
    found = {int(match[1]): shapes[name] for name in shapes if (match := pattern.fullmatch(name))}
    return [found[number] for number in sorted(found)]
