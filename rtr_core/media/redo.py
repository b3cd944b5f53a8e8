"""A span of a finished clip once more, in another style, and every other frame as it was.

The span is rendered from the nearest session before it, by the cue sheet up to it, and takes the
place of the old frames to the frame. What follows a changed frame cannot be decoded as before until
the next key frame, so these few are decoded and encoded once more; all else keeps its bytes. Spans
done again before stay, and no session changes. Until the film is put together it is what it was.
"""

from collections.abc import Generator
from contextlib import closing
from dataclasses import replace
from fractions import Fraction
from itertools import chain, dropwhile, islice, takewhile
from typing import NamedTuple

from torch import Tensor

from ..cues import Cue, CueSheet
from ..errors import ClipError
from ..style import Style
from .assembly import key_frames
from .job import AHEAD, Done, Job
from .lock import alone_in
from .manifest import Manifest, Piece
from .source import Source, open_source
from .stages import Ahead
from .target import SegmentWriter


class Timed(NamedTuple):
    """A picture of the film and when it is shown, in the source's time base."""

    pixels: Tensor
    time: int
    duration: int | None


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
    """Frames `span` of OUT in another style. A run that is killed has changed nothing."""
    task = job.task
    unfinished = ClipError(f"{task.out} is not finished. Run its command first, then redo a part.")
    if not task.folder.is_dir():
        raise unfinished
    with alone_in(task.folder):
        manifest = Manifest.open(task.folder, task.facts(job.stylizer))
        if not manifest.source_ended:
            raise unfinished
        if span.step != 1 or not 0 <= span.start < span.stop <= manifest.frames:
            raise ClipError(
                f"{task.out} has frames 0:{manifest.frames}, the last not counted; "
                f"{span.start}:{span.stop} is no part of it."
            )
        manifest.sweep()
        bridge = bridge_from(manifest, span.stop)
        with open_source(task.source) as source:
            pieces = _written(
                job, manifest, source, _rendered(job, manifest, source, span, cue, style)
            )
            if bridge is not None:
                pieces += _written(job, manifest, source, _decoded(manifest, source, bridge), "b")
        film = (
            *manifest.cut(0, span.start),
            *pieces,
            *manifest.cut(span.stop + (bridge.frames if bridge else 0), manifest.frames),
        )
        told = f"{span.start}:{span.stop} {cue.words}"
        manifest = manifest.changed(film=film, redone=(*manifest.redone, told))
        manifest.sweep()
        return job.finish(manifest, resumed_at=manifest.frames - len(span))


def bridge_from(manifest: Manifest, frame: int) -> Piece | None:
    """Frames of the film from `frame` on that cannot be decoded without the one before it."""
    at = 0
    for piece in manifest.pieces:
        if at < frame < at + piece.frames:
            skip = piece.skip + frame - at
            keys = [key for key in key_frames(manifest.path(piece.name)) if key >= skip]
            end = min([*keys, piece.skip + piece.frames])
            return Piece(piece.name, skip, end - skip) if end > skip else None
        at += piece.frames
    return None


def _rendered(
    job: Job, manifest: Manifest, source: Source, span: range, cue: Cue, style: Style
) -> Generator[Timed]:
    """The span in its new style, taken up early enough to be there with the first frame."""
    task, stylizer = job.task, job.stylizer
    chunk = stylizer.recipe.chunk * stylizer.parts.vae.stride.time
    in_flight = (stylizer.recipe.buffer - 1) * chunk  # they have set out before the border
    before = _up_to_a_session(manifest, max(0, span.start - in_flight))
    early = range(max(0, span.start - chunk + 1), span.stop)
    sheet, styles = SpanSheet(task.sheet, early, cue), {**task.styles, cue: style}
    with Ahead(source.frames(before.frames), AHEAD) as frames:
        coming = iter(frames)
        if (first := next(coming, None)) is None:
            raise ClipError(f"{task.source} has ended before frame {before.frames}.")
        size = task.size or source.info.size
        renderer = job.renderer(before, source.info.time_base, size, first, sheet, styles)
        styled = renderer.run(chain([first], coming))
        styled = dropwhile(lambda one: one.source.index < span.start, styled)
        for one in takewhile(lambda one: one.source.index < span.stop, styled):
            job.on_frame(one)
            yield Timed(one.pixels, one.source.time, one.source.duration)


def _up_to_a_session(manifest: Manifest, frame: int) -> Manifest:
    """The job as it was at the last border, at or before `frame`, whose session is kept."""
    count = sum(segment.end <= frame for segment in manifest.segments)
    while count > 0 and manifest.segments[count - 1].session is None:
        count -= 1
    return replace(manifest, segments=manifest.segments[:count])


def _decoded(manifest: Manifest, source: Source, piece: Piece) -> Generator[Timed]:
    """Frames of the film as they are."""
    with open_source(manifest.path(piece.name)) as file:
        ticks = file.info.time_base / source.info.time_base
        for frame in islice(file.frames(piece.skip), piece.frames):
            duration = frame.duration and round(frame.duration * ticks)
            yield Timed(frame.pixels, round(frame.time * ticks), duration)


def _written(
    job: Job, manifest: Manifest, source: Source, frames: Generator[Timed], kind: str = "a"
) -> list[Piece]:
    """New files of these frames, none much longer than a segment."""
    task, pieces = job.task, []
    size = task.size or source.info.size
    with closing(frames):
        while (first := next(frames, None)) is not None:
            name = f"redone-{len(manifest.redone):05}{kind}-{len(pieces):05}.mov"
            with SegmentWriter(manifest.path(name), task.codec, source.info, size) as file:
                for one in chain([first], islice(frames, task.segment_frames - 1)):
                    file.write(*one)
            pieces.append(Piece(name, 0, file.frames))
    return pieces
