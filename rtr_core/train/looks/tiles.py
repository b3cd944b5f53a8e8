"""Regular patterns: tiles of 16 by 16 pixels laid from the top left corner.

A model that sees tokens of 16 pixels meets the same pattern in each of them. `thresholds` are
tiles whose values are spread evenly over 0..1, so that a tone of 0.3 covers 0.3 of the paper.
"""

from functools import lru_cache

import cv2
import numpy as np

from .tones import Picture, soft_step

TILE = 16


def laid(tile: Picture, like: Picture) -> Picture:
    """A tile repeated over a picture of the size of another."""
    height, width = like.shape[:2]
    return np.tile(tile, (-(-height // TILE), -(-width // TILE)))[:height, :width]


def even(tile: Picture) -> Picture:
    """The same order of values, spread evenly over 0..1; equal values stay equal."""
    values, index, counts = np.unique(tile.round(4), return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - counts / 2) / tile.size
    assert len(ranks) == len(values)
    return ranks[index].reshape(tile.shape).astype(np.float32)


def covered(tone: Picture, tile: Picture, softness: float) -> Picture:
    """Where a tone is above the tile's thresholds, with soft borders."""
    return soft_step(tone - laid(tile, tone), -softness, softness)


def _axes() -> tuple[Picture, Picture]:
    down, right = np.mgrid[:TILE, :TILE].astype(np.float32) + 0.5
    return right, down


@lru_cache
def dots(period: int, slanted: bool) -> Picture:
    """Round dots on a square grid, or on one turned by 45 degrees."""
    right, down = _axes()
    a, b = np.cos(2 * np.pi * right / period), np.cos(2 * np.pi * down / period)
    return even(a * b if slanted else a + b)


@lru_cache
def hatching(right: int, down: int, wave: float = 0.0) -> Picture:
    """Parallel strokes; `right` and `down` count them along the tile's sides."""
    x, y = _axes()
    phase = (right * x + down * y) / TILE + wave * np.sin(2 * np.pi * (x if down else y) / TILE)
    return even(np.cos(2 * np.pi * phase))


@lru_cache
def bristles(right: int, down: int, seed: int = 1) -> Picture:
    """Uneven strokes along a slope, as chalk or a brush leaves them; the same in every tile."""
    noise = np.random.default_rng(seed).random((TILE, TILE)).astype(np.float32)
    steps = np.arange(-6, 7)
    along = sum(np.roll(noise, (down * s, right * s), (0, 1)) for s in steps) / len(steps)
    wide = cv2.GaussianBlur(np.tile(along, (3, 3)), (5, 5), 0.8)[TILE : 2 * TILE, TILE : 2 * TILE]
    return even(wide)


@lru_cache
def grid(period: int, width: float) -> Picture:
    """Soft lines at the borders of square cells: 1 on the line, 0 inside."""
    right, down = (np.abs((axis + period / 2) % period - period / 2) for axis in _axes())
    return 1 - soft_step(np.minimum(right, down), width / 2 - 0.5, width / 2 + 1)


@lru_cache
def stitches(period: int, width: float) -> Picture:
    """A cross in every cell: 1 on its threads."""
    right, down = ((axis % period) for axis in _axes())
    a, b = np.abs(right - down), np.abs(right + down - period)
    return 1 - soft_step(np.minimum(a, b), width - 1, width + 1)


@lru_cache
def bevel(period: int, width: float) -> Picture:
    """Light at a cell's left and upper border, shade at the others: -1..1."""
    right, down = ((axis % period) for axis in _axes())
    light = 1 - soft_step(np.minimum(right, down), 0, width)
    dark = 1 - soft_step(period - np.maximum(right, down), 0, width)
    return light * (1 - dark) - dark


def blocks(picture: Picture, period: int) -> Picture:
    """Each cell of `period` pixels filled with its mean colour."""
    height, width = picture.shape[:2]
    down, right = -height % period, -width % period
    whole = cv2.copyMakeBorder(picture, 0, down, 0, right, cv2.BORDER_REPLICATE)
    small = cv2.resize(
        whole, (whole.shape[1] // period, whole.shape[0] // period), interpolation=cv2.INTER_AREA
    )
    return cv2.resize(small, (whole.shape[1], whole.shape[0]), interpolation=cv2.INTER_NEAREST)[
        :height, :width
    ]


@lru_cache
def _shards(seeds: tuple[tuple[float, float], ...]) -> tuple[Picture, Picture, Picture]:
    """Of every pixel of a tile: the seed it belongs to (x, y) and how far its border is."""
    spots = np.array(seeds, np.float32)
    around = np.array([(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)], np.float32) * TILE
    spots = (spots[None] + around[:, None]).reshape(-1, 2)
    right, down = _axes()
    distance = np.hypot(right[..., None] - spots[:, 0], down[..., None] - spots[:, 1])
    first, second = np.sort(distance, -1)[..., :2].transpose(2, 0, 1)
    nearest = spots[np.argmin(distance, -1)]
    return nearest[..., 0], nearest[..., 1], second - first


def shards(picture: Picture, seeds: tuple[tuple[float, float], ...]) -> tuple[Picture, Picture]:
    """Irregular cells, each in the colour found at its seed, and how far each border is."""
    x, y, border = _shards(seeds)
    height, width = picture.shape[:2]
    tile_x, tile_y = np.arange(width) // TILE * TILE, np.arange(height)[:, None] // TILE * TILE
    columns = np.clip(laid(x, picture) + tile_x, 0, width - 1).astype(np.int32)
    rows = np.clip(laid(y, picture) + tile_y, 0, height - 1).astype(np.int32)
    return picture[rows, columns], laid(border, picture)


def scattered(count: int, rng: np.random.Generator) -> tuple[tuple[float, float], ...]:
    """Seeds for shards, far from one another as far as a tile allows."""
    spots = rng.uniform(0, TILE, (64, count, 2))
    gaps = np.abs(spots[:, :, None] - spots[:, None])
    gaps = np.hypot(*np.moveaxis(np.minimum(gaps, TILE - gaps), -1, 0))
    gaps += np.eye(count) * TILE
    best = spots[int(np.argmax(gaps.min((1, 2))))]
    return tuple((float(x), float(y)) for x, y in best)
