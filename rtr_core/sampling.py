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

Denoise = Callable[[Tensor, Any], Tensor]  # x, sigma as a number or [b t] -> clean

Model = Callable[..., Tensor]  # x, sigma [b t], memory, and perhaps a reference -> velocity


class Draws(Protocol):
    """Where noise comes from."""

    def like(self, x: Tensor) -> Tensor: ...


class Noise(Draws, Protocol):
    """Where a session's noise comes from; it can be put back to where it was."""

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


def few_step(denoise: Denoise, x: Tensor, sigmas: Sequence[float], noise: Draws) -> Tensor:
    """Predict clean, add fresh noise of the next level, repeat (CausVid, Self-Forcing, RTR-DiT)."""
    for sigma, following in pairwise(sigmas):
        x = add_noise(denoise(x, sigma), noise.like(x), following)
    return denoise(x, sigmas[-1])


def euler(denoise: Denoise, x: Tensor, sigmas: Sequence[float]) -> Tensor:
    """Follow the flow down in many small steps, as a teacher that was not distilled must."""
    for sigma, following in pairwise([*sigmas, 0.0]):
        x = x + (following - sigma) * (x - denoise(x, sigma)) / sigma
    return x


def denoiser(
    model: Model, memory: Any, source: Tensor | None, reference: Tensor | None = None
) -> Denoise:
    """Bind a model to its memory and, where it takes one, the source of the chunk at hand.

    A reference is given where it is not in the memory yet: to teachers and in training.
    """
    beyond = () if reference is None else (reference,)

    def denoise(x: Tensor, sigma: float | Tensor) -> Tensor:
        if isinstance(sigma, Tensor):
            told, level = sigma, sigma[:, None, :, None, None]
        else:
            told, level = x.new_full((x.shape[0], x.shape[2]), sigma, dtype=torch.float32), sigma
        velocity = model(beside(x, source), told, memory, *beyond)
        return clean_from_velocity(x, velocity, level)

    return denoise


def render_chunk(
    denoise: Denoise, recipe: Recipe, source: Tensor, noise: Draws, strength: float = 1.0
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
