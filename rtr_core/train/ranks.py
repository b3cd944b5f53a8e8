"""Training as one process, or as one of several that `torchrun` started."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import nn

from ..errors import RankError, ShapeError
from ..ranks import agree, count, gathered, is_first, is_launched, join, number, versions

__all__ = [
    "agree",
    "average_gradients",
    "averaged",
    "count",
    "gathered",
    "is_first",
    "is_launched",
    "join",
    "number",
    "rows",
    "together",
    "versions",
]


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
        if parameter.grad is not None and not hasattr(parameter, "placements"):  # see sharding
            dist.all_reduce(parameter.grad)
            parameter.grad /= count()


def averaged(facts: Mapping[str, float]) -> dict[str, float]:
    """Figures of all processes' samples together."""
    if count() == 1 or not facts:
        return dict(facts)
    on = "cuda" if dist.get_backend() == "nccl" else "cpu"
    values = torch.tensor([facts[name] for name in sorted(facts)], dtype=torch.float64, device=on)
    dist.all_reduce(values)
    means = (values / count()).tolist()
    return {name: means[sorted(facts).index(name)] for name in facts}


@contextmanager
def together(step: int) -> Iterator[None]:
    """What all do at once, and what torch says where one of them is gone, in our words."""
    try:
        yield
    except RuntimeError as error:
        if count() == 1 or not (isinstance(error, dist.DistError) or "gloo" in str(error)):
            raise
        line = str(error).strip().split("\n")[0]
        raise RankError(
            f"Rank {number()} found another rank gone in step {step} ({line}). The last checkpoint "
            f"is good: the same command goes on from it, on as many ranks as you like."
        ) from error
