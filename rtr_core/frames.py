"""Pictures in and out: `[t h w 3]` as people hold them, `[1 3 t h w]` in -1..1 as models do.

Everything that can be wrong with a frame is found here, before any state has changed.
"""

import os
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.nn import functional as F

from .errors import NumericsError, ShapeError, StyleError
from .shapes import LARGEST_SIDE, Geometry, Size

SMALLEST_REFERENCE = 8  # pixels a side; less than that carries no style
BRIGHTEST = 1.5  # floats above this were never 0..1


def checked_frames(frames: Any, first: int = 0) -> Tensor:
    """`frames` as a tensor `[t h w 3]`, uint8 or float 0..1; `first` numbers them in errors."""
    frames = torch.from_numpy(frames) if isinstance(frames, np.ndarray) else frames
    if not isinstance(frames, Tensor):
        raise ShapeError(
            f"Frames come as a torch tensor or numpy array [frames, height, width, 3], "
            f"not {type(frames).__name__}."
        )
    if frames.ndim != 4 or frames.shape[-1] != 3:
        raise ShapeError(
            f"Frames must be [frames, height, width, 3]; these are {list(frames.shape)}. "
            f"Put one frame in a batch of its own, and drop an alpha channel."
        )
    if 0 in frames.shape:
        raise ShapeError(f"There is no frame in {list(frames.shape)}: push at least one.")
    if frames.dtype == torch.uint8:
        return frames
    if not frames.is_floating_point():
        raise ShapeError(f"Frames are uint8, or float 0..1; these are {frames.dtype}.")
    return _checked_values(frames, first)


def _checked_values(frames: Tensor, first: int) -> Tensor:
    finite = frames.isfinite().flatten(1).all(1)
    if not finite.all():
        frame = first + int((~finite).nonzero()[0])
        raise NumericsError(
            f"Frame {frame} holds NaN or infinity. Nothing was pushed: mend or leave out that "
            f"frame and push again."
        )
    low, high = (float(value) for value in frames.aminmax())
    if high > BRIGHTEST or low < 1 - BRIGHTEST:
        raise ShapeError(
            f"Float frames go from 0 to 1; from frame {first} on they go from {low:.3g} to "
            f"{high:.3g}. Push uint8 frames, or scale them."
        )
    return frames


def to_pixels(frames: Tensor, geometry: Geometry, like: Tensor) -> Tensor:
    """Checked frames as model pixels of the padded size, on the device and in the dtype of `like`.

    A frame of another size is resized; what is missing to a whole token repeats the border.
    """
    x = frames.to(like.device).permute(3, 0, 1, 2)[None].float()
    x = x / 255 if frames.dtype == torch.uint8 else x.clamp(0, 1)
    if x.shape[-2:] != geometry.size:
        x = _resize(x[0].transpose(0, 1), geometry.size).transpose(0, 1)[None]
    (height, width), padded = geometry.size, geometry.padded
    beyond = (0, padded.width - width, 0, padded.height - height, 0, 0)
    return (F.pad(x, beyond, mode="replicate") * 2 - 1).to(like.dtype)


def to_frames(pixels: Tensor, size: Size) -> Tensor:
    """Model pixels `[1 3 t h w]` as frames `[t h w 3]` in 0..1, the padding cut off."""
    pixels = pixels[0, :, :, : size.height, : size.width].float()
    return ((pixels + 1) / 2).clamp(0, 1).permute(1, 2, 3, 0).contiguous()


def picture(reference: Any) -> Tensor:
    """A still `[h w 3]` in 0..1 from a tensor, an array, a PIL image or a path."""
    if isinstance(reference, (str, os.PathLike)):
        reference = _open(reference)
    if isinstance(reference, Image.Image):
        reference = np.asarray(reference.convert("RGB")).copy()
    if isinstance(reference, np.ndarray):
        reference = torch.from_numpy(reference)
    if not isinstance(reference, Tensor):
        raise StyleError(
            f"A reference is an image: a path, a PIL image, an array or a tensor [h, w, 3], "
            f"not {type(reference).__name__}."
        )
    if reference.ndim == 4 and reference.shape[0] == 1:
        reference = reference[0]
    if reference.ndim != 3 or reference.shape[-1] != 3:
        raise StyleError(f"A reference is one image [h, w, 3]; this is {list(reference.shape)}.")
    size = Size(*reference.shape[:2])
    if min(size) < SMALLEST_REFERENCE or max(size) > LARGEST_SIDE:
        raise StyleError(
            f"A reference of {size} cannot carry a style: each side must be between "
            f"{SMALLEST_REFERENCE} and {LARGEST_SIDE}. Choose another image."
        )
    still = checked_frames(reference[None])[0]
    return still.float() / 255 if still.dtype == torch.uint8 else still.float().clamp(0, 1)


def covering(still: Tensor, size: Size) -> Tensor:
    """The still scaled to cover `size`, its middle cut out, so that nothing is stretched."""
    height, width = still.shape[:2]
    scale = max(size.height / height, size.width / width)
    inner = Size(max(1, round(size.height / scale)), max(1, round(size.width / scale)))
    top, left = (height - inner.height) // 2, (width - inner.width) // 2
    middle = still[top : top + inner.height, left : left + inner.width]
    return _resize(middle.permute(2, 0, 1)[None], size)[0].permute(1, 2, 0)


def _resize(x: Tensor, size: Size) -> Tensor:
    """`[n c h w]` at another size, without aliasing."""
    return F.interpolate(x, size=tuple(size), mode="bilinear", antialias=True).clamp(0, 1)


def _open(path: str | os.PathLike) -> Image.Image:
    try:
        return Image.open(path)
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise StyleError(f"Reference {os.fspath(path)!r} cannot be read: {error}.") from error
