"""The layer classes a transformer is built from: torch's own, or a host's.

A host such as ComfyUI passes `operations=` with classes of the same names that stream, quantize
or patch their weights. Bound to a device and dtype once, so that the model need not repeat them.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from torch import nn


class Layers(NamedTuple):
    linear: Callable[..., nn.Module]
    layer_norm: Callable[..., nn.Module]
    rms_norm: Callable[..., nn.Module]
    conv3d: Callable[..., nn.Module]
    placed: dict[str, Any]  # device and dtype, for bare parameters

    @classmethod
    def of(cls, operations: Any = nn, device=None, dtype=None) -> "Layers":
        placed = {"device": device, "dtype": dtype}
        return cls(
            linear=partial(operations.Linear, **placed),
            layer_norm=partial(operations.LayerNorm, **placed),
            rms_norm=partial(operations.RMSNorm, **placed),
            conv3d=partial(operations.Conv3d, **placed),
            placed=placed,
        )
