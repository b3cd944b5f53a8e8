"""What makes a model faster and leaves its numbers as they are, from outside: `model -> model`."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from .model.attention import Memory
from .model.transformer import Block, Transformer


def compiled(transformer: Transformer) -> Transformer:
    """A twin over the same weights whose blocks go through `torch.compile`, one graph for all.

    A block's memory stays outside of the graph: it changes with every chunk, and a compiler that
    looked into it would begin anew each time.
    """
    shared = {id(weight): weight for weight in transformer.parameters()}
    twin = copy.deepcopy(transformer, shared)
    twin.blocks = nn.ModuleList(Compiled(block) for block in twin.blocks)  # type: ignore[assignment]
    return twin


def no_compiler(device: torch.device) -> str | None:
    """Why nothing can be compiled for a device here; None where it can."""
    try:
        torch.compile(_probe)(torch.ones(8, device=device))
    except Exception as error:  # of torch, of a C++ compiler or Triton: whatever there is to fail
        return (str(error).strip() or type(error).__name__).splitlines()[0]
    return None


class Compiled(nn.Module):
    """A block that is compiled at its first call, and again for other shapes."""

    def __init__(self, block: Block):
        super().__init__()
        self.block = block
        self._run = torch.compile(block.forward)

    def forward(self, x: Tensor, modulation: Tensor, memory: Memory, layer: int) -> Tensor:
        return self._run(x, modulation, OneLayer(memory, layer), 0)

    def keys_and_values(self, x: Tensor, modulation: Tensor) -> tuple[Tensor, Tensor]:
        return self.block.keys_and_values(x, modulation)

    def encode_context(self, text: Tensor) -> tuple[Tensor, Tensor]:
        return self.block.encode_context(text)


class OneLayer:
    """A layer's share of a memory. It is layer 0 of it, so that no graph knows which it is in."""

    def __init__(self, memory: Memory, layer: int):
        self.context = (memory.context[layer],)
        self._memory, self._layer = memory, layer

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return _attend_outside(self._memory, self._layer, q, k, v)


def _attend(memory: Memory, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return memory.attend(layer, q, k, v)


_attend_outside: Any = torch.compiler.disable(_attend)  # of the graph


def _probe(x: Any) -> Any:
    return x * 2 + 1
