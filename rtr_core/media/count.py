"""A session that renders nothing and counts: which frames come out when, in what noise and fade.

Led through a clip in the place of a real one, it tells where chunks and shots begin, and what a
shot that begins there would have to know of the clip before it.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..drift import DriftMeter
from ..recipes import Recipe
from ..shapes import Stride, frames_of, latent_frames
from ..style import Style


@dataclass
class CountedIntake:
    """How many frames went in, and how many latent frames of them are in chunks."""

    recipe: Recipe
    stride: Stride
    frames: int = 0
    latents: int = 0

    @property
    def is_between_chunks(self) -> bool:
        return self.frames == frames_of(self.latents, self.stride)

    def chunks(self, known: int) -> Iterator[int]:
        """The frames of each chunk that so many latent frames complete."""
        while self.latents + (size := self.recipe.chunk_after(self.latents)) <= known:
            before = frames_of(self.latents, self.stride)
            self.latents += size
            yield frames_of(self.latents, self.stride) - before


class CountedSession:
    """The verbs of a session that a clip is led by. Its frames have no pixels."""

    def __init__(self, recipe: Recipe, stride: Stride, seed: int):
        self.recipe, self.stride, self.seed = recipe, stride, seed
        self.drift = DriftMeter()  # which sees nothing
        self.fade_left = 0  # frames
        self._switch: tuple[int, int | None] | None = None  # at the next chunk
        self.reset()

    def reset(self) -> None:
        self.intake = CountedIntake(self.recipe, self.stride)
        self.frames_out = 0
        self._in_flight: deque[int] = deque()  # frames of each chunk

    @property
    def frames_in(self) -> int:
        return self.intake.frames

    def push(self, frames: Tensor) -> Iterator[Tensor]:
        self.intake.frames += len(frames)
        whole = 1 + (self.intake.frames - 1) // self.stride.time
        yield from self._set_out(whole)

    def flush(self) -> Iterator[Tensor]:
        known, recipe = latent_frames(self.intake.frames, self.stride), self.recipe
        yield from self._set_out(recipe.latents_of(recipe.chunks_of(known)))
        while self._in_flight:
            yield self._landed()
        self.reset()

    def switch(self, style: Style, fade: int = 0, seed: int | None = None) -> None:
        self._switch = max(fade, 1), seed

    def snapshot(self) -> None:
        """Nothing of it is worth keeping."""

    def _set_out(self, latents: int) -> Iterator[Tensor]:
        for frames in self.intake.chunks(latents):
            if self._switch is not None:
                (self.fade_left, seed), self._switch = self._switch, None
                self.seed = self.seed if seed is None else seed
            self.fade_left = max(self.fade_left - frames, 0)
            is_warm_up = self.recipe.first is not None and not self.frames_out
            self._in_flight.append(frames)
            if is_warm_up or len(self._in_flight) == self.recipe.buffer:
                yield self._landed()

    def _landed(self) -> Tensor:
        frames = min(self._in_flight.popleft(), self.frames_in - self.frames_out)
        self.frames_out += frames
        return torch.empty(frames, 0)
