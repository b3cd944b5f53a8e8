"""Makers told in words, and several of them as one.

rtr train data CORPUS VAE PAIRS --maker folder path=MINE --maker procedural share=3
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import StyleError
from .clips import STILLS
from .makers import Command, Folder, Maker, Neural, Pair, Procedural

KINDS = {"procedural": Procedural, "neural": Neural, "command": Command, "folder": Folder}


@dataclass(frozen=True)
class Mixed:
    """Several makers, each of a share of the pairs."""

    makers: tuple[Maker, ...]
    shares: tuple[float, ...]

    def __post_init__(self):
        if min(self.shares) < 0 or not sum(self.shares):
            raise StyleError(
                f"Shares of makers are 0 or more, one of them more; not {self.shares}."
            )

    def make(self, source: np.ndarray, rng: np.random.Generator) -> Pair:
        share = np.array(self.shares) / sum(self.shares)
        return self.makers[rng.choice(len(share), p=share)].make(source, rng)


def maker_of(makers: Sequence[Sequence[str]]) -> Maker:
    """What `--maker KIND FIELD=VALUE ...` asks for, given once or several times."""
    made, shares = zip(*map(_one, makers), strict=True)
    return made[0] if len(made) == 1 else Mixed(made, shares)


def _one(words: Sequence[str]) -> tuple[Maker, float]:
    kind, *said = words
    if kind not in KINDS:
        raise StyleError(f"There is no maker {kind!r}. Makers are {', '.join(KINDS)}.")
    known = {f.name: f for f in fields(KINDS[kind])}
    values: dict[str, Any] = {}
    for word in said:
        name, equals, value = word.partition("=")
        if not equals or name not in (*known, "share"):
            raise StyleError(
                f"The maker {kind} does not know {word!r}. Write FIELD=VALUE with "
                f"{', '.join((*known, 'share'))}."
            )
        values[name] = _read(name, value)
    share = values.pop("share", 1.0)
    if lacking := [f.name for f in known.values() if f.default is MISSING and f.name not in values]:
        raise StyleError(f"The maker {kind} needs {', '.join(f'{name}=...' for name in lacking)}.")
    return KINDS[kind](**values), share


def _read(name: str, value: str) -> Any:
    try:
        return READERS.get(name, str)(value)
    except (ValueError, KeyError) as error:
        raise StyleError(f"{name}={value!r} cannot be read: {error}.") from error


def _pictures(places: str) -> tuple[Path, ...]:
    """Files, and all pictures of folders."""
    found: list[Path] = []
    for place in map(Path, _several(places)):
        inside = sorted(place.rglob("*")) if place.is_dir() else [place]
        found += [path for path in inside if path.suffix.lower() in STILLS]
    return tuple(found)


def _several(words: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in words.split(",") if word.strip())


def _truth(word: str) -> bool:
    return {"true": True, "false": False}[word.lower()]


READERS: Mapping[str, Callable[[str], Any]] = {
    "styles": _several,
    "references": _pictures,
    "path": Path,
    "stills": _truth,
    **dict.fromkeys(("canonical", "strength", "limit", "share"), float),
}
