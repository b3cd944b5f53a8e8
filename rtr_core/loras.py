"""LoRA files as a person names them: where they are, what is in them, and how strongly they act."""

import hashlib
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from .errors import StyleError
from .moments import CONTROL

READ_BYTES = 2**20  # at a time
STRENGTH = "a number, below 0 too, and 0 for off"
CONFIG = "adapter_config.json"  # where PEFT keeps what its tensors do not say
PEFT_STEM = "adapter_model"


class LoraFile(NamedTuple):
    """A file, or a folder as PEFT writes them, and a hash of all that is in it.

    Two of them are equal where they name the same content in the same place: a file that was
    changed since is another one.
    """

    path: str
    digest: str

    @classmethod
    def of(cls, path: str | os.PathLike) -> "LoraFile":
        whole = Path(path).absolute()  # good from every folder, and under its own name
        if not whole.exists():
            raise StyleError(f"There is no LoRA {whole}{_near(whole)}.")
        parts = []
        for part in _files_of(whole):
            seen = part.stat()
            parts.append(_digest(str(part), seen.st_size, seen.st_mtime_ns))
        return cls(str(whole), hashlib.sha256("".join(parts).encode()).hexdigest()[:16])

    @property
    def name(self) -> str:
        return Path(self.path).name

    @property
    def config(self) -> Path | None:
        """What PEFT says beside its tensors. A folder of many LoRAs may hold a stranger's."""
        path = Path(self.path)
        beside = path / CONFIG if path.is_dir() else path.with_name(CONFIG)
        is_peft = path.is_dir() or path.stem == PEFT_STEM
        return beside if is_peft and beside.is_file() else None


def strengths_of(loras: Any) -> dict[LoraFile, float]:
    """A mapping of paths to strengths, looked at; those of 0 stay, and do nothing."""
    if not isinstance(loras, Mapping):
        raise StyleError(f'LoRAs are given as {{"klimt.safetensors": 0.8}}, not as {loras!r}.')
    return {
        path if isinstance(path, LoraFile) else LoraFile.of(path): checked_strength(strength)
        for path, strength in loras.items()
    }


def told_once(told: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Paths and strengths as they were written, each path one line of text and there once."""
    strengths: dict[str, float] = {}
    for path, strength in told:
        if not path.strip() or "\n" in path or CONTROL.search(path):
            raise StyleError(f"A LoRA is named by the path of its file, not by {path!r}.")
        if path in strengths:
            raise StyleError(f"The LoRA {path!r} is given twice: add its strengths up.")
        strengths[path] = checked_strength(strength)
    return strengths


def checked_strength(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise StyleError(f"The strength of a LoRA is {STRENGTH}; not {value!r}.")
    return float(value)


def read_strength(text: str) -> tuple[str, float]:
    """The path and the strength in `FILE[:strength]`."""
    path, colon, number = text.rpartition(":")
    if not colon:
        return text, 1.0
    try:
        return path, checked_strength(float(number))
    except ValueError:
        if Path(path).suffix:
            raise StyleError(
                f"After {path!r}: comes its strength, {STRENGTH}; not {number!r}."
            ) from None
        return text, 1.0  # a colon of the path itself, as of a drive


def _files_of(path: Path) -> Iterator[Path]:
    """All that decides what a LoRA is."""
    if path.is_dir():
        yield from (inside for inside in sorted(path.iterdir()) if inside.is_file())
        return
    yield path
    if path.stem == PEFT_STEM and (beside := path.with_name(CONFIG)).is_file():
        yield beside


@lru_cache(maxsize=256)
def _digest(path: str, size: int, changed: int) -> str:
    """Of one file, read once while its size and the time of its last change stay."""
    digest = hashlib.blake2b()
    with Path(path).open("rb") as file:
        while block := file.read(READ_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _near(path: Path) -> str:
    siblings = [other.name for other in path.parent.glob("*")] if path.parent.is_dir() else []
    close = get_close_matches(path.name, siblings, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
