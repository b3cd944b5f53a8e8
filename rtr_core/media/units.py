"""Units of a clip that can be made apart from one another, and put together to the same bytes.

    found = survey(task, recipe, stride)            # one look through the clip, without the model
    for unit in found.units(manifest):              # of what is not done
        make(Job(task, stylizer, on_frame), unit, manifest.facts)       # anywhere, in any order
    manifest = manifest.with_parts()

A shot begins with an empty window in the style that is in force, so a unit may begin wherever a
segment does and a shot too. What it must know of the clip before it is counted, by the renderer
and the borders that a job has: which cue is in force, in which noise. Where a style is fading over
a cut no unit begins.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, pairwise
from pathlib import Path

import torch
from torch import Tensor

from ..errors import ClipError
from ..recipes import Recipe
from ..shapes import Size, Stride
from ..weights.read import open_weights
from ..weights.write import write_safetensors
from .count import CountedSession
from .job import AHEAD, Job, Task, cuts_of
from .lock import alone_in
from .manifest import SURVEY, Manifest
from .render import Clock, Renderer, Styled
from .source import Frame, open_source
from .stages import Ahead
from .target import failures_named
from .walk import walk

FORMAT = "rtr-survey-1"


@dataclass(frozen=True, kw_only=True)
class Shot:
    """What a shot that begins a unit has to know of the clip before it."""

    first: int  # frame
    cue: int  # in force before it, by its place on the sheet
    seed: int  # of the noise
    before: int  # when the frame before it is shown, in the source's time base
    cuts: dict[str, Tensor]  # what the cut detector remembered then


@dataclass(frozen=True, kw_only=True)
class Unit:
    """Frames to be made by themselves, in a part of the job's folder."""

    first: int
    end: int | None  # None: the source's
    start: int | None  # when the clip's first frame is shown; None where the unit begins with it
    shot: Shot | None  # None: it goes on from what is done, or begins the clip

    def __str__(self) -> str:
        return f"{self.first}:{'' if self.end is None else self.end}"


@dataclass(frozen=True, kw_only=True)
class Survey:
    """Where units may begin."""

    start: int | None = None  # when the clip's first frame is shown
    shots: tuple[Shot, ...] = ()

    def units(self, manifest: Manifest) -> Iterator[Unit]:
        """Of what a job has not done: first what goes on from its last segment."""
        if manifest.source_ended:
            return
        coming = [shot for shot in self.shots if shot.first > manifest.frames]
        start = manifest.began if manifest.segments else None
        ends = [*(shot.first for shot in coming), None]
        yield Unit(first=manifest.frames, end=ends[0], start=start, shot=None)
        for shot, end in zip(coming, ends[1:], strict=True):
            yield Unit(first=shot.first, end=end, start=self.start, shot=shot)

    def write(self, path: Path) -> None:
        shots = [[shot.first, shot.cue, shot.before] for shot in self.shots]
        tensors = {f"{s.first}.{name}": t for s in self.shots for name, t in s.cuts.items()}
        tensors["shots"] = torch.tensor([[self.start or 0, 0, 0], *shots], dtype=torch.int64)
        seeds = json.dumps([shot.seed for shot in self.shots])  # some are too large for a tensor
        write_safetensors(path, tensors, {"format": FORMAT, "seeds": seeds})

    @classmethod
    def read(cls, path: Path) -> "Survey":
        file, shots = open_weights(path), []
        tensors = dict(file.tensors)
        (start, *_), *told = tensors.pop("shots").tolist()
        for (first, cue, before), seed in zip(
            told, json.loads(file.metadata["seeds"]), strict=True
        ):
            head = f"{first}."
            cuts = {n.removeprefix(head): t for n, t in tensors.items() if n.startswith(head)}
            shots.append(Shot(first=first, cue=cue, seed=seed, before=before, cuts=cuts))
        return cls(start=start, shots=tuple(shots))


def survey(task: Task, recipe: Recipe, stride: Stride) -> Survey:
    """Look through a clip for units, or at what an earlier look has written in its folder."""
    if task.shots == "off":
        return Survey()
    path = task.folder / SURVEY
    if not path.is_file():
        found = looked_through(task, recipe, stride)
        with failures_named(path):
            found.write(path)
    return Survey.read(path)


def looked_through(task: Task, recipe: Recipe, stride: Stride) -> Survey:
    shots = []
    with open_source(task.source) as source, Ahead(source.frames(), AHEAD) as frames:
        coming = iter(frames)
        if (first := next(coming, None)) is None:
            raise ClipError(f"{task.source} has no frame that can be read. {source.damage}")
        clock = Clock(first.time, source.info.time_base)
        active = task.sheet.cue_at(Fraction(0), 0)
        seed = task.seed if active.seed is None else active.seed
        session = CountedSession(recipe, stride, seed)
        cuts = cuts_of(task, clock, None, None)
        renderer = Renderer(session, task.sheet, task.styles, cuts, clock, active)
        items = walk(renderer, chain([first], coming), 0, task.segment_frames, lambda frame: False)
        for last, item in pairwise(items):
            if isinstance(item, Styled) or item.begins != "shot" or session.fade_left:
                continue
            assert isinstance(last, Styled), "a border has frames before it"
            shots.append(
                Shot(
                    first=item.frame,
                    cue=item.cue,
                    seed=session.seed,
                    before=last.source.time,
                    cuts=item.cuts,
                )
            )
    return Survey(start=first.time, shots=tuple(shots))


def make(job: Job, unit: Unit, facts: dict) -> Manifest:
    """A unit of a job, in its part; from where an earlier try has left it."""
    main = Manifest.read(job.task.folder)
    folder = main.part(unit.first)
    with failures_named(folder):
        folder.mkdir(exist_ok=True)
    with alone_in(folder):
        part = Manifest.open(folder, facts, first=unit.first, start=unit.start)
        part.sweep()
        if part.source_ended or part.frames == unit.end:
            return part
        opened = None
        if not part.segments and unit.first:
            opened = _led_from(job, unit, main)
        return job.render(part, lambda frame: frame == unit.end, opened)


def _led_from(job: Job, unit: Unit, main: Manifest):
    """How a unit is begun that is not the clip's first."""

    def opened(time_base: Fraction, size: Size, first: Frame) -> Renderer:
        if unit.shot is None:
            if main.frames != unit.first:
                raise ClipError(f"{main.folder} has {main.frames} frames, not {unit.first}.")
            return job.renderer(main, time_base, size, first)
        assert unit.start is not None, "a shot knows when its clip begins"
        return _shot(job, unit.shot, size, Clock(unit.start, time_base))

    return opened


def _shot(job: Job, shot: Shot, size: Size, clock: Clock) -> Renderer:
    """A session as it is when a shot has ended: nothing in it but its style and its noise."""
    task, sheet = job.task, job.task.sheet
    active, first = sheet.cues[shot.cue], sheet.cue_at(Fraction(0), 0)
    seed = task.seed if first.seed is None else first.seed
    session = job.stylizer.session(task.styles[active], size, seed=seed)
    session.seed = shot.seed
    session.reset()
    cuts = cuts_of(task, clock, shot.before, shot.cuts)
    return Renderer(session, sheet, task.styles, cuts, clock, active, task.mask)
