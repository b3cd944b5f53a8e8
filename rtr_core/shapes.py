"""All shape arithmetic: frames, latent frames, chunks and tokens.

A clip of pictures `[b c t h w]` is encoded into latent frames: the first covers one frame, each
later one covers `stride.time` frames. Latent frames are cut into tokens by a patch.
"""

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from .errors import ShapeError

LARGEST_SIDE = 16384


class Stride(NamedTuple):
    """Steps along time, height and width: of an autoencoder, or of a patch."""

    time: int
    height: int
    width: int


class Size(NamedTuple):
    """Height and width of a picture, a latent frame or a token grid."""

    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"

    @property
    def area(self) -> int:
        return self.height * self.width


WAN_PATCH = Stride(1, 2, 2)


def latent_frames(frames: int, stride: Stride) -> int:
    """How many latent frames a clip of `frames` becomes, its last group filled up."""
    return 0 if frames == 0 else 1 + -(-(frames - 1) // stride.time)


def whole_latent_frames(frames: int, stride: Stride) -> int:
    """How many of them are whole already, with the last group left open."""
    return 0 if frames == 0 else 1 + (frames - 1) // stride.time


def frames_of(latents: int, stride: Stride) -> int:
    """How many frames `latents` latent frames from the start of a clip decode to."""
    return 0 if latents == 0 else 1 + (latents - 1) * stride.time


@dataclass(frozen=True)
class Geometry:
    """How pictures of one size become latent frames and tokens."""

    size: Size
    stride: Stride  # of the autoencoder
    patch: Stride  # of the transformer

    def __post_init__(self):
        for side in self.size:
            if not 1 <= side <= LARGEST_SIDE:
                raise ShapeError(
                    f"A picture of {self.size} cannot be stylized: each side must be between "
                    f"1 and {LARGEST_SIDE} pixels. Choose another size."
                )

    @property
    def padded(self) -> Size:
        """The picture filled up so that it is a whole number of tokens."""
        step = self.stride.height * self.patch.height, self.stride.width * self.patch.width
        return Size(*(-(-side // by) * by for side, by in zip(self.size, step, strict=True)))

    @property
    def latent(self) -> Size:
        return Size(
            self.padded.height // self.stride.height, self.padded.width // self.stride.width
        )

    @property
    def grid(self) -> Size:
        """Tokens of one latent frame, down and across."""
        return Size(self.latent.height // self.patch.height, self.latent.width // self.patch.width)


def as_size(size: Sequence[int]) -> Size:
    """(height, width) as a Size, refused where it is not two whole numbers."""
    try:
        height, width = (operator.index(side) for side in size)
    except (TypeError, ValueError):
        raise ShapeError(f"A size is (height, width) in whole pixels, not {size!r}.") from None
    return Size(height, width)
