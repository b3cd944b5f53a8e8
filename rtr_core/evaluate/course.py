"""How an output changes from its first seconds to its last, beyond what its source does."""

from collections.abc import Mapping, Sequence

import numpy as np

from ..appearance import brightness, mean_color, saturation, sharpness
from .bars import Bar
from .metrics import drift
from .passages import Passage

SPAN = 5.0  # seconds that are compared at both ends, or a third of a shorter clip
CURVES = {
    "brightness": "output minus source",
    "saturation": "output minus source",
    "sharpness": "output over source",
    "structure": "correlation with the source's edges",
    "flicker": "along the motion, above the source's",
    "style distance": "to the reference, or else from the source",
}


class Course:
    """Colours and sharpness over time. A style that changes colours by what is shown drifts with
    its source a little; the curves tell the two apart."""

    def __init__(self, rate: float):
        self.rate = rate
        self.points: list[dict[str, float]] = []
        self._colors: list[np.ndarray] = []  # output minus source

    def take(self, passage: Passage) -> Mapping[str, float]:
        ours, theirs = passage.output[passage.lead :], passage.source[passage.lead :]
        self._colors.append(mean_color(ours) - mean_color(theirs))
        soft = max(sharpness(theirs), 1e-4)
        return {
            "brightness": brightness(ours) - brightness(theirs),
            "saturation": saturation(ours) - saturation(theirs),
            "sharpness": sharpness(ours) / soft,
        }

    def note(self, passage: Passage, said: Mapping[str, float]) -> None:
        """Add a point to the curves."""
        self.points.append({"seconds": passage.first / self.rate, **said})

    def bars(self) -> dict[str, Bar]:
        count = self._span()
        sharp = [point["sharpness"] for point in self.points]
        bars = {
            "sharpness": Bar(
                claim="sharpness over the source's", value=float(np.mean(sharp)), least=0.5
            )
        }
        if count is None:
            reason = "too short to drift"
            named = ("colour drift", "sharpness drift", "style drift")
            return bars | {name: Bar(claim=name, value=None, reason=reason) for name in named}
        colors = [np.mean(part, axis=0) for part in (self._colors[:count], self._colors[-count:])]
        far = float(np.linalg.norm(colors[1] - colors[0]))
        return bars | {
            "colour drift": Bar(
                claim="way of the mean colour, first to last seconds, beyond the source's",
                value=far,
                most=0.05,
            ),
            "sharpness drift": Bar(
                claim="change of sharpness over the source's, first to last seconds, as a share",
                value=drift(*self._ends("sharpness", count)),
                most=0.25,
            ),
            "style drift": Bar(
                claim="change of the style's distance, first to last seconds",
                value=abs(float(np.subtract(*self._ends("style distance", count)))),
                most=0.15,
            ),
        }

    def _ends(self, name: str, count: int) -> tuple[float, float]:
        values = [point[name] for point in self.points]
        return float(np.mean(values[:count])), float(np.mean(values[-count:]))

    def _span(self) -> int | None:
        """Passages of an end; None where there is no middle between the two."""
        times = [point["seconds"] for point in self.points]
        if len(times) < 3:
            return None
        step = times[-1] / (len(times) - 1)
        return max(1, min(round(SPAN / step), len(times) // 3))


def curve_of(points: Sequence[Mapping[str, float]], name: str) -> list[tuple[float, float]]:
    return [(point["seconds"], point[name]) for point in points if name in point]
