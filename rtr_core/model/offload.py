"""Blocks that live in host memory and come to the device one after another while it computes.

    model = offloaded(model, device)

Two blocks are on the device at any time: the one at work, and the one that comes next. On CUDA it
is copied from pinned memory on a stream of its own, beside the arithmetic; elsewhere it is copied
when its turn comes. The numbers are the same to the bit.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

from .transformer import Transformer

AT_ONCE = 2  # blocks on the device

M = TypeVar("M", bound=nn.Module)


def offloaded(model: Transformer, device: torch.device) -> Transformer:
    """A twin that computes on `device` and keeps its blocks in host memory."""
    twin = copy.copy(model)
    twin._modules = {  # those of `model` until here
        name: HostBlocks(part, device) if name == "blocks" else over(part, lambda w: w.to(device))
        for name, part in model.named_children()
    }
    return twin


class HostBlocks(nn.ModuleList):
    """A transformer's blocks. To go through them is to bring them to the device.

    Room on the device belongs to the walk, so that several may be under way at once.
    """

    def __init__(self, blocks: nn.Module, device: torch.device):
        super().__init__(on_host(block, device) for block in blocks.children())
        self.device = device

    def __iter__(self) -> Iterator[nn.Module]:
        """Each block in turn, on the device; it is good until the next one is asked for."""
        blocks = list(self.children())
        room = [room_for(block, self.device) for block in blocks[:AT_ONCE]]
        lane = Lane(self.device)
        with lane.kept_waiting():
            lane.copy(blocks[0], room[0])
            for n in range(len(blocks)):
                lane.wait()
                if n + 1 < len(blocks):
                    lane.copy(blocks[n + 1], room[(n + 1) % AT_ONCE])
                yield room[n % AT_ONCE]


class Lane:
    """Where blocks are copied: on CUDA a stream beside the one that computes."""

    def __init__(self, device: torch.device):
        self.device = device
        self.side = torch.cuda.Stream(device) if device.type == "cuda" else None

    def copy(self, source: nn.Module, target: nn.Module) -> None:
        """Begin to copy, once all that was asked of `target` so far is done."""
        if self.side is None:
            copy_weights(source, target)
            return
        self.side.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self.side):
            copy_weights(source, target)

    def wait(self) -> None:
        """What is asked of the device from here on finds all copies done."""
        if self.side is not None:
            torch.cuda.current_stream(self.device).wait_stream(self.side)

    @contextmanager
    def kept_waiting(self) -> Iterator[None]:
        """However it ends, memory that a copy may still be writing to is not used again before."""
        try:
            yield
        finally:
            self.wait()


def copy_weights(source: nn.Module, target: nn.Module) -> None:
    with torch.no_grad():
        for here, there in zip(source.parameters(), target.parameters(), strict=True):
            there.copy_(here, non_blocking=True)


def on_host(block: M, device: torch.device) -> M:
    """The block in host memory, pinned where copies can then run beside the arithmetic."""
    if device.type == "meta":  # where there are no numbers to be kept
        return block
    if device.type == "cuda":
        return over(block, lambda w: w.cpu().pin_memory())
    return over(block, lambda w: w.cpu())


def room_for(block: M, device: torch.device) -> M:
    """A block of the same kind on the device, for any of them to be copied into."""
    return over(block, lambda w: torch.empty_like(w, device=device))


def over(module: M, make: Callable[[Tensor], Tensor]) -> M:
    """The same layers over other tensors, each made from the one it stands for."""
    made = {
        id(w): nn.Parameter(make(w.detach()), requires_grad=w.requires_grad)
        for w in module.parameters()
    }
    return copy.deepcopy(module, made)
