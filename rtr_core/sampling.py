"""From noise to a clean chunk in a few steps.

A sampler sees `denoise(x, sigma) -> clean` and nothing of caches, prompts or models. The closure
is made in one place, which inference and training share.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Protocol

import torch
from torch import Tensor

from .flow import TIMESTEPS, add_noise, clean_from_velocity, randn
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


@dataclass(frozen=True)
class Chunk:
    """Latent frames on their way from noise to clean."""

    x: Tensor  # [b c t h w], as noisy as the next step expects
    source: Tensor | None
    levels: tuple[float, ...]  # noise, as each step is told of it
    done: int = 0  # steps
    structure: Tensor | None = None  # of the source, where the model is told of it

    @property
    def frames(self) -> int:
        return self.x.shape[2]

    @property
    def level(self) -> float:
        return self.levels[self.done]

    @property
    def is_clean(self) -> bool:
        return self.done == len(self.levels)

    def snapshot(self) -> dict[str, Tensor]:
        levels = torch.tensor([self.done, *self.levels], dtype=torch.float64)
        known = {"source": self.source, "structure": self.structure}
        given = {name: latent for name, latent in known.items() if latent is not None}
        return {"x": self.x, "levels": levels, **given}

    @classmethod
    def restored(cls, state: dict[str, Tensor]) -> Chunk:
        done, *levels = state["levels"].tolist()
        source, structure = state.get("source"), state.get("structure")
        return cls(state["x"], source, tuple(levels), int(done), structure)


Chunks = tuple[Chunk, ...]  # the oldest and cleanest first
DenoiseAll = Callable[[Chunks], Sequence[Tensor]]  # one call -> each chunk as it would be clean


def set_out(
    recipe: Recipe, source: Tensor, noise: Draws, strength: float = 1.0, has_source: bool = True
) -> Chunk:
    """A chunk at its beginning: its source `[b c t h w]` under the first noise level.

    At sigma 1 that is noise alone, and the source reaches the model on channels beside it; a model
    without such channels is started lower. Where there is no source, only its shape counts.
    """
    share = recipe.strength * strength if has_source else 1.0
    first, *later = (sigma * share for sigma in recipe.sigmas)
    x = add_noise(source, noise.like(source), first)
    told = max(first - recipe.offset / TIMESTEPS, 0.0)
    return Chunk(x, source if has_source else None, (told, *later))


def moved_on(denoise: DenoiseAll, recipe: Recipe, chunks: Chunks, noise: Draws) -> Chunks:
    """Every chunk one place further (StreamDiT): `s` steps, where `buffer` places share them all.

    With one place that is `few_step`. With a place for each step it is a stream batch, one call a
    chunk. Between them is a buffer of chunks at falling noise levels.
    """
    for _ in range(len(recipe.timesteps) // recipe.buffer):
        cleans = denoise(chunks)
        chunks = tuple(
            _after_step(chunk, clean, recipe, noise)
            for chunk, clean in zip(chunks, cleans, strict=True)
        )
    return chunks


def _after_step(chunk: Chunk, clean: Tensor, recipe: Recipe, noise: Draws) -> Chunk:
    """The chunk at its next noise level, or clean."""
    after = replace(chunk, x=clean, done=chunk.done + 1)
    if after.is_clean:
        return after
    if recipe.inject and chunk.source is not None:
        clean = clean.lerp(chunk.source, recipe.inject)  # what was lost of it comes back
    if recipe.between == "flow":
        return replace(after, x=down(chunk.x, clean, chunk.level, after.level))
    return replace(after, x=add_noise(clean, noise.like(clean), after.level))


def few_step(denoise: Denoise, x: Tensor, sigmas: Sequence[float], noise: Draws) -> Tensor:
    """Predict clean, add fresh noise of the next level, repeat (CausVid, Self-Forcing, RTR-DiT).

    Rollouts are trained by it; `moved_on` does the same for a chunk that flies alone.
    """
    for sigma, following in pairwise(sigmas):
        x = add_noise(denoise(x, sigma), noise.like(x), following)
    return denoise(x, sigmas[-1])


def euler(denoise: Denoise, x: Tensor, sigmas: Sequence[float]) -> Tensor:
    """Follow the flow down in many small steps, as a teacher that was not distilled must."""
    for sigma, following in pairwise([*sigmas, 0.0]):
        x = down(x, denoise(x, sigma), sigma, following)
    return x


def down(x: Tensor, clean: Tensor, sigma: float, following: float) -> Tensor:
    """Straight along the flow from one noise level to another; a source alone stays as it is."""
    return x + (following - sigma) * (x - clean) / sigma if sigma else x


def denoiser(
    model: Model, memory: Any, source: Tensor | None, reference: Tensor | None = None
) -> Denoise:
    """Bind a model to its memory and what it takes beside the chunk at hand: a source, mostly.

    A reference is given where it is not in the memory yet: to teachers and in training.
    """
    beyond = () if reference is None else (reference,)

    def denoise(x: Tensor, sigma: float | Tensor) -> Tensor:
        if isinstance(sigma, Tensor):
            told, level = sigma.float(), sigma[:, None, :, None, None]
        else:
            told, level = x.new_full((x.shape[0], x.shape[2]), sigma, dtype=torch.float32), sigma
        velocity = model(beside(x, source), told, memory, *beyond)
        return clean_from_velocity(x, velocity, level)

    return denoise


def guided(clean: Tensor, avoided: Tensor, guidance: float) -> Tensor:
    """Away from what was to be avoided (classifier-free guidance); 1 changes nothing.

    At one noise level this is the same in clean latents as in velocities.
    """
    return avoided + guidance * (clean - avoided)


def beside(x: Tensor, *others: Tensor | None) -> Tensor:
    """The noisy latent with others on further channels: the source's, the structure's."""
    there = [other for other in others if other is not None]
    return torch.cat([x, *there], dim=1) if there else x
