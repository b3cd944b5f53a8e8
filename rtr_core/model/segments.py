"""Which latent frames are remembered, in which slot, and at which position in time.

Pure bookkeeping on small Python integers: no tensor, nothing to wait for. `KVCache` keeps keys
and values by it, `ChunkCausal` masks by it, so that the two cannot disagree.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

Positions = Literal["relative", "absolute"]


@dataclass(frozen=True, kw_only=True)
class MemoryConfig:
    """What a stream remembers, counted in latent frames."""

    window: int | None = None  # recent past latent frames kept; None keeps all
    anchor: int = 0  # first latent frames that never leave, where no reference is anchored
    positions: Positions = "relative"  # time counted from what is visible, or from the start


class Frame(NamedTuple):
    """A remembered latent frame."""

    index: int  # its number in the stream; those of a reference count up to -1
    anchored: bool


class Segments:
    """The anchor and the window of one stream, as slots that a buffer can follow."""

    def __init__(self, config: MemoryConfig):
        self.config = config
        self.slots: list[Frame] = []
        self.next_index = 0

    @property
    def has_reference(self) -> bool:
        return any(frame.index < 0 for frame in self.slots)

    def admit(self, count: int) -> list[int | None]:
        """Make `count` new frames past. Returns the slot of each, None where it is not kept."""
        return [self._admit_one() for _ in range(count)]

    def _admit_one(self) -> int | None:
        anchors = [frame for frame in self.slots if frame.anchored]
        anchored = len(anchors) < self.config.anchor and not self.has_reference
        frame = Frame(self.next_index, anchored)
        self.next_index += 1
        window = self.config.window
        if anchored or window is None or len(self.slots) - len(anchors) < window:
            self.slots.append(frame)
            return len(self.slots) - 1
        if window == 0:
            return None
        oldest = min((f.index, slot) for slot, f in enumerate(self.slots) if not f.anchored)[1]
        self.slots[oldest] = frame
        return oldest

    def truncate(self, keep: int) -> list[int]:
        """Forget all past frames but the newest `keep`; a reference stays. Returns old slots."""
        past = sorted(f.index for f in self.slots if f.index >= 0)
        kept = set(past[len(past) - min(keep, len(past)) :])
        old = [slot for slot, f in enumerate(self.slots) if f.index < 0 or f.index in kept]
        self.slots = [Frame(self.slots[s].index, self.slots[s].index < 0) for s in old]
        return old

    def replace_anchor(self, count: int) -> list[int]:
        """Drop the anchor and make room, after the rest, for a reference of `count` frames."""
        old = [slot for slot, frame in enumerate(self.slots) if not frame.anchored]
        self.slots = [self.slots[slot] for slot in old]
        self.slots += [Frame(index, True) for index in range(-count, 0)]
        return old

    def positions(self, count: int) -> list[int]:
        """Where in time each slot stands, and after them a chunk of `count` new frames."""
        if self.config.positions == "absolute":
            past = [frame.index for frame in self.slots]
            return past + list(range(self.next_index, self.next_index + count))
        by_age = [(not f.anchored, f.index, slot) for slot, f in enumerate(self.slots)]
        rank = {slot: place for place, (_, _, slot) in enumerate(sorted(by_age))}
        past = [rank[slot] for slot in range(len(self.slots))]
        return past + list(range(len(past), len(past) + count))

    def most(self, chunk: int) -> int | None:
        """The most frames that can ever be visible at once, None where it grows for ever."""
        if self.config.window is None:
            return None
        reference = sum(frame.index < 0 for frame in self.slots)
        return max(self.config.anchor, reference, 1) + self.config.window + chunk
