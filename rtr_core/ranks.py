"""This process as one of several that `torchrun` started, each a rank, or as the only one."""

import hashlib
import json
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import torch
import torch.distributed as dist
from torch import Tensor

from .errors import RankError

PATIENCE = timedelta(minutes=10)  # until a rank that does not come to what all do counts as gone


def join(patience: timedelta = PATIENCE) -> None:
    """Become one of several processes, where torchrun says that we are."""
    if "WORLD_SIZE" not in os.environ or dist.is_initialized():
        return
    is_on_gpus = torch.cuda.is_available()
    if is_on_gpus:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
    try:
        # what lies on the CPU, as facts do, goes by gloo in either case
        dist.init_process_group("cpu:gloo,cuda:nccl" if is_on_gpus else "gloo", timeout=patience)
    except (RuntimeError, ValueError) as error:
        raise RankError(
            f"Rank {os.environ.get('RANK')} of {os.environ['WORLD_SIZE']} has not met the others: "
            f"{_first_line(error)}. Launch all of them with torchrun, where they reach each other."
        ) from error


def leave() -> None:
    """Be alone again."""
    if dist.is_initialized():
        dist.destroy_process_group()


def end(code: int) -> NoReturn:
    """End this process, at once where it is one of several: a thread of gloo may still let go of a
    tensor, and that aborts a Python that is being taken down (pytorch/pytorch, pull 179291)."""
    if "WORLD_SIZE" not in os.environ:
        sys.exit(code)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def is_launched() -> bool:
    """Whether torchrun started this process, be it the only one."""
    return dist.is_initialized()


def count() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def number() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def is_first() -> bool:
    return number() == 0


def agree(facts: Mapping[str, Any]) -> None:
    """Refuse to work with ranks that stand otherwise than rank 0: all of them hear it at once."""
    if count() == 1:
        return
    theirs = [json.loads(told) for told in gathered(json.dumps(facts))]
    for rank, other in enumerate(theirs):
        for name in sorted({*theirs[0], *other}):
            if theirs[0].get(name) != other.get(name):
                raise RankError(
                    f"Rank {rank} has {name} = {other.get(name)!r}, rank 0 has "
                    f"{theirs[0].get(name)!r}. Start all ranks with the same command, files and "
                    f"versions."
                )


def gathered(text: str) -> list[str]:
    """What each rank says, in their order."""
    mine = as_bytes(text)
    lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(count())]
    try:
        dist.all_gather(lengths, torch.tensor([len(mine)]))
        room = int(max(lengths))
        texts = [torch.zeros(room, dtype=torch.uint8) for _ in lengths]
        dist.all_gather(texts, torch.nn.functional.pad(mine, (0, room - len(mine))))
    except RuntimeError as error:
        raise RankError(
            f"Rank {number()} has not heard all others before work began: {_first_line(error)}"
        ) from error
    with suppress(RuntimeError):  # whoever may go now, and end, has let the others hear everything
        dist.all_reduce(torch.zeros(1))
    return [as_text(t[: int(n)]) for t, n in zip(texts, lengths, strict=True)]


def as_bytes(text: str) -> Tensor:
    return torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)


def as_text(told: Tensor) -> str:
    return told.numpy().tobytes().decode()


@cache
def versions() -> dict[str, str]:
    """Of all that decides a result beside weights: of torch, and of this code itself."""
    digest, root = hashlib.sha256(), Path(__file__).parent
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return {"torch": torch.__version__, "code of rtr_core": digest.hexdigest()[:12]}


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
