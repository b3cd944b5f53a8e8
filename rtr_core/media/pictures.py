"""Decoded frames as pictures `[h w 3]`: the arithmetic of the standards, in float.

swscale rounds white to 254 on its way from 10 bits, and through PyAV 14 it takes full range for
limited; so it only unpacks what lies packed, and never converts a color. NumPy, not torch: frames
are read in a thread of their own, where torch would call up as many more threads as there are
cores, and take them from the model.
"""

from typing import NamedTuple

import av
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..shapes import Size
from .color import FULL, LUMA, UNTAGGED, Color
from .scratch import Scratch

BYTE = 8  # bits a channel up to which pictures are uint8, and float beyond


class Orientation(NamedTuple):
    """How a stored picture is turned to be shown: transposed first, then flipped."""

    transposed: bool = False
    flipped_down: bool = False
    flipped_across: bool = False

    @classmethod
    def of(cls, frame: av.VideoFrame) -> "Orientation":
        """As the frame's display matrix says, to the nearest quarter turn."""
        matrix = frame.side_data.get("DISPLAYMATRIX")
        if matrix is None:
            return cls()
        a, b, _, c, d, *_ = np.frombuffer(matrix, "<i4").tolist()  # x' = ax + cy, y' = bx + dy
        if abs(b) > abs(a):
            return cls(True, flipped_down=b < 0, flipped_across=c < 0)
        return cls(False, flipped_down=d < 0, flipped_across=a < 0)

    @property
    def rotation(self) -> int:
        """Degrees clockwise. A mirror, where there is one, is applied too but not told here."""
        if self.transposed:
            return 90 if self.flipped_across else 270
        return 180 if self.flipped_down else 0

    def turn(self, picture: Tensor) -> Tensor:
        shown = picture.numpy()
        shown = shown.transpose(1, 0, 2) if self.transposed else shown
        flips = tuple(axis for axis, flipped in enumerate(self[1:]) if flipped)
        return torch.from_numpy(np.ascontiguousarray(np.flip(shown, flips)))

    def shown(self, stored: Size) -> Size:
        return Size(stored.width, stored.height) if self.transposed else stored


def depth_of(form: av.VideoFormat) -> int:
    """Bits a channel; of a palette, those of its colors."""
    return max(BYTE, *(component.bits for component in form.components))


def to_picture(
    frame: av.VideoFrame, color: Color, size: Size, depth: int, scratch: Scratch | None = None
) -> Tensor:
    """RGB `[h w 3]` of `size` before turning: uint8 of 8 bits, float32 0..1 of more.

    A stream that changes its size on the way is scaled to the size it began with, as players do.
    """
    rgb = _rgb(_unpacked(frame), color, scratch or Scratch())
    if rgb[0].shape != size:
        whole = torch.from_numpy(np.stack(rgb))[None]
        rgb = F.interpolate(whole, tuple(size), mode="bilinear", antialias=True)[0].numpy()
    picture = np.empty((*size, 3), np.float32 if depth > BYTE else np.uint8)
    for n, channel in enumerate(rgb):
        if depth > BYTE:
            np.clip(channel, 0, 1, out=picture[..., n])
            continue
        channel *= 255
        picture[..., n] = np.clip(np.rint(channel, out=channel), 0, 255, out=channel)
    return torch.from_numpy(picture)


def _unpacked(frame: av.VideoFrame) -> av.VideoFrame:
    """The same samples, each channel in a plane of its own, or packed as rgb24 or rgb48le."""
    form = frame.format
    planes = {component.plane for component in form.components}
    is_separate = len(planes) == len(form.components) and all(p.line_size > 0 for p in frame.planes)
    is_plain = not (form.is_big_endian or form.is_bit_stream or form.has_palette)
    if is_separate and is_plain and "f32" not in form.name and "msb" not in form.name:
        return frame
    is_deep = depth_of(form) > BYTE
    if form.is_rgb or form.has_palette:
        return frame.reformat(format="rgb48le" if is_deep else "rgb24")
    bits = "16le" if is_deep else ""
    if len(form.components) < 3:
        return frame.reformat(format=f"gray{bits}")
    across = form.chroma_width(frame.width) < frame.width
    down = form.chroma_height(frame.height) < frame.height
    layout = "420" if down else "422" if across else "444"
    return frame.reformat(format=f"yuv{layout}p{bits}")


def _rgb(frame: av.VideoFrame, color: Color, scratch: Scratch) -> list[np.ndarray]:
    """Float red, green and blue `[h w]`, a little outside 0..1 where the stream is."""
    form = frame.format
    planes = [_samples(frame, component) for component in form.components[:3]]
    bits = form.components[0].bits
    if form.is_rgb:
        is_packed = len(frame.planes) == 1
        channels = planes[0].transpose(2, 0, 1) if is_packed else planes
        return [np.divide(channel, 2**bits - 1, dtype=np.float32) for channel in channels]
    is_gray = len(form.components) < 3
    # Gray without a tag is full by custom; the yuvj formats are an old way to say full range.
    is_full = form.name.startswith("yuvj") or (is_gray and frame.color_range == UNTAGGED)
    if is_full or color.range == FULL:
        black, luma_span, chroma_span = 0, 2**bits - 1, 2**bits - 1
    else:
        black, luma_span, chroma_span = 16 << bits - 8, 219 << bits - 8, 224 << bits - 8
    luma = _centered(planes[0], black, luma_span, scratch("luma", *planes[0].shape))
    if is_gray:
        return [luma, luma.copy(), luma.copy()]
    size = Size(frame.height, frame.width)

    def difference(name: str, plane: np.ndarray) -> np.ndarray:
        values = scratch(name, *plane.shape)
        return _spread(_centered(plane, 1 << bits - 1, chroma_span, values), size, name, scratch)

    blue, red = difference("blue", planes[1]), difference("red", planes[2])
    return _colored(luma, blue, red, color.matrix, scratch)


def _centered(levels: np.ndarray, middle: int, span: int, values: np.ndarray) -> np.ndarray:
    """Levels as numbers around 0, written to `values`."""
    values[:] = levels
    values -= middle
    values /= span
    return values


def _colored(
    luma: np.ndarray, blue: np.ndarray, red: np.ndarray, matrix: int, scratch: Scratch
) -> list[np.ndarray]:
    """Red, green and blue of luma and of the differences from it, which are used up."""
    of_red, of_blue = LUMA[matrix]
    of_green = 1 - of_red - of_blue
    green, part = scratch("green", *luma.shape), scratch("part", *luma.shape)
    green[:] = luma
    for difference, weight in ((red, of_red), (blue, of_blue)):
        difference *= 2 - 2 * weight
        green -= np.multiply(difference, weight / of_green, out=part)
        difference += luma
    return [red, green, blue]


def _samples(frame: av.VideoFrame, component) -> np.ndarray:
    """One plane as it lies there: `[h w]`, or `[h w 3]` where three channels are packed in it."""
    plane = frame.planes[component.plane]
    levels = np.frombuffer(plane, "<u2" if component.bits > BYTE else np.uint8)
    lines = levels.reshape(plane.height, plane.line_size // levels.itemsize)
    if frame.format.is_rgb and len(frame.planes) == 1:
        lines = lines[:, : 3 * plane.width].reshape(plane.height, plane.width, 3)
    return lines[:, : plane.width]


def _spread(chroma: np.ndarray, size: Size, name: str, scratch: Scratch) -> np.ndarray:
    """Chroma at full size: it lies on the left pixel across, and between two lines down.

    The result lies in scratch under `name`, and so does what is made on the way, by its size.
    """
    while chroma.shape[0] < size.height:
        height, width = chroma.shape
        near = np.multiply(chroma, 3, out=scratch(f"near {height}", height, width))
        taller = scratch(f"{name} {height} high", height, 2, width)
        np.add(near[0], chroma[0], out=taller[0, 0])
        np.add(near[1:], chroma[:-1], out=taller[1:, 0])
        np.add(near[:-1], chroma[1:], out=taller[:-1, 1])
        np.add(near[-1], chroma[-1], out=taller[-1, 1])
        taller /= 4
        chroma = taller.reshape(2 * height, width)
    while chroma.shape[1] < size.width:
        height, width = chroma.shape
        between = scratch(f"between {width}", height, width)
        np.add(chroma[:, :-1], chroma[:, 1:], out=between[:, :-1])
        between[:, :-1] /= 2
        between[:, -1] = chroma[:, -1]
        wider = scratch(f"{name} {width} wide", height, width, 2)
        wider[..., 0], wider[..., 1] = chroma, between
        chroma = wider.reshape(height, 2 * width)
    return chroma[: size.height, : size.width]
