"""The layers of the Wan VAEs, with the parameter names of the released weights.

All take and give `[b c t h w]`. Numbers inside `nn.Sequential` are part of those names.
"""

from math import sqrt

import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from torch import Tensor, nn

from ..shapes import Stride
from .causal import Causal, CausalConv3d, Trail, through


class RmsNorm(nn.Module):
    """Scales each position to a root mean square of gamma over its channels, in fp32 or wider."""

    def __init__(self, dim: int, axes: int = 3):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(dim, *[1] * axes))

    def forward(self, x: Tensor) -> Tensor:
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        return F.normalize(wide, dim=1).to(x.dtype) * sqrt(x.shape[1]) * self.gamma


class Residual(Causal):
    """Two causal convolutions beside a shortcut."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.residual = nn.Sequential(
            RmsNorm(inputs),
            nn.SiLU(),
            CausalConv3d(inputs, outputs, (3, 3, 3)),
            RmsNorm(outputs),
            nn.SiLU(),
            nn.Identity(),  # where the released model has dropout
            CausalConv3d(outputs, outputs, (3, 3, 3)),
        )
        self.shortcut = nn.Identity() if inputs == outputs else nn.Conv3d(inputs, outputs, 1)

    def forward(self, x: Tensor, trail: Trail) -> Tensor:
        return self.shortcut(x) + through(self.residual, x, trail)


class FrameAttention(nn.Module):
    """One head of attention within each frame; it does not look back."""

    def __init__(self, dim: int):
        super().__init__()
        self.norm = RmsNorm(dim, axes=2)
        self.to_qkv = nn.Conv2d(dim, dim * 3, 1)
        self.proj = nn.Conv2d(dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        frames, height = x.shape[2], x.shape[3]
        pictures = rearrange(x, "b c t h w -> (b t) c h w")
        qkv = self.to_qkv(self.norm(pictures))
        q, k, v = rearrange(qkv, "n (three c) h w -> three n 1 (h w) c", three=3)
        seen = F.scaled_dot_product_attention(q, k, v)
        seen = self.proj(rearrange(seen, "n 1 (h w) c -> n c h w", h=height))
        return x + rearrange(seen, "(b t) c h w -> b c t h w", t=frames)


def each_frame(layers: nn.Module, x: Tensor) -> Tensor:
    """x through layers that know pictures only."""
    pictures = layers(rearrange(x, "b c t h w -> (b t) c h w"))
    return rearrange(pictures, "(b t) c h w -> b c t h w", b=x.shape[0])


class Downsample(Causal):
    """Halves height and width, and time if asked. The first frame of a clip stays one frame."""

    def __init__(self, dim: int, time: bool):
        super().__init__()
        self.resample = nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(dim, dim, 3, stride=2))
        self.time_conv = CausalConv3d(dim, dim, (3, 1, 1), time_stride=2) if time else None

    def forward(self, x: Tensor, trail: Trail) -> Tensor:
        x = each_frame(self.resample, x)
        if self.time_conv is None:
            return x
        if self.time_conv.name in trail:
            return self.time_conv(x, trail)
        self.time_conv.begin(x, trail)
        return x


class Upsample(Causal):
    """Doubles height and width, and time if asked. The first frame of a clip stays one frame."""

    def __init__(self, inputs: int, outputs: int, time: bool):
        super().__init__()
        self.resample = nn.Sequential(
            nn.Upsample(scale_factor=2, mode="nearest-exact"),
            nn.Conv2d(inputs, outputs, 3, padding=1),
        )
        self.time_conv = CausalConv3d(inputs, inputs * 2, (3, 1, 1)) if time else None

    def forward(self, x: Tensor, trail: Trail) -> Tensor:
        if self.time_conv is not None:
            x = self.double_time(self.time_conv, x, trail)
        return each_frame(self.resample, x)

    @staticmethod
    def double_time(conv: CausalConv3d, x: Tensor, trail: Trail) -> Tensor:
        if conv.name in trail:
            return rearrange(conv(x, trail), "b (two c) t h w -> b c (t two) h w", two=2)
        conv.begin(x[:, :, :0], trail)  # as trained: the first frame is no part of the past here
        return x


def average_down(x: Tensor, channels: int, factor: Stride) -> Tensor:
    """Folds space and time into channels and averages these down to `channels`."""
    x = F.pad(x, (0, 0, 0, 0, -x.shape[2] % factor.time, 0))
    r, p, q = factor
    x = rearrange(x, "b c (t r) (h p) (w q) -> b (c r p q) t h w", r=r, p=p, q=q)
    return reduce(x, "b (c group) t h w -> b c t h w", "mean", c=channels)


def repeat_up(x: Tensor, channels: int, factor: Stride) -> Tensor:
    """Repeats channels and unfolds them into space and time."""
    r, p, q = factor
    x = x.repeat_interleave(channels * r * p * q // x.shape[1], dim=1)
    return rearrange(x, "b (c r p q) t h w -> b c (t r) (h p) (w q)", r=r, p=p, q=q)


class BypassDown(Causal):
    """A level of the Wan 2.2 encoder: its layers, beside an average of what came in."""

    def __init__(self, layers: list[nn.Module], channels: int, factor: Stride):
        super().__init__()
        self.downsamples = nn.Sequential(*layers)
        self.channels, self.factor = channels, factor

    def forward(self, x: Tensor, trail: Trail) -> Tensor:
        return through(self.downsamples, x, trail) + average_down(x, self.channels, self.factor)


class BypassUp(Causal):
    """A level of the Wan 2.2 decoder: its layers, beside a repetition of what came in."""

    def __init__(self, layers: list[nn.Module], channels: int, factor: Stride):
        super().__init__()
        self.upsamples = nn.Sequential(*layers)
        self.channels, self.factor = channels, factor

    def forward(self, x: Tensor, trail: Trail) -> Tensor:
        out = through(self.upsamples, x, trail)
        if self.factor == Stride(1, 1, 1):
            return out
        repeated = repeat_up(x, self.channels, self.factor)
        return out + repeated[:, :, -out.shape[2] :]  # the first frame of a clip stays one frame
