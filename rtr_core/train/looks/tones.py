"""Tones and colours: every picture here is float32 in 0..1, `[h w]` gray or `[h w 3]` RGB.

All steps are soft, so that noise in a source is never blown up to a jump in its target.
"""

import colorsys
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

Picture = np.ndarray
Color = tuple[int, int, int]  # 0..255, as people write colours
Ramp = tuple[Color, ...]  # what tone 0 .. what tone 1 becomes

GRAY = np.array([0.299, 0.587, 0.114], np.float32)
RESOLUTION = 1024  # entries of a ramp's table: finer than 8 bits show


def luma(picture: Picture) -> Picture:
    return cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)


def soft_step(x: Picture, low: float, high: float) -> Picture:
    """0 below `low`, 1 above `high`, smooth between."""
    t = np.clip((x - low) * (1 / (high - low)), 0, 1)
    return t * t * (3 - 2 * t)


def soft_levels(x: Picture, steps: int, softness: float) -> Picture:
    """0..1 in `steps` + 1 levels; `softness` is the share of a level that leads to the next."""
    y = x * np.float32(steps)
    floor = np.floor(y)
    return (floor + soft_step(y - floor, 0.5 - softness / 2, 0.5 + softness / 2)) * (1 / steps)


def curve(x: Picture, gamma: float, contrast: float) -> Picture:
    """A tone curve: gamma under 1 lightens; contrast turns about the middle."""
    x = cv2.pow(np.maximum(x, 0), gamma) if gamma != 1 else x
    return np.clip((x - 0.5) * np.float32(contrast) + 0.5, 0, 1)


def color(rgb: Color) -> Picture:
    return np.array(rgb, np.float32) / 255


def mix(a: Picture, b: Picture, share: Picture | float) -> Picture:
    """`a` where the share is 0, `b` where it is 1; a gray share goes for all channels."""
    if isinstance(share, np.ndarray) and share.ndim == 2:
        share = share[..., None]
    return a + (b - a) * share


@lru_cache(maxsize=256)
def _table(ramp: Ramp) -> Picture:
    stops, x = np.linspace(0, 1, len(ramp)), np.linspace(0, 1, RESOLUTION)
    return np.stack([np.interp(x, stops, c) for c in np.array(ramp).T / 255.0], -1).astype(
        np.float32
    )


def colored(tone: Picture, ramp: Ramp) -> Picture:
    """A gray picture in the colours of a ramp."""
    index = np.clip(tone * np.float32(RESOLUTION - 1) + 0.5, 0, RESOLUTION - 1)
    return _table(ramp).take(index.astype(np.int32), axis=0)


@dataclass(frozen=True)
class Grade:
    """How a look that keeps the source's colours treats them; a ramp takes their place."""

    saturation: float = 1.0
    gamma: float = 1.0
    contrast: float = 1.0
    ramp: Ramp | None = None
    share: float = 1.0  # of the ramp

    def __call__(self, picture: Picture) -> Picture:
        gray = luma(picture)
        out = gray[..., None] + (picture - gray[..., None]) * np.float32(self.saturation)
        out = curve(out, self.gamma, self.contrast)
        if self.ramp is None:
            return out
        return mix(out, colored(curve(gray, self.gamma, self.contrast), self.ramp), self.share)


def shade(hue: float, saturation: float, tone: float) -> Color:
    """The colour of a hue that has exactly this tone in gray."""
    full = np.array(colorsys.hsv_to_rgb(hue % 1, saturation, 1))
    gray = float(full @ GRAY)
    out = full * (tone / gray) if gray > tone else full + (1 - full) * (tone - gray) / (1 - gray)
    red, green, blue = (round(float(c) * 255) for c in out)
    return red, green, blue


def random_ramp(
    rng: np.random.Generator, *, dark: float = 0.08, light: float = 0.92, flip: float = 0.35
) -> Ramp:
    """3 to 5 colours of any hue from dark to light, or, in `flip` of the cases, the other way."""
    count, hue = int(rng.integers(3, 6)), rng.random()
    spread = rng.choice([0.03, 0.1, 0.17, 0.25, 0.33]) * rng.choice([-1, 1])
    low, high = dark + rng.uniform(0, 0.1), light - rng.uniform(0, 0.12)
    tones = low + (high - low) * np.linspace(0, 1, count) ** rng.uniform(0.8, 1.3)
    ramp = tuple(
        shade(hue + spread * i / (count - 1) * 2 + rng.normal(0, 0.02), rng.uniform(0.3, 1.0), t)
        for i, t in enumerate(tones)
    )
    return ramp[::-1] if rng.random() < flip else ramp


def random_grade(rng: np.random.Generator) -> Grade:
    """Mostly new colours; sometimes the source's own, stronger or weaker."""
    return Grade(
        saturation=float(rng.uniform(0.4, 1.7)),
        gamma=float(rng.uniform(0.7, 1.3)),
        contrast=float(rng.uniform(0.85, 1.25)),
        ramp=random_ramp(rng, flip=0.2) if rng.random() < 0.8 else None,
        share=float(rng.uniform(0.65, 1.0)),
    )
