"""Whether all workers are alike and see the same files: looked at before any work begins."""

import hashlib
import os
import platform
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex

import av
import torch

from ..errors import ClipError, OutOfMemory
from ..media.needs import amount, memory_needs
from ..media.probe import SourceInfo
from ..settings import Settings
from ..shapes import Size
from ..stylizer import Stylizer

CODE = Path(__file__).parent.parent
SECRET = ".rtr-fleet-"  # before the names of files that prove a storage


@dataclass(frozen=True, kw_only=True)
class Host:
    """What a worker says of itself."""

    name: str
    pid: int
    alike: Mapping[str, str]  # what has to be the same on all of them


def this_host(stylizer: Stylizer) -> Host:
    device = stylizer.parts.device
    is_gpu = device.type == "cuda"
    card = torch.cuda.get_device_name(device) if is_gpu else torch.backends.cpu.get_cpu_capability()
    return Host(
        name=f"{socket.gethostname()}, process {os.getpid()}",
        pid=os.getpid(),
        alike={
            "code of rtr": code(),
            "torch": torch.__version__,
            "av": av.__version__,
            "python": platform.python_version(),
            "weights": stylizer.parts.fingerprint,
            "recipe": stylizer.recipe.to_json(),
            "device": f"{card}, {stylizer.parts.latents_like.dtype!s}, {stylizer.cache}",
            "threads": "any" if is_gpu else str(torch.get_num_threads()),
        },
    )


def code() -> str:
    """A hash of RTR itself: its version does not tell two checkouts apart."""
    digest = hashlib.sha256()
    for path in sorted(CODE.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def check_alike(hosts: Sequence[Host]) -> None:
    """One bit that differs between two machines would be a seam in the middle of a clip."""
    first, *others = hosts
    for other in others:
        for name, value in first.alike.items():
            if other.alike[name] != value:
                raise ClipError(
                    f"Workers differ in {name}: {value} on {first.name}; {other.alike[name]} on "
                    f"{other.name}. Parts of one clip would not fit together: make them alike, or "
                    f"leave one of them out. Nothing was begun."
                )


@contextmanager
def shared(folder: Path) -> Iterator[Path]:
    """A file that can be read only where this folder is seen."""
    path = folder / f"{SECRET}{token_hex(8)}"
    path.write_text(token_hex(16), encoding="utf-8")
    try:
        yield path
    finally:
        for file in folder.glob(f"{path.name}*"):
            file.unlink(missing_ok=True)


def answer(proof: Path) -> str:
    """What a worker gives back who sees it: what it holds. It writes beside it, too."""
    try:
        told = proof.read_text(encoding="utf-8")
        beside = proof.with_name(f"{proof.name}.{token_hex(4)}")
        beside.write_text(told, encoding="utf-8")
    except OSError as error:
        raise ClipError(
            f"{proof.parent} is not shared: {socket.gethostname()} cannot read and write it "
            f"({error}). Mount the same storage under the same path on all machines."
        ) from error
    return told


def check_room(stylizer: Stylizer, info: SourceInfo, size: Size, share: float) -> None:
    """Refuse a clip for which a worker's share of its device is too small."""
    settings = Settings(size=size, recipe=stylizer.recipe, cache=stylizer.cache)
    latents = info.frames and 1 + info.frames // stylizer.parts.vae.stride.time
    device = memory_needs(stylizer, settings, info, latents)[0]
    if device.there is not None and device.needed > share * device.there:
        raise OutOfMemory(
            f"{info.path.name} at {size} needs {amount(device.needed)} on {device.place} of "
            f"{socket.gethostname()}; this worker's share of it is "
            f"{amount(share * device.there)}. Choose fewer workers a device (--per-gpu, --cores), "
            f"a smaller --size, or see rtr plan."
        )
