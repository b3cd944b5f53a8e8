"""A fleet as a queue: how long clips take on so many workers, and how many viewers one serves.

Nothing is rendered. Work is handed out as `Line` does it, and takes as long as was measured; the
check of it against a real run is `check.py`.
"""

import bisect
import heapq
import random
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

VERBS = ("facts", "survey", "render", "finish")
ROUNDS = 40  # chunks that each viewer is watched
TRIES = 15  # ways that viewers' chunks fall together
SERVED = 0.95  # of all frames are there in time


class Linear(NamedTuple):
    """Seconds of a call, by the frames it is about."""

    once: float
    a_frame: float = 0.0
    first: float = 0.0  # more, for the first one of a worker, which warms up

    def __call__(self, frames: float) -> float:
        return self.once + self.a_frame * frames


def fitted(pairs: Sequence[tuple[float, float]]) -> Linear:
    """(frames, seconds) as a line by least squares, neither part of it below zero."""
    if not pairs:
        return Linear(0.0)
    count = len(pairs)
    mean_x, mean_y = (sum(pair[n] for pair in pairs) / count for n in (0, 1))
    spread = sum((x - mean_x) ** 2 for x, _ in pairs)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in pairs) / spread if spread else 0.0
    slope = min(max(slope, 0.0), mean_y / mean_x if mean_x else 0.0)
    return Linear(mean_y - slope * mean_x, slope)


Costs = Mapping[str, Linear]  # by verb
Clip = tuple[int, ...]  # frames of its units


@dataclass
class _Film:
    clip: Clip
    waiting: deque[tuple[str, int]] = field(default_factory=deque)
    left: int = 0  # units

    @property
    def frames(self) -> int:
        return sum(self.clip)


class Simulated(NamedTuple):
    seconds: float  # from the start of the workers to the last clip
    busy: float  # share of that time, of all workers together


def simulate(clips: Sequence[Clip], ready: Sequence[float], costs: Costs) -> Simulated:
    """Clips on workers that are ready at these times; none begins before all are."""
    unopened = deque(sorted(map(_Film, clips), key=lambda film: -film.frames))
    opened: list[_Film] = []
    now = max(ready)
    idle, warm = list(range(len(ready))), set()  # workers; (worker, verb)
    running, spent, number = [], 0.0, 0
    while True:
        while idle and (work := _next(opened, unopened)) is not None:
            film, verb, frames = work
            worker, number = idle.pop(0), number + 1
            seconds = costs[verb](frames)
            if (worker, verb) not in warm:
                seconds += costs[verb].first
                warm.add((worker, verb))
            heapq.heappush(running, (now + seconds, number, worker, film, verb))
            spent += seconds
        if not running:
            return Simulated(now, spent / (now * len(ready)) if now else 0.0)
        now, _, worker, film, verb = heapq.heappop(running)
        bisect.insort(idle, worker)
        _go_on(film, verb)


def _next(opened: list[_Film], unopened: deque[_Film]) -> tuple[_Film, str, int] | None:
    for film in opened:
        if film.waiting:
            return film, *film.waiting.popleft()
    if not unopened:
        return None
    opened.append(film := unopened.popleft())
    return film, "facts", film.frames


def _go_on(film: _Film, verb: str) -> None:
    if verb == "facts":
        film.waiting.append(("survey", film.frames))
    elif verb == "survey":
        film.waiting += [("render", frames) for frames in film.clip]
        film.left = len(film.clip)
    elif verb == "render":
        film.left -= 1
        if not film.left:
            film.waiting.append(("finish", film.frames))


# ---- live ----


class Service(NamedTuple):
    """A chunk on a GPU that serves viewers in turn."""

    frames: int
    usual: float  # seconds
    worst: float


def delay(viewers: int, service: Service, rate: float, rng: random.Random) -> float:
    """Seconds that `SERVED` of all frames take at most: to fill a chunk, to wait, to be rendered.

    Each viewer's chunks come at their own moments; a chunk takes between its usual and its worst
    time, mostly the usual. Infinite where more comes than can be done.
    """
    period = service.frames / rate
    if viewers * (2 * service.usual + service.worst) / 3 > period:
        return float("inf")
    delays = []
    for _ in range(TRIES):
        phases = sorted(rng.uniform(0, period) for _ in range(viewers))
        free = 0.0
        for arrival in (phase + n * period for n in range(ROUNDS) for phase in phases):
            free = max(free, arrival) + rng.triangular(
                service.usual, max(service.worst, service.usual), service.usual
            )
            delays.append(free - arrival)
    delays.sort()
    return period + delays[min(len(delays) - 1, int(SERVED * len(delays)))]


def viewers_within(latency: float, service: Service, rate: float, most: int) -> int:
    """How many viewers at once are served within a latency, of so many that there is room for."""
    served = 0
    while served < most and delay(served + 1, service, rate, random.Random(served)) <= latency:
        served += 1
    return served
