"""Segments put together into the final file, with all that the source holds beside its pictures.

Nothing is encoded again. Packets of the segments follow on, packets of the source's other streams
are merged in by time, one at a time, so that memory stays flat for a clip of any length.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from heapq import merge
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import av
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from ..errors import ClipError
from .codecs import format_of
from .probe import FAILURES, PLAIN_FILE
from .target import failures_named, written_container

APPLE = ("mp4", "mov")
MILLISECOND = Fraction(1, 1000)
FINE_TIMESCALE = 10_000  # ticks a second at least, as FFmpeg takes for its tracks
DISCARD_ALL = 48  # FFmpeg's word at a stream that no one shall read, which older PyAV does not tell
OF_PICTURES = ("language", "title")
# What a container says of itself, which is not true of another.
OF_THE_CONTAINER = {"major_brand", "minor_version", "compatible_brands", "encoder", "duration"}


class Stretch(NamedTuple):
    """Frames that follow on in one file; the first of them is a key frame."""

    path: Path
    skip: int = 0  # frames in the file before them
    frames: int | None = None  # None: to its end


def assemble(
    segments: Sequence[Stretch], source: Path, out: Path, *, until: Fraction | None = None
) -> list[str]:
    """Write `out`: the segments' video, and the source's audio, subtitles, chapters and tags.

    Packets and times stay as they are, those of the other streams up to `until` seconds. Matroska
    and WebM round times to milliseconds, and know none below zero: where audio begins before the
    pictures, as AAC does, everything is shown that much later. Returns notes on what was left
    behind.
    """
    if not segments:
        raise ClipError(f"{out} has no segment to be made of.")
    form = format_of(out)
    with opened(segments[0].path) as first, opened(source) as origin:
        template = first.streams.video[0]
        options = _options(form, template.time_base or MILLISECOND)
        with written_container(out, form, options) as target:
            with failures_named(out):
                video = _added(target, template, form)
                _describe(target, origin, video)
                others, notes = _add_other_streams(target, origin, out)
                notes += _lost_aspect(template, out)
                target.start_encoding()
            packets = merge(
                ((packet, video) for packet in _video_packets(segments, template)),
                _other_packets(origin, others, until, notes),
                key=lambda pair: _ticks(pair[0]) * (pair[0].time_base or 0),
            )
            for packet, stream in packets:
                packet.stream = stream
                with failures_named(out):
                    target.mux(packet)
    return notes


def check_audio(source: Path, out: Path) -> None:
    """Refuse, before any work is done, an output that cannot hold the source's audio as it is."""
    with opened(source) as origin:
        count = len(origin.streams.audio)
    for index in range(count):
        with opened(source) as origin:
            stream = origin.streams.audio[index]
            if not _fits(stream, format_of(out), origin):
                raise _unfit_audio(stream, out)


def key_frames(path: Path) -> list[int]:
    """Frames of a segment that can be decoded without those before them, by number."""
    with opened(path) as segment:
        packets = (packet for packet in segment.demux(video=0) if packet.size)
        return [n for n, packet in enumerate(packets) if packet.is_keyframe]


@contextmanager
def opened(path: Path) -> Iterator[InputContainer]:
    """A file to take packets from; what cannot be opened is named."""
    try:
        container = av.open(f"file:{path}", container_options=PLAIN_FILE, metadata_errors="replace")
    except FAILURES as error:
        raise ClipError(f"{path} cannot be read: {error}.") from error
    with container:
        yield container


def _options(form: str, time_base: Fraction) -> dict[str, str]:
    """The same bytes every time, times exact where the container can, playable while it loads.

    The + keeps the flag by which FFmpeg repacks sound, as that of broadcasts must be for an MP4.
    """
    if form not in APPLE:
        return {"fflags": "+bitexact", "default_mode": "passthrough"}
    scale = time_base.denominator
    while scale < FINE_TIMESCALE:
        scale *= 2
    return {"fflags": "+bitexact", "movflags": "faststart", "movie_timescale": str(scale)}


def _added(target: OutputContainer, template: Stream, form: str) -> Any:
    """A stream of the same codec, language and role, to copy packets into."""
    stream = target.add_stream_from_template(template, opaque=True)
    stream.metadata.update(_true_elsewhere(template.metadata))
    role: Any = template.disposition.value  # PyAV's stubs want a Disposition, PyAV 14 a number
    stream.disposition = role
    if isinstance(stream, VideoStream) and isinstance(template, VideoStream):
        stream.codec_context.sample_aspect_ratio = template.sample_aspect_ratio or Fraction(1)
        if form in APPLE:
            stream.codec_context.codec_tag = template.codec_context.codec_tag
    return stream


def _describe(target: OutputContainer, origin: InputContainer, video: VideoStream) -> None:
    """Tags and chapters of the file, and what the source says of its pictures."""
    target.metadata.update(_true_elsewhere(origin.metadata))
    if hasattr(origin, "chapters"):  # PyAV knows chapters since 15
        target.set_chapters(origin.chapters())
    if (pictures := _pictures_of(origin)) is not None:
        kept = {key: pictures.metadata[key] for key in OF_PICTURES if key in pictures.metadata}
        video.metadata.update(kept)


def _pictures_of(origin: InputContainer) -> VideoStream | None:
    """The stream that was styled: the first that is not a cover."""
    covers = Disposition.attached_pic
    return next((s for s in origin.streams.video if not s.disposition & covers), None)


def _add_other_streams(
    target: OutputContainer, origin: InputContainer, out: Path
) -> tuple[dict[int, Stream], list[str]]:
    """Streams to copy into, by index in the source, and a note on each that is left behind."""
    form, others, notes = format_of(out), {}, []
    for stream in origin.streams:
        if stream.type in ("audio", "subtitle") and _fits(stream, form):
            others[stream.index] = _added(target, stream, form)
        elif stream.type == "audio":
            raise _unfit_audio(stream, out)
        elif stream is not _pictures_of(origin) and not _is_of_chapters(stream):
            notes.append(f"stream {stream.index} of the source ({stream.type}) was left behind")
    return others, notes


def _is_of_chapters(stream: Stream) -> bool:
    """Whether it is a QuickTime file's list of chapters, which are copied as chapters."""
    return stream.type == "data" and getattr(stream, "discard", None) == DISCARD_ALL


def _lost_aspect(template: VideoStream, out: Path) -> list[str]:
    """PyAV cannot tell Matroska the shape of a pixel; H.264 and HEVC say it themselves."""
    aspect, codec = template.sample_aspect_ratio or 1, template.codec_context.name
    if aspect == 1 or format_of(out) in APPLE or codec in ("h264", "hevc"):
        return []
    return [f"{out.suffix} forgets that the pixels are {aspect}: write .mp4 or .mov to keep it"]


def _fits(stream: Stream, form: str, origin: InputContainer | None = None) -> bool:
    """Whether such a container holds such a stream: it is asked to write a header for it.

    And, where the file that it is in may be read, a first packet.
    """
    try:
        with av.open(BytesIO(), "w", format=form) as trial:
            copied = trial.add_stream_from_template(stream, opaque=True)
            trial.start_encoding()
            packets = origin.demux(stream) if origin else ()
            if (first := next((packet for packet in packets if packet.size), None)) is not None:
                first.stream = copied
                trial.mux(first)
    except FAILURES:
        return False
    return True


def _unfit_audio(stream: Stream, out: Path) -> ClipError:
    return ClipError(
        f"A {out.suffix} file cannot hold the source's {stream.codec_context.name} audio (stream "
        f"{stream.index}), and audio is copied, never encoded again. Name the output .mkv or .mov."
    )


def _video_packets(segments: Sequence[Stretch], template: VideoStream) -> Iterator[Packet]:
    """All packets of all segments; each lasts until the next, the last as long as it was given.

    Not every demuxer tells the last one's duration; then it is as long as the one before.
    """
    waiting: Packet | None = None
    gap = 0
    for packet in _rising_packets(segments, template):
        if waiting is not None:
            waiting.duration = gap = _ticks(packet) - _ticks(waiting)
            yield waiting
        waiting = packet
    if waiting is not None:
        waiting.duration = waiting.duration or gap
        yield waiting


def _rising_packets(segments: Sequence[Stretch], template: VideoStream) -> Iterator[Packet]:
    """Packets as they are in the files, which were encoded alike and follow on in time."""
    last: int | None = None
    for path, skip, frames in segments:
        end = None if frames is None else skip + frames
        for packet in islice(_segment_packets(path, template), skip, end):
            if last is not None and _ticks(packet) <= last:
                raise ClipError(
                    f"{path} begins before the segment in front of it ends: segments are given "
                    f"in the order of time."
                )
            last = _ticks(packet)
            yield packet


def _ticks(packet: Packet) -> int:
    """Its place in time, in its time base: pictures are stored in the order they are shown in."""
    assert packet.dts is not None
    return packet.dts


def _segment_packets(path: Path, template: VideoStream) -> Iterator[Packet]:
    """Packets of one segment, if it was encoded as the template was."""
    with opened(path) as segment:
        stream = segment.streams.video[0]
        if _kind(stream) != _kind(template):
            raise ClipError(
                f"{path} was encoded in another way than the segments before it, so one file "
                f"cannot hold both. Delete it to have it made again."
            )
        try:
            yield from (packet for packet in segment.demux(stream) if packet.size)
        except FAILURES as error:
            raise ClipError(
                f"{path} is damaged: {error}. Delete it to have it made again."
            ) from error


def _kind(stream: VideoStream) -> tuple:
    """All that a decoder is told before the first packet."""
    context = stream.codec_context
    shape = context.name, context.width, context.height, context.pix_fmt
    return *shape, context.sample_aspect_ratio, stream.time_base, context.extradata


def _other_packets(
    origin: InputContainer, others: dict[int, Stream], until: Fraction | None, notes: list[str]
) -> Iterator[tuple[Packet, Stream]]:
    """Packets of the source's other streams in the order of its file, as far as it can be read."""
    last: dict[int, int] = {}
    if not others:
        return
    try:
        for packet in origin.demux([origin.streams[index] for index in others]):
            if packet.size == 0:
                continue
            index, time = packet.stream_index, packet.pts if packet.dts is None else packet.dts
            if time is None or time <= last.get(index, time - 1):
                notes.append(f"a packet of stream {index} without a place in time was left out")
                continue
            if until is not None and time * packet.time_base >= until:
                continue
            last[index] = packet.dts = time
            yield packet, others[index]
    except FAILURES as error:
        notes.append(f"audio and subtitles end where the source is damaged: {error}")


def _true_elsewhere(metadata: dict[str, str]) -> dict[str, str]:
    return {key: text for key, text in metadata.items() if key.lower() not in OF_THE_CONTAINER}
