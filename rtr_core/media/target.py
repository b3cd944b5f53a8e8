"""Writing a clip: closed segments of encoded frames, each there whole or not at all.

A segment is a fragmented file of QuickTime's family, because that keeps every time exactly: it
counts in the source's own time base, where Matroska rounds to milliseconds and NUT knows no
durations. It begins with a key frame and needs no other segment, and its bytes follow from its
frames alone.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from av.container import OutputContainer
from av.video.stream import VideoStream
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from ..errors import ClipError, NumericsError, ShapeError
from ..shapes import Size
from .codecs import Codec
from .planes import color_of, pixels_of, video_frame
from .probe import FAILURES, SourceInfo
from .scratch import Scratch

# No edit list, no moved zero, no index at the end: packets, and when they are shown.
EXACT_TIMES = {
    "movflags": "empty_moov+default_base_moof+frag_keyframe+frag_discont+skip_trailer",
    "use_editlist": "0",
    "avoid_negative_ts": "disabled",
    "fflags": "bitexact",
}
FINEST_ASPECT = 10_000  # in the numbers of a ratio; streams have 16 bits for them
PREVIEW_SIDE, PREVIEW_QUALITY = 512, 85


@contextmanager
def failures_named(path: Path) -> Iterator[None]:
    """What goes wrong inside is told as an error of writing `path`."""
    try:
        yield
    except FAILURES as error:
        raise ClipError(
            f"{path} cannot be written: {error}. Choose a folder that exists, may be written to "
            f"and has room, and close what has the file open."
        ) from error


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A partial name to write under; the file gets its own name when all of it is on disk."""
    unfinished = path.with_name(f"{path.name}.part")
    try:
        yield unfinished
        with failures_named(path):
            with unfinished.open("rb+") as file:
                os.fsync(file.fileno())
            unfinished.replace(path)
    finally:
        with suppress(OSError):  # its folder may be gone
            unfinished.unlink(missing_ok=True)


@contextmanager
def written_container(path: Path, form: str, options: dict[str, str]) -> Iterator[OutputContainer]:
    """A container to fill, which becomes `path` if nothing fails and is closed in any case."""
    with written_whole(path) as unfinished:
        with failures_named(path):
            container = av.open(f"file:{unfinished}", "w", format=form, container_options=options)
        try:
            yield container
            with failures_named(path):
                container.close()
        finally:
            with suppress(*FAILURES):  # of a container that has failed before
                container.close()


class SegmentWriter:
    """`with SegmentWriter(path, codec, info, size) as segment: segment.write(frame, time)`.

    `info` describes the source, of which a picture of `size` is a scaled copy.
    """

    def __init__(self, path: Path, codec: Codec, info: SourceInfo, size: Size):
        self.path, self.codec, self.info, self.size = path, codec, info, size
        self.frames = 0
        self._pix_fmt = codec.pix_fmt_of(size)
        self._color = color_of(info.color, size, self._pix_fmt)
        self._scratch = Scratch()
        self._last: int | None = None
        self._durations: dict[int, int] = {}  # of frames inside the encoder, by time

    def __enter__(self) -> "SegmentWriter":
        with ExitStack() as stack:
            form = self.codec.segment_format
            self._container = stack.enter_context(written_container(self.path, form, EXACT_TIMES))
            self._stream = self._new_stream()
            with failures_named(self.path):
                self._container.start_encoding()
            self._open = stack.pop_all()
        return self

    def __exit__(self, *failure) -> bool | None:
        if failure[0] is not None:
            return self._open.__exit__(*failure)
        with self._open:
            if self.frames == 0:
                raise ClipError(f"{self.path} has no frame: a segment holds at least one.")
            self._encode(None)

    def write(self, frame: Tensor, time: int, duration: int | None = None) -> None:
        """One frame `[h w 3]`, uint8 or float 0..1, shown at `time` in the source's time base."""
        if tuple(frame.shape) != (*self.size, 3):
            raise ShapeError(
                f"{self.path} holds frames of {self.size}, [height, width, 3]; this one is "
                f"{list(frame.shape)}."
            )
        if self._last is not None and time <= self._last:
            raise ClipError(
                f"A frame at {self._seconds(time)} cannot follow one at "
                f"{self._seconds(self._last)} in {self.path}: times must rise."
            )
        if frame.is_floating_point() and not np.isfinite(pixels_of(frame)).all():
            raise NumericsError(
                f"The frame at {self._seconds(time)} holds NaN or infinity and was not written "
                f"to {self.path}."
            )
        picture = video_frame(frame, self._pix_fmt, self._color, self._scratch)
        picture.pts, picture.time_base = time, self.info.time_base
        self._durations[time] = duration or self._usual_duration
        self._last = time
        self._encode(picture)
        self.frames += 1

    def _encode(self, picture: av.VideoFrame | None) -> None:
        """Mux what the encoder gives for this frame, or all it still holds for None."""
        with failures_named(self.path):
            for packet in self._stream.encode(picture):
                assert packet.pts is not None
                packet.duration = self._durations.pop(packet.pts)
                self._container.mux(packet)

    def _new_stream(self) -> VideoStream:
        stream = self._container.add_stream(
            self.codec.encoder, rate=self.info.rate, options=self.codec.all_options()
        )
        assert isinstance(stream, VideoStream)
        context = stream.codec_context
        context.width, context.height = self.size.width, self.size.height
        context.pix_fmt = self._pix_fmt
        context.sample_aspect_ratio = self._aspect
        stream.time_base = context.time_base = self.info.time_base
        context.color_range, context.colorspace = self._color.range, self._color.matrix
        context.color_primaries = self._color.primaries
        context.color_trc = self._color.transfer
        if self.codec.tag is not None:
            context.codec_tag = self.codec.tag
        try:
            context.open(strict=False)
        except FAILURES as error:
            raise ClipError(
                f"{self.codec.encoder} refuses frames of {self.size} as {self._pix_fmt}: {error}. "
                f"Choose another codec for {self.path}."
            ) from error
        return stream

    @property
    def _aspect(self) -> Fraction:
        """The shape of a pixel, such that the whole picture keeps its shape."""
        before, after = self.info.size, self.size
        scale = Fraction(before.width * after.height, before.height * after.width)
        return (self.info.aspect * scale).limit_denominator(FINEST_ASPECT)

    @property
    def _usual_duration(self) -> int:
        return max(1, round(1 / (self.info.rate * self.info.time_base)))

    def _seconds(self, time: int) -> str:
        return f"{float(time * self.info.time_base):.3f} s"


def save_preview(path: Path, frame: Tensor) -> None:
    """A small JPEG of a frame `[h w 3]`, whole at any moment someone looks."""
    pixels = pixels_of(frame)
    levels = pixels if pixels.dtype == np.uint8 else np.rint(pixels.clip(0, 1) * 255)
    image = Image.fromarray(levels.astype(np.uint8))
    image.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
    with written_whole(path) as unfinished, failures_named(path):
        image.save(unfinished, "JPEG", quality=PREVIEW_QUALITY)


def side_by_side(source: Tensor, styled: Tensor) -> Tensor:
    """Source | styled `[h w 3]`, the source at the styled one's height, as wide as is even."""
    left, right = (
        x.float() / 255 if x.dtype == torch.uint8 else x.float() for x in (source, styled)
    )
    if left.shape[0] != right.shape[0]:
        height, width = right.shape[0], round(left.shape[1] * right.shape[0] / left.shape[0])
        left = F.interpolate(
            left.permute(2, 0, 1)[None], (height, max(1, width)), mode="bilinear", antialias=True
        )[0].permute(1, 2, 0)
    both = torch.cat([left.to(right.device), right], dim=1)
    return both if both.shape[1] % 2 == 0 else torch.cat([both, both[:, -1:]], dim=1)
