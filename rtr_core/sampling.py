"""From noise to a clean chunk in a few steps.

A sampler sees `denoise(x, sigma) -> clean` and nothing of caches, prompts or models. The closure
is made in one place, which inference and training share.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Protocol

import torch
from torch import Tensor

from .flow import add_noise, clean_from_velocity, randn
from .recipes import Recipe

Denoise = Callable[[Tensor, float], Tensor]

Model = Callable[[Tensor, Tensor, Any], Tensor]  # x, sigma [b t], memory -> velocity


class Noise(Protocol):
    """Where a session's randomness comes from; it can be put back to where it was."""

    def like(self, x: Tensor) -> Tensor: ...

    def snapshot(self) -> dict[str, Tensor]: ...

    def restore(self, state: dict[str, Tensor], /) -> None: ...


class SeededNoise:
    """A generator of one session's own."""

    def __init__(self, seed: int, device: torch.device | str = "cpu"):
        self.rng = torch.Generator(device).manual_seed(seed)

    def like(self, x: Tensor) -> Tensor:
        return randn(x.shape, self.rng, x)

    def snapshot(self) -> dict[str, Tensor]:
        return {"state": self.rng.get_state()}

    def restore(self, state: dict[str, Tensor]) -> None:
        self.rng.set_state(state["state"].cpu())


def few_step(denoise: Denoise, x: Tensor, sigmas: Sequence[float], noise: Noise) -> Tensor:
    """Predict clean, add fresh noise of the next level, repeat (CausVid, Self-Forcing, RTR-DiT)."""
    for sigma, following in pairwise(sigmas):
        x = add_noise(denoise(x, sigma), noise.like(x), following)
    return denoise(x, sigmas[-1])


def denoiser(model: Model, memory: Any, source: Tensor | None) -> Denoise:
    """Bind a model to its memory and, where it takes one, the source of the chunk at hand."""

    def denoise(x: Tensor, sigma: float) -> Tensor:
        told = x.new_full((x.shape[0], x.shape[2]), sigma, dtype=torch.float32)
        velocity = model(beside(x, source), told, memory)
        return clean_from_velocity(x, velocity, sigma)

    return denoise


def render_chunk(
    denoise: Denoise, recipe: Recipe, source: Tensor, noise: Noise, strength: float = 1.0
) -> Tensor:
    """The clean latents of one chunk `[b c t h w]`, from its source under the first noise level.

    At sigma 1 that is noise alone, and the source reaches the model on channels beside it; a model
    without such channels is started lower.
    """
    sigmas = [sigma * recipe.strength * strength for sigma in recipe.sigmas]
    x = add_noise(source, noise.like(source), sigmas[0])
    return few_step(denoise, x, sigmas, noise)


def beside(x: Tensor, source: Tensor | None) -> Tensor:
    """The noisy latent with the source's on further channels."""
    return x if source is None else torch.cat([x, source], dim=1)
