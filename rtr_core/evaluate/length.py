"""Length: a minute of video, its last seconds against its first, with the reference anchored and
with the reference let go."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..appearance import brightness, saturation, sharpness, style_distance
from ..errors import ClipError
from ..style import Style
from .bars import Bar, Section, Table
from .by_reference import references_for
from .metrics import drift, floats
from .subject import ExamConfig, Subject
from .takes import as_bytes, let_go, side_by_side

MOST = 0.05  # of drift
AT_ONCE = 24  # frames pushed at a time
FIGURES = ("style distance", "brightness", "saturation", "sharpness")


def examine(subject: Subject) -> Section:
    config = subject.config
    clip = next(
        (c for c in subject.held.clips if len(c.frames) >= looped(config) and c.moves), None
    )
    if clip is None:
        raise ClipError(
            f"No held-out clip that moves has {looped(config)} frames, which a long clip is looped "
            f"of. Give a longer one."
        )
    shown = references_for(subject, config.groups, clip)[0]

    def run(anchored: bool) -> list[dict[str, float]]:
        reference = subject.descriptor.color(floats(shown.reference[None]))
        source = looping(clip.frames[: looped(config)], config.seconds * config.rate)
        return list(
            _by_second(subject, Style(reference=shown.reference), source, anchored, reference)
        )

    with_it, without = side_by_side(run, (True, False))
    return told(config, with_it, without, f"{clip.name}, {shown.look.style} by reference")


def told(
    config: ExamConfig,
    with_it: list[dict[str, float]],
    without: list[dict[str, float]],
    what: str,
) -> Section:
    """What the figures of each second say."""
    drifts = [drifts_of(config, curve) for curve in (with_it, without)]
    columns = []
    for curve, far in zip((with_it, without), drifts, strict=True):
        first, last = ends(config, curve)
        columns.append({name: (first[name], last[name], far[name]) for name in FIGURES})
    bars = [Bar(claim=f"{name}, drift", value=drifts[0][name], most=MOST) for name in FIGURES]
    worst = max(FIGURES, key=lambda name: drifts[1][name])
    bars.append(
        Bar(
            claim=f"without the anchor, largest drift ({worst})", value=drifts[1][worst], least=MOST
        )
    )
    return Section(
        name="Length",
        bars=bars,
        tables=[
            Table(
                ("", *(f"{when}{how}" for how in (", anchored", ", not") for when in WHEN)),
                [(name, *(v for column in columns for v in column[name])) for name in FIGURES],
                f"{config.seconds} s: means of the first and last {config.span} s",
            )
        ],
        notes=[
            f"{what}. The first second by itself: style distance "
            f"{with_it[0]['style distance']:.3f} anchored, "
            f"{without[0]['style distance']:.3f} not. A model without a window has no past to "
            "drift in: let go, its reference is gone from the first chunk on."
        ],
        facts={"anchored": with_it, "not anchored": without},
    )


WHEN = ("first", "last", "drift")


def drifts_of(config: ExamConfig, curve: list[dict[str, float]]) -> dict[str, float]:
    first, last = ends(config, curve)
    return {name: drift(first[name], last[name]) for name in FIGURES}


def ends(config: ExamConfig, curve: list[dict[str, float]]) -> tuple[dict[str, float], ...]:
    parts = curve[: config.span], curve[-config.span :]
    return tuple({n: float(np.mean([at[n] for at in part])) for n in FIGURES} for part in parts)


def looped(config: ExamConfig) -> int:
    """Frames of a clip that goes to and fro once in `span` seconds or an even share of them, so
    that both ends of the long clip show the same frames."""
    frames = config.span * config.rate
    return frames // 4 + 1


def looping(frames: np.ndarray, count: int) -> np.ndarray:
    """To and fro."""
    period = 2 * (len(frames) - 1)
    turn = np.arange(count) % period
    return frames[np.minimum(turn, period - turn)]


def _by_second(
    subject: Subject, style: Style, source: np.ndarray, anchored: bool, reference: np.ndarray
) -> Iterator[dict[str, Any]]:
    """The figures of each second of the output."""
    session = subject.stylizer.session(style, subject.size)
    if not anchored:
        let_go(session)
    rate, waiting = subject.config.rate, []
    for first in range(0, len(source), AT_ONCE):
        waiting += [as_bytes(out) for out in session.push(source[first : first + AT_ONCE])]
        if first + AT_ONCE >= len(source):
            waiting += [as_bytes(out) for out in session.flush()]
        frames = np.concatenate(waiting) if waiting else source[:0]
        while len(frames) >= rate:
            yield _figures(subject, floats(frames[:rate]), reference)
            frames = frames[rate:]
        waiting = [frames]


def _figures(subject: Subject, second: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    described = subject.descriptor.color(second[:: len(second) // 2])
    return {
        "style distance": style_distance(described, reference),
        "brightness": brightness(second),
        "saturation": saturation(second),
        "sharpness": sharpness(second),
    }
