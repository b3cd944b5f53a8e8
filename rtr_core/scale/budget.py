"""What a fleet costs and where it stops growing, reckoned from a measured `rtr bench`.

A GPU renders so many frames a second. Beside it CPU cores decode and encode them, a storage that
all share moves them, and one machine keeps the books. Whichever is used up first is the bottleneck.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from ..errors import ClipError
from ..evaluate.bench_report import Bench
from ..media.needs import amount
from .simulate import Linear, Service, simulate, viewers_within

BOOKS = 0.035  # seconds of the machine that keeps the books, a unit: docs/fleet.md
MOST = 256  # viewers that are tried
CLIP_UNITS = 40  # of a clip, in the simulation of how the end of a job is spent
SIZES = tuple(round(10 ** (n / 4)) for n in range(17))  # of fleets: 1 to 10,000


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What is assumed, and not measured by the bench."""

    hours: float = 1000.0  # of video
    rate: float = 24.0  # its frames a second
    price: float = 2.5  # of a GPU hour
    latency: float = 2.0  # seconds, of a viewer
    cores: int = 8  # beside each GPU
    decoding: float = 300.0  # frames a second of a core
    encoding: float = 60.0
    bitrate: float = 12.0  # Mbit/s read and written, together
    network: float = 25.0  # Gbit/s of the shared storage
    memory: int | None = None  # bytes of a GPU
    unit: int = 240  # frames

    def __post_init__(self):
        for name, value in vars(self).items():
            if value is not None and not value > 0:
                raise ClipError(f"--{name} is more than 0, not {value}.")


@dataclass(frozen=True)
class Budget:
    bench: Bench
    terms: Terms

    def figure(self, name: str) -> float:
        try:
            return self.bench.figures[name]
        except KeyError as error:
            raise ClipError(
                f"The bench has no figure {name!r}: run rtr bench --json again."
            ) from error

    @property
    def speed(self) -> float:
        """Frames a second of a worker."""
        return self.figure("frames a second")

    @property
    def chunk(self) -> int:
        """Its frames."""
        return round(self.speed * self.figure("chunk, median, s"))

    # ---- a folder ----

    def limits(self, workers: int) -> dict[str, float]:
        """Frames a second that each part of so many workers can do."""
        terms = self.terms
        coding = terms.cores / (1 / terms.decoding + 1 / terms.encoding)
        frame = terms.bitrate / 8 * 1e6 / terms.rate  # bytes
        return {
            "rendering": workers * self.speed,
            "decoding and encoding": workers * coding,
            "network of the storage": terms.network / 8 * 1e9 / frame,
            "bookkeeping": terms.unit / BOOKS,
        }

    def bottleneck(self, workers: int) -> tuple[str, float]:
        limits = self.limits(workers)
        name = min(limits, key=lambda each: limits[each])
        return name, limits[name]

    @property
    def frames(self) -> float:
        return self.terms.hours * 3600 * self.terms.rate

    def used(self, workers: int) -> float:
        """The share of the workers' time that is work, by simulation: the rest is waiting for the
        last units."""
        units = max(1, round(self.frames / self.terms.unit))
        scale = max(1, units // 20_000)  # a large job is simulated by a part of it
        per_clip, workers = min(CLIP_UNITS, units), max(1, workers // scale)
        clips = [(self.terms.unit,) * per_clip] * max(1, units // scale // per_clip)
        nothing, render = Linear(0.0), Linear(0.0, 1 / self.speed)
        costs = {"facts": nothing, "survey": nothing, "render": render, "finish": nothing}
        return simulate(clips, [0.0] * workers, costs).busy

    def gpu_hours(self, workers: int) -> float:
        _, speed = self.bottleneck(workers)
        return workers * self.frames / speed / self.used(workers) / 3600

    # ---- live ----

    @property
    def room(self) -> int:
        """Viewers whose sessions fit on a GPU."""
        if self.terms.memory is None:
            return MOST
        session = self.figure("all of the session, bytes")
        peak = self.bench.figures.get("peak memory, bytes", self.figure("weights, bytes"))
        left = self.terms.memory - max(peak - session, self.figure("weights, bytes"))
        return max(0, min(MOST, int(left / session)))

    @property
    def service(self) -> Service:
        worst = self.figure("latency of a chunk, worst, s")
        return Service(self.chunk, self.figure("chunk, median, s"), worst)

    def viewers(self, latency: float) -> int:
        return viewers_within(latency, self.service, self.terms.rate, self.room)

    # ---- words ----

    def lines(self) -> Iterator[str]:
        terms, about = self.terms, self.bench.about
        yield f"measured: {about['model']} at {about['size']} on {about['device']}"
        yield f"  {self.speed:.4g} frames a second, chunks of {self.chunk} frames"
        yield (
            f"assumed: {terms.cores} cores a GPU, each {terms.decoding:g} frames a second decoded "
            f"or {terms.encoding:g} encoded; {terms.network:g} Gbit/s of storage, "
            f"{terms.bitrate:g} Mbit/s a stream; {terms.price:g} a worker hour"
        )
        yield f"{terms.hours:g} hours of video at {terms.rate:g} frames a second:"
        for workers in SIZES[::4]:
            name, speed = self.bottleneck(workers)
            hours = self.gpu_hours(workers)
            days = hours / workers / 24
            yield (
                f"  {workers:>6} workers: {days:.3g} days, {hours:.4g} worker hours, cost "
                f"{hours * terms.price:.4g}, {self.used(workers):.0%} used, bound by {name} "
                f"({speed:.4g} frames a second)"
            )
        yield f"live, within {terms.latency:g} s: {self._served()}"
        if terms.memory is not None:
            yield f"  VRAM of {amount(terms.memory)} holds {self.room} sessions"

    def _served(self) -> str:
        count, period = self.viewers(self.terms.latency), self.chunk / self.terms.rate
        if count:
            return f"{count} viewers a GPU"
        if self.speed < self.terms.rate:
            return "nobody: a GPU is slower than the video"
        return f"nobody: a chunk takes {period:.3g} s to fill, and then to be rendered"
