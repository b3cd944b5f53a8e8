"""Which latent frames are remembered, in which slot, and at which position in time.

Pure bookkeeping on small integers: no tensor, nothing to wait for, nothing changed in place.
`KVCache` keeps keys and values by it, `ChunkCausal` masks by it, so that the two cannot disagree.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

Positions = Literal["relative", "absolute"]


@dataclass(frozen=True, kw_only=True)
class MemoryConfig:
    """What a stream remembers, counted in latent frames."""

    window: int | None = None  # recent past latent frames kept; None keeps all
    anchor: int = 0  # first latent frames that never leave, where no reference is anchored
    positions: Positions = "relative"  # time counted from what is visible, or from the start
    weight: float = 1.0  # of the window in attention: below 1 the past counts for less
    panes: Sequence[int] | None = None  # attention stays within them, see model/sight


class Frame(NamedTuple):
    """A remembered latent frame."""

    index: int  # its number in the stream; those of a reference count up to -1
    anchored: bool


@dataclass(frozen=True, kw_only=True)
class Segments:
    """The anchor and the window of one stream, as slots that a buffer follows, then the chunk."""

    config: MemoryConfig
    slots: tuple[Frame, ...] = ()
    next_index: int = 0
    chunk: int = 0  # latent frames at hand that are not past

    def extend(self, count: int) -> "Segments":
        """With a chunk of `count` latent frames at hand."""
        return replace(self, chunk=count)

    def commit(self, count: int | None = None) -> tuple["Segments", list[int | None]]:
        """With the chunk past, or its first `count` frames, and the slot of each of these, None
        where it is not kept. What is left of the chunk is at hand no more.

        New slots are those the chunk stands in already; old ones are taken from the oldest.
        """
        after, placed = replace(self, chunk=0), []
        for _ in range(self.chunk if count is None else count):
            after, slot = after._admit()
            placed.append(slot)
        return after, placed

    def truncate(self, keep: int) -> tuple["Segments", list[int]]:
        """With the newest `keep` past frames and the reference only, and the slots they had."""
        past = sorted(frame.index for frame in self.slots if frame.index >= 0)
        kept = set(past[len(past) - min(keep, len(past)) :])
        old = [slot for slot, f in enumerate(self.slots) if f.index < 0 or f.index in kept]
        slots = tuple(Frame(self.slots[slot].index, self.slots[slot].index < 0) for slot in old)
        return replace(self, slots=slots, chunk=0), old

    def replace_anchor(self, count: int) -> tuple["Segments", list[int]]:
        """With a reference of `count` frames, behind the rest, for anchor; the rest's old slots."""
        old = [slot for slot, frame in enumerate(self.slots) if not frame.anchored]
        reference = (Frame(index, True) for index in range(-count, 0))
        slots = (*(self.slots[slot] for slot in old), *reference)
        return replace(self, slots=slots, chunk=0), old

    def restart(self) -> "Segments":
        """With frames counted from zero again."""
        return replace(self, next_index=0)

    @property
    def positions(self) -> Sequence[int]:
        """Where in time each slot stands, and after them each frame of the chunk."""
        if self.config.positions == "absolute":
            past, first = [frame.index for frame in self.slots], self.next_index
        else:
            by_age = sorted(range(len(self.slots)), key=lambda slot: self.slots[slot].index)
            rank = {slot: place for place, slot in enumerate(by_age)}
            past, first = [rank[slot] for slot in range(len(self.slots))], len(self.slots)
        return [*past, *range(first, first + self.chunk)]

    @property
    def weights(self) -> Sequence[float]:
        """How much each visible frame counts in attention: the window less than the anchor and
        the chunk, where the config says so."""
        past = [1.0 if frame.anchored else self.config.weight for frame in self.slots]
        return [*past, *[1.0] * self.chunk]

    @property
    def most(self) -> int | None:
        """The most frames that can ever be visible at once, None where it grows for ever."""
        if self.config.window is None:
            return None
        reference = sum(frame.index < 0 for frame in self.slots)
        return max(self.config.anchor, reference, 1) + self.config.window + self.chunk

    def _admit(self) -> tuple["Segments", int | None]:
        """One more past frame: into the anchor, the window, or the slot of the oldest there."""
        anchors = sum(frame.anchored for frame in self.slots)
        has_reference = any(frame.index < 0 for frame in self.slots)
        anchored = anchors < self.config.anchor and not has_reference
        new, window = Frame(self.next_index, anchored), self.config.window
        after = replace(self, next_index=self.next_index + 1)
        if anchored or window is None or len(self.slots) - anchors < window:
            return replace(after, slots=(*self.slots, new)), len(self.slots)
        if window == 0:
            return after, None
        oldest = min((f.index, slot) for slot, f in enumerate(self.slots) if not f.anchored)[1]
        slots = (*self.slots[:oldest], new, *self.slots[oldest + 1 :])
        return replace(after, slots=slots), oldest
