"""Many clips, one after the other; a broken one does not stop the others."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import ClipError, RtrError
from .job import Done

SUFFIXES = {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ogv", ".ts"}


@dataclass(frozen=True)
class Row:
    """What became of a clip."""

    clip: Path
    said: str
    failed: bool = False


def clips_in(folder: Path, pattern: str = "*") -> list[Path]:
    clips = sorted(p for p in folder.glob(pattern) if p.suffix.lower() in SUFFIXES)
    if not clips:
        raise ClipError(f"There is no clip in {folder / pattern if pattern != '*' else folder}.")
    return clips


def each(
    clips: list[Path],
    folder: Path,
    suffix: str,
    one: Callable[[Path, Path], Done],
    force: bool = False,
) -> Iterator[Row]:
    """Work through the clips, results under the same names in `folder`; those there are left."""
    folder.mkdir(parents=True, exist_ok=True)
    for clip in clips:
        out = folder / f"{clip.stem}{suffix}"
        if out.exists() and not force:
            yield Row(clip, "was there already")
            continue
        try:
            done = one(clip, out)
            yield Row(clip, f"{done.frames} frames" + (" (damaged)" if done.damage else ""))
        except RtrError as error:
            yield Row(clip, f"failed: {error}", failed=True)


def table(rows: list[Row]) -> str:
    width = max((len(row.clip.name) for row in rows), default=0)
    return "\n".join(f"{row.clip.name:<{width}}  {row.said}" for row in rows)
