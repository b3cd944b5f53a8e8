"""What is measured of any output without weights, passage by passage, in sums that stay small.

Each gauge measures one clip. It gives bars by the key they have in a table; their limits say from
where on a clip is worth a look, not that it is bad.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from ..appearance import FLAT, Frames, slopes, style_distance
from .bars import Bar
from .descriptor import Descriptor, evenly
from .held import MOVES
from .metrics import coarse, edge_correlation, flicker, ghosting, structure
from .motion import flows_of, warp_error
from .passages import Pair, Passage

STIRS = 0.3  # of the source's motion, below which an output stands still
LEVELS = 255
DESCRIBED = 2  # frames of a passage that its style is told from


class Gauge(Protocol):
    """Something that is measured of one clip."""

    def take(self, passage: Passage) -> Mapping[str, float]:
        """What there is to say of a passage by itself, for curves."""
        ...

    def bars(self) -> dict[str, Bar]: ...


class FrameGauge(Protocol):
    """The same by frames in their full size."""

    def see(self, number: int, pair: Pair) -> None: ...

    def bars(self) -> dict[str, Bar]: ...


class Steadiness:
    """Flicker along the motion, and the guards against what has little of it for bad reasons."""

    def __init__(self):
        self._errors = np.zeros(2)  # sums of squares: output, source
        self._spread = np.zeros(2)
        self._moved = np.zeros(2)  # contrasts matched
        self._changed = np.zeros(2)
        self._raw = 0.0  # motion of the source, contrasts as they are
        self._pairs = self._moving = self._standing = 0
        self._ghosts: list[float] = []

    def take(self, passage: Passage) -> Mapping[str, float]:
        sides = passage.output, passage.source
        count = len(passage.source) - 1
        if count < 1:
            return {}
        flows = flows_of(passage.source)
        errors = np.array([warp_error(side, flows) for side in sides])
        spread = np.array([_spread(side) for side in sides])
        self._errors += errors * count
        self._spread += spread * count
        self._changed += np.array([flicker(side) for side in sides]) * count
        self._move(passage, count)
        return {"flicker": _share(errors[0], spread[0]) - _share(errors[1], spread[1])}

    def _move(self, passage: Passage, count: int) -> None:
        ours, theirs = (_steps(side) for side in (passage.output, passage.source))
        steps = np.abs(np.diff(coarse(passage.source), axis=0)).mean((1, 2, 3))
        moves = steps >= MOVES
        self._raw += float(steps.sum())
        self._moved += np.array([ours.sum(), theirs.sum()])
        self._pairs += count
        self._moving += int(moves.sum())
        self._standing += int((moves & (ours < STIRS * theirs)).sum())
        if moves.any():
            self._ghosts.append(ghosting(_edges(passage.output), _edges(passage.source)))

    def bars(self) -> dict[str, Bar]:
        if not self._pairs:
            reason = "a single frame has no motion"
            names = ("warp error", "warp excess", "motion", "frozen", "past", "flicker")
            return {name: Bar(claim=name, value=None, reason=reason) for name in names}
        stands = self._raw / self._pairs < MOVES
        excess = _share(self._errors[0], self._spread[0]) - _share(self._errors[1], self._spread[1])
        error = 1e3 * self._errors[0] / self._pairs
        return {
            "warp error": Bar(claim="E_warp x1e-3, DIS flow of the source", value=float(error)),
            "warp excess": Bar(
                claim="root of E_warp over contrast, above the source's", value=excess, most=0.15
            ),
            **self._guards(),
            "flicker": self._flicker() if stands else _none("flicker", "the source moves"),
        }

    def _guards(self) -> dict[str, Bar]:
        if not self._moving:
            reason = "nothing moves in the source"
            return {name: _none(name, reason) for name in ("motion", "frozen", "past")}
        motion = self._moved[0] / max(self._moved[1], 1e-9)
        past = float(np.mean(self._ghosts))
        return {
            "motion": Bar(
                claim="motion over the source's, contrasts matched", value=float(motion), least=0.5
            ),
            "frozen": Bar(
                claim="share of moving frames that stand still",
                value=self._standing / self._moving,
                most=0.05,
            ),
            "past": Bar(claim="share of the past in the edges", value=past, most=0.1),
        }

    def _flicker(self) -> Bar:
        above = float(self._changed[0] - self._changed[1]) / self._pairs * LEVELS
        return Bar(
            claim="flicker of a standing scene above the source's, in levels of 255",
            value=above,
            most=2.0,
        )


class Likeness:
    """Whether what was there is there still."""

    def __init__(self):
        self._edges, self._structure, self._frames = 0.0, 0.0, 0

    def take(self, passage: Passage) -> Mapping[str, float]:
        ours, theirs = passage.output[passage.lead :], passage.source[passage.lead :]
        there = structure(ours, theirs)
        self._structure += there * passage.count
        self._edges += edge_correlation(ours, theirs) * passage.count
        self._frames += passage.count
        return {"structure": there}

    def bars(self) -> dict[str, Bar]:
        frames = max(self._frames, 1)
        return {
            "structure": Bar(
                claim="correlation of edges averaged over 8 pixels",
                value=self._structure / frames,
                least=0.2,
            ),
            "edges": Bar(claim="correlation of edges, pixel by pixel", value=self._edges / frames),
        }


class Look:
    """How far the style is from the reference and from the source, by a descriptor."""

    def __init__(self, descriptor: Descriptor, reference: Frames | None):
        self.descriptor = descriptor
        self.reference = None if reference is None else descriptor.color(reference)
        self._seen: list[np.ndarray] = []
        self._far: list[float] = []

    def take(self, passage: Passage) -> Mapping[str, float]:
        seen, source = (
            self.descriptor.color(evenly(side[passage.lead :], DESCRIBED))
            for side in (passage.output, passage.source)
        )
        self._seen.append(seen)
        self._far.append(style_distance(seen, source))
        if self.reference is None:
            return {"style distance": self._far[-1]}
        return {"style distance": style_distance(seen, self.reference)}

    @property
    def described(self) -> np.ndarray:
        return np.mean(self._seen, axis=0)

    def bars(self) -> dict[str, Bar]:
        name = self.descriptor.name
        near = None if self.reference is None else style_distance(self.described, self.reference)
        return {
            "style distance": Bar(
                claim=f"distance to the reference, {name}", value=near, reason="no reference"
            ),
            "restyled": Bar(claim=f"distance from the source, {name}", value=mean(self._far)),
        }


def mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _none(claim: str, reason: str) -> Bar:
    return Bar(claim=claim, value=None, reason=reason)


def _share(squares: float, spread: float) -> float:
    """A mean of squares as a part of the contrast, so that pale styles do not win for free."""
    return float(np.sqrt(squares / max(spread, FLAT**2)))


def _spread(frames: Frames) -> float:
    return float(frames.var((1, 2)).mean())


def _steps(frames: Frames) -> np.ndarray:
    """Motion from frame to frame as a part of the contrast `[t-1]`."""
    seen = coarse(frames)
    return np.abs(np.diff(seen, axis=0)).mean((1, 2, 3)) / max(float(seen.std((1, 2)).mean()), FLAT)


def _edges(frames: Frames) -> np.ndarray:
    """Where edges are, of mean 0 and variance 1 in each frame: alike in most styles."""
    steep = slopes(frames)
    steep = steep - steep.mean((1, 2), keepdims=True)
    return steep / np.maximum(steep.std((1, 2), keepdims=True), FLAT)
