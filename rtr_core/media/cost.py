"""What a job costs over its model alone, measured: the same frames through a session and a job.

    for cost in costs(Path("night.mp4"), stylizer):
        print(cost)

The session finds all frames in memory, and its pictures are dropped; the job decodes them from
the file and encodes them into one. They take turns, and the least of each is taken: whatever else
the machine does can only add to it. Still it should do nothing else.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from ..cues import Cue, CueSheet
from ..errors import ClipError
from ..shapes import Size
from ..style import Style
from ..stylizer import Stylizer
from .codecs import H264, Codec
from .job import Job, Task
from .source import open_source

REPEATS = 3
LARGEST = 2**31  # bytes of frames in memory at once
SHEET = CueSheet.parse("00:00 cost")


@dataclass(frozen=True, kw_only=True)
class Spent:
    """Seconds a frame, on the wall's clock and of all processors together."""

    wall: float
    processors: float


@dataclass(frozen=True, kw_only=True)
class Cost:
    """The model alone and the whole job, with so many threads for the model."""

    threads: int
    frames: int
    alone: Spent
    whole: Spent

    @property
    def more_time(self) -> float:
        """How much longer the job takes, as a share of what the model takes."""
        return self.whole.wall / self.alone.wall - 1

    @property
    def more_work(self) -> float:
        """How much more is computed, likewise."""
        return self.whole.processors / self.alone.processors - 1

    def __str__(self) -> str:
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        alone, whole = self.alone, self.whole
        return (
            f"cost, measured, {threads}, {self.frames} frames: the model alone takes "
            f"{1000 * alone.wall:.1f} ms a frame, the whole job {1000 * whole.wall:.1f} "
            f"({self.more_time:+.1%}); of all processors together {1000 * alone.processors:.1f} "
            f"and {1000 * whole.processors:.1f} ({self.more_work:+.1%})"
        )


def costs(
    source: Path,
    stylizer: Stylizer,
    size: Size | None = None,
    codec: Codec = H264,
    repeats: int = REPEATS,
) -> Iterator[Cost]:
    """With all threads for the model, and with one left over where it computes on the CPU."""
    if repeats < 1:
        raise ClipError(f"The cost is measured once or more often; {repeats} times is not.")
    # What a prompt says takes no time, so none is asked for, nor a text encoder.
    silence = Style(embedding=torch.zeros(1, stylizer.parts.transformer.config.text_dim))
    styles = {SHEET.cues[0]: silence}
    frames, all_threads = frames_of(source), torch.get_num_threads()

    def alone() -> None:
        session = stylizer.session(silence, size or Size(*frames.shape[1:3]))
        for stage in (session.push(frames), session.flush()):
            for _ in stage:
                pass

    def whole() -> None:
        with TemporaryDirectory(prefix="rtr-cost-") as folder:
            Job(_task(source, Path(folder), styles, size, codec), stylizer, lambda _: None).run()

    is_on_cpu = stylizer.parts.device.type == "cpu"
    for threads in (all_threads, all_threads - 1) if is_on_cpu else (all_threads,):
        if threads:
            with model_threads(threads):
                least = least_of((alone, whole), repeats, len(frames))
            yield Cost(threads=threads, frames=len(frames), alone=least[0], whole=least[1])


def frames_of(source: Path) -> Tensor:
    """All frames of a clip, `[t h w 3]`."""
    kept, taken = [], 0
    with open_source(source) as opened:
        for frame in opened.frames():
            kept.append(frame.pixels)
            taken += frame.pixels.nbytes
            if taken > LARGEST:
                raise ClipError(
                    f"{source} is too long to have all its frames in memory, as this measure "
                    f"needs them: {len(kept)} take {taken >> 30} GiB. Choose a shorter clip."
                )
    return torch.stack(kept)


def least_of(works: tuple[Callable[[], None], ...], repeats: int, frames: int) -> list[Spent]:
    """What each took at best, in turns, so that what slows one down slows down all."""
    walls, processors = ([[] for _ in works] for _ in range(2))
    for _ in range(repeats):
        for n, work in enumerate(works):
            wall, processor = time.perf_counter(), time.process_time()
            work()
            walls[n].append(time.perf_counter() - wall)
            processors[n].append(time.process_time() - processor)
    pairs = zip(walls, processors, strict=True)
    return [Spent(wall=min(w) / frames, processors=min(p) / frames) for w, p in pairs]


@contextmanager
def model_threads(count: int) -> Iterator[None]:
    """So many threads for torch in here."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _task(
    source: Path, folder: Path, styles: Mapping[Cue, Style], size: Size | None, codec: Codec
) -> Task:
    out = folder / f"out{codec.suffixes[0]}"
    return Task(source=source, out=out, sheet=SHEET, styles=styles, codec=codec, size=size)
