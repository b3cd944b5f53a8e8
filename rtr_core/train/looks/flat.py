"""Looks of flat areas: cel cartoon, pop poster, paper cutout."""

from dataclasses import dataclass, field

import numpy as np

from . import tiles
from .filters import blur, flattened, moved, outlines
from .tones import (
    Color,
    Grade,
    Picture,
    Ramp,
    color,
    colored,
    curve,
    luma,
    mix,
    random_grade,
    random_ramp,
    shade,
    soft_levels,
    soft_step,
)


@dataclass(frozen=True)
class CelCartoon:
    """Few levels of light in strong colours inside bold outlines."""

    grade: Grade = field(default=Grade(saturation=1.6, gamma=0.85, contrast=1.1))
    levels: int = 3
    line: float = 1.7
    ink: Color = (18, 14, 26)

    def draw(self, picture: Picture) -> Picture:
        calm = flattened(picture, 3, 0.08)
        drawing = luma(calm)
        calm = flattened(calm, 3, 0.1)
        gray = luma(calm)
        light = soft_levels(gray, self.levels, 0.35) * 0.92 + 0.08
        flat = self.grade(calm * (light / (gray + 0.04))[..., None])
        line = outlines(drawing, self.line, 0.01, 0.03)
        return mix(flat, color(self.ink), line)

    @classmethod
    def varied(cls, rng: np.random.Generator) -> "CelCartoon":
        tone = rng.uniform(0.9, 0.98) if rng.random() < 0.3 else rng.uniform(0.02, 0.12)
        return cls(
            grade=random_grade(rng),
            levels=int(rng.integers(2, 5)),
            line=float(rng.uniform(1.3, 2.6)),
            ink=shade(rng.random(), rng.uniform(0.2, 0.9), tone),
        )


@dataclass(frozen=True)
class PopPoster:
    """A poster printed in four inks; the middle tone is made of stripes of its neighbours."""

    ramp: Ramp = ((12, 38, 78), (214, 38, 52), (112, 172, 186), (252, 232, 180))
    stripes: int = 2  # along a tile's side
    slanted: bool = False
    gamma: float = 0.85
    contrast: float = 1.35

    def draw(self, picture: Picture) -> Picture:
        calm = curve(flattened(blur(luma(picture), 1.2), 4, 0.12), self.gamma, self.contrast)
        turn = (self.stripes, self.stripes) if self.slanted else (0, self.stripes)
        stripe = tiles.laid(tiles.hatching(*turn), calm) - 0.5
        steps = len(self.ramp) - 1
        middle = soft_step(calm, 0.4, 0.5) * (1 - soft_step(calm, 0.68, 0.8))
        tone = calm + stripe * middle * (1.1 / steps)
        return colored(soft_levels(np.clip(tone, 0, 1), steps, 0.3), self.ramp)

    @classmethod
    def varied(cls, rng: np.random.Generator) -> "PopPoster":
        return cls(
            ramp=random_ramp(rng, flip=0.4),
            stripes=int(rng.choice([1, 2])),
            slanted=bool(rng.random() < 0.5),
            gamma=float(rng.uniform(0.65, 1.2)),
            contrast=float(rng.uniform(1.1, 1.6)),
        )


@dataclass(frozen=True)
class PaperCutout:
    """Sheets of coloured paper one above the other, each with its shadow."""

    ramp: Ramp = ((24, 44, 84), (34, 110, 130), (240, 122, 96), (250, 190, 130), (255, 240, 214))
    sheets: int = 4
    gamma: float = 0.9
    shadow: float = 0.65
    drop: int = 3

    def draw(self, picture: Picture) -> Picture:
        tone = curve(blur(flattened(luma(picture), 4, 0.15), 2.0), self.gamma, 1.25)
        sheet = soft_levels(tone, self.sheets, 0.18)
        above = blur(moved(sheet, self.drop, self.drop), 1.6)
        dark = np.clip((above - sheet) * self.sheets, 0, 1) * self.shadow
        rim = np.clip((sheet - moved(sheet, 2, 2)) * self.sheets, 0, 1) * 0.18
        return colored(sheet, self.ramp) * (1 - dark)[..., None] + rim[..., None]

    @classmethod
    def varied(cls, rng: np.random.Generator) -> "PaperCutout":
        return cls(
            ramp=random_ramp(rng, dark=0.12),
            sheets=int(rng.integers(2, 6)),
            gamma=float(rng.uniform(0.65, 1.25)),
            shadow=float(rng.uniform(0.4, 0.8)),
            drop=int(rng.integers(2, 5)),
        )
