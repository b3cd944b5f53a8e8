"""The result so far, in one file that plays at any moment.

Written byte by byte: a container library keeps a fragment back until it knows the next one, and
what it keeps back is lost with its process.
"""

from collections.abc import Sequence
from pathlib import Path
from shutil import copyfileobj
from typing import BinaryIO

from ..errors import ClipError
from .target import failures_named

BOX_HEAD = 8  # bytes of length and name, in front of each box of a QuickTime file


class Partial:
    """The result so far, in one file that plays at any moment, whatever happens to its writer.

    Segments are fragmented, and a fragment stands for itself; so the file grows by whole fragments
    behind the first segment's header, and each is in the system's hands before `append` returns.
    It has no sound, and its name should end in .mp4 or .mov whatever the final file will be.
    """

    def __init__(self, path: Path, finished: Sequence[Path] = ()):
        self.path = path
        self.remove()
        for segment in finished:
            self.append(segment)

    def append(self, segment: Path) -> None:
        """Add a finished segment, or nothing of it if it cannot be written."""
        with failures_named(self.path), self.path.open("ab") as file, segment.open("rb") as piece:
            before = file.tell()
            if before > 0:
                piece.seek(_first_fragment(piece, segment))
            try:
                copyfileobj(piece, file)
                file.flush()
            except OSError:
                file.truncate(before)
                raise

    def remove(self) -> None:
        with failures_named(self.path):
            self.path.unlink(missing_ok=True)


def _first_fragment(piece: BinaryIO, segment: Path) -> int:
    """Where the first moof box begins, behind the boxes that make the header."""
    at = 0
    while len(head := piece.read(BOX_HEAD)) == BOX_HEAD:
        if head[4:] == b"moof":
            return at
        at += int.from_bytes(head[:4], "big")
        piece.seek(at)
    raise ClipError(
        f"{segment} is no segment: it has no fragment. Delete it to have it made again."
    )
