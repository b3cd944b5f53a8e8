"""How near styles are to each other in a bank, whatever clips show.

`closeness` and `apart` look at what sets a style off from the others there. Descriptors are
`appearance.LocalPatterns`, without weights, and `vgg.py` by VGG16.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from ..appearance import Frames


class Descriptor(Protocol):
    """A way to see style."""

    @property
    def name(self) -> str: ...

    def gray(self, frames: Frames) -> np.ndarray:
        """Of texture alone: no colour, contrasts matched."""
        ...

    def color(self, frames: Frames) -> np.ndarray:
        """Of all that is seen."""
        ...


def closeness(
    queries: Sequence[np.ndarray] | np.ndarray, bank: Sequence[np.ndarray] | np.ndarray
) -> np.ndarray:
    """Cosines `[queries bank]` of what sets descriptors apart from the mean of the bank."""
    middle = np.mean(bank, axis=0)
    ours, theirs = (_unit(np.asarray(side) - middle) for side in (queries, bank))
    return ours @ theirs.T


def apart(queries: Sequence[np.ndarray], bank: Sequence[np.ndarray]) -> np.ndarray:
    """Distances `[queries bank]` of what sets descriptors apart, each from the mean of its side.

    So what the scenes of the one side have in common does not count, which a look cannot change.
    Distances and not cosines: a style at a quarter of its strength is not taken for it.
    """
    ours, theirs = (np.asarray(side) - np.mean(side, axis=0) for side in (queries, bank))
    return np.linalg.norm(ours[:, None] - theirs[None], axis=2)


def evenly(frames: Frames, count: int) -> Frames:
    """So many frames spread over all."""
    picked = np.linspace(0, len(frames) - 1, min(count, len(frames))).round().astype(int)
    return frames[picked]


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-8)
