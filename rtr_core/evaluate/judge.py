"""Does an output have its own style, or another's? By nearest target, in colour and in gray."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from ..appearance import Frames, leveled
from .descriptor import Descriptor, closeness, evenly
from .metrics import decibel, distances

DESCRIBED = 2  # frames of a clip that its style is told from


@dataclass(frozen=True)
class Verdict:
    """On outputs of one clip in several styles, against the targets of all of them."""

    errors: np.ndarray  # [outputs] to the own target
    color: np.ndarray  # [outputs] whether the own target is the nearest
    gray: np.ndarray
    likeness: np.ndarray  # [outputs] of the style to the own target's, -1..1

    @property
    def psnr(self) -> list[float]:
        return [decibel(float(error)) for error in self.errors]


def judged(
    outputs: Sequence[Frames],
    targets: Sequence[Frames],
    descriptor: Descriptor,
    own: Sequence[int] | None = None,
) -> Verdict:
    """`own` is the number of each output's target; without it, they are in the same order."""
    mine = np.arange(len(outputs)) if own is None else np.asarray(own)
    rows = np.arange(len(outputs))
    color = distances(outputs, targets)
    gray = distances(*([leveled(clip) for clip in side] for side in (outputs, targets)))
    seen, wanted = (
        [descriptor.color(evenly(clip, DESCRIBED)) for clip in side] for side in (outputs, targets)
    )
    return Verdict(
        errors=color[rows, mine],
        color=color.argmin(1) == mine,
        gray=gray.argmin(1) == mine,
        likeness=closeness(seen, wanted)[rows, mine],
    )


def share(verdicts: Sequence[Verdict], kind: str) -> float:
    """Over all outputs of all clips."""
    return fmean(float(value) for verdict in verdicts for value in getattr(verdict, kind))


def mean_psnr(verdicts: Sequence[Verdict]) -> float:
    return fmean(value for verdict in verdicts for value in verdict.psnr)
