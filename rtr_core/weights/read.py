"""Open any weights file or folder: a header is read, numbers only when they are asked for.

What a file is follows from its first bytes, not from its name.
"""

import difflib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

from ..errors import WeightsError
from .header import damaged, read_header
from .lazy import LazyTensors
from .listing import few
from .pickled import ZIP, read_pickle

SAFETENSORS = (".safetensors", ".sft")
PICKLES = (".pt", ".pth", ".ckpt", ".bin")
SUFFIXES = SAFETENSORS + PICKLES
INDEX = ".safetensors.index.json"
PICKLE_START = b"\x80"
SNIFFED_BYTES = 512
EXPECTED = "Expected is a " + ", ".join(SUFFIXES) + " file or a folder with one."

IMPOSTORS = {
    b"GGUF": "a GGUF file, which is not supported yet. Choose a .safetensors version of the model",
    b"version https://git-lfs": "a git-lfs pointer: the note that git left in place of the weights."
    " Run `git lfs pull` in its folder, or download the file itself",
    b"<!doctype html": "a web page, not weights. The link led to a page about the file, or to a"
    " log-in; download the file itself",
    b"<html": "a web page, not weights. Download the file itself",
}


@dataclass(frozen=True)
class WeightsFile:
    """An opened file, or a folder of shards, as one set of tensors under the names it uses."""

    path: Path
    tensors: LazyTensors
    metadata: dict[str, str]

    @cached_property
    def config(self) -> dict[str, Any]:
        """What the file, or a config.json of a Wan model beside it, says of its shape."""
        for key in ("config", "model"):
            stated = json_object(self.metadata.get(key, ""))
            if stated:
                inner = stated.get("transformer")
                return inner if isinstance(inner, dict) else stated
        folder = self.path if self.path.is_dir() else self.path.parent
        beside = folder / "config.json"
        stated = json_object(_text_of(beside)) if beside.is_file() else {}
        return stated if "Wan" in str(stated.get("_class_name")) else {}


def open_weights(path: WeightsFile | Path | str) -> WeightsFile:
    """The file or folder at `path`, its header checked and none of its numbers read."""
    if isinstance(path, WeightsFile):
        return path
    path = Path(path)
    try:
        if path.is_dir():
            return _open_folder(path)
        if not path.exists():
            raise _missing(path)
        return _open_index(path) if path.name.endswith(INDEX) else _open_file(path)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error}.") from error


def _open_file(path: Path) -> WeightsFile:
    with path.open("rb") as file:
        start = file.read(SNIFFED_BYTES)
    if not start:
        raise WeightsError(f"{path} is empty. Download it again.")
    for mark, what in IMPOSTORS.items():
        if start.lstrip().lower().startswith(mark.lower()):
            raise WeightsError(f"{path} is {what}.")
    if start.startswith((ZIP, PICKLE_START)) and start[8:9] != b"{":
        tensors = read_pickle(path)
        meta = {name: tensor.to("meta") for name, tensor in tensors.items()}
        return _whole(WeightsFile(path, LazyTensors(meta, tensors.__getitem__), {}))
    if path.suffix.lower() not in SAFETENSORS and start[8:9] != b"{":
        raise WeightsError(f"{path} is no weights file. {EXPECTED}")
    header = read_header(path)
    return _whole(WeightsFile(path, LazyTensors(header.meta, _Reader(path)), header.metadata))


def _whole(file: WeightsFile) -> WeightsFile:
    if not file.tensors:
        raise WeightsError(f"{file.path} holds no tensors. {EXPECTED}")
    return file


class _Reader:
    """Reads tensors of one safetensors file, mapped into memory on the first call."""

    def __init__(self, path: Path):
        self.path = path

    def __call__(self, name: str) -> Tensor:
        return self._file.get_tensor(name)

    @cached_property
    def _file(self) -> Any:
        try:
            return safe_open(self.path, framework="pt")
        except Exception as error:  # the library raises its own kinds and plain ones
            raise damaged(self.path, str(error)) from error


def _open_folder(folder: Path) -> WeightsFile:
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    indexes = [name for name in names if name.endswith(INDEX)]
    if len(indexes) == 1:
        return _open_index(folder / indexes[0])
    files = [name for name in names if name.lower().endswith(SAFETENSORS)]
    files = files or [name for name in names if name.lower().endswith(PICKLES)]
    if len(files) == 1:
        return _open_file(folder / files[0])
    if files:
        raise WeightsError(
            f"{folder} holds several weights files: {few(files)}. Name one of them, or add their "
            f"*{INDEX} if they are shards of one model."
        )
    inside = [path.name for path in sorted(folder.iterdir()) if path.is_dir()]
    hint = f" It has the folders {few(inside)}: name one of those." if inside else ""
    raise WeightsError(f"{folder} holds no weights. {EXPECTED}{hint}")


def _open_index(path: Path) -> WeightsFile:
    """Shards, and an index that says which of them holds which tensor."""
    shard_of = json_object(_text_of(path)).get("weight_map")
    if not isinstance(shard_of, dict) or not shard_of:
        raise WeightsError(f"{path} is no index of shards: it has no `weight_map`.")
    if not all(isinstance(shard, str) and Path(shard).name == shard for shard in shard_of.values()):
        raise WeightsError(f"{path} names shards outside its own folder. They must lie beside it.")
    shards = {name: open_weights(path.parent / name) for name in sorted(set(shard_of.values()))}
    lost = [name for name, shard in shard_of.items() if name not in shards[shard].tensors]
    if lost:
        raise WeightsError(
            f"{path} says that {path.parent / shard_of[lost[0]]} holds {lost[0]!r}, but it does "
            f"not ({len(lost)} such tensors). Download index and shards again, together."
        )
    meta = {name: shards[shard].tensors.meta[name] for name, shard in shard_of.items()}
    metadata = {k: v for shard in shards.values() for k, v in shard.metadata.items()}
    tensors = LazyTensors(meta, lambda name: shards[shard_of[name]].tensors[name])
    return WeightsFile(path.parent, tensors, metadata)


def _missing(path: Path) -> WeightsError:
    siblings = sorted(p.name for p in path.parent.iterdir()) if path.parent.is_dir() else []
    names = [name for name in siblings if name.lower().endswith((*SUFFIXES, INDEX))]
    near = difflib.get_close_matches(path.name, names, cutoff=0.3)
    if near:
        return WeightsError(f"{path} does not exist. Near it there is {few(near)}.")
    where = "there are no weights in its folder" if siblings else "its folder is missing or empty"
    return WeightsError(f"{path} does not exist, and {where}. {EXPECTED}")


def _text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def json_object(text: str) -> dict[str, Any]:
    """The object that a text spells in JSON, empty where it is none."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
