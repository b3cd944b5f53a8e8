"""The header of a safetensors file, read and checked without touching its numbers.

A file is `length (8 bytes) | JSON header | numbers`. The header gives each tensor's dtype, shape
and where its numbers begin and end. Nothing in it is believed before it is checked.
"""

import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..errors import WeightsError

METADATA = "__metadata__"
LENGTH_BYTES = 8
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
DOWNLOAD_AGAIN = "Download the file again; a download that was cut off is the usual cause."


class Header(NamedTuple):
    meta: dict[str, Tensor]
    metadata: dict[str, str]


def read_header(path: Path) -> Header:
    """What a safetensors file says it holds, refused where the file cannot hold it."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(LENGTH_BYTES)
        if len(start) < LENGTH_BYTES:
            raise damaged(path, f"it is {size} bytes long, too short for a header")
        (length,) = struct.unpack("<Q", start)
        if length > size - LENGTH_BYTES:
            raise damaged(path, f"its header claims {length} bytes, the file has {size} in all")
        text = file.read(length)
    try:
        entries = json.loads(text)
        metadata = entries.pop(METADATA, {})
        places = {name: _place(path, name, entry) for name, entry in entries.items()}
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise damaged(path, f"its header cannot be read ({error})") from error
    _check_places(path, places, size - LENGTH_BYTES - length)
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise damaged(path, "its metadata is not a mapping from text to text")
    return Header({name: place.meta for name, place in places.items()}, metadata)


def damaged(path: Path, why: str) -> WeightsError:
    return WeightsError(f"{path} is not a whole safetensors file: {why}. {DOWNLOAD_AGAIN}")


class _Place(NamedTuple):
    """Where a tensor's numbers are, counted from the end of the header."""

    begin: int
    end: int
    meta: Tensor


def _place(path: Path, name: str, entry: Any) -> _Place:
    try:
        kind, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
    except (KeyError, TypeError, ValueError):
        raise damaged(path, f"{name!r} in its header lacks dtype, shape or offsets") from None
    if kind not in DTYPES:
        raise WeightsError(
            f"{path}: tensor {name!r} has the dtype {kind!r}, which is not known here. Known are "
            f"{', '.join(DTYPES)}; choose a bf16, fp16, fp32 or fp8 version of the file."
        )
    if not isinstance(shape, list) or not all(map(_is_count, [*shape, begin, end])):
        raise damaged(path, f"shape or offsets of {name!r} are not whole numbers")
    needed = math.prod(shape) * DTYPES[kind].itemsize
    if end - begin != needed:
        raise damaged(path, f"{name!r} {shape} needs {needed} bytes and is given {end - begin}")
    return _Place(begin, end, torch.empty(shape, dtype=DTYPES[kind], device="meta"))


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _check_places(path: Path, places: Mapping[str, _Place], room: int) -> None:
    """Tensors stand one after the other and fill the file."""
    at, before = 0, "the header"
    for name, place in sorted(places.items(), key=lambda item: item[1][:2]):
        if place.begin < at:
            raise damaged(path, f"{name!r} overlaps {before!r}")
        if place.begin > at:
            raise damaged(path, f"nobody owns the {place.begin - at} bytes before {name!r}")
        if place.end > room:
            raise damaged(path, f"{name!r} ends at byte {place.end}, the file at {room}: truncated")
        at, before = place.end, name
    if at != room:
        raise damaged(path, f"nobody owns its last {room - at} bytes")
