"""The shape of a transformer, stated or read off its tensors."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from ..errors import WeightsError
from ..shapes import WAN_PATCH, Stride

Predicts = Literal["velocity", "clean"]

WAN_HEAD_DIM = 128
SMALL_HEAD_DIM = 64
MOST_TEXT_ROWS = 2**14
SMALL_DIM = 1024  # below this width heads are SMALL_HEAD_DIM wide, unless a file says otherwise


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    dim: int
    ffn_dim: int
    heads: int
    layers: int
    in_channels: int  # noisy latent, and after it the source's where there is one
    out_channels: int
    text_dim: int = 4096
    text_rows: int = 512  # prompts are padded with zero rows to this many, and those attended
    freq_dim: int = 256
    adapter_dim: int = 0  # hidden width of the reference adapter; 0: there is none
    structure: bool = False  # it is told of the structure too, on as many channels as it gives
    patch: Stride = WAN_PATCH
    tile: int = 1  # tokens a side of a square in which each place has an embedding; 1: none
    eps: float = 1e-6
    predicts: Predicts = "velocity"  # of its last layer; a narrow model cannot carry the noise

    def __post_init__(self):
        if self.heads < 1 or self.dim % self.heads or (self.dim // self.heads) % 2:
            raise WeightsError(
                f"A width of {self.dim} does not divide into {self.heads} heads of even width."
            )
        if self.predicts not in ("velocity", "clean"):
            raise WeightsError(
                f"A transformer predicts 'velocity' or 'clean', not {self.predicts!r}: the config "
                f"is broken, or of a newer RTR."
            )
        if not 1 <= self.text_rows <= MOST_TEXT_ROWS or not 0 < self.eps < 1:
            raise WeightsError(
                f"A prompt of {self.text_rows} rows, or norms with an eps of {self.eps}, is no "
                f"model's: the config is broken."
            )
        if self.in_channels not in (self.out_channels, 2 * self.out_channels):
            raise WeightsError(
                f"This transformer takes {self.in_channels} channels and gives "
                f"{self.out_channels}. A text-to-video model takes as many as it gives, an RTR "
                f"model twice as many (noise and source); image-to-video, VACE and control models "
                f"cannot rerender a stream."
            )

    @property
    def head_dim(self) -> int:
        return self.dim // self.heads

    @property
    def takes_source(self) -> bool:
        """Whether the source's latent is given beside the noisy one."""
        return self.in_channels > self.out_channels

    @classmethod
    def infer(cls, shapes: Mapping[str, Sequence[int]], **known) -> "TransformerConfig":
        """Read the config off tensors under original Wan names; `known` fields come first."""
        try:
            return replace(_infer(shapes, known.get("heads")), **known)
        except KeyError as missing:
            raise WeightsError(
                f"This is no Wan transformer: it has no tensor {missing}. `rtr inspect FILE` "
                f"prints what a file is."
            ) from None


def _infer(shapes: Mapping[str, Sequence[int]], heads: int | None) -> TransformerConfig:
    dim, in_channels, *patch = shapes["patch_embedding.weight"]
    head_dim = SMALL_HEAD_DIM if dim < SMALL_DIM else WAN_HEAD_DIM
    blocks = {int(m[1]) for m in (re.match(r"blocks\.(\d+)\.", name) for name in shapes) if m}
    patch = Stride(*patch)
    pixels = patch.time * patch.height * patch.width
    return TransformerConfig(
        dim=dim,
        ffn_dim=shapes["blocks.0.ffn.0.weight"][0],
        heads=heads or max(1, dim // head_dim),
        layers=max(blocks, default=-1) + 1,
        in_channels=in_channels,
        out_channels=shapes["head.head.weight"][0] // pixels,
        text_dim=shapes["text_embedding.0.weight"][1],
        freq_dim=shapes["time_embedding.0.weight"][1],
        adapter_dim=shapes.get("reference_adapter.gate.weight", (0,))[0],
        structure="structure_embedding.weight" in shapes,
        patch=patch,
        tile=math.isqrt(shapes.get("tile_embedding", (1,))[0]),
    )


WAN_1_3B = TransformerConfig(
    dim=1536, ffn_dim=8960, heads=12, layers=30, in_channels=16, out_channels=16
)
WAN_14B = replace(WAN_1_3B, dim=5120, ffn_dim=13824, heads=40, layers=40)
WAN_5B = replace(
    WAN_1_3B, dim=3072, ffn_dim=14336, heads=24, layers=30, in_channels=48, out_channels=48
)
