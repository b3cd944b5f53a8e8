"""Write a safetensors file one tensor at a time, whole or not at all."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from uuid import uuid4

import torch
from torch import Tensor

from ..errors import WeightsError
from .header import DTYPES, LENGTH_BYTES, METADATA
from .lazy import meta_of

NAMES = {dtype: name for name, dtype in DTYPES.items()}


def write_safetensors(
    path: Path | str, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> None:
    """Whatever stops it, there is either the whole new file or what was there before."""
    path = Path(path)
    unfinished = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        try:
            _write(unfinished, tensors, metadata)
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise WeightsError(
            f"{path} cannot be written: {error}. Choose a folder that exists, may be written to "
            f"and has room, and close what has the file open."
        ) from error


def _write(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    meta = meta_of(tensors)
    names = sorted(meta, key=lambda name: (-meta[name].itemsize, name))  # keeps all aligned
    with path.open("xb") as file:
        file.write(header_bytes(meta, names, metadata))
        for name in names:
            numbers = tensors[name].detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            file.write(numbers.numpy().data)
        file.flush()
        os.fsync(file.fileno())


def header_bytes(
    meta: Mapping[str, Tensor], names: list[str], metadata: Mapping[str, str]
) -> bytes:
    entries: dict[str, object] = {METADATA: dict(metadata)}
    at = 0
    for name in names:
        tensor, end = meta[name], at + meta[name].nbytes
        if tensor.dtype not in NAMES:
            raise WeightsError(f"{name!r} is {tensor.dtype}, which a safetensors file cannot hold.")
        entries[name] = {
            "dtype": NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [at, end],
        }
        at = end
    text = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % LENGTH_BYTES)
    return len(text).to_bytes(LENGTH_BYTES, "little") + text
