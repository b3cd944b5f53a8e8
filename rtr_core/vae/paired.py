"""One autoencoder to encode with and another to decode with, over the same latents.

    vae = paired(wan, taew2_1)      # the large one sees the source, the tiny one shows the result

Both take and give the normalized latents of the diffusion model, so one stands in for the other.
"""

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor, nn

from ..errors import WeightsError
from ..shapes import Stride
from .causal import Trail
from .stream import Vae

M = TypeVar("M")


def paired(encodes: Vae, decodes: Vae) -> "PairedVae":
    """The encoding half of one and the decoding half of the other."""
    return PairedVae(without(encodes, "decoder"), without(decodes, "encoder"))


@dataclass(frozen=True)
class PairedVae:
    """Two autoencoders as one."""

    encodes: Vae
    decodes: Vae

    def __post_init__(self):
        one, other = ((vae.channels, vae.stride) for vae in (self.encodes, self.decodes))
        if one != other:
            raise WeightsError(
                f"The decoder's latents have {other[0]} channels and a stride of "
                f"{'x'.join(map(str, other[1]))}, those that are encoded {one[0]} and "
                f"{'x'.join(map(str, one[1]))}. taew2_1 goes with Wan 2.1, taew2_2 with Wan 2.2."
            )

    @property
    def channels(self) -> int:
        return self.encodes.channels

    @property
    def stride(self) -> Stride:
        return self.encodes.stride

    def parameters(self) -> Iterable[Tensor]:
        return [*self.encodes.parameters(), *self.decodes.parameters()]

    def encode_group(self, pixels: Tensor, trail: Trail) -> Tensor:
        return self.encodes.encode_group(pixels, trail)

    def decode_latent(self, latent: Tensor, trail: Trail) -> Tensor:
        return self.decodes.decode_latent(latent, trail)


def without(vae: M, half: str) -> M:
    """The same network over the same weights, but for a half that is not needed."""
    if not isinstance(vae, nn.Module):
        return vae
    rest = copy.copy(vae)
    rest._modules = {name: part for name, part in vae.named_children() if name != half}
    return rest
