"""Training as one process, or as one of several that `torchrun` started."""

import torch.distributed as dist
from torch import nn

from ..errors import ShapeError
from ..ranks import agree, count, is_first, join, number

__all__ = ["agree", "average_gradients", "count", "is_first", "join", "number", "rows"]


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
