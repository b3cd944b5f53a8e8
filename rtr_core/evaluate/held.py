"""Held-out clips and stills, cut to squares of one size.

Stills become clips under a moving camera, or stand before one that has a little noise.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from ..errors import ClipError, StyleError
from ..frames import covering, picture
from ..media.batch import SUFFIXES
from ..media.source import open_source
from ..shapes import Size
from ..train.camera import moved
from ..train.clips import STILLS
from .metrics import floats, motion_energy

OPENING = 24  # frames left out where a clip has enough: many begin black
MOVES = 0.004  # motion energy from which a clip is one that moves: a level of 255
CAMERA = 0x63616D  # before the seeds of cameras
NOISE = 2.0  # levels of 255: the standard deviation of a quiet sensor
FAST = 60  # frames a second; of clips above it only some frames are taken


class Clip(NamedTuple):
    name: str
    frames: np.ndarray  # uint8 [t side side 3]

    @property
    def moves(self) -> bool:
        return motion_energy(floats(self.frames)) >= MOVES


@dataclass(frozen=True)
class Held:
    """What no stage of training has seen."""

    clips: Sequence[Clip]  # from cameras, as long as was asked for
    stills: Sequence[Clip]  # of one frame each, larger than `side`
    side: int
    refused: Sequence[str]  # what could not be read, and why

    def taken(self, clips: int, frames: int) -> list[Clip]:
        """So many clips of so many frames, two in five of them stills under a moving camera.

        Of clips those that move, if any does.
        """
        moving = [clip for clip in self.clips if clip.moves] or self.clips
        filmed = min(len(self.stills), max(clips * 2 // 5, clips - len(moving)))
        real = [moving[n] for n in spread(len(moving), clips - filmed)]
        cut = [Clip(clip.name, clip.frames[:frames]) for clip in real]
        return cut + [self._filmed(n, frames) for n in spread(len(self.stills), filmed)]

    def standing(self, number: int, frames: int, noise: float = 0.0) -> Clip:
        """A still before a camera that stands, under the noise of its sensor."""
        still = self.square(number)
        rng = np.random.default_rng((CAMERA, number))
        levels = still.frames + noise * rng.standard_normal((frames, *still.frames.shape[1:]))
        return Clip(still.name, np.clip(np.round(levels), 0, 255).astype(np.uint8))

    def square(self, number: int) -> Clip:
        """The middle of a still, or of a clip's first frame where there are no stills."""
        among = self.stills or self.clips
        name, frames = among[number % len(among)]
        return Clip(
            name, _bytes(covering(torch.from_numpy(frames[0]), Size(*2 * (self.side,))))[None]
        )

    def scenes(self) -> list[Clip]:
        """A frame of everything, for references."""
        firsts = [Clip(clip.name, clip.frames[len(clip.frames) // 2 :][:1]) for clip in self.clips]
        stills = [self.square(n) for n in range(len(self.stills))]
        return [scene for pair in _alternating(firsts, stills) for scene in pair]

    def _filmed(self, number: int, frames: int) -> Clip:
        name, (still,) = self.stills[number]
        rng = np.random.default_rng((CAMERA, number))
        return Clip(name, moved(np.ascontiguousarray(still), frames, rng, self.side))


def spread(among: int, count: int) -> list[int]:
    """So many numbers, evenly between the first and the last."""
    return np.linspace(0, among - 1, min(count, among)).round().astype(int).tolist()


def read_held(folder: Path, side: int, least: int, most: int) -> Held:
    """Clips of at least `least` frames, at most `most` of each read, and all stills."""
    clips, stills, refused = [], [], []
    for path in sorted(file for file in folder.rglob("*") if file.is_file()):
        try:
            if path.suffix.lower() in SUFFIXES:
                clip = _clip(path, side, most)
                if len(clip.frames) < least:
                    refused.append(f"{path.name} has {len(clip.frames)} frames, not {least}")
                else:
                    clips.append(clip)
            elif path.suffix.lower() in STILLS:
                stills.append(Clip(path.stem, _still(path, side)))
        except (ClipError, StyleError) as error:
            refused.append(str(error))
    if not clips:
        raise ClipError(
            f"{folder} holds no clip of at least {least} frames that can be read. Give a folder of "
            f"clips and stills that no stage of training has seen."
        )
    return Held(clips, stills, side, refused)


def _clip(path: Path, side: int, most: int) -> Clip:
    with open_source(path) as source:
        info = source.info
        every = max(1, round(info.rate / FAST))
        first = OPENING if (info.frames or 0) >= most * every + OPENING else 0
        frames = []
        for frame in source.frames(first):
            if (frame.index - first) % every == 0:
                frames.append(_bytes(covering(frame.pixels, Size(side, side))))
            if len(frames) == most:
                break
    if not frames:
        raise ClipError(f"{path.name} holds no frame that can be decoded.")
    return Clip(path.stem, np.stack(frames))


def _still(path: Path, side: int) -> np.ndarray:
    """Half as large again as a frame, so that a camera has room to move in."""
    still = picture(path)
    scale = min(1.0, 1.6 * side / min(still.shape[:2]))
    size = Size(*(max(side, round(length * scale)) for length in still.shape[:2]))
    return _bytes(covering(still, size))[None]


def _bytes(frame: torch.Tensor) -> np.ndarray:
    if frame.dtype == torch.uint8:
        return frame.numpy()
    return (frame.clamp(0, 1) * 255).round().byte().numpy()


def _alternating(first: Sequence[Clip], second: Sequence[Clip]) -> list[Sequence[Clip]]:
    longer = max(len(first), len(second))
    return [[*first[n : n + 1], *second[n : n + 1]] for n in range(longer)]
