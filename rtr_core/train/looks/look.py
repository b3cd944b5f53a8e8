"""A look: a style with all its parameters, as a function of frames."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ...errors import ShapeError
from .tones import Picture

SMALLEST = 16  # a side; the patterns repeat at this size


class Hand(Protocol):
    """How one style is drawn: a frozen dataclass whose defaults are what a prompt asks for."""

    def draw(self, picture: Picture) -> Picture: ...


@dataclass(frozen=True)
class Look:
    """Turns frames into targets, each by itself and always in the same way."""

    style: str
    hand: Hand

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """uint8 `[t h w 3]` to the same."""
        if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
            raise ShapeError(
                f"A look is given frames of uint8 [t h w 3], not {frames.dtype} "
                f"{list(frames.shape)}."
            )
        if not len(frames) or min(frames.shape[1:3]) < SMALLEST:
            raise ShapeError(
                f"A look is given frames of at least {SMALLEST}x{SMALLEST}, not "
                f"{len(frames)} of {frames.shape[1]}x{frames.shape[2]}."
            )
        return np.stack([self._target(frame) for frame in frames])

    def _target(self, frame: np.ndarray) -> np.ndarray:
        drawn = self.hand.draw(frame.astype(np.float32) / 255)
        return np.clip(drawn * 255 + 0.5, 0, 255).astype(np.uint8)
