"""How far a running video has gone from how it began: colour, sharpness and style of every chunk
against the first good one. Small enough to be always on.

A chunk is told by samples of its last frame: cells of 2x2 pixels, as many at any size. Neighbours
within a cell tell sharpness in full; the cells' corners are a small picture that tells the rest.

A new first chunk comes with a style, once all of it is in force (a fade is a change that was asked
for), and with a clip: where the past is let go of, nothing can have drifted across, and figures of
two scenes would tell the scenes apart. A scene that changes in mid-clip does count as drift.
"""

from typing import NamedTuple

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from .appearance import LocalPatterns, change, gray, mean_color, saturation, style_distance

SIDE = 48  # cells a side of a square picture
PATTERNS = LocalPatterns(radii=(1,), margins=(0.2,))  # so few bins that few cells fill them
COLORS = 4  # red, green, blue, saturation


class Drift(NamedTuple):
    """Of a chunk, against the first good one."""

    color: float = 0.0  # way of the mean colour and of saturation, each 0..1
    sharpness: float = 0.0  # change as a share; below 0 it is softer
    style: float = 0.0  # distance of local patterns: 0 the same, from about 1 on another style

    def __str__(self) -> str:
        return f"colour {self.color:.2f}, sharpness {self.sharpness:+.0%}, style {self.style:.2f}"

    def largest(self, other: "Drift") -> "Drift":
        """Of each figure the one that is further from none."""
        return Drift(*(max(pair, key=abs) for pair in zip(self, other, strict=True)))


class DriftMeter:
    """Sees every chunk of a session."""

    def __init__(self):
        self.begin()

    def begin(self, waits: int = 0) -> None:
        """A new first chunk is to come, after so many that are not to be told."""
        self.waits = waits
        self.first: np.ndarray | None = None  # the look of the first good chunk
        self.now: Drift | None = None  # of the newest chunk; None where there was none yet
        self.largest = Drift()

    def end(self) -> None:
        """The clip is over. What was told of it stands until another begins."""
        self.waits, self.first = 0, None

    def push(self, frames: Tensor) -> None:
        """See the end of a chunk, frames `[t h w 3]` in 0..1; none come while a flight fills."""
        if not len(frames) or frames.is_meta:  # where only memory is counted, nothing is seen
            return
        if self.waits:
            self.waits -= 1
            return
        look = _look(frames[-1])
        if self.first is None:
            self.first, self.now, self.largest = look, Drift(), Drift()
            return
        self.now = _between(self.first, look)
        self.largest = self.largest.largest(self.now)

    def __str__(self) -> str:
        if self.now is None:
            return "no chunk of this style yet"
        return f"{self.now} (at most: {self.largest})"

    # ---- what a session needs to undo and save it ----

    def snapshot(self) -> dict[str, Tensor]:
        told = [] if self.now is None else [self.now, self.largest]
        first = {} if self.first is None else {"first": torch.tensor(self.first)}
        return {
            "waits": torch.tensor([self.waits], dtype=torch.int64),
            "told": torch.tensor(told, dtype=torch.float64),
            **first,
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        """Sessions that were saved before there was a meter have no state of it."""
        self.begin(int(state["waits"]) if "waits" in state else 0)
        if "first" in state:
            self.first = state["first"].cpu().numpy()
        if "told" in state and len(state["told"]):
            self.now, self.largest = (Drift(*figures) for figures in state["told"].tolist())


def _look(frame: Tensor) -> np.ndarray:
    """Of a frame `[h w 3]`: mean colour and saturation, sharpness, descriptor of its style."""
    if 1 in frame.shape[:2]:  # a line has no cells
        frame = frame.repeat_interleave(2, 0).repeat_interleave(2, 1)
    height, width, _ = frame.shape
    apart = max(1, round((height * width) ** 0.5 / SIDE))
    cells = rearrange(frame.unfold(0, 2, apart).unfold(1, 2, apart), "y x c h w -> h w 1 y x c")
    small, right, below = cells.contiguous().flatten(0, 1)[:3].cpu().numpy()  # at once
    steep = np.hypot(gray(below) - gray(small), gray(right) - gray(small)).mean()
    return np.hstack([mean_color(small), saturation(small), steep, PATTERNS.color(small)])


def _between(first: np.ndarray, look: np.ndarray) -> Drift:
    ours, theirs = (np.split(side, [COLORS, COLORS + 1]) for side in (look, first))
    return Drift(
        color=float(np.linalg.norm(ours[0] - theirs[0])),
        sharpness=change(float(theirs[1][0]), float(ours[1][0])),
        style=style_distance(ours[2], theirs[2]),
    )
