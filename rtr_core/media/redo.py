"""A span of a finished clip once more, in another style, and everything else as it was."""

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from itertools import chain, islice, takewhile

from ..cues import Cue, CueSheet
from ..errors import ClipError
from ..style import Style
from .job import AHEAD, Done, Job
from .lock import alone_in
from .manifest import Manifest, Segment
from .source import open_source
from .stages import Ahead
from .target import SegmentWriter


class SpanSheet:
    """A cue sheet with another cue in force over a span of frames."""

    def __init__(self, sheet: CueSheet, span: range, cue: Cue):
        self.sheet, self.span, self.cue = sheet, span, cue
        self.cues = (*sheet.cues, cue)

    def cue_at(self, time: Fraction, frame: int) -> Cue:
        return self.cue if frame in self.span else self.sheet.cue_at(time, frame)

    def due(self, time: Fraction, frame: int, active: Cue | None) -> Cue | None:
        cue = self.cue_at(time, frame)
        return None if cue == active else cue


def redo(job: Job, span: range, cue: Cue, style: Style) -> Done:
    """Render the segments that `span` touches from the session before them, and splice them in.

    Until all of them are there, the finished clip is what it was. Sessions inside the span are not
    kept: they would lead a later redo from one style into another.
    """
    task = job.task
    manifest = Manifest.open(task.folder, task.facts(job.stylizer))
    if not manifest.source_ended:
        raise ClipError(f"{task.out} is not finished. Run its command first, then redo a part.")
    touched = [
        n for n, s in enumerate(manifest.segments) if s.first < span.stop and s.end > span.start
    ]
    if not touched or span.step != 1 or span.start < 0:
        raise ClipError(f"{task.out} has frames 0 to {manifest.frames}; {span} is no part of it.")
    with alone_in(task.folder):
        first, last = _with_a_session_before(manifest, touched[0]), touched[-1]
        by, styles = SpanSheet(task.sheet, span, cue), {**task.styles, cue: style}
        segments = _rendered(job, manifest, slice(first, last + 1), by, styles)
        spliced = (*manifest.segments[:first], *segments, *manifest.segments[last + 1 :])
        manifest = manifest.changed(segments=spliced)
        manifest.sweep()
        return job.finish(manifest, resumed_at=manifest.frames - sum(s.frames for s in segments))


def _with_a_session_before(manifest: Manifest, segment: int) -> int:
    """The nearest segment, this one or before, that can be rendered from a kept session."""
    while segment > 0 and manifest.segments[segment - 1].session is None:
        segment -= 1
    return segment


def _rendered(
    job: Job, manifest: Manifest, which: slice, sheet: SpanSheet, styles: Mapping[Cue, Style]
) -> list[Segment]:
    """New files for these segments, cut where the old ones were."""
    task, old = job.task, manifest.segments[which]
    before = replace(manifest, segments=manifest.segments[: which.start])
    with (
        open_source(task.source) as source,
        Ahead(source.frames(before.frames), AHEAD) as frames,
    ):
        size = task.size or source.info.size
        wanted = takewhile(lambda frame: frame.index < old[-1].end, frames)
        opening = next(wanted, None)
        if opening is None:
            raise ClipError(f"{task.source} has ended before frame {before.frames}.")
        renderer = job.renderer(before, source.info.time_base, size, opening, sheet, styles)
        styled = renderer.run(chain([opening], wanted))
        for segment in old:
            path = manifest.path(_next_name(segment))
            with SegmentWriter(path, task.codec, source.info, size) as file:
                for one in islice(styled, segment.frames):
                    job.on_frame(one)
                    file.write(one.pixels, one.source.time, one.source.duration)
    inside = (replace(s, name=_next_name(s), session=None, cuts=None) for s in old[:-1])
    return [*inside, replace(old[-1], name=_next_name(old[-1]))]


def _next_name(segment: Segment) -> str:
    """00003.mov, then 00003-1.mov, 00003-2.mov, ..."""
    stem, _, turn = segment.name.removesuffix(".mov").partition("-")
    return f"{stem}-{int(turn or 0) + 1}.mov"
