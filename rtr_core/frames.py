"""Pictures in and out: `[t h w 3]` as people hold them, `[1 3 t h w]` in -1..1 as models do.

Everything that can be wrong with a frame is found here, before any state has changed.
"""

import os
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from .errors import NumericsError, ShapeError, StyleError
from .shapes import LARGEST_SIDE, Geometry, Size

SMALLEST_REFERENCE = 8  # pixels a side; less than that carries no style
BRIGHTEST = 1.5  # floats above this were never 0..1


def checked_frames(frames: Any, first: int = 0) -> Tensor:
    """`frames` as a tensor `[t h w 3]`, uint8 or float 0..1; `first` numbers them in errors."""
    frames = as_tensor(frames)
    if frames.ndim != 4 or frames.shape[-1] != 3:
        raise ShapeError(
            f"Frames must be [frames, height, width, 3]; these are {list(frames.shape)}. "
            f"Put one frame in a batch of its own, and drop an alpha channel."
        )
    if 0 in frames.shape:
        raise ShapeError(f"There is no frame in {list(frames.shape)}: push at least one.")
    if frames.dtype == torch.uint8:
        return frames
    finite = frames.isfinite().flatten(1).all(1)
    if not finite.all():
        frame = first + int((~finite).nonzero()[0])
        raise NumericsError(
            f"Frame {frame} holds NaN or infinity. Nothing was pushed: mend or leave out that "
            f"frame and push again."
        )
    _check_range(frames, f"from frame {first} on")
    return frames


def as_tensor(values: Any) -> Tensor:
    """A tensor or numpy array of uint8 or floats, as a tensor that nothing else writes to."""
    if isinstance(values, np.ndarray) and values.dtype.kind in "fu":
        native = values.astype(values.dtype.newbyteorder("="), copy=not values.flags.writeable)
        values = torch.from_numpy(np.ascontiguousarray(native))
    if not isinstance(values, Tensor):
        kind = f"an array of {values.dtype}" if isinstance(values, np.ndarray) else type(values)
        raise ShapeError(
            f"Frames come as a torch tensor or numpy array [frames, height, width, 3] of uint8 or "
            f"floats, not {getattr(kind, '__name__', kind)}."
        )
    if values.dtype != torch.uint8 and not values.is_floating_point():
        raise ShapeError(f"Frames are uint8, or float 0..1; these are {values.dtype}.")
    return values.detach()


def _check_range(values: Tensor, where: str) -> None:
    low, high = (float(value) for value in values.aminmax())
    if high > BRIGHTEST or low < 1 - BRIGHTEST:
        raise ShapeError(
            f"Float pictures go from 0 to 1; {where} they go from {low:.3g} to {high:.3g}. Use "
            f"uint8, or scale them."
        )


def to_pixels(frames: Tensor, geometry: Geometry, like: Tensor) -> Tensor:
    """Checked frames as model pixels of the padded size, on the device and in the dtype of `like`.

    A frame of another size is resized; what is missing to a whole token repeats the border.
    """
    x = frames.to(like.device).contiguous().permute(3, 0, 1, 2)[None].float()
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
    """A still `[h w 3]` uint8 from a tensor, an array, a PIL image or a path."""
    if isinstance(reference, (str, os.PathLike)):
        reference = _read_picture(reference)
    elif isinstance(reference, Image.Image):
        reference = _pixels_of(reference)
    if not isinstance(reference, (Tensor, np.ndarray)):
        raise StyleError(
            f"A reference is an image: a path, a PIL image, an array or a tensor [h, w, 3], "
            f"not {type(reference).__name__}."
        )
    try:
        still = as_tensor(reference)
        still = still[0] if still.ndim == 4 and still.shape[0] == 1 else still
        if still.ndim != 3 or still.shape[-1] != 3:
            raise StyleError(f"A reference is one image [h, w, 3]; this is {list(still.shape)}.")
        _check_reference(still)
    except ShapeError as error:
        raise StyleError(f"The reference cannot be used: {error}") from error
    return still if still.dtype == torch.uint8 else (still.clamp(0, 1) * 255).round().byte()


def _check_reference(still: Tensor) -> None:
    size = Size(*still.shape[:2])
    if min(size) < SMALLEST_REFERENCE or max(size) > LARGEST_SIDE:
        raise StyleError(
            f"A reference of {size} cannot carry a style: each side must be between "
            f"{SMALLEST_REFERENCE} and {LARGEST_SIDE}. Choose another image."
        )
    if not still.isfinite().all():
        raise StyleError("The reference holds NaN or infinity. Choose another image.")
    if still.dtype != torch.uint8:
        _check_range(still, "in the reference")


def covering(still: Tensor, size: Size) -> Tensor:
    """The still scaled to cover `size`, its middle cut out, so that nothing is stretched."""
    still = still.float() / 255 if still.dtype == torch.uint8 else still
    height, width = still.shape[:2]
    scale = max(size.height / height, size.width / width)
    inner = Size(max(1, round(size.height / scale)), max(1, round(size.width / scale)))
    top, left = (height - inner.height) // 2, (width - inner.width) // 2
    middle = still[top : top + inner.height, left : left + inner.width]
    return _resize(middle.permute(2, 0, 1)[None], size)[0].permute(1, 2, 0)


def _resize(x: Tensor, size: Size) -> Tensor:
    """`[n c h w]` at another size, without aliasing."""
    return F.interpolate(x, size=tuple(size), mode="bilinear", antialias=True).clamp(0, 1)


def _read_picture(path: str | os.PathLike) -> np.ndarray:
    try:
        with Image.open(path) as image:
            return _pixels_of(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise StyleError(f"Reference {os.fspath(path)!r} cannot be read: {error}.") from error


def _pixels_of(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I"):  # 16 bits of gray, which convert("RGB") would clip to white
        image = Image.fromarray((np.asarray(image) // 256).clip(0, 255).astype(np.uint8))
    return np.asarray(image.convert("RGB")).copy()


def is_finite(x: Tensor) -> bool:
    """Whether no number of `x` is NaN or infinite: both ends tell, in a tenth of the time that
    asking each number takes."""
    if not x.numel():
        return True
    least, most = torch.aminmax(x)
    return bool((most - least).isfinite())
