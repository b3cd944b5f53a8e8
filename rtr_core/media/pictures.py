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
    if rgb.shape[:2] != size:
        channels = rgb.permute(2, 0, 1)[None]
        rgb = F.interpolate(channels, tuple(size), mode="bilinear", antialias=True)
        rgb = rgb[0].permute(1, 2, 0)
    if depth > BYTE:
        return rgb.clamp_(0, 1)
    return rgb.mul_(255).round_().clamp_(0, 255).to(torch.uint8)


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
    """Float RGB `[h w 3]`, a little outside 0..1 where the stream is."""
    form = frame.format
    channels = [_samples(frame, component) for component in form.components[:3]]
    bits = form.components[0].bits
    if form.is_rgb:
        rgb = channels[0] if len(frame.planes) == 1 else torch.stack(channels, -1)
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
        return luma[..., None].repeat(1, 1, 3)
    size, middle = Size(frame.height, frame.width), 1 << bits - 1
    blue_difference, red_difference = (
        _spread((chroma - middle) / chroma_span, size) for chroma in channels[1:]
    )
    of_red, of_blue = LUMA[color.matrix]
    red = luma + (2 - 2 * of_red) * red_difference
    blue = luma + (2 - 2 * of_blue) * blue_difference
    green = (luma - of_red * red - of_blue * blue) / (1 - of_red - of_blue)
    return torch.stack([red, green, blue], -1)


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
        above = torch.cat([chroma[:1], chroma[:-1]])
        below = torch.cat([chroma[1:], chroma[-1:]])
        chroma = torch.stack([(3 * chroma + above) / 4, (3 * chroma + below) / 4], 1).flatten(0, 1)
    while chroma.shape[1] < size.width:
        right = torch.cat([chroma[:, 1:], chroma[:, -1:]], 1)
        chroma = torch.stack([chroma, (chroma + right) / 2], 2).flatten(1)
    return chroma[: size.height, : size.width]
