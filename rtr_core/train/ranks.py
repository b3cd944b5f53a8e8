"""Training as one process, or as one of several that `torchrun` started."""

import os

import torch
import torch.distributed as dist
from torch import nn

from ..errors import ShapeError


def join() -> None:
    """Become one of several processes, where torchrun says that we are."""
    if "WORLD_SIZE" in os.environ and not dist.is_initialized():
        is_on_gpus = torch.cuda.is_available()
        if is_on_gpus:
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
        dist.init_process_group("nccl" if is_on_gpus else "gloo")


def count() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def number() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def is_first() -> bool:
    return number() == 0


def rows(batch: int) -> range:
    """Which samples of a batch are this process's."""
    if batch % count():
        raise ShapeError(f"A batch of {batch} cannot be shared by {count()} processes evenly.")
    mine = batch // count()
    return range(number() * mine, (number() + 1) * mine)


def average_gradients(module: nn.Module) -> None:
    """What each process found for its share becomes what all found together."""
    if count() == 1:
        return
    for parameter in module.parameters():
        if parameter.grad is not None:
            dist.all_reduce(parameter.grad)
            parameter.grad /= count()
