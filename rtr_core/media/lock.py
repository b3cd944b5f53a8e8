"""One process at a time in a job's folder. The system lets go of the lock with its process."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from ..errors import ClipError

NAME = "lock"

if os.name == "nt":
    import msvcrt

    def _take(file: IO[bytes]) -> None:
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]

else:
    import fcntl

    def _take(file: IO[bytes]) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


class Occupied(ClipError):
    """Another process holds the folder."""


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold the folder, refused where another process does."""
    with (folder / NAME).open("ab") as file:
        try:
            _take(file)
        except OSError as error:
            raise Occupied(
                f"Another process is at work in {folder}. Wait for it, or choose another OUT."
            ) from error
        yield
