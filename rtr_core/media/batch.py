"""Many clips, one after the other; a broken one does not stop the others."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import ClipError, RtrError
from .codecs import CODECS, FORMATS
from .job import Done
from .probe import FAILURES as UNREADABLE

SUFFIXES = {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ogv", ".ts"}
# Of one clip, which the others survive.
FAILURES = (RtrError, RuntimeError, MemoryError, *UNREADABLE)


@dataclass(frozen=True)
class Row:
    """What became of a clip."""

    clip: Path
    said: str
    failed: bool = False


def clips_in(place: Path) -> list[Path]:
    """The clips of a folder, or those that a pattern such as `rushes/*.mov` names."""
    root = place.anchor
    found = place.iterdir() if place.is_dir() else Path(root).glob(str(place.relative_to(root)))
    clips = sorted(path for path in found if path.suffix.lower() in SUFFIXES and path.is_file())
    if not clips:
        raise ClipError(f"There is no clip in {place}.")
    return clips


def each(
    clips: list[Path],
    folder: Path,
    codec: str | None,
    one: Callable[[Path, Path], Done],
    force: bool = False,
) -> Iterator[Row]:
    """Work through the clips, results under their names in `folder`; those there are left."""
    for clip, out in pairs(clips, folder, codec, force):
        yield out if isinstance(out, Row) else _in_its_turn(clip, out, one)


def pairs(
    clips: list[Path], folder: Path, codec: str | None, force: bool = False
) -> Iterator[tuple[Path, Path | Row]]:
    """Where the result of each clip goes, or why there is nothing to do."""
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.samefile(clip.parent) for clip in clips):
        raise ClipError(f"{folder} is where the clips are. Choose another folder for OUT.")
    outs = [folder / name_of(clip, codec) for clip in clips]
    for clip, out in zip(clips, outs, strict=True):
        if (claims := outs.count(out)) > 1:
            said = f"failed: {claims} clips would become {out}. Do them one by one."
            yield clip, Row(clip, said, failed=True)
        elif out.exists() and not force:
            yield clip, Row(clip, "was there already")
        else:
            yield clip, out


def _in_its_turn(clip: Path, out: Path, one: Callable[[Path, Path], Done]) -> Row:
    try:
        done = one(clip, out)
    except FAILURES as error:
        return Row(clip, f"failed: {error}", failed=True)
    return finished(clip, done)


def finished(clip: Path, done: Done) -> Row:
    damage = " (damaged)" if done.damage else ""
    return Row(clip, f"{done.out.name}: {done.frames} frames{damage}")


def name_of(clip: Path, codec: str | None) -> str:
    """The clip's own name where such a file can hold the result; else one more suffix, so that
    no two clips become one file."""
    suffix = clip.suffix.lower()
    if codec is None:
        return clip.name if suffix in FORMATS else f"{clip.name}.mp4"
    fitting = CODECS[codec].suffixes
    return clip.name if suffix in fitting else f"{clip.name}{fitting[0]}"


def table(rows: list[Row]) -> str:
    width = max((len(row.clip.name) for row in rows), default=0)
    return "\n".join(f"{row.clip.name:<{width}}  {row.said}" for row in rows)
