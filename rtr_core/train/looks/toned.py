"""Looks of tone alone: thermal camera and sepia film."""

from dataclasses import dataclass

import numpy as np

from .filters import blur, flattened
from .tones import Picture, Ramp, colored, curve, luma, random_ramp, soft_levels, soft_step


@dataclass(frozen=True)
class Thermal:
    """A heat camera: soft, in bands of false colour."""

    ramp: Ramp = (
        *((10, 6, 40), (70, 10, 130), (190, 30, 130), (245, 90, 40), (255, 190, 40)),
        (255, 255, 220),
    )
    bands: int = 7
    softness: float = 0.35
    blur: float = 2.2
    gamma: float = 0.9

    def draw(self, picture: Picture) -> Picture:
        heat = curve(blur(flattened(luma(picture), 3, 0.1), self.blur), self.gamma, 1.3)
        return colored(soft_levels(heat, self.bands, self.softness), self.ramp)

    @classmethod
    def varied(cls, rng: np.random.Generator) -> "Thermal":
        return cls(
            ramp=random_ramp(rng, flip=0.5),
            bands=int(rng.integers(4, 11)),
            softness=float(rng.uniform(0.3, 0.7)),
            blur=float(rng.uniform(1.4, 3.0)),
            gamma=float(rng.uniform(0.65, 1.3)),
        )


@dataclass(frozen=True)
class SepiaFilm:
    """An old print: brown, soft, its lights blooming."""

    ramp: Ramp = ((40, 24, 14), (120, 80, 48), (206, 166, 116), (252, 234, 200))
    bloom: float = 0.45
    fade: float = 0.12
    gamma: float = 0.95

    def draw(self, picture: Picture) -> Picture:
        gray = blur(luma(picture), 0.8)
        light = blur(gray * soft_step(gray, 0.45, 0.95), 4.5)
        tone = curve(gray, self.gamma, 1.1) * (1 - self.fade) + self.fade * 0.6
        return colored(1 - (1 - np.minimum(tone, 1)) * (1 - self.bloom * light), self.ramp)

    @classmethod
    def varied(cls, rng: np.random.Generator) -> "SepiaFilm":
        return cls(
            ramp=random_ramp(rng, flip=0.25),
            bloom=float(rng.uniform(0.1, 0.8)),
            fade=float(rng.uniform(0.0, 0.3)),
            gamma=float(rng.uniform(0.7, 1.3)),
        )
