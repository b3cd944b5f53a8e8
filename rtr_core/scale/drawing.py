"""Curves over a logarithmic axis, as an SVG that stands by itself, readable on light and dark."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

Points = Sequence[tuple[float, float]]
WIDTH, HEIGHT = 640, 300
LEFT, RIGHT, TOP, BOTTOM = 60, 170, 34, 40
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
LOOK = "text{font:12px sans-serif;fill:#777}.axis{stroke:#999}.grid{stroke:#9994}"


def curves(title: str, across: str, down: str, series: Mapping[str, Points], log: bool) -> str:
    """Named curves; x is logarithmic, y too where `log`."""
    points = [point for each in series.values() for point in each]
    lowest, highest = (pick(x for x, _ in points) for pick in (min, max))
    low = min(y for _, y in points) if log else 0.0
    high = max(y for _, y in points) * (1.0 if log else 1.05) or 1.0

    def x_of(x: float) -> float:
        share = math.log(x / lowest) / math.log(highest / lowest)
        return LEFT + (WIDTH - LEFT - RIGHT) * share

    def y_of(y: float) -> float:
        share = math.log(y / low) / math.log(high / low) if log else (y - low) / (high - low)
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share

    drawn = [f"<style>{LOOK}</style>", _text(LEFT, 18, title, "start")]
    for tick in decades(lowest, highest):
        drawn.append(_line("grid", x_of(tick), TOP, x_of(tick), HEIGHT - BOTTOM))
        drawn.append(_text(x_of(tick), HEIGHT - BOTTOM + 15, f"{tick:,.4g}", "middle"))
    for tick in decades(low, high) if log else [high * n / 4 for n in range(5)]:
        drawn.append(_line("grid", LEFT, y_of(tick), WIDTH - RIGHT, y_of(tick)))
        drawn.append(_text(LEFT - 5, y_of(tick) + 4, _short(tick), "end"))
    drawn.append(_line("axis", LEFT, HEIGHT - BOTTOM, WIDTH - RIGHT, HEIGHT - BOTTOM))
    drawn.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, across, "middle"))
    drawn.append(_text(WIDTH - RIGHT + 10, TOP + 4, down, "start"))
    for n, (name, each) in enumerate(series.items()):
        color, at = COLORS[n % len(COLORS)], TOP + 26 + 20 * n
        path = " ".join(f"{x_of(x):.1f},{y_of(y):.1f}" for x, y in each)
        drawn.append(f'<polyline fill="none" stroke="{color}" stroke-width="2" points="{path}"/>')
        start = WIDTH - RIGHT + 10
        drawn.append(f'<path stroke="{color}" stroke-width="3" d="M{start} {at}h18"/>')
        drawn.append(_text(start + 24, at + 4, name, "start"))
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}">'
    return head + "".join(drawn) + "</svg>\n"


def write(path: Path, drawing: str) -> None:
    path.write_text(drawing, encoding="utf-8")


def decades(low: float, high: float) -> list[float]:
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    return [10.0**n for n in range(first, last + 1)]


def _short(value: float) -> str:
    return f"{value:,.3g}" if value < 1000 else f"{value:,.0f}"


def _line(kind: str, x: float, y: float, to_x: float, to_y: float) -> str:
    return f'<path class="{kind}" d="M{x:.1f} {y:.1f}L{to_x:.1f} {to_y:.1f}"/>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>'
