"""What a clip is: opened as a plain file, measured, and its first frame looked at."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.video.stream import VideoStream

from ..errors import ClipError
from ..shapes import LARGEST_SIDE, Size
from .color import LUMA, Color
from .pictures import Orientation, depth_of

# 6K. One frame is 64 MB of uint8 or 255 MB of float, and some are on their way at once.
LARGEST_AREA = 6144 * 3456
USUAL_RATE = Fraction(25)  # where a stream says nothing about it

# Files that hold their own packets. HLS, DASH, concat, SDP and image sequences open others.
CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,h264,hevc,obu,ivf,ogg,"
    "flv,asf,mxf,nut,yuv4mpegpipe,dv,rm,wtv,gif,apng"
)
PLAIN_FILE = {"protocol_whitelist": "file", "format_whitelist": CONTAINERS}
BOUNDED = {"max_pixels": str(LARGEST_AREA)}  # for decoders: nothing larger is allocated
COUNTS_FROM_ZERO = {"matroska,webm", "avi", "flv"}  # their durations are when they end
STILL_BRANDS = {"avif", "heic", "heix", "mif1"}

# Before 18, PyAV crashes on options for streams that show only after some packets. Without them a
# header that lies is found a little later: after FFmpeg's own first look, before any frame of ours.
BOUNDED_LOOK = BOUNDED if int(av.__version__.partition(".")[0]) >= 18 else {}

# What PyAV raises of files that are broken.
FAILURES = (FFmpegError, OSError, ValueError, EOFError)


@dataclass(frozen=True, kw_only=True)
class SourceInfo:
    """What is known of a clip before it is read."""

    path: Path
    size: Size  # of a frame as shown, in stored pixels: after rotation, before `aspect`
    time_base: Fraction  # seconds a tick
    rate: Fraction  # frames a second on average, for encoders that want one
    frames: int | None  # as the container claims
    duration: Fraction | None  # seconds, as the container claims
    aspect: Fraction  # width of a pixel over its height, after rotation
    rotation: int  # 0, 90, 180, 270 clockwise, already applied to frames
    depth: int  # bits a channel
    color: Color
    audio: int  # streams of it


@dataclass(frozen=True, kw_only=True)
class Probe:
    """All that reading needs: what anyone may know of a clip, and how its pictures are stored."""

    info: SourceInfo
    stored: Size
    orientation: Orientation
    color: Color  # settled
    end: Fraction | None  # seconds, where the header says when the pictures end


@contextmanager
def opened(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The container and its video stream, closed in the end."""
    try:
        container = av.open(
            f"file:{path}",
            options=BOUNDED_LOOK,
            container_options=PLAIN_FILE,
            metadata_errors="replace",
        )
    except FAILURES as error:
        raise ClipError(
            f"{path} is not a video that can be read, or its beginning is damaged: {error}. "
            f"Try to play it, or convert it: ffmpeg -i IN OUT.mp4."
        ) from error
    try:
        yield container, _video_of(container, path)
    finally:
        container.close()


def _video_of(container: InputContainer, path: Path) -> VideoStream:
    """The first video stream that is not a cover picture, ready to decode and of a sane size."""
    videos = [
        stream
        for stream in container.streams.video
        if not stream.disposition & Disposition.attached_pic
    ]
    if not videos:
        kinds = " and ".join(sorted({stream.type for stream in container.streams}))
        raise ClipError(
            f"{path} has no video, only {kinds or 'a damaged beginning'}. Give a file that holds "
            f"pictures, or copy it again from where it came."
        )
    if container.metadata.get("major_brand", "").strip() in STILL_BRANDS:
        raise ClipError(f"{path} is an image, not a clip. Use it as a style with --reference.")
    stream = videos[0]
    context = stream.codec_context
    if context is None:
        raise ClipError(
            f"{path} is coded in a way that this FFmpeg has no decoder for. Convert it: "
            f"ffmpeg -i IN -c:v libx264 OUT.mp4."
        )
    size = Size(context.height, context.width)
    if max(size) > LARGEST_SIDE or size.area > LARGEST_AREA:
        raise ClipError(
            f"{path} claims frames of {size}; up to {LARGEST_AREA // 10**6} million pixels are "
            f"read, and {LARGEST_SIDE} a side. If that is true, scale it down first: "
            f"ffmpeg -i IN -vf scale=3840:-2 OUT.mp4."
        )
    context.options = dict(BOUNDED)
    # Threads over frames would take good frames along when a packet is broken.
    context.thread_type = "SLICE"
    return stream


def probe(
    container: InputContainer, stream: VideoStream, first: av.VideoFrame, path: Path
) -> Probe:
    """What the container says, and what its first frame shows."""
    context = stream.codec_context
    stored, orientation = Size(first.height, first.width), Orientation.of(first)
    color = Color(
        range=int(context.color_range),
        matrix=int(context.colorspace),
        primaries=int(context.color_primaries),
        transfer=int(context.color_trc),
    )
    settled = color.settled(stored)
    if settled.matrix not in LUMA and not first.format.is_rgb:
        raise ClipError(
            f"{path} stores its colors by matrix {settled.matrix}, which RTR does not know. "
            f"Convert it first: ffmpeg -i IN -vf scale=out_color_matrix=bt709 OUT.mp4."
        )
    aspect = stream.sample_aspect_ratio or Fraction(1)
    info = SourceInfo(
        path=path,
        size=orientation.shown(stored),
        time_base=stream.time_base or Fraction(1, av.time_base),
        rate=stream.average_rate or stream.guessed_rate or stream.base_rate or USUAL_RATE,
        frames=stream.frames or None,
        duration=_duration_of(stream) or _duration_of(container),
        aspect=1 / aspect if orientation.transposed else aspect,
        rotation=orientation.rotation,
        depth=depth_of(first.format),
        color=color,
        audio=len(container.streams.audio),
    )
    return Probe(
        info=info,
        stored=stored,
        orientation=orientation,
        color=settled,
        end=_end_of(container, stream),
    )


def _end_of(container: InputContainer, stream: VideoStream) -> Fraction | None:
    """When the pictures end, where a file that was cut off would not be noticed otherwise."""
    if container.format.name not in COUNTS_FROM_ZERO:
        return None
    is_alone = len(container.streams) == 1
    return _duration_of(stream) or (_duration_of(container) if is_alone else None)


def _duration_of(part: InputContainer | VideoStream) -> Fraction | None:
    """Seconds, from the header or from the tag that Matroska has instead."""
    if isinstance(part, InputContainer):
        return Fraction(part.duration, av.time_base) if part.duration else None
    if part.duration and part.time_base:
        return part.duration * part.time_base
    tag = re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", part.metadata.get("DURATION", ""))
    if tag is None:
        return None
    hours, minutes, seconds = (Fraction(number) for number in tag.groups())
    return (hours * 60 + minutes) * 60 + seconds
