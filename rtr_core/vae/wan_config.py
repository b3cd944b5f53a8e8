"""What a Wan VAE is made of, read off the shapes of its tensors."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..errors import WeightsError
from ..shapes import Stride
from .causal import PICTURE_CHANNELS


class LatentStatistics(NamedTuple):
    """Mean and standard deviation per latent channel, over the data a diffusion model learned."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


# fmt: off
STATISTICS = {
    16: LatentStatistics(
        mean=(
            -0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508,
            0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921,
        ),
        std=(
            2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743,
            3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160,
        ),
    ),
    48: LatentStatistics(
        mean=(
            -0.2289, -0.0052, -0.1323, -0.2339, -0.2799, 0.0174, 0.1838, 0.1557,
            -0.1382, 0.0542, 0.2813, 0.0891, 0.1570, -0.0098, 0.0375, -0.1825,
            -0.2246, -0.1207, -0.0698, 0.5109, 0.2665, -0.2108, -0.2158, 0.2502,
            -0.2055, -0.0322, 0.1109, 0.1567, -0.0729, 0.0899, -0.2799, -0.1230,
            -0.0313, -0.1649, 0.0117, 0.0723, -0.2839, -0.2083, -0.0520, 0.3748,
            0.0152, 0.1957, 0.1433, -0.2944, 0.3573, -0.0548, -0.1681, -0.0667,
        ),
        std=(
            0.4765, 1.0364, 0.4514, 1.1677, 0.5313, 0.4990, 0.4818, 0.5013,
            0.8158, 1.0344, 0.5894, 1.0901, 0.6885, 0.6165, 0.8454, 0.4978,
            0.5759, 0.3523, 0.7135, 0.6804, 0.5833, 1.4146, 0.8986, 0.5659,
            0.7069, 0.5338, 0.4889, 0.4917, 0.4069, 0.4999, 0.6866, 0.4093,
            0.5709, 0.6065, 0.6415, 0.4944, 0.5726, 1.2042, 0.5458, 1.6887,
            0.3971, 1.0600, 0.3943, 0.5537, 0.5444, 0.4089, 0.7468, 0.7744,
        ),
    ),
}
# fmt: on


@dataclass(frozen=True, kw_only=True)
class WanVaeConfig:
    """A level is what happens at one resolution; each but the last is followed by a halving."""

    channels: int = 16  # of a latent
    dim: int = 96  # encoder width at the first level
    decoder_dim: int = 96
    multipliers: tuple[int, ...] = (1, 2, 4, 4)  # width per level, in dims
    depth: int = 2  # residual layers per level; the decoder has one more
    time_halved: tuple[bool, ...] = (False, True, True)  # after each level but the last
    patch: int = 1  # pixels folded into channels before the encoder, per side
    bypass: bool = False  # levels have parameter-free shortcuts (Wan 2.2)
    statistics: LatentStatistics | None = None  # None: of the Wan family with these channels

    def __post_init__(self):
        if len(self.time_halved) != len(self.multipliers) - 1:
            raise WeightsError(
                f"{len(self.multipliers)} levels have {len(self.multipliers) - 1} halvings "
                f"between them, but {len(self.time_halved)} were given."
            )
        if any(len(values) != self.channels for values in self.latent_statistics):
            raise WeightsError(f"Latent mean and std must have {self.channels} values each.")

    @property
    def latent_statistics(self) -> LatentStatistics:
        found = self.statistics or STATISTICS.get(self.channels)
        if found is None:
            raise WeightsError(
                f"No Wan VAE with {self.channels} latent channels is known, only with "
                f"{sorted(STATISTICS)}. Give its latent mean and std as `statistics`."
            )
        return found

    @property
    def stride(self) -> Stride:
        side = self.patch * 2 ** len(self.time_halved)
        return Stride(2 ** sum(self.time_halved), side, side)

    @classmethod
    def infer(cls, shapes: Mapping[str, Sequence[int]]) -> "WanVaeConfig":
        """The config of the VAE whose tensors, by their original names, have these shapes."""
        try:
            return _infer(shapes)
        except KeyError as missing:
            raise WeightsError(
                f"These tensors are not a whole Wan VAE: {missing} is missing. "
                "Choose a file such as Wan2.1_VAE or Wan2.2_VAE."
            ) from missing


WAN_2_1 = WanVaeConfig()
WAN_2_2 = WanVaeConfig(channels=48, dim=160, decoder_dim=256, patch=2, bypass=True)

# Wan 2.1 numbers its layers through all levels, Wan 2.2 within each: one or two numbers.
_LAYER = re.compile(
    r"(encoder\.downsamples\.(\d+)(?:\.downsamples\.(\d+))?)\.(residual|resample)\."
)


def _infer(shapes: Mapping[str, Sequence[int]]) -> WanVaeConfig:
    found = [match for name in shapes if (match := _LAYER.match(name))]
    layers = {(int(m[2]), int(m[3] or 0)): (m[1], m[4]) for m in found}
    dim, folded, *_ = shapes["encoder.conv1.weight"]
    widths, time_halved, residuals, width = [], [], 0, dim
    for _, (name, kind) in sorted(layers.items()):
        if kind == "resample":
            widths.append(width)
            time_halved.append(f"{name}.time_conv.weight" in shapes)
        else:
            width = shapes[f"{name}.residual.2.weight"][0]
            residuals += 1
    widths.append(width)
    return WanVaeConfig(
        channels=shapes["conv2.weight"][0],
        dim=dim,
        decoder_dim=shapes["decoder.head.0.gamma"][0] * dim // widths[0],
        multipliers=tuple(width // dim for width in widths),
        depth=residuals // len(widths),
        time_halved=tuple(time_halved),
        patch=math.isqrt(folded // PICTURE_CHANNELS),
        bypass=any(match[3] for match in found),
    )
