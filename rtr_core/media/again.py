"""Which job to go on with, where a host names results by number and asks again after a break."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import ClipError
from .job import FOLDER_SUFFIX, Task, folder_of
from .manifest import Manifest


def numbered(folder: Path, stem: str, suffix: str, facts: dict[str, Any]) -> Path:
    """The result to work on: of a broken job with these very facts, or else of the next number.

    Results are called `stem_00001_.mp4`, as hosts call theirs.
    """
    facts = json.loads(json.dumps(facts))
    taken = dict(_results(folder, stem))
    for number, out in sorted(taken.items()):
        if out.suffix == suffix and not out.exists() and _facts(out) == facts:
            return folder / f"{stem}_{number:05}_{suffix}"
    return folder / f"{stem}_{max(taken, default=0) + 1:05}_{suffix}"


def forget(task: Task) -> None:
    """Let go of a finished job's segments and sessions: it cannot be redone in part any more."""
    shutil.rmtree(task.folder, ignore_errors=True)


def _results(folder: Path, stem: str) -> Iterator[tuple[int, Path]]:
    """Results that are there, and those that jobs have begun, by number."""
    known = re.compile(rf"{re.escape(stem)}_(\d+)_\.\w+")
    for path in folder.iterdir() if folder.is_dir() else ():
        name = path.name.removesuffix(FOLDER_SUFFIX)
        if found := known.fullmatch(name):
            yield int(found[1]), folder / name


def _facts(out: Path) -> dict[str, Any] | None:
    try:
        return Manifest.read(folder_of(out)).facts
    except ClipError:
        return None
