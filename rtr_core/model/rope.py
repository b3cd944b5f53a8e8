"""Three-axis rotary positions: time, height and width each turn their own pairs of channels.

Pairs are neighbours (interleaved), read as complex numbers. Angles are worked out in fp64, so a
stream may be hours long before a position loses precision, and no table can run out.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..shapes import Size

THETA = 10000.0


def pairs_per_axis(head_dim: int) -> tuple[int, int, int]:
    """How many channel pairs turn with time, height and width."""
    pairs = head_dim // 2
    return pairs - 2 * (pairs // 3), pairs // 3, pairs // 3


def turns(positions: Sequence[int], pairs: int) -> Tensor:
    """`[p, pairs]` complex numbers of length one. On the CPU: some devices have no fp64."""
    placed = {"dtype": torch.float64, "device": "cpu"}
    steps = torch.arange(pairs, **placed) / pairs
    angle = torch.outer(torch.tensor(positions, **placed), THETA**-steps)
    return torch.polar(torch.ones_like(angle), angle).to(torch.complex64)


def frame_turns(positions: Sequence[int], grid: Size, head_dim: int, device=None) -> Tensor:
    """`[tokens, head_dim / 2]` for latent frames at `positions` in time, row by row."""
    time, down, across = pairs_per_axis(head_dim)
    shape = (len(positions), grid.height, grid.width)
    axes = (
        turns(positions, time)[:, None, None],
        turns(range(grid.height), down)[None, :, None],
        turns(range(grid.width), across)[None, None, :],
    )
    whole = [axis.to(device).expand(*shape, -1) for axis in axes]
    return torch.cat(whole, dim=-1).flatten(0, 2)


def rotate(x: Tensor, angles: Tensor) -> Tensor:
    """Turn `x` `[b l h d]` by `angles` `[l, d / 2]`."""
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * angles[:, None]).flatten(-2).to(x.dtype)


def rotate_into(out: Tensor, x: Tensor, angles: Tensor) -> Tensor:
    """`rotate` without a new tensor where the dtype allows it."""
    if x.dtype != torch.float32:
        return out.copy_(rotate(x, angles))
    pairs = [torch.view_as_complex(t.unflatten(-1, (-1, 2))) for t in (x, out)]
    torch.mul(pairs[0], angles[:, None], out=pairs[1])
    return out
