"""Reading a clip: every frame once, upright, in RGB, at the time it has in the file.

    with open_source("night.mp4") as source:
        for frame in source.frames():
            show(frame.pixels, frame.time * source.info.time_base)
        if source.damage:
            tell(source.damage)

Files only: addresses, playlists, devices and still images are refused. Memory does not grow with
length. A clip that breaks on the way gives all frames before the break, and then `damage` says so.
"""

import hashlib
import os
from collections.abc import Generator, Iterable, Iterator
from fractions import Fraction
from itertools import dropwhile
from pathlib import Path
from typing import NamedTuple

import av
from torch import Tensor

from ..errors import ClipError
from .color import Color
from .decode import Broken, Decoding
from .pictures import to_picture
from .probe import FAILURES, LARGEST_AREA, Probe, SourceInfo, opened, probe
from .promised import missing_bytes
from .refusals import existing_file, possible_clip
from .scratch import Scratch
from .seek import find_entry

__all__ = ["Color", "Frame", "Source", "SourceInfo", "fingerprint", "open_source"]

SAMPLED_BLOCKS, BLOCK = 16, 1 << 20  # of a file, for its fingerprint
TOLERATED_SHORTAGE = Fraction(1)  # seconds that a header may promise too much
LITTLE = 16  # frames, at most, that a time is taken for out of order and not for a leap


class Frame(NamedTuple):
    """One picture of a clip."""

    index: int  # 0, 1, 2 ... in order of presentation
    time: int  # when it is shown, in the clip's time base
    duration: int | None  # until the next; what the file says of the last, if it does
    pixels: Tensor  # [h w 3], uint8; float32 0..1 of more than 8 bits a channel


class Source:
    """A clip that can be read, any number of times, from any frame."""

    def __init__(self, path: Path, known: Probe):
        self.path, self.info = path, known.info
        self.damage: str | None = None  # of the last reading, when it has ended
        self._known = known
        self._reading: Generator[Frame, None, None] | None = None

    def __enter__(self) -> "Source":
        return self

    def __exit__(self, *_) -> None:
        if self._reading is not None:
            self._reading.close()

    def frames(self, first: int = 0) -> Generator[Frame, None, None]:
        """Frames from number `first` on, the same to the bit as when all are read."""
        if first < 0:
            raise ClipError(f"{self.path} begins with frame 0; there is no frame {first}.")
        self._reading = self._frames(first)
        return self._reading

    def _frames(self, first: int) -> Generator[Frame, None, None]:
        self.damage = None
        known, clock, index = self._known, Clock(self.info), first - 1
        entry = find_entry(self.path, first) if first else None
        missing, scratch = missing_bytes(self.path), Scratch()
        with opened(self.path) as (container, stream):
            decoding = Decoding(container, stream, is_cut=missing > 0)
            frames, start = iter(decoding), 0
            if entry is not None:
                container.seek(entry.key, stream=stream)
                frames, start = dropwhile(lambda x: x.pts != entry.wanted, frames), first
            numbered = enumerate(clock.timed(frames), start)
            try:
                for index, (frame, time, duration) in numbered:
                    if index >= first:
                        picture = to_picture(
                            frame, known.color, known.stored, self.info.depth, scratch
                        )
                        yield Frame(index, time, duration, known.orientation.turn(picture))
            except (Broken, *FAILURES) as error:
                self.damage = self._broken_after(index, clock, str(error))
                return
        lost = decoding.lost if entry is None else 0  # before a key frame, all is as it should be
        self.damage = self._shortage(index, clock, lost, missing)

    def _broken_after(self, index: int, clock: "Clock", reason: str) -> str:
        return (
            f"{self.path} is damaged after frame {index} ({clock.seconds:.3f} s): {reason}. All "
            f"frames up to it are good. To go on beyond it, repair the clip first: "
            f"ffmpeg -i IN -c:v libx264 -crf 12 OUT.mp4."
        )

    def _shortage(self, index: int, clock: "Clock", lost: int, missing: int) -> str | None:
        """What the file has promised and not held, though nothing in it was broken."""
        if missing:
            return self._broken_after(index, clock, f"it is cut off, and lacks {missing} bytes")
        end = self._known.end
        if end is not None and clock.seconds + TOLERATED_SHORTAGE + 1 / self.info.rate < end:
            return self._broken_after(
                index, clock, f"it is cut off, and should last {float(end):.3f} s"
            )
        if lost:
            return (
                f"{self.path} is damaged before frame 0: {lost} packets at its beginning could "
                f"not be decoded, and what they showed is missing."
            )
        return None


class Clock:
    """Times of frames, repaired where a file has none or lets them go back.

    A missing time is one frame after the last. A repeated one, or one a little too early, becomes
    the next tick. A leap back, where two recordings were joined, moves everything behind it so
    that it follows on. A frame lasts until the next; only of the last one the file is asked.
    """

    def __init__(self, info: SourceInfo):
        self._time_base = info.time_base
        self._step = max(1, round(1 / (info.rate * info.time_base)))
        self._last: int | None = None
        self._shift = 0

    def timed(
        self, frames: Iterable[av.VideoFrame]
    ) -> Iterator[tuple[av.VideoFrame, int, int | None]]:
        """Each frame with its time and duration."""
        waiting: tuple[av.VideoFrame, int] | None = None
        try:
            for frame in frames:
                time = self.stamp(frame)
                if waiting is not None:
                    yield *waiting, time - waiting[1]
                waiting = frame, time
        except (Broken, *FAILURES):
            if waiting is not None:
                yield *waiting, _duration_of(waiting[0])
            raise
        if waiting is not None:
            yield *waiting, _duration_of(waiting[0])

    def stamp(self, frame: av.VideoFrame) -> int:
        time = frame.dts if frame.pts is None else frame.pts
        self._last = self._after(self._last, time)
        return self._last

    @property
    def seconds(self) -> float:
        return float((self._last or 0) * self._time_base)

    def _after(self, last: int | None, time: int | None) -> int:
        if last is None:
            return time or 0
        if time is None:
            return last + self._step
        if time + self._shift > last:
            return time + self._shift
        if last - (time + self._shift) <= LITTLE * self._step:
            return last + 1
        self._shift = last + self._step - time
        return last + self._step


def open_source(path: str | os.PathLike) -> Source:
    """A clip whose first frame can be decoded, or a ClipError that says why not."""
    found = possible_clip(path)
    with opened(found) as (container, stream):
        try:
            first = next(iter(Decoding(container, stream)), None)
        except Broken:
            first = None
        if first is None:
            raise ClipError(
                f"No frame of {found} can be decoded: its {stream.codec_context.name} video is "
                f"damaged, cut off, or claims more than {LARGEST_AREA // 10**6} million pixels. "
                f"Copy it again from where it came; if it is so large, scale it down first: "
                f"ffmpeg -i IN -vf scale=3840:-2 OUT.mp4."
            )
        return Source(found, probe(container, stream, first, found))


def fingerprint(path: str | os.PathLike) -> str:
    """A hash of a file's size and of blocks spread over it; of all of it where it is small."""
    found = existing_file(path)
    size = found.stat().st_size
    whole = size <= SAMPLED_BLOCKS * BLOCK
    starts = [
        n * BLOCK if whole else (size - BLOCK) * n // (SAMPLED_BLOCKS - 1)
        for n in range(SAMPLED_BLOCKS)
    ]
    digest = hashlib.sha256(str(size).encode())
    with found.open("rb") as file:
        for start in starts:
            file.seek(start)
            digest.update(file.read(BLOCK))
    return digest.hexdigest()


def _duration_of(frame: av.VideoFrame) -> int | None:
    return getattr(frame, "duration", None) or None  # PyAV 14 has no such attribute
