"""The reference adapter: how a styled picture becomes tokens that stand before the video's own.

The paper calls it lightweight and says no more. Ours is a patch embedding of its own, since a
reference is clean and has no source beside it, and a small gated MLP that starts as nothing.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from ..shapes import Stride
from .layers import Layers


class ReferenceAdapter(nn.Module):
    def __init__(self, channels: int, dim: int, hidden: int, patch: Stride, layers: Layers):
        super().__init__()
        self.patch_embedding = layers.conv3d(channels, dim, kernel_size=patch, stride=patch)
        self.gate = layers.linear(dim, hidden)
        self.up = layers.linear(dim, hidden)
        self.down = layers.linear(hidden, dim)

    def forward(self, reference: Tensor) -> Tensor:
        """Latents `[b c t h w]` -> tokens `[b t n d]`."""
        x = self.patch_embedding(reference).flatten(3).permute(0, 2, 3, 1)
        return x + self.down(F.silu(self.gate(x)) * self.up(x))
