"""Pictures and curves that stand in a page itself: data addresses and drawings in SVG."""

import base64
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from .bars import shown

WIDTH, HEIGHT = 320, 96  # of a curve
LEFT, RIGHT, TOP, BOTTOM = 40, 6, 8, 16
QUALITY = 80  # of JPEG
THUMB = 260  # pixels across, of a frame of a strip


def image_data(picture: np.ndarray, width: int | None = None, height: int | None = None) -> str:
    """A picture uint8 `[h w 3]` as an address that holds it, no larger than this."""
    image = Image.fromarray(picture)
    if width is not None and image.width > width:
        size = width, max(1, round(image.height * width / image.width))
        image = image.resize(size, Image.Resampling.LANCZOS)
    if height is not None and image.height > height:
        image = image.resize((image.width, height), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def curve(points: Sequence[tuple[float, float]], neutral: float | None, least_span: float) -> str:
    """A line over seconds. `neutral` is drawn in; a span of values below `least_span` is widened,
    so that a flat line looks flat."""
    times, values = ([point[n] for point in points] for n in (0, 1))
    low, high = min(values), max(values)
    if neutral is not None and min(abs(neutral - low), abs(neutral - high)) < least_span:
        low, high = min(low, neutral), max(high, neutral)
    missing = max(0.0, least_span - (high - low)) / 2
    low, high = low - missing, high + missing
    last = max(times[-1], 1e-6)

    def across(time: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * time / last

    def down(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low)

    line = " ".join(f"{across(t):.1f},{down(v):.1f}" for t, v in zip(times, values, strict=True))
    drawn = [f'<path class="axis" d="M{LEFT} {HEIGHT - BOTTOM}H{WIDTH - RIGHT}"/>']
    if neutral is not None and low <= neutral <= high:
        level = f"{down(neutral):.1f}"
        drawn.append(f'<path class="axis" stroke-dasharray="3 4" d="M{LEFT} {level}H{WIDTH}"/>')
    drawn += [
        f'<polyline class="line" points="{line}"/>',
        _mark(LEFT - 5, TOP + 6, round_to(high), "end"),
        _mark(LEFT - 5, HEIGHT - BOTTOM, round_to(low), "end"),
        _mark(WIDTH - RIGHT, HEIGHT - 3, f"{shown(round(last, 1))} s", "end"),
        _mark(LEFT, HEIGHT - 3, "0", "start"),
    ]
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{"".join(drawn)}</svg>'


def round_to(value: float) -> str:
    return f"{value:.2f}".replace("-0.00", "0.00")


def _mark(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text class="mark" x="{x}" y="{y}" text-anchor="{anchor}">{text}</text>'
