"""The curves of docs/fleet.md: `rtr plan --fleet JSON --curves DIR`."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from .budget import SIZES, Budget
from .drawing import curves, write

LATENCIES = tuple(round(0.2 * 1.25**n, 3) for n in range(16))  # seconds
FASTER = (1, 10, 50)  # times the GPU that was measured


def draw(budget: Budget, folder: Path) -> Iterator[Path]:
    limits = [budget.limits(workers) for workers in SIZES]
    growth = {
        name: [(w, each[name]) for w, each in zip(SIZES, limits, strict=True)] for name in limits[0]
    }
    yield _drawn(
        folder / "fleet-growth.svg",
        curves("What each part of a fleet can do", "workers", "frames a second", growth, log=True),
    )
    hours = {"worker hours": [(w, budget.gpu_hours(w)) for w in SIZES]}
    title = f"Worker hours of {budget.terms.hours:g} hours of video"
    yield _drawn(
        folder / "fleet-cost.svg", curves(title, "workers", "worker hours", hours, log=True)
    )
    served = {}
    for times in FASTER:
        faster = at_speed(budget, times)
        name = "as measured" if times == 1 else f"{times} times as fast"
        served[name] = [(latency, faster.viewers(latency)) for latency in LATENCIES]
    yield _drawn(
        folder / "fleet-viewers.svg",
        curves("Viewers that a GPU serves live", "latency, s", "viewers", served, log=False),
    )


def at_speed(budget: Budget, times: float) -> Budget:
    """What it would be on a GPU so many times as fast: reckoned, not measured."""
    figures = dict(budget.bench.figures)
    for name in figures:
        if name.startswith("frames a second"):
            figures[name] *= times
        elif name.startswith(("chunk, ", "latency of a chunk")):
            figures[name] /= times
    return replace(budget, bench=replace(budget.bench, figures=figures))


def _drawn(path: Path, drawing: str) -> Path:
    write(path, drawing)
    return path
