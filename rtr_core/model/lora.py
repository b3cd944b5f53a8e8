"""LoRAs on a transformer: a twin over the same weights, in which touched layers add what they say.

No weight is changed and no matrix copied, so any number of twins, of any strengths, stand beside
the original and cost little more than their names. `added` is the slow way: one weight with all
of it inside.
"""

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import WeightsError

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True, eq=False)
class LowRank:
    """A change of a matrix as the product of two thin ones."""

    down: Tensor  # [rank in], of a convolution [rank in t h w]
    up: Tensor  # [out rank]
    scale: float  # alpha / rank

    def __call__(self, x: Tensor) -> Tensor:
        return F.linear(F.linear(x, self.down) * self.scale, self.up)

    @property
    def whole(self) -> Tensor:
        product = self.up.flatten(1).float() @ self.down.flatten(1).float()
        return (product * self.scale).unflatten(1, self.down.shape[1:])

    @property
    def nbytes(self) -> int:
        return self.down.nbytes + self.up.nbytes


@dataclass(frozen=True, eq=False)
class Difference:
    """A change of a weight, a bias or a modulation, number by number."""

    whole: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return F.linear(x, self.whole) if self.whole.ndim > 1 else self.whole

    @property
    def nbytes(self) -> int:
        return self.whole.nbytes


Change = LowRank | Difference
Scaled = tuple[Change, float]  # with the strength it acts at


@dataclass(frozen=True, kw_only=True, eq=False)
class Lora:
    """What a LoRA file says of a transformer."""

    path: str
    digest: str  # of the file
    changes: Mapping[str, Change]  # of parameters, by their original Wan names
    keys: int = 0  # in the file
    unmatched: tuple[str, ...] = field(default=())  # those of them that no layer here has

    @property
    def nbytes(self) -> int:
        return sum(change.nbytes for change in self.changes.values())

    def __str__(self) -> str:
        matched = self.keys - len(self.unmatched)
        return f"{Path(self.path).name}: {matched} of {self.keys} keys matched"


Strengths = Mapping[Lora, float]


def under_loras(transformer: M, loras: Strengths) -> M:
    """The transformer as these LoRAs make it, over its own tensors. It stays as it is.

    Where none has a strength it is the transformer itself. LoRAs on a twin join those it has.
    """
    scaled: dict[str, list[Scaled]] = {}
    for lora, strength in loras.items():
        if strength:
            for name, change in lora.changes.items():
                scaled.setdefault(name, []).append((change, strength))
    return _twin(transformer, scaled) if scaled else transformer


def added(weight: Tensor, changes: Iterable[Scaled]) -> Tensor:
    """A weight with changes inside it, summed up in fp32."""
    wide = weight.detach().float()
    for change, strength in changes:
        wide = wide + strength * change.whole.to(wide)
    return wide.to(weight.dtype)


class Adapted(nn.Module):
    """A linear layer, however it keeps its weights, and what LoRAs add to its result."""

    def __init__(self, layer: nn.Module, changes: Iterable[Scaled]):
        super().__init__()
        self.layer, self.changes = layer, tuple(changes)

    def forward(self, x: Tensor) -> Tensor:
        out = self.layer(x)
        for change, strength in self.changes:
            out = torch.add(out, change(x), alpha=strength)
        return out


def _twin(module: M, scaled: Mapping[str, list[Scaled]]) -> M:
    """The module with changes of the parameters named from it on."""
    twin = copy.copy(module)
    twin._modules, twin._parameters = dict(module._modules), dict(module._parameters)
    below: dict[str, dict[str, list[Scaled]]] = {}
    for name, changes in scaled.items():
        child, dot, rest = name.partition(".")
        if dot:
            below.setdefault(child, {})[rest] = changes
        else:
            weight = module._parameters.get(child)
            if weight is None:
                raise WeightsError(
                    f"{type(module).__name__} has no {child!r} that a LoRA could change."
                )
            twin._parameters[child] = nn.Parameter(added(weight, changes), requires_grad=False)
    for child, inner in below.items():
        layer = module._modules[child]
        assert layer is not None, "a child that has parameters"
        if set(inner) <= {"weight", "bias"} and _is_matrix(layer):
            changes = [change for name in ("weight", "bias") for change in inner.get(name, ())]
            twin._modules[child] = Adapted(layer, changes)
        else:
            twin._modules[child] = _twin(layer, inner)
    return twin


def _is_matrix(layer: nn.Module) -> bool:
    return isinstance(layer, Adapted) or getattr(layer, "weight", torch.empty(0)).ndim == 2
