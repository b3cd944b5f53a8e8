"""Muon: matrices are stepped along the nearest orthogonal matrix to their momentum.

All directions of a matrix then learn at one pace, which small transformers thank for with far
fewer steps. Vectors, embeddings and what meets the outside (first and last layer) get Adam. The
size of a step is that of Adam's, so that one rate serves both.

Where processes share a weight (see `sharding`), each keeps the momentum of its rows. The nearest
orthogonal matrix is one of the whole: so the momentum is gathered, one matrix at a time, every
process works it out, and takes its rows of the step.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from .sharding import gathered, local, rows_for

ROUNDS = 5
QUINTIC = 3.4445, -4.7750, 2.0315  # of the iteration: fast from zero, about 1 at the end
SIZE = 0.2  # of an element of a step, about what Adam's have


def orthogonal(matrix: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """The nearest orthogonal matrix, roughly: singular values end between 0.7 and 1.2."""
    x = matrix.to(dtype)
    is_tall = x.shape[0] > x.shape[1]
    x = x.T if is_tall else x
    x = x / (x.norm() + 1e-7)
    a, b, c = QUINTIC
    for _ in range(ROUNDS):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return (x.T if is_tall else x).to(matrix.dtype)


class Muon(torch.optim.Optimizer):
    """`matrices` by orthogonal steps, `others` by Adam; weight decay is decoupled, and for what
    has more than one dimension only."""

    def __init__(
        self,
        matrices: Iterable[nn.Parameter],
        others: Iterable[nn.Parameter],
        rate: float,
        decay: float,
        momentum: tuple[float, float],
        dtype: torch.dtype = torch.float32,  # of the iteration; bf16 is good enough
        inertia: float = 0.95,
    ):
        groups = [
            {"params": list(matrices), "is_orthogonal": True},
            {"params": list(others), "is_orthogonal": False},
        ]
        super().__init__(groups, {"lr": rate, "decay": decay, "momentum": momentum})
        self.inertia, self.dtype = inertia, dtype

    @torch.no_grad()
    def step(self, closure=None) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                rows, grad = local(parameter), local(parameter.grad)
                if parameter.ndim > 1:
                    rows.mul_(1 - group["lr"] * group["decay"])
                move = self._turned if group["is_orthogonal"] else self._adam
                rows.add_(move(parameter, grad, group["momentum"]), alpha=-group["lr"])

    def _turned(self, parameter: nn.Parameter, grad: Tensor, _) -> Tensor:
        state = self.state[parameter]
        if not state:
            state["inertia"] = torch.zeros_like(grad)
        state["inertia"].lerp_(grad, 1 - self.inertia)
        whole = gathered(grad.lerp(state["inertia"], self.inertia), parameter)
        ahead = whole.flatten(1)  # a kernel is a matrix too
        turned = orthogonal(ahead, self.dtype).view_as(whole)
        return SIZE * max(ahead.shape) ** 0.5 * rows_for(turned, parameter)

    def _adam(self, parameter: nn.Parameter, grad: Tensor, momentum: tuple[float, float]) -> Tensor:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.tensor(0.0)
            state["mean"], state["square"] = (torch.zeros_like(grad) for _ in range(2))
        state["step"] += 1
        state["mean"].lerp_(grad, 1 - momentum[0])
        state["square"].lerp_(grad.square(), 1 - momentum[1])
        mean, square = (
            state[name] / (1 - keep ** float(state["step"]))
            for name, keep in zip(("mean", "square"), momentum, strict=True)
        )
        return mean / (square.sqrt() + 1e-8)
