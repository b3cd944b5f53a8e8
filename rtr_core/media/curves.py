"""What the drift meter said along a film: a curve for each style, thin enough to be kept.

A point of a thinned curve tells the largest drift of all the chunks that it stands for, so that no
thinning loses it; the last point of a curve is its last chunk.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import reduce
from itertools import groupby, pairwise
from typing import Any, NamedTuple

from ..cues import Cue
from ..drift import Drift

KEPT, TOLD = 16, 100  # points of a style: of a segment in the manifest, of the film in the sidecar
DIGITS = 4


class Point(NamedTuple):
    """A chunk, or some that follow on."""

    cue: int  # that it is in, by its place on the sheet
    frame: int  # the last of it
    color: float
    sharpness: float
    style: float

    @property
    def drift(self) -> Drift:
        return Drift(*self[2:])


def point_of(cue: int, frame: int, drift: Drift) -> Point:
    return Point(cue, frame, *(round(figure, DIGITS) for figure in drift))


def thinned(points: Sequence[Point], most: int) -> tuple[Point, ...]:
    """The same curves in at most so many points each."""
    return tuple(point for curve in _by_cue(points) for point in _thinned(curve, most))


def largest(points: Iterable[Point]) -> Drift | None:
    """Of each figure, over all points."""
    drifts = [point.drift for point in points]
    return reduce(Drift.largest, drifts) if drifts else None


def told(points: Sequence[Point], cues: Sequence[Cue]) -> list[dict[str, Any]]:
    """For the sidecar: each style that was measured."""
    return [
        {
            "style": cues[curve[0].cue].words,
            "chunks end at": [curve[0].frame, curve[-1].frame],
            "last": _named(curve[-1].drift),
            "largest": _named(reduce(Drift.largest, (point.drift for point in curve))),
            "curve": _columns(_thinned(curve, TOLD)),
        }
        for curve in _by_cue(points)
    ]


def _by_cue(points: Sequence[Point]) -> Iterator[list[Point]]:
    in_order = sorted(points, key=lambda point: (point.cue, point.frame))
    for _, curve in groupby(in_order, key=lambda point: point.cue):
        yield list(curve)


def _thinned(curve: list[Point], most: int) -> list[Point]:
    before, last = curve[:-1], curve[-1]
    if len(curve) <= most:
        return curve
    ends = [len(before) * n // (most - 1) for n in range(most)]
    groups = (before[a:b] for a, b in pairwise(ends))
    merged = (
        [*group[-1][:2], *reduce(Drift.largest, (p.drift for p in group))] for group in groups
    )
    return [*(Point(*values) for values in merged), last]


def _named(drift: Drift) -> dict[str, float]:
    return {"colour": drift.color, "sharpness": drift.sharpness, "style": drift.style}


def _columns(curve: Sequence[Point]) -> dict[str, list[float]]:
    rows = [{"frame": point.frame} | _named(point.drift) for point in curve]
    return {name: [row[name] for row in rows] for name in rows[0]}
