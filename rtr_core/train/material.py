"""Clips and stills of a folder as frames of one scale, and random windows of them.

Everything is read once and kept small: what training looks at is `height` pixels high.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from ..errors import ClipError, StyleError
from ..frames import picture
from ..media.batch import SUFFIXES
from ..media.source import open_source
from .camera import moved
from .clips import STILLS

STANDING = 0.2  # share of stills before a camera that does not move
QUICK = 0.3  # share of windows of clips with every second frame of them, so twice as fast
CUT = 0.15  # share of windows in which one scene ends and another begins
NOISY, NOISE = 0.4, 3.0  # share of stills with a sensor's noise, and its levels of 255, at most


@dataclass(frozen=True, kw_only=True)
class MaterialConfig:
    height: int = 256  # of clips, in pixels; it sets the scale that textures are learned at
    still_height: int = 384  # stills have room for a camera that comes nearer
    most_frames: int = 96  # of one clip; runs spread over it where it is longer
    run: int = 24  # frames that follow one another without a gap

    @classmethod
    def around(cls, side: int) -> "MaterialConfig":
        """Frames that windows of this side can be cut out of, with some room."""
        return cls(
            height=max(cls.height, side * 5 // 4), still_height=max(cls.still_height, side * 3 // 2)
        )


@dataclass
class Material:
    """Clips as lists of runs `[t h w 3]`, and stills as `[h w 3]`, all uint8."""

    runs: list[np.ndarray] = field(default_factory=list)
    stills: list[np.ndarray] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)  # what could not be read, and why

    def window(self, frames: int, side: int, rng: np.random.Generator, stills: float) -> np.ndarray:
        """A random square part of `frames` frames; a share `stills` of them from moved stills."""
        window = self._shot(frames, side, rng, stills)
        if frames == 1 or rng.random() >= CUT:
            return window
        cut = rng.integers(1, frames)
        return np.concatenate([window[:cut], self._shot(frames, side, rng, stills)[cut:]])

    def _shot(self, frames: int, side: int, rng: np.random.Generator, stills: float) -> np.ndarray:
        if not self.runs or (self.stills and rng.random() < stills):
            still = self.stills[rng.integers(len(self.stills))]
            window = filmed(still, frames, rng, side)
        else:
            window = self._of_a_run(frames, side, rng)
        if rng.random() < 0.5:
            window = window[:, :, ::-1]
        return np.ascontiguousarray(window[::-1] if rng.random() < 0.3 else window)

    def _of_a_run(self, frames: int, side: int, rng: np.random.Generator) -> np.ndarray:
        run = self.runs[rng.integers(len(self.runs))]
        pace = 2 if rng.random() < QUICK and len(run) >= 2 * frames else 1
        first = rng.integers(max(1, len(run) - pace * (frames - 1)))
        picked = np.minimum(first + pace * np.arange(frames), len(run) - 1)
        top = rng.integers(run.shape[1] - side + 1)
        left = rng.integers(run.shape[2] - side + 1)
        return run[picked, top : top + side, left : left + side]


def filmed(still: np.ndarray, frames: int, rng: np.random.Generator, side: int) -> np.ndarray:
    """A still before a camera that moves, or stands; some have a sensor's noise.

    Else no model learns that a wall which shimmers is a wall that stands.
    """
    film = moved(still, frames, rng, side)
    if rng.random() < STANDING:
        film = np.repeat(film[:1], frames, axis=0)
    if rng.random() >= NOISY:
        return film
    noise = rng.uniform(0, NOISE) * rng.standard_normal(film.shape, dtype=np.float32)
    return (film + noise).round().clip(0, 255).astype(np.uint8)


def to_batch(windows: np.ndarray) -> Tensor:
    """Windows `[b t h w 3]` uint8 as pixels `[b 3 t h w]` in -1..1."""
    return torch.from_numpy(windows).permute(0, 4, 1, 2, 3).float() / 127.5 - 1


def read_material(folder: Path, config: MaterialConfig, material: Material) -> Iterator[Path]:
    """Put all that is in a folder into `material`; yields each file that has been looked at."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    for file in files:
        try:
            if file.suffix.lower() in SUFFIXES:
                material.runs += _runs(file, config)
            elif file.suffix.lower() in STILLS:
                still = picture(file).numpy()
                material.stills.append(_scaled(still, config.still_height))
            else:
                continue
        except (ClipError, StyleError) as error:
            material.refused.append(str(error))
        yield file
    if not material.runs and not material.stills:
        raise ClipError(f"No clip or picture in {folder} can be read. Give a folder of them.")


def _runs(file: Path, config: MaterialConfig) -> Sequence[np.ndarray]:
    """Runs spread over a clip, so that a long one does not outweigh the rest."""
    runs: list[list[np.ndarray]] = []
    with open_source(file) as source:
        total = source.info.frames or config.most_frames
        gap = max(0, total - config.most_frames) // max(1, config.most_frames // config.run)
        for frame in source.frames():
            within = frame.index % (config.run + gap)
            if within == 0:
                runs.append([])
            if within < config.run:
                runs[-1].append(_scaled(_bytes(frame.pixels), config.height))
            if sum(map(len, runs)) >= config.most_frames:
                break
    return [np.stack(run) for run in runs if len(run) == config.run or len(runs) == 1]


def _bytes(pixels) -> np.ndarray:
    values = pixels.numpy()
    return values if values.dtype == np.uint8 else (values * 255).round().astype(np.uint8)


def _scaled(frame: np.ndarray, height: int) -> np.ndarray:
    """So that the shorter side is `height`."""
    scale = height / min(frame.shape[:2])
    width, tall = (max(height, round(side * scale)) for side in (frame.shape[1], frame.shape[0]))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return cv2.resize(frame, (width, tall), interpolation=method)
