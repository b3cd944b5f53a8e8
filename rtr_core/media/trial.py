"""The first chunks of a clip, rendered as a job would, with a stopwatch at each stage."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory

import torch

from ..cues import CueSheet
from ..settings import Settings
from ..style import Style
from ..stylizer import Stylizer
from .codecs import Codec
from .job import AHEAD, BEHIND
from .render import Clock, NoCuts, Renderer, Styled
from .source import Frame, Source
from .stages import Ahead, Behind
from .target import SegmentWriter

MEASURED = 2  # chunks, behind those that warm up and fill the window
SHEET = CueSheet.parse("00:00 trial")
PEAK = "VmHWM:"  # in kB, where Linux tells what a process has taken


class Stopwatch:
    """Seconds spent inside its `with` blocks."""

    def __init__(self):
        self.seconds = 0.0

    def __enter__(self) -> None:
        self._began = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._began

    def lap(self) -> float:
        """Seconds since the last lap."""
        seconds, self.seconds = self.seconds, 0.0
        return seconds


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What was measured, the stages beside each other as in a job."""

    frames: int  # styled in all
    chunks: int
    is_whole: bool  # the clip has no more
    damage: str | None  # of the clip, as far as it was read
    decoding: float  # seconds a frame
    rendering: float  # seconds a chunk, warmed up where there was more than one
    encoding: float  # seconds a frame
    encoded: int  # bytes of all frames
    saved: int  # bytes of a session
    peak: int | None  # bytes of the device's memory, at most at once
    on_cpu: bool  # all stages

    def seconds(self, frames: int, chunks: int) -> float:
        """How long a clip takes: from chunk to chunk, and at first and last the other stages."""
        per_chunk = frames / chunks
        stages = self.decoding * per_chunk, self.rendering, self.encoding * per_chunk
        return sum(stages) + (chunks - 1) * self._between(stages)

    def rate(self, frames: int) -> float:
        """Frames a second of a long clip that has `frames` in a chunk."""
        return frames / self._between(
            (self.decoding * frames, self.rendering, self.encoding * frames)
        )

    def _between(self, stages: tuple[float, ...]) -> float:
        """Seconds from chunk to chunk: the slowest stage, or all where they share the cores."""
        return sum(stages) if self.on_cpu else max(stages)


def trial_chunks(settings: Settings) -> int:
    """As many as fill the window, at least one, and those that are measured then."""
    recipe = settings.recipe
    full = max(1, recipe.chunks_of(recipe.anchor + (recipe.window or 0)))
    return full + recipe.buffer - 1 + MEASURED


def run_trial(source: Source, stylizer: Stylizer, settings: Settings, codec: Codec) -> Trial:
    """Decode, stylize and encode the beginning of a clip, and keep nothing of it."""
    parts, decoding, encoding = stylizer.parts, Stopwatch(), Stopwatch()
    enough = settings.recipe.frames_of(trial_chunks(settings), parts.vae.stride)
    rendering = Rendering(stylizer, settings, source)

    def encode(styled: Styled) -> None:
        with encoding:
            writer.write(styled.pixels, styled.source.time, styled.source.duration)

    with TemporaryDirectory(prefix="rtr-plan-") as folder, ExitStack() as opened:
        path = Path(folder) / "trial.mov"
        writer = opened.enter_context(SegmentWriter(path, codec, source.info, settings.size))
        coming = timed(islice(source.frames(), enough + 1), decoding)
        with Behind(encode, BEHIND) as behind, Ahead(coming, AHEAD) as ahead:
            rendering.run(ahead, enough, behind.put)
        with encoding:
            opened.close()  # what the encoder still held
        encoded = path.stat().st_size
    return Trial(
        frames=writer.frames,
        chunks=len(rendering.chunks),
        is_whole=rendering.is_whole,
        damage=source.damage,
        decoding=decoding.seconds / rendering.frames,
        rendering=fmean(rendering.chunks[1:][-MEASURED:] or rendering.chunks),
        encoding=encoding.seconds / writer.frames,
        encoded=encoded,
        saved=rendering.saved,
        peak=peak_memory(parts.device),
        on_cpu=parts.device.type == "cpu",
    )


class Rendering:
    """The middle stage: a session whose chunks are timed one by one."""

    def __init__(self, stylizer: Stylizer, settings: Settings, source: Source):
        self.device = stylizer.parts.device
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        # What a prompt says takes no time, so none is asked for, nor a text encoder.
        silence = Style(embedding=torch.zeros(1, stylizer.parts.transformer.config.text_dim))
        self.session = stylizer.session(silence, settings.size, recipe=settings.recipe)
        cue, clock = SHEET.cues[0], Clock(0, source.info.time_base)
        self.renderer = Renderer(self.session, SHEET, {cue: silence}, NoCuts(), clock, cue)
        self.chunks: list[float] = []  # seconds each
        self.frames = self.saved = 0  # frames taken, bytes of a saved session
        self.is_whole = True
        self._watch = Stopwatch()

    def run(self, frames: Iterable[Frame], enough: int, put: Callable[[Styled], None]) -> None:
        """Render `enough` frames, or the clip to its end where it has no more."""
        for frame in frames:
            self.frames += 1
            if frame.index == enough:
                self.is_whole = False
                break
            self._hand_on(self.renderer.take(frame), put)
        snapshot = self.session.snapshot()  # a job makes one behind each segment
        self.saved = sum(tensor.nbytes for tensor in snapshot.tensors.values())
        if self.is_whole:
            self._hand_on(self.renderer.end(), put)

    def _hand_on(self, made: Iterable[Styled], put: Callable[[Styled], None]) -> None:
        with self._watch:
            styled = list(made)
            if styled and self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
        if styled:
            self.chunks.append(self._watch.lap())
        for one in styled:
            put(one)


def timed(frames: Iterable[Frame], watch: Stopwatch) -> Iterator[Frame]:
    """The same frames, with the seconds it took to get them."""
    iterator = iter(frames)
    while True:
        with watch:
            frame = next(iterator, None)
        if frame is None:
            return
        yield frame


def peak_memory(device: torch.device) -> int | None:
    """What was taken at most at once: of the GPU by torch, of RAM by this process; if known."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith(PEAK)), None)
