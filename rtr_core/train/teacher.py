"""The teacher: sees all frames at once, at any noise level, and is asked in many steps.

rtr train teacher PAIRS RUN --vae VAE
"""

import math
from dataclasses import dataclass

import numpy as np

from ..model.attention import Context
from ..model.chunk_causal import ChunkCausal, bidirectional
from ..shapes import Size


@dataclass(frozen=True, kw_only=True)
class Teacher:
    by_reference: float = 0.5
    unprompted: float = 0.1
    balance: float = 0.4
    at_noise: float = 0.3  # share of samples at pure noise, where few-step models begin

    @property
    def name(self) -> str:
        return "teacher"

    def drawn(self, rng: np.random.Generator) -> "Teacher":
        return self

    def levels(self, frames: int, rng: np.random.Generator) -> list[float]:
        """One for all: pure noise often, else the middle more than the ends."""
        if rng.random() < self.at_noise:
            return [1.0] * frames
        return [1 / (1 + math.exp(-rng.normal(0.0, 1.2)))] * frames

    def memory(self, grid: Size, frames: int, references: int, context: Context) -> ChunkCausal:
        return bidirectional(grid, references + frames, context)
