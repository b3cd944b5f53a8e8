"""Numbers of one byte, `float8_e4m3fn`: a transformer's matrices, and keys and values.

    model = in_fp8(model)           # half the bytes of bf16, the same tensors otherwise

Nothing computes in fp8. What is kept so is widened to the dtype at hand when it is needed, a
matrix or a layer at a time, so it runs wherever the dtype does; and what it gives is to the bit
what the widened numbers give.
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .transformer import Transformer

FP8 = torch.float8_e4m3fn
LARGEST = torch.finfo(FP8).max
FACTOR = "weight_scale"  # the name of a matrix' factors beside `weight`, as ComfyUI's files have it
FACTOR_BYTES = torch.bfloat16.itemsize  # a power of two, which bf16 holds exactly
TOP = 8  # the largest of a row is brought below 2 to this, which fp8 holds
TINIEST = 2.0**-100  # rows of nothing are scaled as if they held this


class Fp8Linear(nn.Module):
    """A linear layer whose matrix is kept in fp8, with a factor for each of its rows."""

    def __init__(self, weight: Tensor, factor: Tensor, bias: nn.Parameter | None):
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.weight_scale = nn.Parameter(factor, requires_grad=False)
        self.bias = bias

    @classmethod
    def of(cls, layer: nn.Linear) -> "Fp8Linear":
        return cls(*narrow_rows(layer.weight.detach()), layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.widened(x.dtype), self.bias)

    def widened(self, dtype: torch.dtype) -> Tensor:
        return widened_rows(self.weight, self.weight_scale, dtype)


def in_fp8(model: Transformer) -> Transformer:
    """A twin whose blocks keep their matrices in fp8; it shares all else with `model`."""
    narrow = {id(layer): Fp8Linear.of(layer) for layer in matrices(model).values()}
    shared = {id(tensor): tensor for tensor in model.parameters()}
    return copy.deepcopy(model, narrow | shared)


def matrices(model: Transformer) -> dict[str, nn.Linear]:
    """The layers that `in_fp8` narrows, by name: those in the blocks, nearly all of the weights."""
    named = model.named_modules()
    return {n: m for n, m in named if n.startswith("blocks.") and isinstance(m, nn.Linear)}


def narrow_rows(weight: Tensor) -> tuple[Tensor, Tensor]:
    """A matrix in fp8, and what each row `[rows, 1]` of it is to be multiplied by."""
    wide = weight.float()
    largest = wide.abs().amax(dim=1, keepdim=True)
    factor = torch.where(largest > 0, largest / LARGEST, torch.ones_like(largest))
    return (wide / factor).clamp(-LARGEST, LARGEST).to(FP8), factor


def widened_rows(weight: Tensor, factor: Tensor, dtype: torch.dtype) -> Tensor:
    """What the numbers stand for: multiplied in fp32 and rounded once, without an fp32 copy."""
    return weight.to(dtype).mul_(factor)


# ---- keys and values ----


def packed(x: Tensor) -> Tensor:
    """`[... d]` as bytes `[... d + 2]`: fp8, and behind them the factor of this row.

    The factor is a power of two, so widening is exact, and what was widened does not change when
    it is narrowed once more.
    """
    wide = x.float()
    largest = wide.abs().amax(dim=-1, keepdim=True).clamp(min=TINIEST)
    factor = torch.exp2(largest.log2().ceil() - TOP).to(torch.bfloat16)
    narrow = (wide / factor).to(FP8)
    return torch.cat([narrow.view(torch.uint8), factor.view(torch.uint8)], dim=-1)


def unpacked_into(out: Tensor, kept: Tensor) -> Tensor:
    """What `packed` has kept, written to `out`."""
    narrow, factor = kept[..., :-FACTOR_BYTES], kept[..., -FACTOR_BYTES:]
    return out.copy_(narrow.view(FP8)).mul_(factor.view(torch.bfloat16))


def behind(kept: Tensor, new: Tensor) -> Tensor:
    """What `packed` has kept of the past `[b l h ...]`, widened, and after it `new` as it is."""
    past = kept.shape[1]
    out = new.new_empty(new.shape[0], past + new.shape[1], *new.shape[2:])
    unpacked_into(out[:, :past], kept)
    out[:, past:] = new
    return out
