"""Whether the end of a file is missing, by what the file says of its own length in bytes.

A demuxer takes a cut as the end in peace. But Matroska says how long it is, unless it was written
as a live stream; AVI, FLV and MPEG are chains of parts that each say how long they are, and a
broadcast is one of packets that are all as long. So a cut through any of them shows.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import BinaryIO

MATROSKA, SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"  # the elements of such a file
RIFF, RIFF_HEAD = b"RIFF", 8
FLV, FLV_BEGIN = b"FLV\x01", 13  # bytes in front of its parts
FLV_HEAD, FLV_KINDS, FLV_TAIL = 11, {8, 9, 18}, 4  # of a part: of sound, pictures, tags
START, PACK, END, FIRST_STREAM = b"\0\0\1", 0xBA, 0xB9, 0xBB  # codes of MPEG's parts
PACK_HEAD, OLD_PACK_HEAD, STREAM_HEAD, END_HEAD = 14, 12, 6, 4
SYNC, PACKET = b"\x47", 188  # the first byte of a broadcast's packets, and their length
STEPS = PACKET, PACKET + 4  # a camera puts a clock of 4 bytes in front of each
LOOKED_AT = 5  # packets that begin as they should make a broadcast


def missing_bytes(path: Path) -> int:
    """How many bytes the file lacks of what it says it has; 0 where it says nothing."""
    size = path.stat().st_size
    with path.open("rb") as file:
        return max(0, (_promised_end(file, size) or 0) - size)


def _promised_end(file: BinaryIO, size: int) -> int | None:
    """Where the file should end, at least; None where it does not say."""
    head = file.read(STEPS[-1] * (LOOKED_AT + 1))
    if head.startswith(MATROSKA):
        return _end_of_matroska(file)
    if head.startswith(RIFF):  # an AVI of gigabytes is several, one behind the other
        return _end_of_chain(partial(_riff, file), 0, size)
    if head.startswith(FLV):
        return _end_of_chain(partial(_flv_part, file), FLV_BEGIN, size)
    if head.startswith(START + bytes([PACK])):
        return _end_of_chain(partial(_mpeg_part, file), 0, size)
    return _end_of_broadcast(head, size)


def _end_of_chain(length_at: Callable[[int], int | None], at: int, size: int) -> int | None:
    """Where the last of the parts that follow on from `at` ends; None where one is no part."""
    while at < size:
        length = length_at(at)
        if length is None:
            return None
        at += length
    return at


def _riff(file: BinaryIO, at: int) -> int | None:
    head = _head(file, at, RIFF_HEAD)
    length = int.from_bytes(head[4:], "little")
    is_told = head.startswith(RIFF) and 0 < length < 0xFFFFFFFF  # else its writer was killed
    return RIFF_HEAD + length if is_told else None


def _flv_part(file: BinaryIO, at: int) -> int | None:
    head = _head(file, at, FLV_HEAD)
    is_part = head[0] & 0x1F in FLV_KINDS
    return FLV_HEAD + int.from_bytes(head[1:4], "big") + FLV_TAIL if is_part else None


def _mpeg_part(file: BinaryIO, at: int) -> int | None:
    head = _head(file, at, PACK_HEAD)
    if not head.startswith(START):
        return None
    if head[3] == PACK:
        return PACK_HEAD + (head[13] & 7) if head[4] >> 6 == 1 else OLD_PACK_HEAD
    if head[3] == END:
        return END_HEAD
    length = int.from_bytes(head[4:6], "big")
    return STREAM_HEAD + length if head[3] >= FIRST_STREAM and length else None


def _head(file: BinaryIO, at: int, length: int) -> bytes:
    """So many bytes from `at` on, zeros for those behind the end."""
    file.seek(at)
    return file.read(length).ljust(length, b"\0")


def _end_of_broadcast(head: bytes, size: int) -> int | None:
    """The end of a packet; a recording may begin amid one."""
    for step in STEPS:
        for first in range(step):
            syncs = head[first : first + step * LOOKED_AT : step]
            if syncs == SYNC * LOOKED_AT:
                behind = (size - first) % step
                return size if behind in (0, PACKET) else size - behind + PACKET
    return None


def _end_of_matroska(file: BinaryIO) -> int | None:
    file.seek(len(MATROSKA))
    file.seek(_number(file) or 0, 1)
    if file.read(len(SEGMENT)) != SEGMENT or (length := _number(file)) is None:
        return None
    return file.tell() + length


def _number(file: BinaryIO) -> int | None:
    """A number of Matroska: the zeros it begins with tell its length; all ones, that it is unknown.

    None as well where the file has ended.
    """
    first = file.read(1)
    length = 9 - first[0].bit_length() if first and first[0] else 0
    rest = file.read(length - 1) if length else b""
    if len(rest) != length - 1:
        return None
    mask = (1 << 7 * length) - 1
    value = int.from_bytes(first + rest, "big") & mask
    return None if value == mask else value
