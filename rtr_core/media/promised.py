"""Whether the end of a file is missing, where its beginning says how long it is in bytes.

Matroska does, unless it was written as a live stream: a demuxer takes a cut as the end in peace.
"""

from pathlib import Path
from typing import BinaryIO

HEADER, SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"  # the elements of a Matroska file


def missing_bytes(path: Path) -> int:
    """How many bytes the file lacks of what it says it has; 0 where it says nothing."""
    with path.open("rb") as file:
        if file.read(len(HEADER)) != HEADER:
            return 0
        file.seek(_number(file) or 0, 1)
        if file.read(len(SEGMENT)) != SEGMENT or (size := _number(file)) is None:
            return 0
        return max(0, file.tell() + size - path.stat().st_size)


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
