"""Decoded frames as pictures `[h w 3]`: the arithmetic of the standards, in float.

swscale rounds white to 254 on its way from 10 bits, and through PyAV 14 it takes full range for
limited; so it only unpacks what lies packed, and never converts a color.
"""

from typing import NamedTuple

import av
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..shapes import Size
from .color import FULL, LUMA, UNTAGGED, Color

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
        picture = picture.transpose(0, 1) if self.transposed else picture
        flips = [axis for axis, flipped in enumerate(self[1:]) if flipped]
        return (picture.flip(flips) if flips else picture).contiguous()

    def shown(self, stored: Size) -> Size:
        return Size(stored.width, stored.height) if self.transposed else stored


def depth_of(form: av.VideoFormat) -> int:
    """Bits a channel; of a palette, those of its colors."""
    return max(BYTE, *(component.bits for component in form.components))


def to_picture(frame: av.VideoFrame, color: Color, size: Size, depth: int) -> Tensor:
    """RGB `[h w 3]` of `size` before turning: uint8 of 8 bits, float32 0..1 of more.

    A stream that changes its size on the way is scaled to the size it began with, as players do.
    """
    rgb = _rgb(_unpacked(frame), color)
    if rgb.shape[1:] != size:
        rgb = F.interpolate(rgb[None], tuple(size), mode="bilinear", antialias=True)[0]
    if depth > BYTE:
        return rgb.clamp_(0, 1).permute(1, 2, 0).contiguous()
    levels = rgb.mul_(255).round_().clamp_(0, 255).to(torch.uint8)
    return levels.permute(1, 2, 0).contiguous()  # last, when there is least to move


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


def _rgb(frame: av.VideoFrame, color: Color) -> Tensor:
    """Float RGB `[3 h w]`, a little outside 0..1 where the stream is."""
    form = frame.format
    channels = [_samples(frame, component) for component in form.components[:3]]
    bits = form.components[0].bits
    if form.is_rgb:
        is_packed = len(frame.planes) == 1
        rgb = channels[0].permute(2, 0, 1) if is_packed else torch.stack(channels)
        return rgb / (2**bits - 1)
    is_gray = len(form.components) < 3
    # Gray without a tag is full by custom; the yuvj formats are an old way to say full range.
    is_full = form.name.startswith("yuvj") or (is_gray and frame.color_range == UNTAGGED)
    if is_full or color.range == FULL:
        black, luma_span, chroma_span = 0, 2**bits - 1, 2**bits - 1
    else:
        black, luma_span, chroma_span = 16 << bits - 8, 219 << bits - 8, 224 << bits - 8
    luma = (channels[0] - black) / luma_span
    if is_gray:
        return luma.repeat(3, 1, 1)
    size, middle = Size(frame.height, frame.width), 1 << bits - 1
    blue_difference, red_difference = (
        _spread((chroma - middle) / chroma_span, size) for chroma in channels[1:]
    )
    of_red, of_blue = LUMA[color.matrix]
    of_green = 1 - of_red - of_blue
    red = luma.add(red_difference, alpha=2 - 2 * of_red)
    blue = luma.add(blue_difference, alpha=2 - 2 * of_blue)
    green = luma.sub(red_difference, alpha=(2 - 2 * of_red) * of_red / of_green)
    green.sub_(blue_difference, alpha=(2 - 2 * of_blue) * of_blue / of_green)
    return torch.stack([red, green, blue])


def _samples(frame: av.VideoFrame, component) -> Tensor:
    """One plane as float: `[h w]`, or `[h w 3]` where three channels are packed in it."""
    plane = frame.planes[component.plane]
    levels = np.frombuffer(plane, "<u2" if component.bits > BYTE else np.uint8)
    lines = levels.reshape(plane.height, plane.line_size // levels.itemsize)
    if frame.format.is_rgb and len(frame.planes) == 1:
        lines = lines[:, : 3 * plane.width].reshape(plane.height, plane.width, 3)
    return torch.from_numpy(lines[:, : plane.width].astype(np.float32))


def _spread(chroma: Tensor, size: Size) -> Tensor:
    """Chroma at full size: it lies on the left pixel across, and between two lines down."""
    while chroma.shape[0] < size.height:
        (height, width), near = chroma.shape, 3 * chroma
        around = torch.cat([chroma[:1], chroma, chroma[-1:]])
        taller = chroma.new_empty(height, 2, width)
        torch.add(near, around[:-2], out=taller[:, 0])
        torch.add(near, around[2:], out=taller[:, 1])
        chroma = taller.div_(4).view(2 * height, width)
    while chroma.shape[1] < size.width:
        height, width = chroma.shape
        wider = chroma.new_empty(height, width, 2)
        wider[..., 0] = chroma
        wider[:, :-1, 1] = (chroma[:, :-1] + chroma[:, 1:]).div_(2)
        wider[:, -1, 1] = chroma[:, -1]
        chroma = wider.view(height, 2 * width)
    return chroma[: size.height, : size.width]
