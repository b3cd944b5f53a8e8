"""Pictures `[h w 3]` as the planes that encoders take, in float until the last rounding.

swscale would go through 8 bits on its way to 10, and its fast paths round differently on
different machines. This is the arithmetic of the standards, and nothing else. NumPy, not torch:
it is done in the encoder's thread, where torch would call up as many more threads as there are
cores, and take them from the model.
"""

from dataclasses import replace
from typing import Any

import av
import numpy as np
from torch import Tensor

from ..shapes import Size
from .color import BT601, BT709, FULL, LIMITED, LUMA, RGB, UNSPECIFIED, Color
from .scratch import Scratch


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


def pixels_of(picture: Tensor) -> np.ndarray:
    """A picture as NumPy has it: uint8 or float32."""
    picture = picture.detach().cpu()
    return (picture.float() if picture.is_floating_point() else picture).numpy()


def video_frame(
    picture: Tensor, pix_fmt: str, color: Color, scratch: Scratch | None = None
) -> av.VideoFrame:
    """`[h w 3]`, uint8 or float 0..1, as a frame to encode."""
    scratch = scratch or Scratch()
    pixels = pixels_of(picture)
    height, width = pixels.shape[:2]
    form = av.VideoFormat(pix_fmt, width, height)
    frame = av.VideoFrame(width, height, pix_fmt)
    bits = form.components[0].bits
    if pix_fmt == "rgb24":
        _fill(frame.planes[0], _unit(pixels, scratch).reshape(height, -1) * 255, bits)
        return _tagged(frame, color)
    channels = _unit(pixels.transpose(2, 0, 1), scratch)
    if form.is_rgb:
        samples = list(channels * (2**bits - 1))
    else:
        luma, *chroma = _luma_and_chroma(channels, color.matrix, scratch("luma", height, width))
        luma_span, low = (2**bits - 1, 0) if color.range == FULL else (219 << bits - 8, 16)
        chroma_span = 2**bits - 1 if color.range == FULL else 224 << bits - 8
        samples = [_scaled(luma, luma_span, low << bits - 8)]
        samples += [_scaled(_halved(c, form), chroma_span, 1 << bits - 1) for c in chroma]
    for component, values in zip(form.components, samples, strict=True):
        _fill(frame.planes[component.plane], values, bits)
    return _tagged(frame, color)


def _unit(pixels: np.ndarray, scratch: Scratch) -> np.ndarray:
    """Pixels as float32 0..1, axis after axis in memory."""
    unit = scratch("unit", *pixels.shape)
    unit[:] = pixels
    return np.divide(unit, 255, out=unit) if pixels.dtype == np.uint8 else unit.clip(0, 1, out=unit)


def _scaled(values: np.ndarray, span: int, low: int) -> np.ndarray:
    values *= span
    values += low
    return values


def _tagged(frame: av.VideoFrame, color: Color) -> av.VideoFrame:
    frame.color_range, frame.colorspace = color.range, color.matrix
    if hasattr(frame, "color_trc"):  # ProRes takes them from here; PyAV 14 does not know them
        frame.color_primaries, frame.color_trc = color.primaries, color.transfer
    return frame


def _luma_and_chroma(
    rgb: np.ndarray, matrix: int, luma: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Luma in 0..1, blue and red difference in -0.5..0.5; `rgb` is used up."""
    red, green, blue = rgb
    of_red, of_blue = LUMA[matrix]
    np.multiply(of_red, red, out=luma)
    green *= 1 - of_red - of_blue
    luma += green
    luma += np.multiply(of_blue, blue, out=green)
    for channel, weight in ((blue, of_blue), (red, of_red)):
        channel -= luma
        channel /= 2 - 2 * weight
    return luma, blue, red


def _halved(chroma: np.ndarray, form: av.VideoFormat) -> np.ndarray:
    """Chroma at the size of the format: on the left pixel across, between two lines down."""
    if form.height > form.chroma_height():
        upper, lower = chroma[::2], chroma[1::2]
        chroma = upper + (lower if len(lower) == len(upper) else np.r_[lower, chroma[-1:]])
        chroma /= 2
    if form.width > form.chroma_width():  # weights 1 2 1 around every other column
        middle, right = chroma[:, ::2].copy(), chroma[:, 1::2].copy()
        if right.shape[1] < middle.shape[1]:
            right = np.c_[right, chroma[:, -1:]]
        middle *= 2
        middle[:, 1:] += right[:, :-1]
        middle[:, 0] += chroma[:, 0]
        middle += right
        middle /= 4
        return middle
    return chroma


def lines_of(plane: Any) -> np.ndarray:
    """The bytes of a plane, line by line; lines may be longer than the picture is wide."""
    return np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)


def _fill(plane: Any, values: np.ndarray, bits: int) -> None:
    """Round to whole levels, in place, and copy them into the plane."""
    np.clip(np.rint(values, out=values), 0, 2**bits - 1, out=values)
    levels = values.astype(np.uint8 if bits <= 8 else np.dtype("<u2"))
    lines_of(plane)[:, : levels.shape[1] * levels.itemsize] = levels.view(np.uint8)
