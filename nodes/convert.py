"""Between the host's values and the core's; nothing else converts."""

import re
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any
from uuid import uuid4

import folder_paths
import torch
from comfy_api.latest import InputImpl
from torch import Tensor

from ..rtr_core import SessionError, ShapeError, StyleError
from ..rtr_core.cues import CueSheet
from ..rtr_core.mask import Mask
from ..rtr_core.style import Style
from ..rtr_core.timeline import Timeline

FINEST_RATE = 1001  # 30000/1001 is what people round to 29.97
NOT_IN_NAMES = re.compile(r"[\\/:*?\"<>|\x00-\x1f]|^\.|^\s|\s$")


def to_frames(images: Tensor) -> Tensor:
    """IMAGE `[t h w c]` as frames, an alpha channel dropped."""
    if images is None or images.ndim != 4 or 0 in images.shape:
        came = None if images is None else list(images.shape)
        raise ShapeError(
            f"There is no frame in these images ({came}): wire frames of at least one pixel."
        )
    return images[..., :3]


def to_images(frames: list[Tensor]) -> Tensor:
    """Styled frames as one IMAGE. They are taken off the list one by one, so that a long clip is
    never in memory twice."""
    images = torch.empty(sum(map(len, frames)), *frames[0].shape[1:])
    done = 0
    while frames:
        part = frames.pop(0)
        images[done : done + len(part)] = part
        done += len(part)
    return images


def to_rate(fps: float) -> Fraction:
    return Fraction(fps).limit_denominator(FINEST_RATE)


def to_mask(mask: Tensor | None) -> Mask | None:
    return None if mask is None else Mask(mask)


def to_size(width: int, height: int) -> tuple[int, int] | None:
    """(height, width), None where both are 0: the source's."""
    if not width and not height:
        return None
    if not width or not height:
        raise ShapeError(f"Give width and height, or 0 for both; not {width}x{height}.")
    return height, width


def to_style(
    *,
    prompt: str,
    strength: float,
    clip: Any,
    conditioning: Any = None,
    reference: Any = None,
    avoid: str = "",
) -> Style:
    """What the artist wired as a style. Conditioning comes before a prompt."""
    rows = None
    if conditioning is not None:
        rows = _rows(conditioning)
    elif clip is not None and prompt.strip():
        rows = encoded(clip, prompt)
    still = None if reference is None else to_frames(reference)[:1]
    return Style(
        prompt=prompt.strip() or None,
        reference=still,
        strength=strength,
        embedding=rows,
        avoid=avoid,
    )


def to_timeline(sheet: str, images: dict[str, Tensor], clip: Any) -> Timeline:
    """A cue sheet; its references are wired images by name, or files of the input folder."""
    cues = CueSheet.parse(sheet, "cue sheet")
    stills = {name: to_frames(image)[:1] for name, image in images.items() if image is not None}
    styles = cues.styles(folder_paths.get_input_directory(), stills)
    if clip is not None:
        styles = {
            cue: replace(style, embedding=encoded(clip, style.prompt or ""))
            for cue, style in styles.items()
        }
    return Timeline(sheet=cues, styles=styles)


def encoded(clip: Any, prompt: str) -> Tensor:
    """A prompt read by the host's text encoder."""
    return _rows(clip.encode_from_tokens_scheduled(clip.tokenize(prompt)))


def to_path(video: Any) -> Path:
    """A file of a VIDEO's frames: its own, or one written for it where it has none or is edited."""
    is_whole = isinstance(video, InputImpl.VideoFromFile) and not _is_edited(video)
    source = video.get_stream_source() if is_whole else None
    if isinstance(source, str):
        if not Path(source).is_file():
            raise ShapeError(f"The video {source} is not there any more: load it again.")
        return Path(source)
    folder = Path(folder_paths.get_temp_directory())
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"rtr_source_{uuid4().hex}.mp4"
    if source is None:
        video.save_to(str(path))
    else:
        path.write_bytes(source.getbuffer())
    return path


def to_folder(folder: str) -> Path:
    """A folder as artists name it: whole, or inside the host's input folder."""
    path = Path(folder).expanduser()
    path = path if path.is_absolute() else Path(folder_paths.get_input_directory()) / folder
    if not folder.strip() or not path.is_dir():
        raise ShapeError(f"There is no folder {path}: name one, whole or inside the input folder.")
    return path


def session_name(name: str) -> str:
    """A name as it is, refused where no file could be called so."""
    if NOT_IN_NAMES.search(name):
        raise SessionError(
            f"A session is saved under its name, so it has no slashes, colons, quotes or other "
            f"such signs; not {name!r}. Use letters, digits, - and _."
        )
    return name


def _rows(conditioning: Any) -> Tensor:
    if len(conditioning) != 1:
        raise StyleError(
            f"A style is one conditioning, and this holds {len(conditioning)}: wire one text "
            f"encode node, and RTR Cue Sheet where the style is to change over time."
        )
    return conditioning[0][0]


def _is_edited(video: Any) -> bool:
    """Newer hosts trim and crop a video without writing it: its stream is still the whole."""
    window = getattr(video, "get_active_trim_window", None)
    pending = getattr(video, "has_pending_frame_edits", None)
    return bool(window and any(window())) or bool(pending and pending())
