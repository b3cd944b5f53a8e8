"""What a job has done so far, as a small JSON file that is always whole.

A segment counts once it stands here, and it is written here only when its file and the session
after it are on disk. Whatever else lies in the folder is the litter of a run that was killed.

The segments are the film as its cue sheet has it, and stay. Where spans were done again, the film
is pieces of segments and of newer files.
"""

import json
import os
from dataclasses import asdict, dataclass, field, replace
from itertools import takewhile
from pathlib import Path
from typing import Any

from ..errors import ClipError
from . import lock
from .curves import Point

FORMAT = "rtr-job-2"
NAME = "manifest.json"
PARTIAL = "partial.mov"  # plays what is there, while the job runs


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A closed piece of the result, and where the run stood behind it."""

    name: str  # of its file in the folder
    first: int  # its first frame
    frames: int
    bytes: int  # of its file
    time: int  # of its first frame, in the source's time base
    last_time: int
    cue: int  # the one in force behind it, by its place on the sheet
    session: str | None  # the session after it, None where it is not kept any more
    cuts: str | None = None  # what the cut detector remembered then
    drift: tuple[Point, ...] = ()  # in it, thinned

    @property
    def end(self) -> int:
        return self.first + self.frames


@dataclass(frozen=True)
class Piece:
    """Frames of the film that follow on in one file. The first of them is a key frame."""

    name: str  # of the file in the folder
    skip: int  # frames in it before them
    frames: int


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The job's whole state. Values that decide the result are in `facts`, by name."""

    facts: dict[str, Any]
    segments: tuple[Segment, ...] = ()
    source_ended: bool = False
    damage: str | None = None  # what was wrong with the source, in its reader's words
    film: tuple[Piece, ...] = ()  # where spans were done again
    redone: tuple[str, ...] = ()  # these, as a person would ask for them
    folder: Path = field(compare=False)

    @classmethod
    def open(cls, folder: Path, facts: dict[str, Any], anew: bool = False) -> "Manifest":
        """The job that was begun in this folder, as far as its files are there, or a new one.

        A job with other facts is refused; with `anew` a finished one gives way.
        """
        facts = json.loads(json.dumps(facts))  # as they would be read again
        fresh = cls(facts=facts, folder=folder)
        if not (folder / NAME).exists():
            return fresh.changed()
        known = cls.read(folder)
        if known.facts == facts:
            return known._as_far_as_it_is_there()
        if not (anew and known.source_ended):
            raise _other_job(known, facts)
        return fresh.changed()

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        try:
            values = json.loads((folder / NAME).read_text(encoding="utf-8"))
            if values.pop("format") != FORMAT:
                raise ClipError(f"{folder} was begun by another version of RTR. Delete it.")
            segments = tuple(map(_segment, values.pop("segments")))
            film = tuple(Piece(**piece) for piece in values.pop("film"))
            redone = tuple(values.pop("redone"))
            return cls(**values, segments=segments, film=film, redone=redone, folder=folder)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ClipError(
                f"{folder / NAME} cannot be read ({error}). Delete the folder to begin again."
            ) from error

    def write(self) -> None:
        values = {"format": FORMAT} | asdict(self)
        del values["folder"]
        unfinished = self.folder / f"{NAME}.unfinished"
        try:
            with unfinished.open("w", encoding="utf-8") as file:
                json.dump(values, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(self.folder / NAME)
        except OSError as error:
            raise ClipError(
                f"{self.folder} cannot be written ({error}). What was done before is safe: make "
                f"room or bring the folder back, and run the same command again."
            ) from error

    def changed(self, **values: Any) -> "Manifest":
        """This job one step on, written."""
        after = replace(self, **values)
        after.write()
        return after

    def _as_far_as_it_is_there(self) -> "Manifest":
        """This job up to the first segment that is missing or cut, to go on from there."""
        there = list(takewhile(self._is_whole, self.segments))
        if len(there) < len(self.segments) or not self.source_ended:
            while there and not self.path(there[-1].session or "").is_file():
                there.pop()
        if len(there) == len(self.segments):
            return self
        return type(self)(facts=self.facts, folder=self.folder).changed(segments=tuple(there))

    def _is_whole(self, segment: Segment) -> bool:
        path = self.path(segment.name)
        return path.is_file() and path.stat().st_size == segment.bytes

    @property
    def frames(self) -> int:
        """How many frames are done."""
        return self.segments[-1].end if self.segments else 0

    @property
    def drift(self) -> tuple[Point, ...]:
        """Of the film as its cue sheet has it."""
        return tuple(point for segment in self.segments for point in segment.drift)

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """The film, one after the other."""
        return self.film or tuple(Piece(s.name, 0, s.frames) for s in self.segments)

    def cut(self, first: int, end: int) -> tuple[Piece, ...]:
        """The film from frame `first`, which must be a key frame, to `end`."""
        at, found = 0, []
        for piece in self.pieces:
            low, high = max(first - at, 0), min(end - at, piece.frames)
            if low < high:
                found.append(Piece(piece.name, piece.skip + low, high - low))
            at += piece.frames
        return tuple(found)

    def path(self, name: str) -> Path:
        return self.folder / name

    def sweep(self) -> None:
        """Remove what a killed run left behind."""
        files = ((s.name, s.session, s.cuts) for s in self.segments)
        known = {NAME, PARTIAL, lock.NAME, *(name for names in files for name in names)}
        known |= {piece.name for piece in self.film}
        for path in self.folder.iterdir():
            if path.is_file() and path.name not in known:
                path.unlink(missing_ok=True)


def _segment(values: dict[str, Any]) -> Segment:
    drift = tuple(Point(*point) for point in values.pop("drift", ()))  # not kept in older jobs
    return Segment(**values, drift=drift)


def _other_job(known: Manifest, asked: dict[str, Any]) -> ClipError:
    """Going on with other options would give a result that no single run gives."""
    had = known.facts
    changes = [
        f"{name} was {had.get(name)!r} and is {asked.get(name)!r}"
        for name in sorted(had | asked)
        if had.get(name) != asked.get(name)
    ]
    state, way = (
        ("a finished", "--force to begin again")
        if known.source_ended
        else (
            "an unfinished",
            "delete the folder",
        )
    )
    return ClipError(
        f"{known.folder} holds {state} job with other options: {'; '.join(changes)}. Run it with "
        f"the same options, {way}, or choose another OUT."
    )
