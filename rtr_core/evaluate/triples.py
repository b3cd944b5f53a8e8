"""Which clips of a folder belong together: a source, what became of it, and what was asked for."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ..cues import Cue, CueSheet
from ..errors import ClipError, RtrError
from ..media.batch import SUFFIXES
from ..media.job import FOLDER_SUFFIX
from ..media.source import fingerprint
from ..train.clips import STILLS

SOURCE, OUTPUT, REFERENCE, PROMPT = ".source", ".output", ".reference", ".txt"
EXPECTED = (
    "Expected are NAME.source.mp4 and NAME.output.mp4 with NAME.txt or NAME.reference.png, or what "
    "`rtr stylize` wrote, with its .json beside it"
)


@dataclass(frozen=True, kw_only=True)
class Triple:
    """A source, an output, and the style that it was to have."""

    name: str
    method: str  # what made it, by the folder it lies in
    source: Path
    output: Path
    prompt: str | None = None
    reference: Path | None = None
    unasked: str = ""  # why there is neither


class Skipped(NamedTuple):
    """What could not be measured."""

    name: str
    reason: str


class Found(NamedTuple):
    triples: list[Triple]
    skipped: list[Skipped]


def find_triples(folder: Path) -> Found:
    """All of a folder and of the folders in it, each of which is a method of its own."""
    if not folder.is_dir():
        raise ClipError(f"There is no folder {folder}. {EXPECTED}.")
    clips = [path for path in sorted(folder.rglob("*")) if _is_clip(path, folder)]
    found = Found([], [])
    for clip in clips:
        method = clip.parent.relative_to(folder).as_posix()
        method = folder.resolve().name if method == "." else method
        try:
            found.triples.extend(_told_by(clip, method, clips))
        except RtrError as error:
            found.skipped.append(Skipped(clip.name, str(error)))
    if not any(found):
        raise ClipError(f"{folder} holds no output and its source. {EXPECTED}.")
    return found


def _is_clip(path: Path, folder: Path) -> bool:
    kept = any(part.endswith(FOLDER_SUFFIX) for part in path.relative_to(folder).parts[:-1])
    return path.suffix.lower() in SUFFIXES and path.is_file() and not kept


def _told_by(clip: Path, method: str, clips: list[Path]) -> Iterator[Triple]:
    """The triple that a clip is the output of, if it is one."""
    sidecar = clip.with_name(f"{clip.name}.json")
    if clip.stem.endswith(OUTPUT):
        yield _by_name(clip, method, clips)
    elif clip.stem.endswith(SOURCE):
        name = clip.stem.removesuffix(SOURCE)
        if not any(other.stem == name + OUTPUT and _beside(other, clip) for other in clips):
            raise ClipError(f"{clip.name} has no output: {name}{OUTPUT}.mp4 is missing.")
    elif sidecar.is_file():
        yield _by_sidecar(clip, sidecar, method, clips)


def _by_name(output: Path, method: str, clips: list[Path]) -> Triple:
    name = output.stem.removesuffix(OUTPUT)
    sources = [clip for clip in clips if clip.stem == name + SOURCE and _beside(clip, output)]
    if len(sources) != 1:
        raise ClipError(
            f"{output.name} has {len(sources) or 'no'} source{'s' * (len(sources) > 1)} beside it: "
            f"expected is one {name}{SOURCE}.mp4."
        )
    prompt = _prompt(output.with_name(name + PROMPT))
    stills = [
        path
        for path in sorted(output.parent.iterdir())
        if path.stem == name + REFERENCE and path.suffix.lower() in STILLS
    ]
    return Triple(
        name=name,
        method=method,
        source=sources[0],
        output=output,
        prompt=prompt,
        reference=stills[0] if stills else None,
        unasked=f"neither {name}{PROMPT} nor {name}{REFERENCE}.png is there",
    )


def _by_sidecar(output: Path, sidecar: Path, method: str, clips: list[Path]) -> Triple:
    """As the job that made it has written down."""
    told = _json_of(sidecar)
    try:
        wanted = told["facts"]["source"]
        cues: Sequence[Cue] = CueSheet.parse(told["facts"]["cues"]).cues
    except (KeyError, TypeError) as error:
        raise ClipError(f"{sidecar.name} is not what `rtr stylize` writes: no {error}.") from error
    near = [Path(told["source"])] if isinstance(told.get("source"), str) else []
    source = next(
        (p for p in (*near, *clips) if p != output and p.is_file() and fingerprint(p) == wanted),
        None,
    )
    if source is None:
        raise ClipError(
            f"{output.name} was made of {near[0] if near else 'a clip'} which is not there any "
            f"more, or was changed since. Put it into the folder."
        )
    first, many = cues[0], len(cues) > 1
    reference = None if many or not first.reference else Path(first.reference)
    return Triple(
        name=output.stem,
        method=method,
        source=source,
        output=output,
        prompt=None if many else first.prompt,
        reference=reference if reference and reference.is_file() else None,
        unasked=f"its style changes {len(cues) - 1} times" if many else "the reference is gone",
    )


def _beside(one: Path, other: Path) -> bool:
    return one.parent == other.parent


def _prompt(path: Path) -> str | None:
    if not path.is_file():
        return None
    return " ".join(path.read_text(encoding="utf-8-sig", errors="replace").split()) or None


def _json_of(path: Path) -> dict[str, Any]:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ClipError(f"{path.name} cannot be read: {error}.") from error
    return told if isinstance(told, dict) else {}
