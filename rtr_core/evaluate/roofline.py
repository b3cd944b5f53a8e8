"""What a machine could do at best, and how much work there is: a share of one in the other.

Operations and bytes are counted while a chunk is computed, not reckoned from a config. The machine
is measured in the same run: a large matrix product in the model's dtype, and a large copy. What
takes the longer of both, arithmetic or bytes, is the least time for a stage.

*Least bytes* are those that have to move whatever a compiler does: each weight once a pass, keys
and values as often as they are read or written, what goes into a stage and what comes out.
*Bytes moved* are of every operation as it stands: all it reads and all it writes.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from ..placing import tensors_of
from ..session import Session
from .meter import REST, Meter, observe, seconds_on

SIDES = {"cuda": 8192}  # of a matrix; elsewhere
SIDE = 1024
COPIED = {"cuda": 2**30}  # bytes; elsewhere
PLATE = 2**27
READS_ONE_PLACE = ("index", "index_select", "embedding", "gather")  # of the tensor they look into
WRITES_ONLY = ("copy_", "fill_", "zero_", "normal_")  # and do not read what was there
MAKES_NOTHING = ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided")


class Machine:
    """What a device gives at best, in samples taken between those of the work."""

    def __init__(self, like: Tensor):
        kind = like.device.type
        side, numbers = SIDES.get(kind, SIDE), COPIED.get(kind, PLATE) // like.element_size()
        self._now = seconds_on(like.device)
        self._matrix = torch.ones(side, side, dtype=like.dtype, device=like.device)
        self._plates = [torch.ones(numbers, dtype=like.dtype, device=like.device) for _ in "ab"]
        self._product = self._copy = float("inf")

    def sample(self) -> None:
        """Measure once more; the least time counts."""
        into, source = self._plates
        self._product = min(self._product, self._took(lambda: self._matrix @ self._matrix))
        self._copy = min(self._copy, self._took(lambda: into.copy_(source)))

    @property
    def matmul(self) -> float:
        """Operations a second of a large matrix product."""
        return 2 * len(self._matrix) ** 3 / self._product

    @property
    def bandwidth(self) -> float:
        """Bytes a second of a large copy, read and written ones."""
        return sum(plate.nbytes for plate in self._plates) / self._copy

    def least(self, work: "Work") -> float:
        """Seconds that the work takes at least."""
        return max(work.flops / self.matmul, work.least / self.bandwidth)

    def is_bound_by_bytes(self, work: "Work") -> bool:
        return work.least / self.bandwidth > work.flops / self.matmul

    def _took(self, verb: Callable[[], Any]) -> float:
        began = self._now()
        verb()
        return self._now() - began


class Work(NamedTuple):
    """What a stage does, in operations and bytes."""

    flops: int = 0
    weights: int = 0  # bytes, each weight once
    past: int = 0  # bytes of keys and values, and of latents that are kept, read and written
    ends: int = 0  # bytes that go in and come out
    moved: int = 0  # bytes of all operations as they stand

    @property
    def least(self) -> int:
        return self.weights + self.past + self.ends

    def __add__(self, other: Any) -> "Work":  # type: ignore[override]  # numbers, not a longer tuple
        return Work(*(a + b for a, b in zip(self, other, strict=True)))


class FlopCounter(FlopCounterMode):
    """torch's own, which does not know its attention for the CPU."""

    def __init__(self):
        on_cpu = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        super().__init__(display=False, custom_mapping={on_cpu: _attention_flops})


def _attention_flops(q: Any, k: Any, v: Any, *_, out_shape: Any = None, **__) -> int:
    return sdpa_flop_count(q, k, v)


class Traffic(TorchDispatchMode):
    """Counts the bytes that operations read and write. A view does neither."""

    def __init__(self, weights: Iterable[Tensor]):
        super().__init__()
        self.weights = self.past = self.moved = 0
        self._of_weights = {_storage(weight) for weight in weights}
        self._of_past: set[int] = set()
        self._read: set[int] = set()  # weights, in this pass

    def begin(self, past: Iterable[Tensor]) -> None:
        """A pass begins, under this past."""
        self._read = set()
        self._of_past = {_storage(tensor) for tensor in past} - self._of_weights

    def __torch_dispatch__(self, func, types, given=(), named=None) -> Any:
        out = func(*given, **(named or {}))
        name = func.overloadpacket.__name__
        if name not in MAKES_NOTHING and not _is_view(func):
            self._count(name, func._schema.arguments, given, named or {}, out)
        return out

    def _count(self, name: str, arguments: Any, given: Any, named: Any, out: Any) -> None:
        written = {
            _storage(tensor)
            for argument, value in zip(arguments, given, strict=False)
            if argument.alias_info is not None and argument.alias_info.is_write
            for tensor in _tensors(value)
        }
        results = _tensors(out)
        largest = max((_nbytes(tensor) for tensor in results), default=0)
        for tensor in _tensors((given, named)):
            if name in WRITES_ONLY and _storage(tensor) in written:
                continue
            size = _nbytes(tensor)
            self._enter(tensor, min(size, largest) if name in READS_ONE_PLACE else size)
        for tensor in results:
            self._enter(tensor, _nbytes(tensor))

    def _enter(self, tensor: Tensor, size: int) -> None:
        self.moved += size
        storage = _storage(tensor)
        if storage in self._of_weights and storage not in self._read:
            self._read.add(storage)
            self.weights += size
        elif storage in self._of_past:
            self.past += size


class Counting:
    """An observer that counts the work of each stage."""

    def __init__(self, session: Session, flops: FlopCounter, traffic: Traffic):
        self.session, self.flops, self.traffic = session, flops, traffic
        self.ends = 0
        self.meter = Meter(self._so_far)

    def run(self, stage: str, verb: Any) -> Any:
        self.traffic.begin(tensors_of(self.session.flight.past.mark()))

        def with_ends() -> Any:
            result = verb()
            between = [*getattr(verb, "args", ()), result]
            self.ends += sum(_nbytes(tensor) for tensor in tensors_of(between))
            return result

        return self.meter.run(stage, with_ends)

    def _so_far(self) -> np.ndarray:
        traffic = self.traffic
        numbers = self.flops.get_total_flops(), traffic.weights, traffic.past
        return np.array([*numbers, self.ends, traffic.moved])


def counted(session: Session, draw: Callable[[], Any]) -> dict[str, Work]:
    """The work of each stage of a session while `draw` runs. It is observed for ever after."""
    parts = session.parts
    weights = [*parts.transformer.parameters(), *parts.vae.parameters()]
    with FlopCounter() as flops, Traffic(weights) as traffic:
        counting = Counting(session, flops, traffic)
        observe(session, counting)
        counting.run(REST, draw)
    return {stage: Work(*map(int, spent)) for stage, spent in counting.meter.spent.items()}


def _is_view(func: Any) -> bool:
    """Whether an operation gives another look at its input and touches no number."""
    results = [result.alias_info for result in func._schema.returns]
    return any(alias is not None and not alias.is_write for alias in results)


def _tensors(values: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _nbytes(tensor: Tensor) -> int:
    """Of the numbers that are there: an expanded tensor has each once."""
    return min(tensor.nbytes, tensor.untyped_storage().nbytes())
