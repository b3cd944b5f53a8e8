"""Layers that look back in time. Weights hold no state: what a layer saw last is in a trail.

A trail belongs to one clip in one direction, starts empty, and maps the name of a layer to the last
frames it saw. Its tensors are never written into, only replaced, and share memory with nothing, so
a shallow copy of a trail is a snapshot and an old trail stays valid while the clip goes on.

Axes: b batch, c channels, t frames, h height, w width.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PICTURE_CHANNELS = 3
Trail = dict[str, Tensor]


class Causal(nn.Module):
    """A layer that sees the time axis: its forward takes `(x, trail)`."""

    name: str = ""  # its place in the network, and its key in a trail


def name_layers(network: nn.Module) -> None:
    """Tell each causal layer its name. Called once, by the network that is complete."""
    for name, layer in network.named_modules():
        if isinstance(layer, Causal):
            layer.name = name


def through(layers: nn.Sequential, x: Tensor, trail: Trail) -> Tensor:
    """x through the layers; those that look back also get the trail."""
    for layer in layers:
        x = layer(x, trail) if isinstance(layer, Causal) else layer(x)
    return x


def under(prefix: str, tensors: Mapping[str, Tensor]) -> Trail:
    """The tensors whose names begin with the prefix, without it."""
    return {n.removeprefix(prefix): seen for n, seen in tensors.items() if n.startswith(prefix)}


def prefixed(prefix: str, trail: Trail) -> dict[str, Tensor]:
    return {prefix + name: seen for name, seen in trail.items()}


def compact(x: Tensor) -> Tensor:
    """A contiguous copy that keeps no larger tensor alive."""
    return x.clone(memory_format=torch.contiguous_format)


class CausalConv3d(Causal):
    """A convolution `[b c t h w]` over this frame and those before it; before a clip lie zeros.

    Height and width are kept. With `time_stride` it makes one frame out of that many.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: tuple[int, int, int], time_stride: int = 1
    ):
        super().__init__()
        conv = nn.Conv3d(inputs, outputs, kernel)
        self.weight, self.bias = conv.weight, conv.bias
        self.stride = time_stride, 1, 1
        self.padding = 0, kernel[1] // 2, kernel[2] // 2
        self.reach = kernel[0] - time_stride  # frames of the past that the next call needs

    def begin(self, past: Tensor, trail: Trail) -> None:
        """Start a clip as if `past` had just been seen, with zeros before it."""
        missing = self.reach - past.shape[2]
        trail[self.name] = compact(F.pad(past, (0, 0, 0, 0, missing, 0)))

    def forward(self, x: Tensor, trail: Trail) -> Tensor:
        if self.name not in trail:
            self.begin(x[:, :, :0], trail)
        x = torch.cat([trail[self.name], x], dim=2)
        trail[self.name] = compact(x[:, :, -self.reach :])
        return F.conv3d(x, self.weight, self.bias, self.stride, self.padding)
