"""What is seen in frames `[t h w 3]`, float32 in 0..1: light, colour, sharpness, and style.

A style is a vector of texture, by local patterns, and of colours: two clips of one style are near
each other whatever they show. Pure functions, without weights.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Frames = np.ndarray

LUMA = np.array([0.299, 0.587, 0.114], np.float32)
FLAT = 1e-3  # standard deviation below which a gray frame has no contrast to be matched

RADII = (1, 2)  # pixels from a pixel to the eight that it is compared with
MARGINS = (0.02, 0.2)  # standard deviations that one of them must be brighter by
AROUND = ((0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1))
LAGS = (1, 2, 4, 8)  # pixels between two that a step is measured from and to
STEPS = (-2, -1, -0.5, -0.25, -0.1, -0.03, 0.03, 0.1, 0.25, 0.5, 1, 2)  # standard deviations
STEP_WEIGHT, TEXTURE_WEIGHT = 0.5, 0.5
LEVELS = 4  # of each colour channel in a histogram


# ---- light, colour, sharpness ----


def gray(frames: Frames) -> np.ndarray:
    """Luminance `[t h w]`."""
    return frames @ LUMA


def leveled(frames: Frames) -> np.ndarray:
    """Luminance `[t h w]` of mean 0 and variance 1 in each frame: no colour, no contrast."""
    light = gray(frames)
    light = light - light.mean((1, 2), keepdims=True)
    return light / np.maximum(light.std((1, 2), keepdims=True), FLAT)


def mean_color(frames: Frames) -> np.ndarray:
    return frames.mean((0, 1, 2))


def brightness(frames: Frames) -> float:
    return float(gray(frames).mean())


def saturation(frames: Frames) -> float:
    red, green, blue = np.moveaxis(frames, -1, 0)
    most = np.maximum(np.maximum(red, green), blue)
    return float((most - np.minimum(np.minimum(red, green), blue)).mean())


def sharpness(frames: Frames) -> float:
    """Mean step of luminance from pixel to pixel."""
    return float(slopes(frames).mean())


def slopes(frames: Frames) -> np.ndarray:
    """How steep the luminance is at each pixel but those of the last row and column."""
    light = gray(frames)
    down, across = np.diff(light, axis=1)[:, :, :-1], np.diff(light, axis=2)[:, :-1]
    return np.hypot(down, across)


def change(first: float, last: float) -> float:
    """How far a figure went, as a share of where it began; below 0 where it became less."""
    return (last - first) / max(abs(first), 1e-6)


# ---- style ----


@dataclass(frozen=True)
class LocalPatterns:
    """Histograms of local binary patterns, of steps, and of colours; square roots of them, so that
    rare patterns count. The fewer radii and margins, the fewer pixels tell a style."""

    radii: Sequence[int] = RADII
    margins: Sequence[float] = MARGINS

    name = "local patterns"

    def gray(self, frames: Frames) -> np.ndarray:
        """Of texture alone: no colour, contrasts matched."""
        return np.mean([self._texture(light) for light in leveled(frames)], axis=0)

    def color(self, frames: Frames) -> np.ndarray:
        """Of all that is seen."""
        colors = np.mean([_colors(frame) for frame in frames], axis=0)
        return np.concatenate([colors, TEXTURE_WEIGHT * self.gray(frames)])

    def _texture(self, light: np.ndarray) -> np.ndarray:
        patterns = [_patterns(light, r, margin) for r in self.radii for margin in self.margins]
        steps = [
            _steps(step)
            for lag in LAGS
            for step in (light[lag:] - light[:-lag], light[:, lag:] - light[:, :-lag])
        ]
        return np.sqrt(np.concatenate([*patterns, STEP_WEIGHT**2 * np.concatenate(steps)]))


def style_distance(descriptor: np.ndarray, other: np.ndarray) -> float:
    """0 for the same style; two styles without anything in common are at the length of both."""
    return float(np.linalg.norm(descriptor - other))


def _patterns(light: np.ndarray, radius: int, margin: float) -> np.ndarray:
    """How often each of the 256 patterns of brighter neighbours comes."""
    height, width = light.shape
    wide, least = np.pad(light, radius, mode="edge"), light + margin
    pattern = np.zeros(light.shape, np.uint8)
    for bit, (down, across) in enumerate(AROUND):
        top, left = radius * (1 + down), radius * (1 + across)
        beside = wide[top : top + height, left : left + width]
        pattern |= (beside > least).view(np.uint8) << np.uint8(bit)
    return np.bincount(pattern.ravel(), minlength=256) / pattern.size


def _steps(step: np.ndarray) -> np.ndarray:
    """How often steps lie between two of `STEPS`, or beyond."""
    above = np.array([step.size, *(np.count_nonzero(step >= limit) for limit in STEPS), 0])
    return (above[:-1] - above[1:]) / max(step.size, 1)  # there is none in a narrow picture


def _colors(frame: np.ndarray) -> np.ndarray:
    cells = np.minimum((frame * LEVELS).astype(np.int32), LEVELS - 1)
    number = (cells[..., 0] * LEVELS + cells[..., 1]) * LEVELS + cells[..., 2]
    return np.sqrt(np.bincount(number.ravel(), minlength=LEVELS**3) / number.size)
