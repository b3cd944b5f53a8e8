"""`rtr bench`: where a stream's time goes, and how far that is from what the machine could do.

    bench = measured(Wanted(model="tiny").opened(), Size(256, 256))
    print(bench)

One session runs. Its chunks take turns: one as it is, which gives latency and frames a second, one
under a meter, which gives the stages, and between them the machine itself is measured. So what
else the machine does slows all of them alike, and ratios stay what they are.
"""

import json
import math
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..accelerate import compiled, no_compiler
from ..errors import NumericsError, StyleError
from ..media.plan import named
from ..model.kv_cache import KVCache
from ..model.transformer import Transformer
from ..parts import Parts
from ..session import Session
from ..shapes import Size
from ..style import Style
from ..stylizer import Stylizer
from .bench_report import Bench, Stage
from .here import device_name, peak_memory, start_over
from .meter import COMMIT, PIXELS_OUT, REST, STEP, Meter, observe, place_of, seconds_on
from .roofline import Machine, Work, counted
from .twins import TOLERANCE, gains
from .uncached import Uncached

CHUNKS, FEWEST = 24, 4  # timed; as many again under the meter
SECONDS = 12.0  # after which no further chunk is begun, where their number was not told


class Drawn(NamedTuple):
    """Seconds from the push of a chunk to its pictures, and until the next one can be pushed."""

    latency: float
    whole: float


@dataclass(frozen=True, kw_only=True)
class Options:
    chunks: int | None = None  # CHUNKS, or as many as SECONDS allow
    compile: bool = False
    against: bool = False  # diffusers
    twins: bool = False  # what each fast path gains over its slow twin
    weights: str = ""  # what they are, for the report


class Stream:
    """A session that is fed with chunks of the same noise: what is on them takes no time."""

    def __init__(self, stylizer: Stylizer, size: Size):
        parts, recipe = stylizer.parts, stylizer.recipe
        self.now, self.meter = seconds_on(parts.device), Meter(seconds_on(parts.device))
        self.meter.is_on = False
        began = self.now()
        silence = Style(embedding=torch.zeros(1, parts.transformer.config.text_dim))
        self.session = stylizer.session(silence, size)
        self.opening = self.now() - began
        observe(self.session, self.meter)
        self.per_chunk = recipe.chunk * parts.vae.stride.time
        most = max(self.per_chunk, self.session.frames_to_chunk)
        rng = torch.Generator().manual_seed(0)
        self.noise = torch.randint(0, 256, (most, *size, 3), dtype=torch.uint8, generator=rng)

    def chunk(self) -> Drawn:
        """Push what completes a chunk, and draw it to the host."""
        frames, began, out = self.noise[: self.session.frames_to_chunk], self.now(), None
        for pictures in self.session.push(frames):
            self.meter.run(PIXELS_OUT, pictures.cpu)
            out = out or self.now()
        end = self.now()
        return Drawn((out or end) - began, end - began)

    def first(self) -> tuple[float, int]:
        """Seconds from opening to the first picture, and how many frames it waits for."""
        seconds = self.opening
        while not self.session.frames_out:
            drawn = self.chunk()
            seconds += drawn.whole if not self.session.frames_out else drawn.latency
        return seconds, self.session.frames_in

    def fill(self) -> None:
        """Go on until the window is full and the flight too."""
        recipe = self.session.recipe
        past = recipe.anchor + (recipe.window or 0)
        for _ in range(math.ceil(past / recipe.chunk) + recipe.buffer + 1):
            self.chunk()

    def metered(self) -> dict[str, float]:
        """Seconds of each stage of a chunk."""
        self.meter.is_on = True
        self.meter.run(REST, self.chunk)
        self.meter.is_on = False
        return self.meter.lap()


def measured(stylizer: Stylizer, size: Size, options: Options | None = None) -> Bench:
    """Run it, chunk by chunk."""
    options, parts, notes = options or Options(), stylizer.parts, []
    if options.chunks is not None and options.chunks < 1:
        raise StyleError(f"At least 1 chunk has to be timed, not {options.chunks}.")
    fast = stylizer
    if options.compile:
        fast, note = accelerated(stylizer)
        notes += [note]
    start_over(parts.device)
    stream = Stream(fast, size)
    first, waited = stream.first()
    stream.fill()
    peak = peak_memory(parts.device)
    plain = None if fast is stylizer else Stream(stylizer, size)
    if plain is not None:
        plain.fill()
    rival, why = _rival(stream) if options.against else (None, None)
    notes += [why] if why else []
    turns = Turns.of(stream, plain, rival, options.chunks)
    work = counted((plain or stream).session, (plain or stream).chunk)
    if stylizer.recipe.window is None:
        notes.append("The recipe never forgets, so that each chunk takes longer than the last.")
    about = about_this(stylizer, size) | {
        "weights": options.weights,
        "compiled": plain is not None,
        "chunks timed": len(turns.drawn),
    }
    figures = {"first frame, s": first, "frames that it waits for": waited}
    figures |= turns.figures(stream.per_chunk) | memory_of_this(stream.session, peak)
    for name, gain in (gains(stylizer, size) if options.twins else {}).items():
        figures[f"without {name} / with"] = gain.ratio
        notes.append(
            f"{name}: the fast path equals the slow one to {gain.error:.1e} (relative L2)."
        )
    stages, roof = turns.stages(work), turns.roof(work)
    return Bench(about=about, figures=figures | roof, stages=stages, notes=notes)


@dataclass(frozen=True, kw_only=True)
class Turns:
    """What was measured by turns."""

    drawn: Sequence[Drawn]
    metered: Sequence[dict[str, float]]
    machine: Machine
    eager: Sequence[Drawn] = ()  # where the others are compiled
    rival: Sequence[float] = ()  # seconds of a step
    rival_flops: int = 0
    rival_steps: int = 0  # a chunk

    @classmethod
    def of(
        cls, stream: Stream, plain: Stream | None, rival: Uncached | None, chunks: int | None
    ) -> "Turns":
        machine = Machine(stream.session.parts.latents_like)
        drawn, metered, eager, rivals = [], [], [], []
        if rival is not None:
            rival.step()  # the first one sets up
        began, most = stream.now(), chunks or CHUNKS
        while len(drawn) < most:
            if chunks is None and len(drawn) >= FEWEST and stream.now() - began > SECONDS:
                break
            machine.sample()
            drawn.append(stream.chunk())
            metered.append(stream.metered())
            eager += [plain.chunk()] if plain else []
            rivals += [rival.step()] if rival else []
        recipe = stream.session.recipe
        return cls(
            drawn=drawn,
            metered=metered,
            machine=machine,
            eager=eager,
            rival=rivals,
            rival_flops=rival.flops() if rival else 0,
            rival_steps=len(recipe.timesteps) * (1 if recipe.guidance == 1 else 2),
        )

    @property
    def least(self) -> float:
        """Seconds of a chunk at best."""
        return min(drawn.whole for drawn in self.drawn)

    def figures(self, per_chunk: int) -> dict[str, float]:
        whole, latency = ([getattr(d, name) for d in self.drawn] for name in Drawn._fields[::-1])
        figures = {
            "frames a second": per_chunk / median(whole),
            "frames a second, at best": per_chunk / min(whole),
            "frames a second, slowest chunk": per_chunk / max(whole),
            "chunk, median, s": median(whole),
            "latency of a chunk, median, s": median(latency),
            "latency of a chunk, worst, s": max(latency),
        }
        if self.eager:
            figures["eager / compiled"] = min(d.whole for d in self.eager) / self.least
        if self.rival:
            passes = self._at_best(lambda stage: stage.startswith(STEP) or stage == COMMIT)
            figures["diffusers, a step, s"] = min(self.rival)
            figures["diffusers without a cache / ours"] = (
                self.rival_steps * min(self.rival) / passes
            )
        return figures

    def stages(self, work: dict[str, Work]) -> list[Stage]:
        names = sorted(self.metered[0], key=place_of)
        return [self._stage(name, work.get(name, Work())) for name in names]

    def _stage(self, name: str, work: Work) -> Stage:
        seconds = [spent.get(name, 0.0) for spent in self.metered]
        shares = [spent.get(name, 0.0) / sum(spent.values()) for spent in self.metered]
        return Stage(
            name=name,
            seconds=median(seconds),
            worst=max(seconds),
            share=median(shares),
            roofline=self.machine.least(work) / min(seconds) if min(seconds) else 0.0,
            bound="bytes" if self.machine.is_bound_by_bytes(work) else "arithmetic",
            **work._asdict(),
        )

    def roof(self, work: dict[str, Work]) -> dict[str, float]:
        whole = sum(work.values(), Work())
        least = sum(self.machine.least(each) for each in work.values())
        figures = {
            "FLOP a chunk": whole.flops,
            "least bytes a chunk": whole.least,
            "bytes moved a chunk": whole.moved,
            "matrix product, FLOP/s": self.machine.matmul,
            "copy, bytes/s": self.machine.bandwidth,
            "roofline, s a chunk": least,
            "share of the roofline": least / self.least,
        }
        if self.rival:
            ours = sum(w.flops for n, w in work.items() if n.startswith(STEP) or n == COMMIT)
            figures["diffusers / ours, FLOP"] = self.rival_flops * self.rival_steps / ours
        return figures

    def _at_best(self, is_meant: Callable[[str], bool]) -> float:
        """Seconds of some stages of a chunk together, in the fastest chunk."""
        return min(
            sum(seconds for stage, seconds in spent.items() if is_meant(stage))
            for spent in self.metered
        )


# ---- what may be switched on ----


def accelerated(stylizer: Stylizer) -> tuple[Stylizer, str]:
    """The stylizer with its transformer compiled, and how far that is from the eager one; or as
    it is, and why."""
    parts = stylizer.parts
    if reason := no_compiler(parts.device):
        return stylizer, f"Nothing is compiled: torch.compile does not work here ({reason})."
    fast = replace(parts, transformer=compiled(parts.transformer))
    error, limit = distance(fast, parts, stylizer), TOLERANCE[parts.latents_like.dtype]
    if not error <= limit:
        raise NumericsError(
            f"The compiled {parts.name} differs from the eager one by {error:.1e} (relative L2); "
            f"{limit:.0e} is allowed. Run it without --compile."
        )
    return replace(stylizer, parts=fast), f"Compiled equals eager to {error:.1e} (relative L2)."


@torch.no_grad()
def distance(fast: Parts, slow: Parts, stylizer: Stylizer) -> float:
    """How far one step of both on the same noise is apart, as relative L2."""
    config, like = slow.transformer.config, slow.latents_like
    frames, patch = stylizer.recipe.chunk, config.patch
    latent = 8 * patch.height, 8 * patch.width
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(1, config.in_channels, frames, *latent, generator=rng).to(like)
    sigma = torch.full((1, frames), 0.5, device=like.device)
    context = slow.transformer.encode_context(like.new_zeros(1, config.text_rows, config.text_dim))

    def step(transformer: Transformer) -> Tensor:
        memory = KVCache(Size(8, 8), stylizer.recipe.memory, context)
        return transformer(x, sigma, memory).double()

    expected = step(slow.transformer)
    return float((step(fast.transformer) - expected).norm() / expected.norm())


def _rival(stream: Stream) -> tuple[Uncached | None, str | None]:
    """diffusers on what a step of the stream sees, or why it is not there."""
    session, parts = stream.session, stream.session.parts
    seen = len(session.memory.segments.slots) + session.recipe.chunk
    config = parts.transformer.config
    try:
        rival = Uncached(config, session.geometry.latent, seen, parts.latents_like)
    except ImportError as error:
        return None, f"diffusers is not compared: it is not installed here ({error})."
    return rival, (
        f"diffusers sees {seen} latent frames at each step, as many as ours has in sight by its "
        f"cache."
    )


# ---- what was measured ----


def memory_of_this(session: Session, peak: int | None) -> dict[str, float]:
    parts = session.parts
    weights = [*parts.transformer.parameters(), *parts.vae.parameters()]
    known: dict[str, float] = {} if peak is None else {"peak memory, bytes": peak}
    return known | {
        "weights, bytes": sum(weight.nbytes for weight in weights),
        "KV cache, bytes": session.flight.past.nbytes,
        "all of the session, bytes": session.nbytes,
    }


def about_this(stylizer: Stylizer, size: Size) -> dict[str, Any]:
    """What has to be the same for two runs to be compared."""
    parts = stylizer.parts
    return {
        "model": parts.name,
        "autoencoder": f"{type(parts.vae).__name__}, {parts.vae.channels} channels",
        "size": str(size),
        "dtype": named(parts.latents_like),
        "recipe": json.loads(stylizer.recipe.to_json()),
        "device": device_name(parts.device),
        "threads": torch.get_num_threads(),
        "load when it ended": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
    }
