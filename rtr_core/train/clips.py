"""Frames of pairs on disk: a clip, a still, or a folder of stills in the order of their names."""

from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.video.stream import VideoStream
from PIL import Image

from ..errors import ClipError
from ..frames import picture
from ..media.codecs import LOSSLESS
from ..media.source import open_source
from ..media.target import failures_named

STILLS = frozenset([".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"])
RATE = 24  # frames a second of a clip that is written for another program


def is_still(path: Path) -> bool:
    return path.suffix.lower() in STILLS


def frame_count(path: Path) -> int:
    if path.is_dir():
        return len(_stills(path))
    if is_still(path):
        return 1
    with open_source(path) as source:
        return source.info.frames or sum(1 for _ in source.frames())


def read_frames(path: Path, first: int = 0, count: int | None = None) -> np.ndarray:
    """uint8 `[t h w 3]`: all frames from `first` on, or `count` of them."""
    last = None if count is None else first + count
    if path.is_dir():
        frames = [picture(still).numpy() for still in _stills(path)[first:last]]
    elif is_still(path):
        frames = [picture(path).numpy()][first:last]
    else:
        frames = list(_of_clip(path, first, count))
    if not frames:
        raise ClipError(f"{path} holds no frame from {first} on. Give a clip, a still or a folder.")
    if len({frame.shape for frame in frames}) > 1:
        raise ClipError(f"The stills in {path} differ in size. Frames of one clip have one size.")
    return np.stack(frames)


def write_clip(path: Path, frames: np.ndarray) -> None:
    """A clip from which every pixel comes back."""
    with failures_named(path), av.open(str(path), "w") as container:
        options = LOSSLESS.all_options()
        stream = cast(VideoStream, container.add_stream(LOSSLESS.encoder, RATE, options))
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], LOSSLESS.pix_fmt
        for frame in frames:
            picked = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            container.mux(stream.encode(picked))
        container.mux(stream.encode())


def write_stills(folder: Path, frames: np.ndarray) -> None:
    """000000.png, 000001.png ..."""
    with failures_named(folder):
        folder.mkdir()
        for number, frame in enumerate(frames):
            Image.fromarray(frame).save(folder / f"{number:06}.png")


def _stills(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if is_still(path))


def _of_clip(path: Path, first: int, count: int | None) -> Iterator[np.ndarray]:
    with open_source(path) as source, closing(source.frames(first)) as frames:
        for frame in islice(frames, count):
            pixels = frame.pixels.numpy()
            yield pixels if pixels.dtype == np.uint8 else (pixels * 255).round().astype(np.uint8)
