"""Pictures of a source and its output: some frames of each, and one line of every frame over time.

In flat memory: where there are many frames, every second picture is let go again and again.
"""

from typing import NamedTuple

import numpy as np

from ..appearance import Frames
from .passages import Passage

SHOWN = 6  # frames of a strip
KEPT = 4 * SHOWN  # at most, while it grows
LINES = 640  # at most, of a slice


class Pictures(NamedTuple):
    """uint8 each."""

    frames: list[tuple[np.ndarray, np.ndarray]]  # source and output `[h w 3]`
    seconds: list[float]  # of these
    slices: tuple[np.ndarray, np.ndarray]  # source and output `[w t 3]`: time goes to the right


class Film:
    def __init__(self, rate: float):
        self.rate = rate
        self._frames, self._lines = Thinned(KEPT), Thinned(LINES)

    def take(self, passage: Passage) -> None:
        for n in range(passage.lead, len(passage.source)):
            number = passage.first + n - passage.lead
            pair = _bytes(passage.source[n]), _bytes(passage.output[n])
            self._frames.add(number, pair)
            middle = len(pair[0]) // 2
            self._lines.add(number, tuple(side[middle].copy() for side in pair))

    def pictures(self) -> Pictures:
        kept = self._frames.items
        picked = np.linspace(0, len(kept) - 1, min(SHOWN, len(kept))).round().astype(int)
        source, output = (
            np.stack(lines, axis=1)
            for lines in zip(*(line for _, line in self._lines.items), strict=True)
        )
        return Pictures(
            [kept[n][1] for n in picked],
            [kept[n][0] / self.rate for n in picked],
            (source, output),
        )


class Thinned:
    """At most so many of the things that come, evenly over all of them."""

    def __init__(self, most: int):
        self.most, self.step = most, 1
        self.items: list[tuple[int, tuple[np.ndarray, ...]]] = []

    def add(self, number: int, thing: tuple[np.ndarray, ...]) -> None:
        if number % self.step:
            return
        self.items.append((number, thing))
        if len(self.items) > self.most:
            self.items, self.step = self.items[::2], 2 * self.step


def _bytes(frame: Frames) -> np.ndarray:
    return np.round(frame * 255).astype(np.uint8)
