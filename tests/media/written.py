"""What tests of writing share: frames, what a source says of itself, packets of a file."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from torch import Tensor

from rtr_core.media.codecs import Codec, pick_codec
from rtr_core.media.color import Color
from rtr_core.media.probe import SourceInfo
from rtr_core.media.target import SegmentWriter
from rtr_core.shapes import Size

SIZE = Size(96, 128)
RATE = 48_000  # samples a second, which every codec of sound knows
UNTAGGED = Color(range=0, matrix=2, primaries=2, transfer=2)


def info_of(size: Size = SIZE, **changes) -> SourceInfo:
    known = {
        "path": Path("source.mp4"),
        "size": size,
        "time_base": Fraction(1, 90_000),
        "rate": Fraction(30_000, 1001),
        "frames": 12,
        "duration": Fraction(2, 5),
        "aspect": Fraction(1),
        "rotation": 0,
        "depth": 8,
        "color": UNTAGGED,
        "audio": 0,
    }
    return SourceInfo(**{**known, **changes})


def pictures(count: int, size: Size = SIZE) -> list[Tensor]:
    """Smooth color that moves, float 0..1."""
    y, x = torch.meshgrid(
        torch.linspace(0, 1, size.height), torch.linspace(0, 1, size.width), indexing="ij"
    )
    return [torch.stack([x, y, (x * y + n / 40).clamp(0, 1)], -1) for n in range(count)]


def uneven_times(count: int, start: int = 1234) -> list[tuple[int, int]]:
    """(time, duration) of frames at a rate that varies."""
    durations = np.random.default_rng(0).integers(1000, 9000, count).tolist()
    times = (start + np.cumsum([0, *durations[:-1]])).tolist()
    return list(zip(times, durations, strict=True))


def write_segment(
    path: Path,
    frames: Sequence[Tensor],
    times: Sequence[tuple[int, int]],
    codec: Codec | None = None,
    **changes,
) -> Path:
    size = Size(*frames[0].shape[:2])
    codec = codec or pick_codec(Path("out.mp4"), preset="ultrafast")
    with SegmentWriter(path, codec, info_of(size, **changes), size) as segment:
        for frame, (time, duration) in zip(frames, times, strict=True):
            segment.write(frame, time, duration)
    return path


def write_segments(folder: Path, codec: Codec | None = None, lengths=(4, 4, 4), start=1234):
    """Segments that follow on, and the times of all their frames."""
    total, paths, at = sum(lengths), [], 0
    frames, times = pictures(total), uneven_times(total, start)
    for n, length in enumerate(lengths):
        span = slice(at, at + length)
        paths.append(write_segment(folder / f"{n}.mov", frames[span], times[span], codec))
        at += length
    return paths, times


def packets(path: Path, kind: str = "video", index: int = 0) -> list[tuple[Fraction, bytes]]:
    """(time in seconds, payload) of one stream."""
    with av.open(str(path)) as container:
        stream = container.streams.get({kind: index})[0]
        return [(p.pts * p.time_base, bytes(p)) for p in container.demux(stream) if p.size]


def decoded(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def write_source(path: Path, audio: Sequence[str] = ("aac", "mp3"), frames: int = 30) -> Path:
    """A clip with audio streams of its own, a title, and a language to each stream."""
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "a clip"
        video = container.add_stream("libx264", rate=30)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        streams = [container.add_stream(codec, rate=RATE) for codec in audio]
        for stream in streams:
            stream.layout = "stereo"
            stream.metadata["language"] = "fra"
        for n in range(frames):
            picture = av.VideoFrame(64, 48, "yuv420p")
            picture.pts, picture.time_base = n, Fraction(1, 30)
            container.mux(video.encode(picture))
        for stream in streams:
            _write_noise(container, stream, frames)
        for stream in (video, *streams):
            container.mux(stream.encode(None))
    return path


def _write_noise(container, stream, frames: int) -> None:
    rng = np.random.default_rng(stream.index)
    form, samples = stream.format.name, 1024
    for n in range(frames * RATE // 30 // samples):
        noise = rng.normal(0, 0.1, (2, samples)).astype(np.float32)
        sound = av.AudioFrame.from_ndarray(noise, format="fltp", layout="stereo")
        sound.sample_rate, sound.pts, sound.time_base = RATE, n * samples, Fraction(1, RATE)
        if form != "fltp":
            sound = av.AudioResampler(form, "stereo", RATE).resample(sound)[0]
        container.mux(stream.encode(sound))
