"""What a job has done so far, as a small JSON file that is always whole.

A segment counts once it stands here, and it is written here only when its file and the session
after it are on disk. Whatever else lies in the folder is the litter of a run that was killed.
"""

import json
import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ..errors import ClipError
from . import lock

FORMAT = "rtr-job-1"
NAME = "manifest.json"
PARTIAL = "partial.mov"  # plays what is there, while the job runs


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A closed piece of the result, and where the run stood behind it."""

    name: str  # of its file in the folder
    first: int  # its first frame
    frames: int
    time: int  # of its first frame, in the source's time base
    last_time: int
    cue: int  # the one in force behind it, by its place on the sheet
    session: str | None  # the session after it, None where it is not kept any more
    cuts: str | None = None  # what the cut detector remembered then

    @property
    def end(self) -> int:
        return self.first + self.frames


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The job's whole state. Values that decide the result are in `facts`, by name."""

    facts: dict[str, Any]
    segments: tuple[Segment, ...] = ()
    source_ended: bool = False
    damage: str | None = None  # what was wrong with the source, in its reader's words
    folder: Path = field(compare=False)

    @classmethod
    def open(cls, folder: Path, facts: dict[str, Any]) -> "Manifest":
        """The job that was begun in this folder, or a new one. Another job's folder is refused."""
        facts = json.loads(json.dumps(facts))  # as they would be read again
        path = folder / NAME
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            fresh = cls(facts=facts, folder=folder)
            fresh.write()
            return fresh
        known = cls.read(folder)
        _refuse_changes(known.facts, facts, folder)
        return known

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        try:
            values = json.loads((folder / NAME).read_text(encoding="utf-8"))
            if values.pop("format") != FORMAT:
                raise ClipError(f"{folder} was begun by another version of RTR. Delete it.")
            segments = tuple(Segment(**segment) for segment in values.pop("segments"))
            return cls(**values, segments=segments, folder=folder)
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

    @property
    def frames(self) -> int:
        """How many frames are done."""
        return self.segments[-1].end if self.segments else 0

    def path(self, name: str) -> Path:
        return self.folder / name

    def sweep(self) -> None:
        """Remove what a killed run left behind."""
        files = ((s.name, s.session, s.cuts) for s in self.segments)
        known = {NAME, PARTIAL, lock.NAME, *(name for names in files for name in names)}
        for path in self.folder.iterdir():
            if path.is_file() and path.name not in known:
                path.unlink(missing_ok=True)


def _refuse_changes(known: dict[str, Any], asked: dict[str, Any], folder: Path) -> None:
    """Going on with other options would give a result that no single run gives."""
    changes = [
        f"{name} was {known.get(name)!r} and is {asked.get(name)!r}"
        for name in sorted(known | asked)
        if known.get(name) != asked.get(name)
    ]
    if changes:
        raise ClipError(
            f"{folder} holds an unfinished job with other options: {'; '.join(changes)}. Run it "
            f"with the same options, delete the folder, or choose another OUT."
        )
