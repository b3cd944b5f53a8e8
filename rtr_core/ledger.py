"""Counts the memory that tensors take while a program runs, without their having to exist.

    with Imagined(), Ledger() as ledger:
        loss(model).backward()
    print(ledger.peak)              # bytes

Every operation passes through the ledger. A storage is entered when its first tensor comes out of
an operation and struck out when its last one is gone, as an allocator would see it. What a kernel
takes for itself while it runs, and what an allocator loses between blocks, is not seen.
"""

import weakref
from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import _engine_run_backward
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

SOME_NUMBER = 1.0  # what a program is told that looks into a tensor without values
WIDENED_ON_GPUS = (F.layer_norm, F.rms_norm)  # by autocast, to fp32


class Imagined(FakeTensorMode):
    """Tensors with shapes and no numbers; copies of a module are imagined along with it."""

    def __deepcopy__(self, memo: dict) -> "Imagined":
        return self


class Ledger(TorchDispatchMode):
    """The bytes of all storages that operations made and that are still there."""

    def __init__(self):
        super().__init__()
        self.now, self.peak = 0, 0
        self.phase, self.peak_phase = "", ""  # what the caller says is going on, and was then
        self._there: dict[int, weakref.ref] = {}

    def begin(self, phase: str) -> None:
        self.phase = phase

    def start_over(self) -> None:
        """Look for a peak from here on."""
        self.peak, self.peak_phase = self.now, self.phase

    def __torch_dispatch__(self, func, types, given=(), named=None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            return SOME_NUMBER
        out = func(*given, **(named or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self._enter(leaf)
        return out

    def _enter(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._there:
            return
        self._there[key] = weakref.ref(storage, partial(self._strike_out, key, size))
        self.now += size
        if self.now > self.peak:
            self.peak, self.peak_phase = self.now, self.phase

    def _strike_out(self, key: int, size: int, _) -> None:
        del self._there[key]
        self.now -= size


class AsOnGpus(TorchFunctionMode):
    """What torch does otherwise on a GPU than on the CPU, as far as memory goes: attention is
    fused and keeps no scores, and autocast widens norms."""

    def __torch_function__(self, func, types, given=(), named=None) -> Any:
        named = named or {}
        if func is Tensor.backward:  # on again, for what is recomputed
            with self:
                ends = (given[0],), (torch.ones_like(given[0]),)
                return _engine_run_backward(
                    *ends, False, False, (), allow_unreachable=True, accumulate_grad=True
                )
        if func is F.scaled_dot_product_attention:
            with sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.MATH]):
                return func(*given, **named)
        if func in WIDENED_ON_GPUS and torch.is_autocast_enabled("cpu"):
            given = given[0].float(), *given[1:]
        return func(*given, **named)


class Fused(TorchFunctionMode):
    """Attention as fused kernels have it, without its scores, on tensors of the meta device."""

    def __torch_function__(self, func, types, given=(), named=None) -> Any:
        if func is F.scaled_dot_product_attention:
            return torch.empty_like(given[0])
        return func(*given, **(named or {}))


def bytes_of(tensors: Iterable[Tensor]) -> int:
    """Of their storages, each counted once."""
    storages = {t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values())
