"""Depth by a Depth-Anything on this machine: how much of it an output keeps."""

import torch
from torch import Tensor
from torch.nn import functional as F

from ..model.depth import KIND, SIDE, Depth
from .bars import Bar
from .passages import Pair

FLAT = 1e-6


def depth_error(output: Tensor, source: Tensor) -> float:
    """Mean squared error of depths, the source's from 0 to 1 and the output's fitted to it.

    Fitted by scale and shift, since these models tell neither. 0 for a copy.
    """
    low, high = source.min(), source.max()
    target = ((source - low) / (high - low).clamp_min(FLAT)).flatten().double()
    ours = output.flatten().double()
    ours = ours - ours.mean()
    scale = (ours * target).sum() / ours.square().sum().clamp_min(FLAT)
    return float((scale * ours + target.mean() - target).square().mean())


class DepthKept:
    """Of one clip, by every so manyth frame."""

    def __init__(self, model: Depth, every: int):
        self.model, self.every = model, every
        self._errors: list[float] = []

    @torch.no_grad()
    def see(self, number: int, pair: Pair) -> None:
        if number % self.every:
            return
        source, output = (picture_of(frame) for frame in (pair.source, pair.output))
        if output.shape != source.shape:
            size = source.shape[-2:]
            output = F.interpolate(output[None], size, mode="bilinear", antialias=True)[0]
        self._errors.append(depth_error(self._depth(output), self._depth(source)))

    def bars(self) -> dict[str, Bar]:
        value = sum(self._errors) / len(self._errors)
        claim = f"depth MSE, {KIND} at {SIDE}, scale and shift fitted"
        return {"depth": Bar(claim=claim, value=value)}

    def _depth(self, picture: Tensor) -> Tensor:
        return self.model(picture.to(next(self.model.parameters()))).cpu()


def picture_of(frame: Tensor) -> Tensor:
    """A frame `[h w 3]` as a picture `[3 h w]` in 0..1."""
    floating = frame.float() / 255 if frame.dtype == torch.uint8 else frame.float()
    return floating.permute(2, 0, 1)
