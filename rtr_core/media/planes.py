"""Pictures `[h w 3]` as the planes that encoders take, in float until the last rounding.

swscale would go through 8 bits on its way to 10, and its fast paths round differently on
different machines. This is the arithmetic of the standards, and nothing else.
"""

from dataclasses import replace
from typing import Any

import av
import numpy as np
from torch import Tensor
from torch.nn import functional as F

from ..shapes import Size
from .color import BT601, BT709, FULL, LIMITED, LUMA, RGB, UNSPECIFIED, Color


def is_writable(form: av.VideoFormat) -> bool:
    """Three samples a pixel, each in a plane of its own, or packed as rgb24."""
    planes = {component.plane for component in form.components}
    separate = len(planes) == len(form.components) == 3 and not form.is_big_endian
    # The yuvj formats are an old way to say full range, which the tags say too.
    return form.name == "rgb24" or (separate and not form.name.startswith("yuvj"))


def color_of(source: Color, size: Size, pix_fmt: str) -> Color:
    """The tags of the result: the source's own where it has them, what players assume elsewhere."""
    if av.VideoFormat(pix_fmt).is_rgb:
        return replace(source, matrix=RGB, range=FULL)
    tagged = replace(source, range=LIMITED) if source.matrix == RGB else source
    settled = tagged.settled(size)
    if settled.matrix not in LUMA:
        settled = replace(tagged, matrix=UNSPECIFIED).settled(size)
    if settled.matrix not in (BT601, BT709):
        return settled
    primaries, transfer = (
        settled.matrix if value in (RGB, UNSPECIFIED) else value  # one number names all three
        for value in (source.primaries, source.transfer)
    )
    return replace(settled, primaries=primaries, transfer=transfer)


def video_frame(picture: Tensor, pix_fmt: str, color: Color) -> av.VideoFrame:
    """`[h w 3]`, uint8 or float 0..1, as a frame to encode."""
    height, width = picture.shape[:2]
    form = av.VideoFormat(pix_fmt, width, height)
    frame = av.VideoFrame(width, height, pix_fmt)
    bits = form.components[0].bits
    rgb = picture.detach().float()
    rgb = rgb / 255 if not picture.is_floating_point() else rgb.clamp(0, 1)
    if pix_fmt == "rgb24":
        _fill(frame.planes[0], (rgb * 255).flatten(1), bits)
        return _tagged(frame, color)
    channels = rgb.permute(2, 0, 1).contiguous().unbind()
    if form.is_rgb:
        samples = [channel * (2**bits - 1) for channel in channels]
    else:
        luma, *chroma = _luma_and_chroma(channels, color.matrix)
        luma_span, low = (2**bits - 1, 0) if color.range == FULL else (219 << bits - 8, 16)
        chroma_span = 2**bits - 1 if color.range == FULL else 224 << bits - 8
        samples = [luma * luma_span + (low << bits - 8)]
        samples += [_halved(c, form) * chroma_span + (1 << bits - 1) for c in chroma]
    for component, values in zip(form.components, samples, strict=True):
        _fill(frame.planes[component.plane], values.clamp(0, 2**bits - 1), bits)
    return _tagged(frame, color)


def _tagged(frame: av.VideoFrame, color: Color) -> av.VideoFrame:
    frame.color_range, frame.colorspace = color.range, color.matrix
    if hasattr(frame, "color_trc"):  # ProRes takes them from here; PyAV 14 does not know them
        frame.color_primaries, frame.color_trc = color.primaries, color.transfer
    return frame


def _luma_and_chroma(channels: tuple[Tensor, ...], matrix: int) -> tuple[Tensor, Tensor, Tensor]:
    """Luma in 0..1, blue and red difference in -0.5..0.5."""
    red, green, blue = channels
    of_red, of_blue = LUMA[matrix]
    luma = of_red * red + (1 - of_red - of_blue) * green + of_blue * blue
    return luma, (blue - luma) / (2 - 2 * of_blue), (red - luma) / (2 - 2 * of_red)


def _halved(chroma: Tensor, form: av.VideoFormat) -> Tensor:
    """Chroma at the size of the format: on the left pixel across, between two lines down."""
    x = chroma[None, None]
    across, down = form.width > form.chroma_width(), form.height > form.chroma_height()
    if down:
        x = F.pad(x, (0, 0, 0, form.height % 2), mode="replicate")
        x = (x[..., ::2, :] + x[..., 1::2, :]) / 2
    if across:  # weights 1 2 1 around every other column
        x = F.pad(x, (1, 1, 0, 0), mode="replicate")
        x = (x[..., :-2:2] + 2 * x[..., 1:-1:2] + x[..., 2::2]) / 4
    return x[0, 0]


def lines_of(plane: Any) -> np.ndarray:
    """The bytes of a plane, line by line; lines may be longer than the picture is wide."""
    return np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)


def _fill(plane: Any, values: Tensor, bits: int) -> None:
    """Round to whole levels and copy them into the plane."""
    levels = values.round().cpu().numpy().astype(np.uint8 if bits <= 8 else np.dtype("<u2"))
    lines_of(plane)[:, : levels.shape[1] * levels.itemsize] = levels.view(np.uint8)
