"""The tiny video autoencoder: plain convolutions and layers that remember one frame.

Its parameter names are those of TAEHV, so taew2_1 and taew2_2 load. Its latents are the normalized
ones of the diffusion model. Inside, axes are `[b t c h w]` and pixels 0..1. Ours also has a linear
shortcut past all layers: it begins as the best linear map there is, and the layers learn the rest.
Back to pixels it sees a latent's neighbours too: places decoded one by one do not meet, and show.
"""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..shapes import Stride
from .causal import PICTURE_CHANNELS, Causal, Trail, compact, name_layers
from .tiny_config import TinyVaeConfig

NEIGHBOURS = 3  # latents a side that the shortcut back to pixels sees


class TinyVae(nn.Module):
    """Pixels `[b 3 t h w]` in -1..1 to latents and back, a group of frames at a time."""

    def __init__(self, config: TinyVaeConfig):
        super().__init__()
        self.config = config
        self.encoder = encoder(config)
        self.decoder = decoder(config)
        if config.shortcut:
            values = PICTURE_CHANNELS * math.prod(config.stride)
            self.encoder_shortcut = nn.Linear(values, config.channels)
            self.decoder_shortcut = nn.Conv2d(
                config.channels, values, NEIGHBOURS, padding="same", padding_mode="replicate"
            )
        name_layers(self)

    @property
    def channels(self) -> int:
        return self.config.channels

    @property
    def stride(self) -> Stride:
        return self.config.stride

    def encode_group(self, pixels: Tensor, trail: Trail) -> Tensor:
        if not trail:
            pixels = pixels.repeat_interleave(self.stride.time, dim=2)  # the first frame, a group
        x = F.pixel_unshuffle(pixels.transpose(1, 2) * 0.5 + 0.5, self.config.patch)
        latent = through_frames(self.encoder, x, trail).transpose(1, 2)
        if self.config.shortcut:
            values = self.encoder_shortcut(grouped(pixels, self.stride))
            latent = latent + rearrange(values, "b t h w c -> b c t h w")
        return latent

    def decode_latent(self, latent: Tensor, trail: Trail) -> Tensor:
        shown = -1 if not trail else -self.stride.time  # the first latent frame is one frame
        x = through_frames(self.decoder, latent.transpose(1, 2), trail)
        pictures = F.pixel_shuffle(x[:, shown:], self.config.patch)
        pixels = pictures.transpose(1, 2) * 2 - 1
        if self.config.shortcut:
            values = self.decoder_shortcut(rearrange(latent, "b c t h w -> (b t) c h w"))
            values = rearrange(values, "(b t) c h w -> b t h w c", b=len(latent))
            pixels = pixels + ungrouped(values, self.stride)[:, :, shown:]
        return pixels


def grouped(pixels: Tensor, stride: Stride) -> Tensor:
    """Pixels `[b c t h w]`, those of each latent's place side by side: `[b t h w values]`."""
    sides = dict(zip(("pt", "ph", "pw"), stride, strict=True))
    return rearrange(pixels, "b c (t pt) (h ph) (w pw) -> b t h w (c pt ph pw)", **sides)


def ungrouped(values: Tensor, stride: Stride) -> Tensor:
    """What `grouped` did, undone."""
    sides = dict(zip(("pt", "ph", "pw"), stride, strict=True))
    return rearrange(values, "b t h w (c pt ph pw) -> b c (t pt) (h ph) (w pw)", **sides)


def through_frames(layers: nn.Sequential, x: Tensor, trail: Trail) -> Tensor:
    """x through the layers; those that do not look back see each frame as a picture."""
    for layer in layers:
        if isinstance(layer, Causal):
            x = layer(x, trail)
        else:
            x = layer(x.flatten(0, 1)).unflatten(0, x.shape[:2])
    return x


def encoder(config: TinyVaeConfig) -> nn.Sequential:
    widths = config.encoder_widths
    layers = [conv(PICTURE_CHANNELS * config.patch**2, widths[0]), nn.ReLU(inplace=True)]
    for inputs, outputs, time in zip(widths[:-1], widths[1:], config.encoder_time, strict=True):
        layers += [Pool(inputs, time), conv(inputs, outputs, stride=2, bias=False)]
        layers += [Memory(outputs) for _ in range(config.depth)]
    return nn.Sequential(*layers, conv(widths[-1], config.channels))


def decoder(config: TinyVaeConfig) -> nn.Sequential:
    widths = config.decoder_widths
    layers = [SoftClamp(), conv(config.channels, widths[0]), nn.ReLU(inplace=True)]
    for inputs, outputs, time in zip(widths[:-1], widths[1:], config.decoder_time, strict=True):
        layers += [Memory(inputs) for _ in range(config.depth)]
        layers += [nn.Identity(), Grow(inputs, time), conv(inputs, outputs, bias=False)]
    return nn.Sequential(
        *layers, nn.ReLU(inplace=True), conv(widths[-1], PICTURE_CHANNELS * config.patch**2)
    )


def conv(inputs: int, outputs: int, stride: int = 1, bias: bool = True) -> nn.Module:
    return nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=bias)


class SoftClamp(nn.Module):
    """Keeps latents within -3..3."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x / 3) * 3


class Memory(Causal):
    """A residual layer that sees each frame together with the one before it."""

    def __init__(self, width: int):
        super().__init__()
        self.conv = nn.Sequential(
            conv(width * 2, width),
            nn.ReLU(inplace=True),
            conv(width, width),
            nn.ReLU(inplace=True),
            conv(width, width),
        )

    def forward(self, x: Tensor, trail: Trail) -> Tensor:
        first = trail[self.name] if self.name in trail else torch.zeros_like(x[:, :1])
        before = torch.cat([first, x[:, :-1]], dim=1)
        trail[self.name] = compact(x[:, -1:])
        change = self.conv(torch.cat([x, before], dim=2).flatten(0, 1))
        return F.relu(change.unflatten(0, x.shape[:2]) + x)


class Pool(Causal):
    """Makes one frame out of each `factor` frames. Groups are whole, so nothing is remembered."""

    def __init__(self, width: int, factor: int):
        super().__init__()
        self.conv = nn.Conv2d(width * factor, width, 1, bias=False)
        self.factor = factor

    def forward(self, x: Tensor, trail: Trail) -> Tensor:
        pictures = self.conv(rearrange(x, "b (t r) c h w -> (b t) (r c) h w", r=self.factor))
        return rearrange(pictures, "(b t) c h w -> b t c h w", b=x.shape[0])


class Grow(Causal):
    """Makes `factor` frames out of each frame and doubles height and width.

    TAEHV doubles first, in a layer of its own; after a 1x1 convolution it is the same for less.
    """

    def __init__(self, width: int, factor: int):
        super().__init__()
        self.conv = nn.Conv2d(width, width * factor, 1, bias=False)
        self.factor = factor

    def forward(self, x: Tensor, trail: Trail) -> Tensor:
        pictures = F.interpolate(self.conv(x.flatten(0, 1)), scale_factor=2)
        return rearrange(pictures, "(b t) (r c) h w -> b (t r) c h w", b=x.shape[0], r=self.factor)
