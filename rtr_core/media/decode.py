"""From packets to whole frames in order of presentation, up to the first that is broken."""

from collections import deque
from collections.abc import Iterator
from heapq import heappop, heappush

import av
from av.container import InputContainer
from av.video.frame import PictureType
from av.video.stream import VideoStream

from .probe import FAILURES

ONE_FRAME_A_PACKET = {"h264", "hevc", "vp9", "av1", "libdav1d", "prores", "ffv1", "mjpeg", "dnxhd"}
BROADCASTS = {"mpegts", "mpeg", "mpegvideo", "h264", "hevc"}
HELD_BACK = 8  # frames, at most, that wait for one they may be predicted from


class Broken(Exception):
    """Nothing after the last frame given can be trusted."""


class Decoding:
    """`for frame in Decoding(container, stream)`: whole frames, then the end or `Broken`.

    A recording of a broadcast may begin amid a group of pictures: what cannot be decoded before
    its first key frame is passed over. From there on, and in other files, every packet counts.
    A decoder that finds nothing wrong is believed: codecs without checksums can hide a lot. So
    where a broadcast `is_cut` off, and its last packet may be a part of one, that one is missing.
    """

    def __init__(self, container: InputContainer, stream: VideoStream, is_cut: bool = False):
        self.container, self.stream, self.is_cut = container, stream, is_cut
        self.lost = 0  # packets that count, before the first whole frame
        self._is_one_to_one = stream.codec_context.name in ONE_FRAME_A_PACKET
        self._newest = -(2**63)  # dts
        self._due: list[int] = []  # times of packets whose frames have not come yet
        self._is_broadcast = container.format.name in BROADCASTS
        self._is_counting = not self._is_broadcast
        self._has_begun = False

    def __iter__(self) -> Iterator[av.VideoFrame]:
        """Frames, except that those predicted from both sides wait for the next that is not.

        It is decoded before them, and where it proves broken, so are they.
        """
        held: deque[av.VideoFrame] = deque()
        for frame in self._whole():
            held.append(frame)
            if frame.pict_type != PictureType.B:
                yield from held
                held.clear()
            elif len(held) > HELD_BACK:
                yield held.popleft()
        yield from held

    def _whole(self) -> Iterator[av.VideoFrame]:
        packets = self.container.demux(self.stream)
        if self._is_broadcast and self.is_cut:
            packets = self._but_for_the_last(packets)
        while True:
            packet = None
            try:
                packet = next(packets, None)
                if packet is None:
                    return
                frames = self._decoded(packet)
            except FAILURES as error:
                if self._has_begun:
                    yield from self._left(packet)
                    raise Broken(str(error)) from error
                self.lost += self._is_counting
                continue
            yield from filter(self._is_whole, frames)

    def _but_for_the_last(self, packets: Iterator[av.Packet]) -> Iterator[av.Packet]:
        held: av.Packet | None = None
        for packet in packets:
            if held is not None:
                if packet.size:
                    yield held
                else:  # the end: frames that are shown after it are not to be trusted either
                    self._expect(held)
            held = packet if packet.size else None
            if not packet.size:
                yield packet

    def _decoded(self, packet: av.Packet) -> list[av.VideoFrame]:
        self._is_counting = self._is_counting or packet.is_keyframe
        if packet.is_corrupt and not self._is_broadcast:  # where it may be a doubt, no more
            raise ValueError("a part of the file is missing")
        frames = self.stream.codec_context.decode(packet)
        self._expect(packet)
        return frames

    def _expect(self, packet: av.Packet) -> None:
        """A frame at the packet's time, unless times leap back, as where recordings are joined."""
        if packet.dts is not None:
            if packet.dts < self._newest:
                self._is_one_to_one = False
            self._newest = packet.dts
        is_awaited = self._is_counting and self._is_one_to_one and not packet.is_discard
        if is_awaited and packet.pts is not None:
            heappush(self._due, packet.pts)

    def _is_whole(self, frame: av.VideoFrame) -> bool:
        """False for what is broken before the first whole frame; Broken after it."""
        missing = self._missing_before(frame)
        if self._has_begun and (missing or frame.is_corrupt):
            raise Broken("a picture is missing" if missing else "parts of the picture are missing")
        self.lost += missing + (frame.is_corrupt and self._is_counting)
        self._has_begun = self._has_begun or not frame.is_corrupt
        return not frame.is_corrupt

    def _missing_before(self, frame: av.VideoFrame) -> int:
        """How many packets should have become frames before this one, and have not."""
        if frame.pts is None or not self._is_one_to_one:
            return 0
        missing = 0
        while self._due and self._due[0] <= frame.pts:
            missing += heappop(self._due) < frame.pts
        return missing

    def _left(self, broken: av.Packet | None) -> Iterator[av.VideoFrame]:
        """Whole frames still inside the decoder that are shown before the broken one."""
        until = None if broken is None else broken.pts
        try:
            frames = self.stream.codec_context.decode(None)
        except FAILURES:
            return
        for frame in frames:
            is_late = until is not None and frame.pts is not None and frame.pts >= until
            if frame.is_corrupt or is_late:
                return
            yield frame
