"""Two clips side by side, in passages short enough to be held, however long the clips are."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..appearance import Frames
from ..errors import ClipError
from ..shapes import Size

SHORTEST, LONGEST = 4, 24  # frames of a passage, which lasts half a second between these
SMALLEST = 32  # pixels a side from which the motion of a clip can be found
MOST_UNLIKE = 0.02  # of width over height, that an output may have another of


class Pair(NamedTuple):
    """One moment: `[h w 3]` each, uint8 or float 0..1, in their own sizes."""

    source: Tensor
    output: Tensor


class Passage(NamedTuple):
    """Some frames of both, small: float32 `[t h w 3]`. `lead` of them were in the one before."""

    first: int  # number of the first frame that is new
    source: Frames
    output: Frames
    lead: int

    @property
    def count(self) -> int:
        return len(self.source) - self.lead


def measured_size(size: Size, side: int) -> Size:
    """As large as frames are measured: the longer side at most `side`."""
    scale = min(1.0, side / max(size))
    return Size(*(max(1, round(length * scale)) for length in size))


def check_shapes(source: Size, output: Size) -> None:
    """Sizes may differ, not what is in the picture."""
    ratio = (output.width / output.height) / (source.width / source.height)
    if abs(ratio - 1) > MOST_UNLIKE:
        raise ClipError(
            f"the output has frames of {output} and the source of {source}: these are not the same "
            f"picture. Give an output that is neither cropped nor stretched."
        )
    if min(*source, *output) < SMALLEST:
        raise ClipError(
            f"frames of {min(source, output)} are too small: at least {SMALLEST} pixels a side."
        )


def shrunk(frame: Tensor, size: Size) -> np.ndarray:
    """float32 `[h w 3]` 0..1."""
    still = frame.float() / 255 if frame.dtype == torch.uint8 else frame.float().clamp(0, 1)
    if still.shape[:2] != size:
        still = F.interpolate(
            still.permute(2, 0, 1)[None], tuple(size), mode="bilinear", antialias=True
        )[0].permute(1, 2, 0)
    return np.ascontiguousarray(still.cpu().numpy())


def passages(
    pairs: Iterable[Pair], rate: float, side: int, see: Callable[[int, Pair], None]
) -> Iterator[Passage]:
    """Half a second after the other; `see` is shown every frame as it is, once."""
    span = min(LONGEST, max(SHORTEST, round(rate / 2)))
    waiting: list[tuple[np.ndarray, np.ndarray]] = []
    done, lead, size = 0, 0, None
    for number, pair in enumerate(pairs):
        see(number, pair)
        size = size or measured_size(Size(*pair.source.shape[:2]), side)
        waiting.append((shrunk(pair.source, size), shrunk(pair.output, size)))
        if len(waiting) == lead + 2 * span:  # so that what is left at the end is not too short
            yield _passage(done, waiting[: lead + span], lead)
            waiting, done, lead = waiting[lead + span - 1 :], done + span, 1
    if len(waiting) > lead:
        yield _passage(done, waiting, lead)


def _passage(first: int, pairs: list[tuple[np.ndarray, np.ndarray]], lead: int) -> Passage:
    source, output = (np.stack(side) for side in zip(*pairs, strict=True))
    return Passage(first, source, output, lead)
