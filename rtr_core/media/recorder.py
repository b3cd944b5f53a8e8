"""The last stage of a job: styled frames become closed segments, each written down when it is."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from ..shapes import Size
from ..snapshot import Snapshot
from ..weights.write import write_safetensors
from .codecs import Codec
from .curves import KEPT, Point, thinned
from .manifest import Manifest, Segment
from .partial import Partial
from .render import Styled
from .source import SourceInfo
from .target import SegmentWriter

SESSION_BYTES = 4 * 2**30  # on disk, of all sessions of a job; beyond it some are let go


@dataclass(frozen=True)
class Border:
    """Here a segment ends, and a run that is killed later can begin again."""

    cue: int  # in force, by its place on the sheet
    snapshot: Snapshot | None  # None at the end of the clip
    cuts: dict[str, Tensor]  # what the cut detector remembers


class Recorder:
    """Writes what it is given. Used as a context; an error drops the segment that is open."""

    def __init__(
        self,
        manifest: Manifest,
        codec: Codec,
        info: SourceInfo,
        size: Size,
        partial: Partial,
        on_frame: Callable[[Styled], None],
    ):
        self.manifest, self.codec, self.info, self.size = manifest, codec, info, size
        self.partial, self.on_frame = partial, on_frame
        self._writer: SegmentWriter | None = None
        self._first: Styled | None = None  # of the segment that is open
        self._last: Styled | None = None
        self._frames = 0
        self._drift: list[Point] = []

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(self, *failure: object) -> None:
        if self._writer is not None:
            self._writer.__exit__(*failure)

    def take(self, item: Styled | Border) -> None:
        if isinstance(item, Border):
            self._close(item)
        else:
            self._write(item)

    def _write(self, styled: Styled) -> None:
        if self._writer is None:
            path = self.manifest.path(segment_name(self.manifest))
            writer = SegmentWriter(path, self.codec, self.info, self.size)
            self._writer, self._first, self._frames = writer.__enter__(), styled, 0
            self._drift = []
        self._last = styled
        self._writer.write(styled.pixels, styled.source.time, styled.source.duration)
        self._frames += 1
        if styled.drift is not None:
            self._drift.append(styled.drift)
        self.on_frame(styled)

    def _close(self, border: Border) -> None:
        """First the frames, then the session, then the manifest that says both are there."""
        if self._writer is None or self._first is None or self._last is None:
            return
        writer, self._writer = self._writer, None
        writer.__exit__(None, None, None)
        name = segment_name(self.manifest)
        segment = Segment(
            name=name,
            first=self.manifest.frames,
            frames=self._frames,
            bytes=writer.path.stat().st_size,
            time=self._first.source.time,
            last_time=self._last.source.time,
            cue=border.cue,
            drift=thinned(self._drift, KEPT),
            **self._keep(border, Path(name).stem),
        )
        self.manifest = self.manifest.changed(segments=(*self.manifest.segments, segment))
        self.partial.append(self.manifest.path(name))
        self._thin()

    def _keep(self, border: Border, stem: str) -> dict[str, str | None]:
        """Write what a later run needs to begin here. Returns the names of the files."""
        names: dict[str, str | None] = {"session": None, "cuts": None}
        if border.snapshot is not None:
            names["session"] = f"{stem}.session.safetensors"
            border.snapshot.write(self.manifest.path(names["session"]))
        if border.cuts:
            names["cuts"] = f"{stem}.cuts.safetensors"
            write_safetensors(self.manifest.path(names["cuts"]), border.cuts, {})
        return names

    def _thin(self) -> None:
        """Let go of the session that is missed least, while all of them are too large.

        The newest is what a killed job needs; of the others, for a later redo, every second goes.
        """
        while len(kept := [s for s in self.manifest.segments if s.session]) > 2:
            files = [self.manifest.path(s.session) for s in kept if s.session]
            if sum(file.stat().st_size for file in files) <= SESSION_BYTES:
                return
            gaps = {
                kept[n].name: kept[n + 1].end - (kept[n - 1].end if n else 0)
                for n in range(len(kept) - 1)
            }
            least = min(gaps, key=lambda name: gaps[name])
            segments = tuple(
                replace(s, session=None, cuts=None) if s.name == least else s
                for s in self.manifest.segments
            )
            self.manifest = self.manifest.changed(segments=segments)
            self.manifest.sweep()


def segment_name(manifest: Manifest) -> str:
    return f"{len(manifest.segments):05}.mov"
