"""Looks of paint: oil painting, watercolor, pastel chalk, stone relief."""

from dataclasses import dataclass, field

import numpy as np

from . import tiles
from .filters import blur, dabs, flattened, outlines, slopes
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
class OilPainting:
    """Thick dabs of saturated paint, lit from the upper left."""

    grade: Grade = field(default=Grade(saturation=1.6, gamma=0.95, contrast=1.15))
    dab: int = 3
    relief: float = 3.2
    bristle: float = 0.07

    def draw(self, picture: Picture) -> Picture:
        paint = dabs(blur(picture, 0.7), self.dab, 2500)
        across, down = slopes(luma(paint), 0.8)
        gray = luma(paint)
        stroke = tiles.laid(tiles.bristles(1, -1), gray) - 0.5
        light = np.clip((across + down) * self.relief, -0.25, 0.25) + self.bristle * stroke
        return self.grade(paint) + light[..., None]

    @classmethod
    def varied(cls, rng: np.random.Generator) -> "OilPainting":
        return cls(
            grade=random_grade(rng),
            dab=int(rng.integers(2, 5)),
            relief=float(rng.uniform(1.0, 3.5)),
            bristle=float(rng.uniform(0.0, 0.22)),
        )


@dataclass(frozen=True)
class Watercolor:
    """Thin light washes that are darker at their borders, on paper that shines through."""

    grade: Grade = field(default=Grade(saturation=1.6, gamma=0.5, contrast=0.95))
    paper: Color = (252, 249, 240)
    washes: int = 4
    pooling: float = 4.0
    thin: float = 0.85  # how much paint a wash carries

    def draw(self, picture: Picture) -> Picture:
        calm = blur(flattened(picture, 5, 0.14), 1.0)
        gray = luma(calm)
        wash = soft_levels(gray, self.washes, 0.3)
        paint = self.grade(calm * ((0.8 * wash + 0.25 * gray) / (gray + 0.05))[..., None])
        pool = np.maximum(blur(wash, 1.8) - wash, 0)
        cover = self.thin * (1 - 0.75 * soft_step(gray, 0.55, 0.95))
        sheet = mix(color(self.paper), paint, cover)
        return sheet * (1 - np.clip(self.pooling * pool, 0, 0.6))[..., None]

    @classmethod
    def varied(cls, rng: np.random.Generator) -> "Watercolor":
        return cls(
            grade=random_grade(rng),
            paper=shade(rng.random(), rng.uniform(0.02, 0.3), rng.uniform(0.82, 0.98)),
            washes=int(rng.integers(3, 7)),
            pooling=float(rng.uniform(2.0, 5.0)),
            thin=float(rng.uniform(0.65, 0.95)),
        )


@dataclass(frozen=True)
class PastelChalk:
    """Slanted strokes of soft colour; the dark paper is left where the picture is dark.

    On light paper it is the other way round, with darker chalk.
    """

    grade: Grade = field(default=Grade(saturation=1.5, gamma=0.6, contrast=0.9))
    paper: Color = (40, 42, 54)
    cover: float = 0.92
    slant: int = 1
    line: float = 1.6
    on_light: bool = False

    def draw(self, picture: Picture) -> Picture:
        calm = flattened(picture, 3, 0.12)
        tone = curve(luma(calm), 0.75, 1.15)
        chalk = self.grade(calm) * 0.82 + (0 if self.on_light else 0.18)
        tone = 1 - tone if self.on_light else tone
        strokes = tiles.bristles(self.slant, -1, 5)
        cover = self.cover * tiles.covered(tone * 1.12 + 0.04, strokes, 0.34)
        line = outlines(luma(picture), self.line, 0.01, 0.05)
        return mix(color(self.paper), chalk, cover * (1 - 0.75 * line))

    @classmethod
    def varied(cls, rng: np.random.Generator) -> "PastelChalk":
        on_light = bool(rng.random() < 0.35)
        tone = rng.uniform(0.75, 0.95) if on_light else rng.uniform(0.05, 0.3)
        return cls(
            on_light=on_light,
            grade=random_grade(rng),
            paper=shade(rng.random(), rng.uniform(0.1, 0.7), tone),
            cover=float(rng.uniform(0.75, 1.0)),
            slant=int(rng.choice([-1, 1])),
            line=float(rng.uniform(1.2, 2.4)),
        )


@dataclass(frozen=True)
class StoneRelief:
    """The picture cut into stone and lit from a side."""

    ramp: Ramp = ((34, 32, 34), (158, 150, 140), (252, 248, 238))
    depth: float = 8.0
    tone: float = 0.3  # of the picture itself
    light: tuple[int, int] = (1, 1)

    def draw(self, picture: Picture) -> Picture:
        gray = flattened(luma(picture), 2, 0.06)
        across, down = slopes(gray, 1.3)
        wide_across, wide_down = slopes(gray, 3.0)
        x, y = self.light
        slope = x * (across + wide_across) + y * (down + wide_down)
        lit = self.depth * slope
        return colored(0.52 + 0.46 * np.tanh(lit) + self.tone * (blur(gray, 2) - 0.5), self.ramp)

    @classmethod
    def varied(cls, rng: np.random.Generator) -> "StoneRelief":
        return cls(
            ramp=random_ramp(rng, flip=0.2),
            depth=float(rng.uniform(4.0, 10.0)),
            tone=float(rng.uniform(0.0, 0.5)),
            light=(int(rng.choice([-1, 1])), int(rng.choice([-1, 0, 1]))),
        )
