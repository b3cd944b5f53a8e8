"""Looks of lines: ink wash, pencil sketch, neon edges, blueprint, woodcut."""

from dataclasses import dataclass

import numpy as np

from . import tiles
from .filters import blur, edges, flattened, outlines
from .tones import (
    Color,
    Picture,
    Ramp,
    color,
    colored,
    curve,
    luma,
    random_ramp,
    shade,
    soft_levels,
    soft_step,
)


@dataclass(frozen=True)
class InkWash:
    """Few soft washes that pool at their borders, under a brush that swells in the dark."""

    ramp: Ramp = ((24, 26, 34), (92, 98, 108), (178, 180, 176), (246, 240, 226))
    gamma: float = 0.5
    washes: int = 3
    brush: float = 1.8
    pooling: float = 1.2

    def draw(self, picture: Picture) -> Picture:
        gray = luma(picture)
        calm = flattened(gray, 4, 0.12)
        tone = soft_levels(curve(calm, self.gamma, 1.1), self.washes, 0.7)
        tone = tone - self.pooling * np.maximum(blur(tone, 3) - tone, 0)
        fine = outlines(gray, self.brush, 0.008, 0.04)
        bold = outlines(calm, 2 * self.brush, 0.02, 0.09) * soft_step(0.75 - calm, 0, 0.4)
        return colored(np.clip(tone, 0, 1) * (1 - 0.8 * fine) * (1 - 0.9 * bold), self.ramp)

    @classmethod
    def varied(cls, rng: np.random.Generator) -> "InkWash":
        return cls(
            ramp=random_ramp(rng, light=0.95),
            gamma=float(rng.uniform(0.5, 1.1)),
            washes=int(rng.integers(2, 7)),
            brush=float(rng.uniform(1.1, 2.0)),
            pooling=float(rng.uniform(0.4, 1.8)),
        )


@dataclass(frozen=True)
class PencilSketch:
    """Outlines and crossed strokes on paper."""

    ramp: Ramp = ((52, 52, 58), (250, 248, 243))
    line: float = 1.2
    strokes: int = 2  # along a tile's side
    dark: float = 0.6  # how much a stroke covers
    gamma: float = 0.8

    def draw(self, picture: Picture) -> Picture:
        gray = blur(luma(picture), 1.0)
        shadow = 1 - curve(gray, self.gamma, 1.1)
        first = tiles.covered(shadow * 1.1 - 0.2, tiles.hatching(self.strokes, self.strokes), 0.2)
        second = tiles.covered(
            shadow * 1.5 - 0.75, tiles.hatching(self.strokes, -self.strokes), 0.2
        )
        line = outlines(gray, self.line, 0.004, 0.03)
        tone = (1 - self.dark * first) * (1 - self.dark * second) * (1 - 0.85 * line)
        return colored(tone, self.ramp)

    @classmethod
    def varied(cls, rng: np.random.Generator) -> "PencilSketch":
        return cls(
            ramp=random_ramp(rng, dark=0.12, light=0.96),
            line=float(rng.uniform(1.0, 2.2)),
            strokes=int(rng.choice([1, 2, 2])),
            dark=float(rng.uniform(0.35, 0.75)),
            gamma=float(rng.uniform(0.6, 1.2)),
        )


@dataclass(frozen=True)
class NeonEdges:
    """Edges that glow on a night ground; their colour goes with the tone under them."""

    ground: Color = (8, 6, 22)
    ramp: Ramp = ((60, 60, 255), (255, 40, 190), (40, 235, 255), (255, 240, 120))
    line: float = 1.4
    glow: float = 0.9
    core: float = 0.55  # how white a line's middle is

    def draw(self, picture: Picture) -> Picture:
        gray = luma(picture)
        line = edges(gray, self.line, 0.012, 0.07)
        light = colored(curve(blur(gray, 2.5), 0.9, 1.4), self.ramp)
        halo = blur(line, 4.5) * self.glow
        lit = light * (line * 0.9 + halo)[..., None] + (self.core * line**3)[..., None]
        return color(self.ground) + lit * (1 - color(self.ground))

    @classmethod
    def varied(cls, rng: np.random.Generator) -> "NeonEdges":
        ramp = random_ramp(rng, dark=0.35, light=0.9, flip=0.5)
        return cls(
            ground=shade(rng.random(), rng.uniform(0.2, 0.9), rng.uniform(0.01, 0.14)),
            ramp=ramp,
            line=float(rng.uniform(1.1, 2.4)),
            glow=float(rng.uniform(0.3, 1.3)),
            core=float(rng.uniform(0.0, 0.7)),
        )


@dataclass(frozen=True)
class Blueprint:
    """Light lines on a ground with a drawing grid, dark parts faintly filled."""

    ramp: Ramp = ((20, 58, 140), (62, 108, 190), (232, 242, 255))
    line: float = 1.3
    grid: int = 16
    rule: float = 0.22  # how strong the grid is
    fill: float = 0.2

    def draw(self, picture: Picture) -> Picture:
        gray = luma(picture)
        line = edges(gray, self.line, 0.012, 0.06)
        fill = self.fill * soft_levels(blur(gray, 1.5), 3, 0.6)
        rule = self.rule * tiles.laid(tiles.grid(self.grid, 2.0), gray)
        return colored(np.maximum(line, fill + rule * (1 - line)), self.ramp)

    @classmethod
    def varied(cls, rng: np.random.Generator) -> "Blueprint":
        return cls(
            ramp=random_ramp(rng, dark=0.1, light=0.95, flip=0.4),
            line=float(rng.uniform(1.1, 2.2)),
            grid=int(rng.choice([8, 16, 16])),
            rule=float(rng.uniform(0.12, 0.4)),
            fill=float(rng.uniform(0.0, 0.45)),
        )


@dataclass(frozen=True)
class Woodcut:
    """Waving cuts whose width is the tone, between solid blacks and bare paper."""

    ramp: Ramp = ((30, 22, 20), (243, 230, 202))
    cuts: int = 2  # along a tile's side
    wave: float = 0.14
    gamma: float = 0.9
    contrast: float = 1.6
    line: float = 1.5
    upright: bool = False

    def draw(self, picture: Picture) -> Picture:
        gray = blur(luma(picture), 1.0)
        tone = curve(flattened(gray, 3, 0.08), self.gamma, self.contrast)
        turn = (self.cuts, 0) if self.upright else (0, self.cuts)
        carved = tiles.covered(tone, tiles.hatching(*turn, self.wave), 0.16)
        line = outlines(gray, self.line, 0.006, 0.035)
        return colored(carved * (1 - 0.9 * line), self.ramp)

    @classmethod
    def varied(cls, rng: np.random.Generator) -> "Woodcut":
        return cls(
            ramp=random_ramp(rng, flip=0.5),
            cuts=int(rng.choice([1, 2, 2])),
            wave=float(rng.uniform(0.0, 0.25)),
            gamma=float(rng.uniform(0.7, 1.2)),
            contrast=float(rng.uniform(1.2, 2.0)),
            line=float(rng.uniform(1.1, 2.2)),
            upright=bool(rng.random() < 0.4),
        )
