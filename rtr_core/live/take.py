"""A take: what a performance was made of, so that it can be rendered again at any size.

    takes/2026-11-25-031502/
        source.mkv          every frame that went into the session, without loss, at its time
        styled.mp4          what came out
        cues.txt            styles over time, by frame numbers, with the seed of the noise
        reference-1.png     what the cues refer to

`rtr stylize source.mkv OUT --cues cues.txt` switches at the same frames; under the recipe and at
the size of the performance it gives the same ones.
"""

import shlex
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from functools import partial
from pathlib import Path

from PIL import Image
from torch import Tensor

from ..cues import Cue, CueSheet
from ..media.assembly import Stretch, assemble
from ..media.codecs import H264, LOSSLESS, Codec
from ..media.color import BT709, FULL, RGB, Color
from ..media.source import SourceInfo
from ..media.stages import Behind
from ..media.target import SegmentWriter, failures_named
from ..moments import Moment
from ..shapes import Size
from ..style import REFERENCE_PROMPT, Style

MILLISECOND = Fraction(1, 1000)
USUAL_RATE = Fraction(30)  # a second; frames have times of their own
PIECE = 900  # frames: what a power cut can cost
BEHIND = 240  # frames that writing may be behind
COLOR = Color(range=FULL, matrix=RGB, primaries=BT709, transfer=BT709)  # as pages send it


@dataclass(frozen=True)
class TakeDone:
    name: str
    frames: int
    source: Path
    styled: Path
    cues: Path

    @property
    def command(self) -> str:
        """Renders it again."""
        again = self.source.with_name("again.mp4")
        return shlex.join(
            ["rtr", "stylize", str(self.source), str(again), "--cues", str(self.cues)]
        )


class Reel:
    """One clip of a take, written piece by piece."""

    def __init__(self, path: Path, codec: Codec, size: Size):
        self.path, self.codec = path, codec
        self.info = SourceInfo(
            path=path,
            size=size,
            time_base=MILLISECOND,
            rate=USUAL_RATE,
            frames=None,
            duration=None,
            aspect=Fraction(1),
            rotation=0,
            depth=8,
            color=COLOR,
            audio=0,
        )
        self.pieces: list[Path] = []
        self._writer: SegmentWriter | None = None

    def write(self, frame: Tensor, time: int) -> None:
        if self._writer is None or self._writer.frames >= PIECE:
            self._end_piece()
            name = f"{self.path.stem}-{len(self.pieces):04}.piece"
            writer = SegmentWriter(self.path.with_name(name), self.codec, self.info, self.info.size)
            self._writer = writer.__enter__()
        self._writer.write(frame, time)

    def close(self) -> None:
        """The pieces become one clip."""
        self._end_piece()
        if self.pieces:
            assemble([Stretch(piece) for piece in self.pieces], self.pieces[0], self.path)
        for piece in self.pieces:
            piece.unlink()

    def give_up(self) -> None:
        """After a failure: what is written so far stays."""
        with suppress(Exception):
            self._end_piece()

    def _end_piece(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.__exit__(None, None, None)
            self.pieces.append(writer.path)


class Take:
    """Records one session from its first frame on. Writing goes on beside rendering."""

    def __init__(self, folder: Path, size: Size, style: Style, seed: int):
        self.folder = folder
        self.frames = 0
        self._cues: list[Cue] = []
        self._references: list[str] = []  # fingerprints of what is in reference-N.png
        self._times: deque[int] = deque()  # of frames that have not come out
        self._start: float | None = None  # the page's clock at the first frame
        self._last = -1
        with failures_named(folder):
            folder.mkdir(parents=True)
        self._reels = {
            "source": Reel(folder / "source.mkv", LOSSLESS, size),
            "styled": Reel(folder / "styled.mp4", H264, size),
        }
        self._behind = Behind[partial](lambda write: write(), BEHIND)
        self._behind.__enter__()
        self.cue(0, style, seed=seed)

    def cue(self, frame: int, style: Style, fade: int = 0, seed: int | None = None) -> None:
        """Another style from this frame on; of two for one frame the later holds."""
        if self._cues and self._cues[-1].start.frame == frame:
            seed = self._cues.pop().seed
            fade = fade if self._cues else 0  # a clip's first style has nothing to fade from
        prompt = None if style.prompt == REFERENCE_PROMPT else style.prompt
        reference = None if style.reference is None else self._kept(style.reference)
        cue = Cue(
            start=Moment(frame=frame),
            prompt=" ".join((prompt or "").split()) or (None if reference else str(style)),
            reference=reference,
            strength=style.strength,
            seed=seed,
            fade=fade,
            loras=tuple((file.path, strength) for file, strength in style.loras.items()),
        )
        self._cues.append(cue)
        path = self.folder / "cues.txt"
        with failures_named(path):
            path.write_text(str(CueSheet(tuple(self._cues))), encoding="utf-8")

    def source(self, frame: Tensor, time: float) -> None:
        """A frame `[h w 3]` that goes in, and when it was taken, in milliseconds."""
        self._start = time if self._start is None else self._start
        self._last = max(self._last + 1, round(time - self._start))
        self._times.append(self._last)
        self._behind.put(partial(self._reels["source"].write, frame, self._last))

    def styled(self, frames: Tensor) -> None:
        """Frames that came out."""
        self.frames += len(frames)
        for frame in frames:
            self._behind.put(partial(self._reels["styled"].write, frame, self._times.popleft()))

    def close(self) -> TakeDone:
        self._behind.__exit__(None, None, None)
        for reel in self._reels.values():
            reel.close()
        source, styled = (reel.path for reel in self._reels.values())
        cues = self.folder / "cues.txt"
        return TakeDone(self.folder.name, self.frames, source, styled, cues)

    def give_up(self) -> None:
        """After a failure: what is written so far stays."""
        self._behind.__exit__(Exception, None, None)
        for reel in self._reels.values():
            reel.give_up()

    def _kept(self, reference: Tensor) -> str:
        told = Style(reference=reference).fingerprint
        if told not in self._references:
            self._references.append(told)
            path = self.folder / f"reference-{len(self._references)}.png"
            with failures_named(path):
                Image.fromarray(reference.numpy()).save(path)
        return f"reference-{self._references.index(told) + 1}.png"


def take_folder(takes: Path, now: datetime) -> Path:
    """A new folder's name, by the time."""
    stem = takes / now.strftime("%Y-%m-%d-%H%M%S")
    names = (
        stem.with_name(f"{stem.name}{more}") for more in ("", *(f"-{n}" for n in range(2, 99)))
    )
    return next(name for name in names if not name.exists())
