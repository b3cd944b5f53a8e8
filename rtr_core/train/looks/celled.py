"""Looks of cells: pixel blocks, stained glass, cross stitch, halftone."""

from dataclasses import dataclass, field

import numpy as np

from . import tiles
from .filters import blur, outlines
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
class PixelBlocks:
    """Big square pixels in few colours, with a small bevel."""

    grade: Grade = field(default=Grade(saturation=1.35, gamma=0.9, contrast=1.15))
    block: int = 8
    levels: int = 6
    bevel: float = 0.07

    def draw(self, picture: Picture) -> Picture:
        cells = self.grade(soft_levels(tiles.blocks(picture, self.block), self.levels, 0.5))
        edge = tiles.laid(tiles.bevel(self.block, 2.0), cells[..., 0])
        return cells + (self.bevel * edge)[..., None]

    @classmethod
    def varied(cls, rng: np.random.Generator) -> "PixelBlocks":
        return cls(
            grade=random_grade(rng),
            block=int(rng.choice([4, 8, 16])),
            levels=int(rng.integers(3, 8)),
            bevel=float(rng.uniform(0.0, 0.16)),
        )


@dataclass(frozen=True)
class StainedGlass:
    """Irregular panes of bright glass in dark lead."""

    grade: Grade = field(default=Grade(saturation=2.0, gamma=0.62, contrast=1.2))
    lead: Color = (16, 14, 22)
    width: float = 1.5
    seeds: tuple[tuple[float, float], ...] = ((3.5, 5.5), (11.0, 11.5))

    def draw(self, picture: Picture) -> Picture:
        panes, border = tiles.shards(blur(picture, 2.4), self.seeds)
        glow = 0.78 + 0.34 * soft_step(border, 1, 7)
        lead = 1 - soft_step(border, self.width - 1, self.width + 1)
        lead = np.maximum(lead, outlines(luma(picture), 1.8, 0.015, 0.05))
        return mix(self.grade(panes) * glow[..., None], color(self.lead), lead)

    @classmethod
    def varied(cls, rng: np.random.Generator) -> "StainedGlass":
        count = int(rng.choice([1, 2, 2, 3]))
        tone = rng.uniform(0.85, 0.97) if rng.random() < 0.3 else rng.uniform(0.02, 0.12)
        grade = random_grade(rng)
        return cls(
            grade=grade,
            lead=shade(rng.random(), rng.uniform(0.1, 0.8), tone),
            width=float(rng.uniform(1.4, 2.6)),
            seeds=tiles.scattered(count, rng),
        )


@dataclass(frozen=True)
class CrossStitch:
    """Crosses of thread on cloth."""

    grade: Grade = field(default=Grade(saturation=1.5, gamma=0.85, contrast=1.15))
    cloth: Color = (236, 228, 212)
    block: int = 8
    thread: float = 1.9
    depth: float = 0.5  # how bright the cloth is between threads
    levels: int = 8

    def draw(self, picture: Picture) -> Picture:
        cells = self.grade(soft_levels(tiles.blocks(picture, self.block), self.levels, 0.6))
        cross = tiles.laid(tiles.stitches(self.block, self.thread), cells[..., 0])
        under = mix(color(self.cloth), cells, 0.5) * self.depth
        return mix(under, cells * 0.9 + 0.1, cross)

    @classmethod
    def varied(cls, rng: np.random.Generator) -> "CrossStitch":
        return cls(
            grade=random_grade(rng),
            cloth=shade(rng.random(), rng.uniform(0.1, 0.8), rng.uniform(0.04, 0.96)),
            block=int(rng.choice([8, 8, 16])),
            thread=float(rng.uniform(1.6, 2.4)),
            depth=float(rng.uniform(0.3, 1.0)),
            levels=int(rng.integers(4, 8)),
        )


@dataclass(frozen=True)
class Halftone:
    """Round dots of one ink whose size is the tone."""

    ramp: Ramp = ((28, 26, 44), (248, 240, 220))
    period: int = 8
    slanted: bool = False
    gamma: float = 0.85
    contrast: float = 1.25
    line: float = 1.3

    def draw(self, picture: Picture) -> Picture:
        gray = luma(picture)
        tone = curve(blur(gray, 0.8), self.gamma, self.contrast)
        dots = tiles.covered(tone * 1.3 - 0.15, tiles.dots(self.period, self.slanted), 0.18)
        line = outlines(gray, self.line, 0.012, 0.05)
        return colored(dots * (1 - 0.85 * line), self.ramp)

    @classmethod
    def varied(cls, rng: np.random.Generator) -> "Halftone":
        period, slanted = [(8, False), (16, True), (16, False)][int(rng.integers(3))]
        return cls(
            ramp=random_ramp(rng, flip=0.5),
            period=period,
            slanted=slanted,
            gamma=float(rng.uniform(0.65, 1.2)),
            contrast=float(rng.uniform(1.0, 1.6)),
            line=float(rng.uniform(1.1, 2.0)),
        )
