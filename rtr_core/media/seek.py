"""Where decoding may begin so that a certain frame is met, found from packets alone.

Only where a packet is a frame and says when it is shown; elsewhere the answer is None, and a clip
is decoded from its beginning.
"""

from pathlib import Path
from typing import NamedTuple

from av.container import InputContainer
from av.video.stream import VideoStream

from .decode import ONE_FRAME_A_PACKET, Broken, Decoding
from .probe import FAILURES, opened

INDEXED = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"}  # containers that seek to the tick
REORDERED = 64  # packets, at most, between a frame's turn to be decoded and to be shown


class Entry(NamedTuple):
    """A key frame, and the frame that is wanted, by their times."""

    key: int
    wanted: int


def find_entry(path: Path, first: int) -> Entry | None:
    """The last key frame from which frame `first` of the clip can be decoded; tried out."""
    try:
        with opened(path) as (container, stream):
            entry = _entry(container, stream, first)
        if entry is None:
            return None
        with opened(path) as (container, stream):
            container.seek(entry.key, stream=stream)
            is_shown = False  # the key picture; one that is refreshed bit by bit never is
            for frame in Decoding(container, stream):
                if frame.pts is None or (frame.pts > entry.key and not is_shown):
                    return None
                is_shown = frame.pts >= entry.key
                if frame.pts >= entry.wanted:
                    return entry if frame.pts == entry.wanted else None
    except (Broken, *FAILURES):
        pass  # what is broken is told when it is read
    return None


def _entry(container: InputContainer, stream: VideoStream, first: int) -> Entry | None:
    if stream.codec_context.name not in ONE_FRAME_A_PACKET or container.format.name not in INDEXED:
        return None
    times: list[int] = []
    keys: list[int] = []
    for packet in container.demux(stream):
        if packet.size == 0 or packet.is_discard:
            continue
        if packet.pts is None or packet.is_corrupt:
            return None
        times.append(packet.pts)
        if packet.is_keyframe:
            keys.append(packet.pts)
        if len(times) > first + REORDERED:
            break
    shown = sorted(times)
    if len(shown) <= first or len(set(shown)) < len(shown):
        return None
    wanted = shown[first]
    before = [key for key in keys if key <= wanted]
    return Entry(max(before), wanted) if before and max(before) > shown[0] else None
