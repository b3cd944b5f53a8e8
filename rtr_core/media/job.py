"""From file to file: three overlapping stages, flat memory, and nothing done is ever lost.

The result grows as closed segments in a folder beside OUT, each with the session behind it; a
killed job goes on from the last of them and ends with the same bytes. OUT itself appears at the
end, whole; until then a partial file plays what is there.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any, Literal, Protocol

import av
import torch
from torch import Tensor

from ..cues import Cue, CueSheet
from ..drift import Drift
from ..errors import ClipError
from ..mask import Mask
from ..shapes import Size
from ..style import Style
from ..stylizer import Stylizer
from ..weights.read import open_weights
from .assembly import Stretch, assemble, check_audio
from .codecs import Codec
from .compare import compare
from .curves import largest, told
from .lock import alone_in
from .manifest import PARTIAL, Manifest
from .partial import Partial
from .recorder import Border, Recorder
from .render import Clock, FoundCuts, GivenCuts, NoCuts, Renderer, Sheet, Styled
from .shots import Shots
from .source import Frame, Source, fingerprint, open_source
from .stages import Ahead, Behind
from .target import failures_named, written_whole

AHEAD, BEHIND = 16, 16  # frames in the queues between the stages
SEGMENT_FRAMES = 240  # at least, in a segment
FOLDER_SUFFIX = ".rtr"


def folder_of(out: Path) -> Path:
    """Where a job keeps its segments and sessions."""
    return out.with_name(out.name + FOLDER_SUFFIX)


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is to be done: everything that decides the bytes of the result but the weights."""

    source: Path
    out: Path
    sheet: CueSheet
    styles: Mapping[Cue, Style]  # the sheet's, their pictures loaded
    codec: Codec
    size: Size | None = None  # None: the source's
    shots: Literal["off", "auto"] | Shots = "off"
    seed: int = 0
    segment_frames: int = SEGMENT_FRAMES
    mask: Mask | None = None  # None: all of the picture is styled
    compared: bool = False  # whether source | styled is written too
    command: str | None = None  # as it was typed, for the sidecar

    @property
    def folder(self) -> Path:
        return folder_of(self.out)

    @property
    def partial(self) -> Path:
        return self.folder / PARTIAL

    @property
    def beside(self) -> Path:
        """Where source | styled goes."""
        return self.out.with_name(f"{self.out.stem}.compare{self.out.suffix}")

    @property
    def sidecar(self) -> Path:
        """What is needed to make OUT again."""
        return self.out.with_name(f"{self.out.name}.json")

    def facts(self, stylizer: Stylizer) -> dict[str, Any]:
        """All that decides the result, by names that a person can be told."""
        parts = stylizer.parts
        dtype = str(parts.latents_like.dtype)
        return {
            "source": fingerprint(self.source),
            "cues": str(self.sheet),
            "styles": [style.fingerprint for style in self.styles.values()],
            "mask": self.mask.fingerprint if self.mask else None,
            "size": self.size,
            "codec": asdict(self.codec) | {"options": dict(self.codec.options)},
            "shots": str(self.shots),
            "seed": self.seed,
            "segment_frames": self.segment_frames,
            "recipe": asdict(stylizer.recipe),
            "weights": parts.fingerprint,
            "device": " ".join(filter(None, [parts.device.type, dtype, stylizer.cache])),
            "versions": {"torch": torch.__version__, "av": av.__version__},
        }


class Pipe(Protocol):
    def write(self, frame: Tensor) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Done:
    """How a job ended."""

    out: Path
    frames: int
    resumed_at: int  # frames that an earlier run had done
    damage: str | None  # of the source; the good part of it was styled
    notes: tuple[str, ...]  # what of the source could not be copied
    drift: Drift | None = None  # the largest of all styles, where there was a chunk to tell it


class Job:
    """One clip on its way. `run` may be killed at any moment and called again."""

    def __init__(self, task: Task, stylizer: Stylizer, on_frame: Callable[[Styled], None]):
        self.task, self.stylizer, self.on_frame = task, stylizer, on_frame

    def run(self, force: bool = False) -> Done:
        """OUT by the task's cue sheet: what `redo` has made of it is given up."""
        task = self.task
        if task.out.exists() and not force:
            raise ClipError(f"{task.out} exists. Choose another name, or --force to replace it.")
        if not task.out.parent.is_dir():
            raise ClipError(f"There is no folder {task.out.parent} to write {task.out.name} in.")
        if task.out.exists() and task.out.samefile(task.source):
            raise ClipError(f"{task.out} is the source itself. Choose another name.")
        check_audio(task.source, task.out)
        facts = task.facts(self.stylizer)
        with failures_named(task.folder):
            task.folder.mkdir(exist_ok=True)
        with alone_in(task.folder):
            manifest = Manifest.open(task.folder, facts, anew=force)
            if manifest.film:
                manifest = manifest.changed(film=(), redone=())
            manifest.sweep()
            return self._go_on(manifest)

    def _go_on(self, manifest: Manifest) -> Done:
        resumed_at = manifest.frames
        if not manifest.source_ended:
            manifest = self._render(manifest)
        done = self.finish(manifest, resumed_at)
        with failures_named(self.task.partial):
            self.task.partial.unlink(missing_ok=True)
        return done

    def stream(self, pipe: Pipe) -> int:
        """Write every styled frame to a pipe, keeping nothing. Returns how many they were."""
        nothing, count = Manifest(facts={}, folder=self.task.folder), 0

        def write(styled: Styled) -> None:
            pipe.write(styled.pixels)
            self.on_frame(styled)

        with (
            open_source(self.task.source) as source,
            Ahead(source.frames(), AHEAD) as frames,
            Behind(write, BEHIND) as behind,
        ):
            size, coming = self.task.size or source.info.size, iter(frames)
            if (first := next(coming, None)) is None:
                raise ClipError(f"{self.task.source} has no frame that can be read.")
            renderer = self.renderer(nothing, source.info.time_base, size, first)
            for styled in renderer.run(chain([first], coming)):
                behind.put(styled)
                count += 1
        return count

    def finish(self, manifest: Manifest, resumed_at: int) -> Done:
        """Put the film together, with the source's sound, and all that goes with it beside it.

        OUT comes last: once it is there, everything is.
        """
        task, suffix = self.task, self.task.out.suffix
        whole, beside = (manifest.path(f"{name}{suffix}") for name in ("whole", "compare"))
        pieces = [Stretch(manifest.path(p.name), p.skip, p.frames) for p in manifest.pieces]
        done = Done(
            out=task.out,
            frames=manifest.frames,
            resumed_at=resumed_at,
            damage=manifest.damage,
            notes=tuple(assemble(pieces, task.source, whole)),
            drift=largest(manifest.drift),
        )
        self._tell(manifest, done)
        if task.compared:
            compare(task.source, whole, beside, task.codec)
            with failures_named(task.beside):
                beside.replace(task.beside)
        with failures_named(task.out):
            whole.replace(task.out)
        return done

    def _tell(self, manifest: Manifest, done: Done) -> None:
        facts = {
            "command": self.task.command,
            "source": str(self.task.source.resolve()),
            "facts": manifest.facts,
            "frames": done.frames,
            "redone": manifest.redone,
            "drift": told(manifest.drift, self.task.sheet.cues),
            "damage": done.damage,
            "notes": done.notes,
        }
        with written_whole(self.task.sidecar) as path, failures_named(self.task.sidecar):
            path.write_text(json.dumps(facts, indent=1), encoding="utf-8")

    def _render(self, manifest: Manifest) -> Manifest:
        """Decode, stylize and encode at once, from the first frame that is not done."""
        task = self.task
        partial = Partial(task.partial, [manifest.path(s.name) for s in manifest.segments])
        with (
            open_source(task.source) as source,
            Ahead(source.frames(manifest.frames), AHEAD) as frames,
        ):
            task.sheet.check_rate(source.info.rate)
            size = task.size or source.info.size
            task.codec.check_size(size)
            recorder = Recorder(manifest, task.codec, source.info, size, partial, self.on_frame)
            with recorder, Behind(recorder.take, BEHIND) as behind:
                self._lead(manifest, source, size, frames, behind)
            if fingerprint(task.source) != manifest.facts["source"]:
                raise ClipError(
                    f"{task.source} was changed while it was read. Put the old one back, or delete "
                    f"{task.folder} and begin again."
                )
            return recorder.manifest.changed(source_ended=True, damage=source.damage)

    def _lead(
        self,
        manifest: Manifest,
        source: Source,
        size: Size,
        frames: Ahead[Frame],
        behind: Behind[Styled | Border],
    ) -> None:
        coming = iter(frames)
        first = next(coming, None)
        if first is None:
            if manifest.frames:
                return  # the source ended just at a border
            raise ClipError(f"{self.task.source} has no frame that can be read. {source.damage}")
        renderer = self.renderer(manifest, source.info.time_base, size, first)
        cues, border = self.task.sheet.cues, manifest.frames
        for frame in chain([first], coming):
            for styled in renderer.take(frame):
                behind.put(styled)
            done = frame.index + 1 - renderer.waiting
            if renderer.is_at_border and done - border >= self.task.segment_frames:
                border = done
                here = cues.index(renderer.active)
                behind.put(Border(here, renderer.session.snapshot(), renderer.cuts.snapshot()))
        for styled in renderer.end():
            behind.put(styled)
        behind.put(Border(cues.index(renderer.active), None, {}))

    def renderer(
        self,
        manifest: Manifest,
        time_base: Fraction,
        size: Size,
        first: Frame,
        sheet: Sheet | None = None,
        styles: Mapping[Cue, Style] | None = None,
    ) -> Renderer:
        """A new session, or the one behind the last segment; by another sheet, if one is given."""
        task, styles = self.task, styles or self.task.styles
        by: Sheet = sheet or task.sheet
        if manifest.segments:
            last = manifest.segments[-1]
            active, clock = by.cues[last.cue], Clock(manifest.segments[0].time, time_base)
            session = self.stylizer.load_session(manifest.path(last.session or ""))
            remembered = last.cuts and dict(open_weights(manifest.path(last.cuts)).tensors)
            before = last.last_time
        else:
            active, clock = by.cue_at(Fraction(0), 0), Clock(first.time, time_base)
            seed = task.seed if active.seed is None else active.seed
            session = self.stylizer.session(styles[active], size, seed=seed)
            remembered, before = None, None
        if isinstance(task.shots, Shots):
            cuts = GivenCuts(task.shots, clock, before)
        else:
            cuts = FoundCuts(remembered or None) if task.shots == "auto" else NoCuts()
        return Renderer(session, by, styles, cuts, clock, active, task.mask)
