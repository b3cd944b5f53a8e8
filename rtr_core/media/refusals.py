"""What is not a clip, told from its name and first bytes before any decoder sees it."""

import os
import re
import struct
import warnings
from contextlib import suppress
from pathlib import Path

from PIL import Image

from ..errors import ClipError

ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:", re.I)  # two letters at least: C: is a drive
PLAYLIST_STARTS = (b"#EXTM3U", b"ffconcat", b"v=0", b"[playlist]", b"<?xml", b"<MPD", b"<smil")
PLAYLIST_SUFFIXES = {".m3u", ".m3u8", ".ffconcat", ".concat", ".sdp", ".pls", ".mpd", ".asx"}
IMAGES = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
MOVING_IMAGES = {"PNG", "GIF"}  # which FFmpeg can play
BROKEN_IMAGE = (OSError, ValueError, SyntaxError, IndexError, TypeError, struct.error)


def existing_file(path: str | os.PathLike) -> Path:
    """The absolute path of a file on disk that has something in it, or a ClipError."""
    given, found = os.fspath(path), Path(path)
    try:
        if found.is_file():
            if found.stat().st_size == 0:
                raise ClipError(f"{given} is empty. If it is still being copied, wait for it.")
            return found.absolute()
        exists, is_folder = found.exists(), found.is_dir()
    except (OSError, ValueError) as error:
        raise ClipError(f"{given!r} cannot be looked at: {error}. Check the path.") from error
    if is_folder:
        raise ClipError(f"{given} is a folder. Name one video file in it.")
    if exists:
        raise ClipError(f"{given} is a device or a pipe, not a file. Record it to a file first.")
    if ADDRESS.match(given):
        raise ClipError(
            f"{given} is an address. Clips are read from disk only: download it, and give its path."
        )
    raise ClipError(f"There is no file {given}. Check the path.")


def possible_clip(path: str | os.PathLike) -> Path:
    """An existing file that is neither a playlist nor a still image."""
    found = existing_file(path)
    try:
        with found.open("rb") as file:
            start = file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()
    except OSError as error:
        raise ClipError(f"{found} cannot be read: {error}. Check who may read it.") from error
    if found.suffix.lower() in PLAYLIST_SUFFIXES or start.startswith(PLAYLIST_STARTS):
        raise ClipError(
            f"{found} is a playlist, which would open other files or addresses. Give the path of "
            f"the video itself."
        )
    if _is_still(found):
        raise ClipError(
            f"{found} is an image, not a clip. Use it as a style with --reference {found.name}."
        )
    return found


def _is_still(path: Path) -> bool:
    with suppress(*BROKEN_IMAGE), warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            with Image.open(path, formats=IMAGES) as image:
                moves = getattr(image, "is_animated", False)
                return not (image.format in MOVING_IMAGES and moves)
        except Image.DecompressionBombError:
            return True
    return False
