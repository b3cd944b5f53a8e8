"""Where a picture is styled, and where it stays as it was."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .errors import ShapeError


@dataclass(frozen=True, eq=False)
class Mask:
    """Weights `[t h w]`: at 1 a pixel is styled, at 0 it is the source's own, to the bit.

    One picture holds for the whole clip; of several, each for its frame and the last for all after.
    """

    weights: Tensor

    def __post_init__(self):
        weights: Any = self.weights
        if not isinstance(weights, Tensor) or weights.ndim not in (2, 3) or 0 in weights.shape:
            came = list(weights.shape) if isinstance(weights, Tensor) else type(weights).__name__
            raise ShapeError(f"A mask is [frames, height, width] or [height, width], not {came}.")
        if not weights.isfinite().all():
            raise ShapeError("The mask holds NaN or infinity: make it anew, from 0 to 1.")
        weights = weights.detach().cpu().float().clamp(0, 1)
        object.__setattr__(self, "weights", weights if weights.ndim == 3 else weights[None])

    def put(self, styled: Tensor, source: Tensor, index: int) -> Tensor:
        """The styled frame `[h w 3]` number `index` inside the mask, the source's outside of it."""
        size = styled.shape[:2]
        source = source.float() / 255 if source.dtype == torch.uint8 else source
        if source.shape[:2] != size:
            source = _resized(source.permute(2, 0, 1), size).permute(1, 2, 0)
        weights = self.weights[min(index, len(self.weights) - 1)]
        if weights.shape != size:
            weights = _resized(weights[None], size)[0]
        return torch.lerp(source.to(styled), styled, weights[..., None].to(styled))  # exact at 0, 1

    @cached_property
    def fingerprint(self) -> str:
        digest = hashlib.sha256(repr(tuple(self.weights.shape)).encode())
        digest.update(self.weights.contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]


def _resized(planes: Tensor, size: torch.Size) -> Tensor:
    return F.interpolate(planes[None], tuple(size), mode="bilinear", antialias=True)[0].clamp(0, 1)
