"""The Wan 2.1 and Wan 2.2 video autoencoders, with the parameter names of the released weights."""

from itertools import pairwise

import torch
from einops import rearrange
from torch import Tensor, nn

from ..shapes import Stride
from .causal import PICTURE_CHANNELS, Causal, CausalConv3d, Trail, name_layers, through
from .wan_config import WanVaeConfig
from .wan_layers import (
    BypassDown,
    BypassUp,
    Downsample,
    FrameAttention,
    Residual,
    RmsNorm,
    Upsample,
)


class WanVae(nn.Module):
    """Pixels `[b 3 t h w]` in -1..1 to normalized latents and back, a group of frames at a time."""

    def __init__(self, config: WanVaeConfig):
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.conv1 = nn.Conv3d(config.channels * 2, config.channels * 2, 1)
        self.conv2 = nn.Conv3d(config.channels, config.channels, 1)
        self.decoder = Decoder(config)
        name_layers(self)

    @property
    def channels(self) -> int:
        return self.config.channels

    @property
    def stride(self) -> Stride:
        return self.config.stride

    def encode_group(self, pixels: Tensor, trail: Trail) -> Tensor:
        side = self.config.patch
        x = rearrange(pixels, "b c t (h p) (w q) -> b (c q p) t h w", p=side, q=side)
        center, _spread = self.conv1(self.encoder(x, trail)).chunk(2, dim=1)
        mean, std = self._statistics(center)
        return ((center - mean) / std).to(center.dtype)

    def decode_latent(self, latent: Tensor, trail: Trail) -> Tensor:
        mean, std = self._statistics(latent)
        x = self.decoder(self.conv2((latent * std + mean).to(latent.dtype)), trail)
        side = self.config.patch
        return rearrange(x, "b (c q p) t h w -> b c t (h p) (w q)", p=side, q=side)

    def _statistics(self, like: Tensor) -> Tensor:
        """Mean and std, made where they are used, so that no dtype rounds them."""
        wide = torch.promote_types(like.dtype, torch.float32)
        values = torch.tensor(self.config.latent_statistics, dtype=wide, device=like.device)
        return values[:, :, None, None, None]


class Encoder(Causal):
    def __init__(self, config: WanVaeConfig):
        super().__init__()
        widths = [config.dim * times for times in (1, *config.multipliers)]
        self.conv1 = CausalConv3d(PICTURE_CHANNELS * config.patch**2, widths[0], (3, 3, 3))
        self.downsamples = nn.Sequential(*down_levels(config, widths))
        self.middle = middle(widths[-1])
        self.head = head(widths[-1], config.channels * 2)

    def forward(self, x: Tensor, trail: Trail) -> Tensor:
        x = self.conv1(x, trail)
        for layers in (self.downsamples, self.middle, self.head):
            x = through(layers, x, trail)
        return x


class Decoder(Causal):
    def __init__(self, config: WanVaeConfig):
        super().__init__()
        multipliers = config.multipliers[::-1]
        widths = [config.decoder_dim * times for times in (multipliers[0], *multipliers)]
        self.conv1 = CausalConv3d(config.channels, widths[0], (3, 3, 3))
        self.middle = middle(widths[0])
        self.upsamples = nn.Sequential(*up_levels(config, widths))
        self.head = head(widths[-1], PICTURE_CHANNELS * config.patch**2)

    def forward(self, x: Tensor, trail: Trail) -> Tensor:
        x = self.conv1(x, trail)
        for layers in (self.middle, self.upsamples, self.head):
            x = through(layers, x, trail)
        return x


def middle(width: int) -> nn.Sequential:
    return nn.Sequential(Residual(width, width), FrameAttention(width), Residual(width, width))


def head(width: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(RmsNorm(width), nn.SiLU(), CausalConv3d(width, outputs, (3, 3, 3)))


def residuals(inputs: int, outputs: int, count: int) -> list[nn.Module]:
    return [Residual(inputs, outputs), *(Residual(outputs, outputs) for _ in range(count - 1))]


def down_levels(config: WanVaeConfig, widths: list[int]) -> list[nn.Module]:
    """Wan 2.1 has all layers in one row, Wan 2.2 one entry per level."""
    levels = []
    for level, (inputs, outputs) in enumerate(pairwise(widths)):
        layers, factor = residuals(inputs, outputs, config.depth), Stride(1, 1, 1)
        if level < len(config.time_halved):
            time = config.time_halved[level]
            layers.append(Downsample(outputs, time))
            factor = Stride(1 + time, 2, 2)
        levels += [BypassDown(layers, outputs, factor)] if config.bypass else layers
    return levels


def up_levels(config: WanVaeConfig, widths: list[int]) -> list[nn.Module]:
    """Like `down_levels`. Wan 2.1 halves the width while it doubles the size, Wan 2.2 after."""
    levels, inputs = [], widths[0]
    for level, outputs in enumerate(widths[1:]):
        layers, factor = residuals(inputs, outputs, config.depth + 1), Stride(1, 1, 1)
        inputs = outputs
        if level < len(config.time_halved):
            time = config.time_halved[::-1][level]
            inputs = outputs if config.bypass else outputs // 2
            layers.append(Upsample(outputs, inputs, time))
            factor = Stride(1 + time, 2, 2)
        levels += [BypassUp(layers, outputs, factor)] if config.bypass else layers
    return levels
