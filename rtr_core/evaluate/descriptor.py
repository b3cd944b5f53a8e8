"""Which style frames are in, as a vector: texture by local patterns, and colours.

Two clips of one style are near each other whatever they show. Compare in a bank: `closeness` looks
at what sets a style apart from the others there. Without weights; `vgg.py` is the same by VGG16.
"""

from collections.abc import Sequence
from typing import Protocol

import cv2
import numpy as np

from .metrics import Frames, leveled

RADII = (1, 2)  # pixels from a pixel to the eight that it is compared with
MARGINS = (0.02, 0.2)  # standard deviations that one of them must be brighter by
AROUND = ((0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1))
LAGS = (1, 2, 4, 8)  # pixels between two that a step is measured from and to
STEPS = (-2, -1, -0.5, -0.25, -0.1, -0.03, 0.03, 0.1, 0.25, 0.5, 1, 2)  # standard deviations
STEP_WEIGHT, TEXTURE_WEIGHT = 0.5, 0.5
LEVELS = 4  # of each colour channel in a histogram
EDGE = cv2.BORDER_REPLICATE


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


class LocalPatterns:
    """Histograms of local binary patterns, of steps, and of colours; square roots of them, so that
    rare patterns count."""

    name = "local patterns"

    def gray(self, frames: Frames) -> np.ndarray:
        return np.mean([_texture(light) for light in leveled(frames)], axis=0)

    def color(self, frames: Frames) -> np.ndarray:
        colors = np.mean([_colors(frame) for frame in frames], axis=0)
        return np.concatenate([colors, TEXTURE_WEIGHT * self.gray(frames)])


def style_distance(descriptor: np.ndarray, other: np.ndarray) -> float:
    """0 for the same style; two styles without anything in common are at the length of both."""
    return float(np.linalg.norm(descriptor - other))


def closeness(
    queries: Sequence[np.ndarray] | np.ndarray, bank: Sequence[np.ndarray] | np.ndarray
) -> np.ndarray:
    """Cosines `[queries bank]` of what sets descriptors apart from the mean of the bank."""
    middle = np.mean(bank, axis=0)
    ours, theirs = (_unit(np.asarray(side) - middle) for side in (queries, bank))
    return ours @ theirs.T


def evenly(frames: Frames, count: int) -> Frames:
    """So many frames spread over all."""
    picked = np.linspace(0, len(frames) - 1, min(count, len(frames))).round().astype(int)
    return frames[picked]


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-8)


def _texture(light: np.ndarray) -> np.ndarray:
    patterns = [_patterns(light, radius, margin) for radius in RADII for margin in MARGINS]
    steps = [
        np.bincount(np.digitize(step.ravel(), STEPS), minlength=len(STEPS) + 1) / step.size
        for lag in LAGS
        for step in (light[lag:] - light[:-lag], light[:, lag:] - light[:, :-lag])
    ]
    return np.sqrt(np.concatenate([*patterns, STEP_WEIGHT**2 * np.concatenate(steps)]))


def _patterns(light: np.ndarray, radius: int, margin: float) -> np.ndarray:
    """How often each of the 256 patterns of brighter neighbours comes."""
    height, width = light.shape
    wide = cv2.copyMakeBorder(light, radius, radius, radius, radius, EDGE)
    pattern = np.zeros(light.shape, np.int32)
    for bit, (down, across) in enumerate(AROUND):
        top, left = radius * (1 + down), radius * (1 + across)
        beside = wide[top : top + height, left : left + width]
        pattern |= (beside > light + margin).astype(np.int32) << bit
    return np.bincount(pattern.ravel(), minlength=256) / pattern.size


def _colors(frame: np.ndarray) -> np.ndarray:
    cells = np.minimum((frame * LEVELS).astype(np.int32), LEVELS - 1)
    number = (cells[..., 0] * LEVELS + cells[..., 1]) * LEVELS + cells[..., 2]
    return np.sqrt(np.bincount(number.ravel(), minlength=LEVELS**3) / number.size)
