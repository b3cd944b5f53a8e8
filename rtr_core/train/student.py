"""The causal student: each chunk sees only what a stream would have kept, at a few noise levels.

    rtr train student PAIRS RUN --teacher TEACHER

Every chunk has a noise level of its own (diffusion forcing), so that its past is as imperfect as
its own past will be.
"""

from dataclasses import dataclass, replace

import numpy as np

from ..model.attention import Context
from ..model.chunk_causal import ChunkCausal
from ..recipes import Recipe
from ..shapes import Size


@dataclass(frozen=True, kw_only=True)
class Student:
    recipe: Recipe  # whose steps, chunk, window and positions it learns
    by_reference: float = 0.5
    unprompted: float = 0.0  # few-step models are asked without guidance
    balance: float = 0.5
    first: float = 0.6  # share of noisy chunks at the level of the first step
    partitions: tuple[int, ...] = ()  # lengths of chunks to learn by, one drawn for each step, as
    # StreamDiT does; none: the recipe's alone
    clean: float = 0.15  # share of chunks that are clean, where a past is committed so

    @property
    def name(self) -> str:
        return "student"

    def drawn(self, rng: np.random.Generator) -> "Student":
        if not self.partitions:
            return self
        chunk = int(self.partitions[rng.integers(len(self.partitions))])
        return replace(self, recipe=self.recipe.override(chunk=chunk))

    def levels(self, frames: int, rng: np.random.Generator) -> list[float]:
        chunks = [self._level(rng) for _ in range(0, frames, self.recipe.chunk)]
        return [level for level in chunks for _ in range(self.recipe.chunk)][:frames]

    def memory(self, grid: Size, frames: int, references: int, context: Context) -> ChunkCausal:
        memory = ChunkCausal(grid, self.recipe.memory, context)
        memory.replace_anchor(references)
        for first in range(0, frames, self.recipe.chunk):
            memory.commit(min(self.recipe.chunk, frames - first))
        return memory

    def _level(self, rng: np.random.Generator) -> float:
        first, *later = self.recipe.sigmas
        if self.recipe.commit == "clean" and rng.random() < self.clean:
            return 0.0
        if not later or rng.random() < self.first:
            return first
        return later[rng.integers(len(later))]
