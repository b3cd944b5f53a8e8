"""PyTorch's own files (.pt, .pth, .ckpt, .bin): tensors are taken from them, never anything run."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import WeightsError

ZIP = b"PK\x03\x04"
DEEPEST = 8  # nested dictionaries; checkpoints have two or three levels
FOREIGN = re.compile(r"GLOBAL (\S+)")
VERDICT = "WeightsUnpickler error:"  # before it, torch advises to run the file


def read_pickle(path: Path) -> dict[str, Tensor]:
    """All tensors in a file, nested dictionaries joined with dots. Mapped, not read, if zipped."""
    with path.open("rb") as file:
        is_zip = file.read(len(ZIP)) == ZIP
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except Exception as error:  # a hostile or broken pickle may raise anything
        raise _refused(path, error) from error
    return dict(_tensors(content, ""))


def _tensors(content: Any, prefix: str, depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    if isinstance(content, Tensor):
        yield prefix.removesuffix("."), content.detach()
    elif isinstance(content, Mapping) and depth < DEEPEST:
        for name, value in content.items():
            yield from _tensors(value, f"{prefix}{name}.", depth + 1)


def _refused(path: Path, error: Exception) -> WeightsError:
    foreign = FOREIGN.search(str(error))
    if foreign:
        return WeightsError(
            f"{path} holds more than tensors: it wants to run {foreign[1]}, and nothing from a "
            f"weights file is ever run. Look for a .safetensors version of it. If you trust who "
            f"made it, convert it yourself, once, on a machine that matters little: "
            f"torch.load(FILE, weights_only=False), then safetensors.torch.save_file of its "
            f"tensors."
        )
    _, _, detail = str(error).rpartition(VERDICT)
    reason = (detail.strip() or type(error).__name__).splitlines()[0]
    return WeightsError(
        f"{path} cannot be read as a PyTorch file ({reason}). It may be cut off or be no weights "
        f"file at all: download it again, or look for a .safetensors version of it."
    )
