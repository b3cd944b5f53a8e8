"""Scaled fp8 weights, as ComfyUI's files have them: widened to numbers that can be computed with,
or taken as they are for layers that widen them.

`X.weight` is stored in fp8 with one factor beside it, `X.scale_weight` or, in newer files,
`X.weight_scale`. What else those files add concerns fp8 arithmetic, which is not done here.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from ..errors import WeightsError
from ..model.fp8 import narrow_rows
from .lazy import LazyTensors
from .text_keys import SCALES, UNUSED

BESIDE = (*SCALES, *UNUSED, "scaled_fp8")  # tensors that are no weights themselves
FP8 = (torch.float8_e4m3fn, torch.float8_e5m2)


def is_scaled(meta: Mapping[str, Tensor]) -> bool:
    return any(_leaf(name) in SCALES for name in meta)


def dequantized(tensors: LazyTensors, dtype: torch.dtype) -> LazyTensors:
    """The weights alone, those with a scale multiplied by it and in `dtype`."""
    plain = [name for name in tensors if _leaf(name) not in BESIDE]
    return tensors.derive(plain, lambda these, name: _widened(these, name, dtype))


def _widened(tensors: Mapping[str, Tensor], name: str, dtype: torch.dtype) -> Tensor:
    weight, layer = tensors[name], name.removesuffix("weight")
    if not weight.is_floating_point():
        raise WeightsError(
            f"{name!r} is quantized in a way that is not known here (stored as {weight.dtype}). "
            f"Choose a bf16, fp16, fp32 or scaled fp8 version of the file."
        )
    scale = _scale(tensors, name)
    if scale is None or layer == name:
        return weight
    rows = _by_row(scale, weight, name)
    return (weight.float() * rows).to(dtype)


def in_fp8(tensors: Mapping[str, Tensor], name: str) -> tuple[Tensor, Tensor]:
    """A matrix and the factor of each of its rows: to the bit where it is stored in fp8, with a
    scale or without, else narrowed here."""
    weight, scale = tensors[name], _scale(tensors, name)
    if weight.dtype not in FP8:
        return narrow_rows(_widened(tensors, name, torch.float32))
    if scale is None:
        return weight, torch.ones(len(weight), 1)
    return weight, _by_row(scale, weight, name).expand(len(weight), 1).contiguous()


def _scale(tensors: Mapping[str, Tensor], name: str) -> Tensor | None:
    layer = name.removesuffix("weight")
    return next((tensors[layer + leaf] for leaf in SCALES if layer + leaf in tensors), None)


def _by_row(scale: Tensor, weight: Tensor, name: str) -> Tensor:
    if scale.numel() not in (1, len(weight)):
        raise WeightsError(
            f"The scale of {name!r} has {scale.numel()} values; one, or one for each of its "
            f"{len(weight)} rows, can be read. Choose a bf16, fp16 or fp32 version of the file."
        )
    return scale.float().reshape(-1, *[1] * (weight.ndim - 1))


def _leaf(name: str) -> str:
    return name.rpartition(".")[2]
