"""Gradient checkpointing: of each block only what comes in is kept, and the rest is worked out
again in the backward pass. A third more arithmetic, a fraction of the memory, the same gradients.

    recomputed(network)             # in place; parameters and their names stay as they are
"""

from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..model.attention import Memory
from ..model.kv_cache import KVCache, Shown
from ..model.transformer import Block, Transformer

M = TypeVar("M", bound=nn.Module)


class Recomputed(Block):
    """A block with the layers of another, which are recomputed in the backward pass."""

    def __init__(self, block: Block):
        nn.Module.__init__(self)
        for name, parameter in block.named_parameters(recurse=False):
            self.register_parameter(name, parameter)
        for name, layers in block.named_children():
            self.add_module(name, layers)
        self.training = block.training

    def forward(self, x: Tensor, modulation: Tensor, memory: Memory, layer: int) -> Tensor:
        if not torch.is_grad_enabled():
            return super().forward(x, modulation, memory, layer)
        again = Recalled(memory) if isinstance(memory, KVCache) else memory
        return checkpoint(
            super().forward,
            x,
            modulation,
            again,
            layer,
            use_reentrant=False,
            preserve_rng_state=False,  # there is nothing random in a block
        )


class Recalled:
    """A cache as one block saw it. By the time of the backward pass the cache has moved on, so
    what it showed is copied, and shown once more; `ChunkCausal` never changes and needs none of
    this."""

    def __init__(self, cache: KVCache):
        self.cache, self.context = cache, cache.context
        self.shown: Shown | None = None

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if self.shown is None:
            self.shown = self.cache.show(layer, k, v)
        return self.shown.attend(layer, q, k, v)


def recomputed(module: M) -> M:
    """With the blocks of all its transformers recomputed."""
    for part in module.modules():
        if isinstance(part, Transformer):
            part.blocks = nn.ModuleList(Recomputed(block) for block in part.blocks)  # type: ignore
    return module
