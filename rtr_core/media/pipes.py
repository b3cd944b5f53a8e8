"""Frames into a pipe, one after the other: `rtr stylize IN - | ffplay -`."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import BinaryIO

import av
from torch import Tensor

from ..errors import ClipError
from ..shapes import Size
from .color import LIMITED, RGB, UNSPECIFIED
from .planes import color_of, lines_of, video_frame
from .probe import SourceInfo


class RawPipe:
    """Red, green and blue bytes of each pixel; the reader has to know size and rate."""

    def __init__(self, stream: BinaryIO, info: SourceInfo):
        self._stream = stream
        self._color = replace(info.color, matrix=RGB)

    def write(self, frame: Tensor) -> None:
        """One frame `[h w 3]`, uint8 or float 0..1."""
        with _reader_there():
            for plane in _planes(video_frame(frame, "rgb24", self._color)):
                self._stream.write(plane)
            self._stream.flush()


class Y4mPipe:
    """YUV4MPEG2 with chroma at full size, so that any size fits; it says its size and rate itself.

    The format has one rate and no times: a variable rate becomes the average one.
    """

    PIX_FMT = "yuv444p"

    def __init__(self, stream: BinaryIO, info: SourceInfo, size: Size):
        self._stream = stream
        # It has no word for a matrix; readers go by the height, and so do untagged colors.
        untagged = replace(info.color, matrix=UNSPECIFIED, range=LIMITED)
        self._color = color_of(untagged, size, self.PIX_FMT)
        rate, aspect = info.rate, info.aspect
        with _reader_there():
            stream.write(
                f"YUV4MPEG2 W{size.width} H{size.height} F{rate.numerator}:{rate.denominator} Ip "
                f"A{aspect.numerator}:{aspect.denominator} C444 XCOLORRANGE=LIMITED\n".encode()
            )

    def write(self, frame: Tensor) -> None:
        """One frame `[h w 3]`, uint8 or float 0..1."""
        with _reader_there():
            self._stream.write(b"FRAME\n")
            for plane in _planes(video_frame(frame, self.PIX_FMT, self._color)):
                self._stream.write(plane)
            self._stream.flush()


def _planes(frame: av.VideoFrame) -> Iterator[bytes]:
    """The bytes of each plane, without what fills up its lines."""
    for plane in frame.planes:
        samples = 3 if frame.format.name == "rgb24" else 1
        yield lines_of(plane)[:, : plane.width * samples].tobytes()


@contextmanager
def _reader_there() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ClipError(
            f"The pipe cannot be written: {error}. What reads it has ended, or has no room."
        ) from error
