"""Blocks that live in host memory and come to the device one after another while it computes.

    model = offloaded(model, device)

Two blocks are on the device at any time: the one at work, and the one that comes next. On CUDA it
is copied from pinned memory on a stream of its own, beside the arithmetic; elsewhere it is copied
when its turn comes. The numbers are the same to the bit.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
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
        name: HostBlocks(part, device) if name == "blocks" else on_device(part, device)
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
        rooms = [room_for(block, self.device) for block in blocks[:AT_ONCE]]
        lane = Lane(self.device)
        with lane.kept_waiting():
            lane.copy(blocks[0], rooms[0])
            for n, block in enumerate(blocks):
                lane.wait()
                if n + 1 < len(blocks):
                    lane.copy(blocks[n + 1], rooms[(n + 1) % AT_ONCE])
                yield over(block, rooms[n % AT_ONCE])


Room = list[Tensor]  # for the weights of a block, in their order


class Lane:
    """Where blocks are copied: on CUDA a stream beside the one that computes."""

    def __init__(self, device: torch.device):
        self.device = device
        self.side = torch.cuda.Stream(device) if device.type == "cuda" else None

    def copy(self, block: nn.Module, room: Room) -> None:
        """Begin to copy, once all that was asked of what is in `room` so far is done."""
        fit_to(room, block)
        if self.side is None:
            copy_weights(block, room)
            return
        self.side.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self.side):
            copy_weights(block, room)

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


def room_for(block: nn.Module, device: torch.device) -> Room:
    return [torch.empty_like(weight, device=device) for weight in block.parameters()]


def fit_to(room: Room, block: nn.Module) -> None:
    """Blocks are alike, but a file may keep some of their weights wider than others'."""
    for n, weight in enumerate(block.parameters()):
        if (weight.shape, weight.dtype) != (room[n].shape, room[n].dtype):
            room[n] = torch.empty_like(weight, device=room[n].device)


def copy_weights(block: nn.Module, room: Room) -> None:
    for weight, there in zip(block.parameters(), room, strict=True):
        there.copy_(weight.detach(), non_blocking=True)


def on_host(block: M, device: torch.device) -> M:
    """The block in host memory, pinned where copies can then run beside the arithmetic."""
    if device.type == "meta":  # where there are no numbers to be kept
        return block
    weights = (weight.detach().cpu() for weight in block.parameters())
    return over(block, [w.pin_memory() if device.type == "cuda" else w for w in weights])


def on_device(part: M, device: torch.device) -> M:
    return over(part, [weight.detach().to(device) for weight in part.parameters()])


def over(module: M, weights: Sequence[Tensor]) -> M:
    """The same layers, LoRAs on them too, over other weights, in the order of `parameters()`."""
    pairs = zip(module.parameters(), weights, strict=True)
    return _over(module, {id(old): nn.Parameter(new, requires_grad=False) for old, new in pairs})


def _over(module: M, made: Mapping[int, nn.Parameter]) -> M:
    twin = copy.copy(module)
    own, below = module._parameters.items(), module._modules.items()
    twin._parameters = {name: w if w is None else made[id(w)] for name, w in own}
    twin._modules = {name: part if part is None else _over(part, made) for name, part in below}
    return twin
