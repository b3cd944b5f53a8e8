"""The middle stage of a job: source frames in, styled frames with their twins out."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from typing import NamedTuple, Protocol

from torch import Tensor

from ..cues import Cue
from ..mask import Mask
from ..session import Session
from ..style import Style
from .curves import Point, point_of
from .shots import CutDetector, Shots
from .source import Frame


class Styled(NamedTuple):
    """A styled frame, the source frame it came from, and the cue it was styled under."""

    source: Frame
    pixels: Tensor
    cue: Cue
    drift: Point | None = None  # of the chunk that ends with it


class Sheet(Protocol):
    """Says which cue is in force."""

    @property
    def cues(self) -> tuple[Cue, ...]: ...

    def cue_at(self, time: Fraction, frame: int) -> Cue: ...

    def due(self, time: Fraction, frame: int, active: Cue | None) -> Cue | None: ...


class Cuts(Protocol):
    """Says of each frame, in order, whether a new shot begins with it."""

    def begins(self, frame: Frame) -> bool: ...

    def pass_by(self, frame: Frame) -> None:
        """A frame that has been asked for before the cuts were put away."""
        ...

    def snapshot(self) -> dict[str, Tensor]: ...


class NoCuts:
    """The whole clip is one shot."""

    def begins(self, frame: Frame) -> bool:
        return False

    def pass_by(self, frame: Frame) -> None: ...

    def snapshot(self) -> dict[str, Tensor]:
        return {}


class GivenCuts(NoCuts):
    """Cuts that are known beforehand, as frame numbers or times."""

    def __init__(self, shots: Shots, clock: "Clock", before: int | None):
        self.shots, self.clock, self.before = shots, clock, before

    def begins(self, frame: Frame) -> bool:
        before, self.before = self.before, frame.time
        if before is None:
            return False
        return self.shots.begins(frame.index, self.clock(frame.time), self.clock(before))

    def pass_by(self, frame: Frame) -> None:
        self.before = frame.time


class FoundCuts(NoCuts):
    """Cuts as a detector sees them."""

    def __init__(self, remembered: Mapping[str, Tensor] | None = None):
        self.detector = CutDetector()
        if remembered:
            self.detector.restore(remembered)

    def begins(self, frame: Frame) -> bool:
        return self.detector.push(frame.pixels)

    def snapshot(self) -> dict[str, Tensor]:
        return self.detector.snapshot()


class Clock(NamedTuple):
    """Seconds since the clip's first frame."""

    start: int  # its time
    time_base: Fraction

    def __call__(self, time: int) -> Fraction:
        return (time - self.start) * self.time_base


class Renderer:
    """One session led through a clip: cues on time, shots kept apart.

    A cue takes effect at the first chunk that begins at or after it, so that no frame before it
    changes. A shot ends as a clip does: its last chunk is rendered, and the next one begins with
    an empty window in the same style.
    """

    def __init__(
        self,
        session: Session,
        sheet: Sheet,
        styles: Mapping[Cue, Style],
        cuts: Cuts,
        clock: Clock,
        active: Cue,
        mask: Mask | None = None,
    ):
        self.session, self.sheet, self.styles, self.mask = session, sheet, styles, mask
        self.cuts, self.clock, self.active = cuts, clock, active
        self._waiting: deque[tuple[Frame, Cue]] = deque()
        self._in_flight = session.frames_in - session.frames_out  # as it was put away

    @property
    def is_at_border(self) -> bool:
        """Whether every frame that went in is in a chunk, and the session could be put away. Its
        frames have come out, but those of chunks in flight."""
        return self.session.intake.is_between_chunks

    @property
    def waiting(self) -> int:
        """Frames that went in and have not come out."""
        return len(self._waiting)

    def take(self, frame: Frame) -> Iterator[Styled]:
        """What the next source frame completes."""
        if self._in_flight:
            self._in_flight -= 1
            self.cuts.pass_by(frame)
            cue = self.sheet.cue_at(self.clock(frame.time), frame.index)
            self._waiting.append((frame, cue))
            return
        if self.cuts.begins(frame):
            yield from self.end()
        if self.is_at_border:
            self._take_cue(frame)
        self._waiting.append((frame, self.active))
        yield from self._twins(self.session.push(frame.pixels[None]))

    def run(self, frames: Iterable[Frame]) -> Iterator[Styled]:
        """What comes of all these frames, to the end."""
        for frame in frames:
            yield from self.take(frame)
        yield from self.end()

    def end(self) -> Iterator[Styled]:
        """What is left of a shot, or of the clip."""
        yield from self._twins(self.session.flush())

    def _take_cue(self, frame: Frame) -> None:
        cue = self.sheet.due(self.clock(frame.time), frame.index, self.active)
        if cue is not None:
            self.session.switch(self.styles[cue], fade=cue.fade, seed=cue.seed)
            self.active = cue

    def _twins(self, outs: Iterable[Tensor]) -> Iterator[Styled]:
        for out in outs:
            for left, pixels in zip(reversed(range(len(out))), out, strict=True):
                frame, cue = self._waiting.popleft()
                pixels = pixels.cpu()
                if self.mask is not None:
                    pixels = self.mask.put(pixels, frame.pixels, frame.index)
                yield Styled(frame, pixels, cue, None if left else self._drift(frame, cue))

    def _drift(self, last: Frame, cue: Cue) -> Point | None:
        """What the meter says of the chunk that ends with this frame."""
        drift = self.session.drift.now
        if drift is None:
            return None
        return point_of(self.sheet.cues.index(cue), last.index, drift)
