"""The least autoencoder there is, where something else is to be looked at alone."""

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

from ..shapes import Stride
from .causal import PICTURE_CHANNELS, Trail


@dataclass(frozen=True)
class Blank:
    """Sees nothing and shows nothing, in the right shapes."""

    channels: int
    stride: Stride

    def parameters(self) -> Iterable[Tensor]:
        return ()

    def encode_group(self, pixels: Tensor, trail: Trail) -> Tensor:
        height, width = pixels.shape[-2:]
        _, down, across = self.stride
        return pixels.new_zeros(len(pixels), self.channels, 1, height // down, width // across)

    def decode_latent(self, latent: Tensor, trail: Trail) -> Tensor:
        height, width = latent.shape[-2:]
        time, down, across = self.stride
        frames = time if trail else 1
        trail["begun"] = latent.new_zeros(1)
        return latent.new_zeros(
            len(latent), PICTURE_CHANNELS, frames, height * down, width * across
        )
