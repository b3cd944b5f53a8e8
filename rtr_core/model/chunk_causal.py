"""A whole clip in one pass, each chunk seeing just what a `KVCache` would have shown it.

This is how students are trained and how the cache is proven: the same verbs are called once,
before the pass, to say in which order things happen; then the tokens of everything that happened
go through the transformer side by side.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ..shapes import Size
from .attention import Context
from .rope import frame_turns, rotate
from .segments import MemoryConfig, Segments
from .sight import Sight


class View(NamedTuple):
    """What a run of latent frames in the pass can see."""

    first: int  # their place in the pass
    count: int
    past: tuple[int, ...]  # places of the frames they see besides themselves
    positions: tuple[int, ...]  # in time: of `past`, then of themselves
    segments: Segments  # when they were at hand


class ChunkCausal:
    """The masked twin of `KVCache`.

    `replace_anchor`, `extend` and `commit` each stand for latent frames that are given to the pass
    in that order. `extend` is a chunk that is seen but not remembered (a noisy one), `commit` one
    that becomes past.
    """

    def __init__(self, grid: Size, config: MemoryConfig, context: Context = ()):
        self.grid, self.context = grid, context
        self.segments = Segments(config=config)
        self.views: list[View] = []
        self._places: list[int] = []  # of each slot's frame in the pass

    @property
    def frames(self) -> int:
        """How many latent frames the pass holds."""
        return sum(view.count for view in self.views)

    def extend(self, count: int) -> None:
        self.segments = self.segments.extend(count)
        positions = tuple(self.segments.positions)
        seen = tuple(self._places)
        self.views.append(View(self.frames, count, seen, positions, self.segments))

    def commit(self, count: int) -> None:
        first = self.frames
        self.extend(count)
        self.segments, placed = self.segments.commit()
        for place, slot in enumerate(placed, start=first):
            if slot is not None:
                self._places[slot : slot + 1] = [place]

    def truncate(self, keep: int) -> None:
        self.segments, old = self.segments.truncate(keep)
        self._places = [self._places[slot] for slot in old]

    def replace_anchor(self, count: int) -> None:
        first = self.frames
        if count:  # a reference sees itself alone
            alone = Segments(config=MemoryConfig()).extend(count)
            self.views.append(View(first, count, (), tuple(range(count)), alone))
        self.segments, old = self.segments.replace_anchor(count)
        self._places = [self._places[slot] for slot in old] + [*range(first, first + count)]

    def reset_context(self, context: Context) -> None:
        self.context = context

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (t.unflatten(1, (self.frames, self.grid.area)) for t in (q, k, v))
        return torch.cat([self._attend_view(layer, view, q, k, v) for view in self.views], dim=1)

    def _attend_view(self, layer: int, view: View, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        own = range(view.first, view.first + view.count)
        seen = [*view.past, *own]
        turns = frame_turns(view.positions, self.grid, q.shape[-1], q.device)
        q = q[:, own.start : own.stop].flatten(1, 2)
        k, v = (t[:, seen].flatten(1, 2) for t in (k, v))
        sight = Sight.of(view.segments, self.grid, q.device)
        return sight.attend(layer, rotate(q, turns[-q.shape[1] :]), rotate(k, turns), v)


def bidirectional(grid: Size, frames: int, context: Context = ()) -> ChunkCausal:
    """The teacher's memory: all frames, a reference before them included, see one another."""
    memory = ChunkCausal(grid, MemoryConfig(), context)
    memory.extend(frames)
    return memory
