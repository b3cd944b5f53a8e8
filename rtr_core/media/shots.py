"""Where shots begin: found while the frames go by, or read from a list.

    detector = CutDetector()
    for frame in clip:
        if detector.push(frame):                # this frame begins a new shot
            session.let_go_of_the_window()

Two frames are compared as small thumbnails, block by block. Each block of one is looked for in the
other near its old place; how well it correlates there knows nothing of brightness and contrast, so
that motion, pans, fades and exposure leave it high and a cut does not. Where a block shows nothing,
as in black or on a title card, its colour is compared. The change counts as a cut when it is large
and larger than what this clip has been doing.

Decided at once, without the frames to come, with one exception. A frame that jumps to white may be
a flash or a new shot, so nothing is said for up to `FLASH_FRAMES` frames: if the old picture comes
back it was a flash and no cut; if another one comes, that one begins the shot; and a shot that
really opens on white is found that much late. One frame of look-ahead would tell little more,
because flashes last longer than a frame. A single black frame is a cut, its return is none.
"""

import os
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import SessionError, ShapeError
from ..moments import Moment, numbered_lines, read_text
from ..shapes import Size

THUMBNAIL = Size(36, 64)
SAMPLES = 3  # pixels a side that are averaged into one of a thumbnail; more add only time
BLOCK = Size(12, 16)  # large enough that unlike pictures do not correlate by chance
REACH = Size(4, 6)  # how far a block may have moved: a tenth of the picture in one frame
GRAY = (0.299, 0.587, 0.114)
BAR = 0.06  # rows and columns darker than this in both frames are letterbox: no part of the shot

FAINT = 0.002  # contrast of noise and compression, which correlates with nothing
FLAT = 0.015  # contrast from which on a block's structure says more than its colour
OTHER_COLOUR = 0.2  # a difference of colour that is as good as no likeness

LEAST_CHANGE = 0.35  # of a cut in a clip that stands still: 0 is the same, 1 nothing in common
UNREST_WEIGHT = 1.0  # how much of the clip's usual change comes on top
UNREST_RATE = 1 / 8  # share of the newest frame in the usual change
REMEMBERED = 2  # frames: what comes back after one odd frame is no cut

WHITE = 0.94  # gray from which on a pixel is burnt out
FLASH_SHARE = 0.5  # of the picture burnt out: a flash, perhaps
FLASH_FRAMES = 4  # the longest flash


class CutDetector:
    """Tells at each frame whether it begins a new shot. Its memory does not grow."""

    def __init__(self):
        self.reset()

    def reset(self) -> None:
        """Begin a new clip."""
        self.remembered = torch.zeros(0, 3, *THUMBNAIL)  # thumbnails, the newest last
        self.unrest = 0.0  # how much this clip changes from frame to frame
        self.flash_frames = 0  # waited through, not remembered

    def push(self, frame: Tensor) -> bool:
        """Whether `frame [h w 3]` begins a new shot; the first frame of a clip does not."""
        new = thumbnail(frame)
        change = self._change(new)
        is_cut = change > self._threshold
        if is_cut and self._may_be_flash(new):
            self.flash_frames += 1
            return False
        if not is_cut:
            self.unrest += UNREST_RATE * (change - self.unrest)
        self.flash_frames = 0
        self.remembered = torch.cat([self.remembered, new[None]])[-REMEMBERED:]
        return is_cut

    def snapshot(self) -> dict[str, Tensor]:
        """All of its state. It stays valid while the detector goes on."""
        return {
            "remembered": self.remembered,
            "unrest": torch.tensor(self.unrest, dtype=torch.float64),
            "flash_frames": torch.tensor(self.flash_frames),
        }

    def restore(self, snapshot: Mapping[str, Tensor]) -> None:
        """Go on from where `snapshot` was taken."""
        try:
            self.remembered = snapshot["remembered"].cpu()
            self.unrest = float(snapshot["unrest"])
            self.flash_frames = int(snapshot["flash_frames"])
        except KeyError as error:
            raise SessionError(
                f"This is no snapshot of a cut detector: {error} is missing."
            ) from error

    @property
    def _threshold(self) -> float:
        return LEAST_CHANGE + UNREST_WEIGHT * self.unrest

    def _change(self, new: Tensor) -> float:
        """The difference to the newest remembered frame, or to an older one that is more like."""
        least = 1.0 if len(self.remembered) else 0.0
        for old in self.remembered.flip(0):
            least = min(least, difference(old, new))
            if least <= self._threshold:
                break
        return least

    def _may_be_flash(self, new: Tensor) -> bool:
        jumped = burnt_out(new) >= FLASH_SHARE > burnt_out(self.remembered[-1])
        return jumped and self.flash_frames < FLASH_FRAMES


@dataclass(frozen=True)
class Shots:
    """Frames that begin a shot, as someone listed them."""

    frames: frozenset[int]
    times: tuple[Fraction, ...]  # in order; the first frame at or after each begins a shot

    def begins(self, frame: int, time: Fraction, time_before: Fraction) -> bool:
        """Whether the frame numbered `frame`, shown at `time`, begins a shot.

        `time_before` is when the frame before it was shown.
        """
        at_or_before = bisect_right(self.times, time)
        return frame in self.frames or bisect_right(self.times, time_before) < at_or_before

    def __str__(self) -> str:
        """The list that `parse_shots` reads back as an equal one."""
        moments = [Moment(frame=frame) for frame in sorted(self.frames)]
        return "\n".join(map(str, [*moments, *(Moment(time=time) for time in self.times)]))


def cuts(frames: Iterable[Tensor]) -> Iterator[int]:
    """The numbers of the frames `[h w 3]` that begin a new shot; never 0."""
    detector = CutDetector()
    return (number for number, frame in enumerate(frames) if detector.push(frame))


def read_shots(path: str | os.PathLike) -> Shots:
    """A list of cuts: one a line, a frame number (`120`, `f120`) or a time (`00:05`, `5.0`)."""
    return parse_shots(read_text(path), Path(path).name)


def parse_shots(text: str, name: str = "shots") -> Shots:
    """The same from text; `name` stands before line and column in errors."""
    frames, times = set(), set()
    for place, line in numbered_lines(text, name):
        said = line.split("#")[0].strip()
        if not said:
            continue
        with place.at(line.index(said)).blamed():
            moment = Moment.parse(f"f{said}" if said.isdecimal() else said)
        if moment.time is None:
            frames.add(moment.frame)
        else:
            times.add(moment.time)
    return Shots(frozenset(frames), tuple(sorted(times)))


def thumbnail(frame: Tensor) -> Tensor:
    """`frame [h w 3]`, uint8 or float 0..1, as a small picture `[3 h w]` in 0..1 on the CPU."""
    if frame.ndim != 3 or frame.shape[-1] != 3 or 0 in frame.shape:
        raise ShapeError(f"A frame is [height, width, 3], not {list(frame.shape)}.")
    down, across = (
        max(1, n // (SAMPLES * to)) for n, to in zip(frame.shape, THUMBNAIL, strict=False)
    )
    sampled = frame[::down, ::across].permute(2, 0, 1).float()
    small = F.adaptive_avg_pool2d(sampled, (THUMBNAIL.height, THUMBNAIL.width)).cpu()
    return small / 255 if frame.dtype == torch.uint8 else small


def difference(old: Tensor, new: Tensor) -> float:
    """How unlike two thumbnails are: 0 the same or moved, 1 nothing in common.

    Each block counts by what it shows: its structure by its contrast, the rest by its colour. Both
    ways, and the larger counts: a picture is also gone when only the empty half of it stays.
    """
    old, new = _without_bars(old, new)
    colours = F.avg_pool2d(torch.stack([old, new]), tuple(BLOCK)).flatten(2)
    other_colour = (colours[0] - colours[1]).abs().mean(0).div(OTHER_COLOUR).clamp(max=1)
    old, new = _gray(old), _gray(new)
    likeness, contrast = _likeness(torch.stack([old, new]), torch.stack([new, old]))
    unlike = contrast * (1 - likeness) + FLAT * other_colour
    return float((unlike.sum(1) / (contrast + FLAT).sum(1)).max())


def burnt_out(thumb: Tensor) -> float:
    """The share of a thumbnail that is white."""
    return float((_gray(thumb) > WHITE).float().mean())


def _likeness(searched: Tensor, sought: Tensor) -> tuple[Tensor, Tensor]:
    """Of each block of planes `[n h w]`: its best correlation within reach, and its contrast."""
    (height, width), (down, across) = BLOCK, REACH
    blocks = _cut_up(sought, BLOCK)
    blocks = blocks - blocks.mean((1, 2), keepdim=True)
    contrast = blocks.square().mean((1, 2)).sqrt()
    around = F.pad(searched[:, None], (across, across, down, down), mode="replicate")[:, 0]
    around = _cut_up(around, Size(height + 2 * down, width + 2 * across))
    around = around - around.mean((1, 2), keepdim=True)
    mean, square = _slid(around), _slid(around.square())
    contrast_around = (square - mean.square()).clamp(min=0).sqrt()
    product = _slid(around, blocks)
    best = product / (contrast_around + FAINT) / (contrast + FAINT)[:, None, None]
    shape = len(sought), -1
    return best.flatten(1).amax(1).clamp(min=0).view(shape), contrast.view(shape)


def _cut_up(planes: Tensor, window: Size) -> Tensor:
    """Windows `[n h w]` of planes `[n h w]`, one around each block."""
    rows = planes.unfold(1, window.height, BLOCK.height).unfold(2, window.width, BLOCK.width)
    return rows.flatten(0, 2)


def _slid(windows: Tensor, blocks: Tensor | None = None) -> Tensor:
    """The mean of each window times its block, or of the window, at every shift of the block."""
    blocks = torch.ones(len(windows), *BLOCK) if blocks is None else blocks
    product = F.conv2d(windows[None], blocks[:, None], groups=len(windows))[0]
    return product / (BLOCK.height * BLOCK.width)


def _gray(thumb: Tensor) -> Tensor:
    red, green, blue = GRAY
    return red * thumb[0] + green * thumb[1] + blue * thumb[2]


def _without_bars(old: Tensor, new: Tensor) -> tuple[Tensor, Tensor]:
    """Both thumbnails with the letterbox that they share cut off, at the size they had."""
    lit = torch.maximum(old, new).amax(0) > BAR
    rows, columns = _inside(lit.any(1)), _inside(lit.any(0))
    if rows is None or columns is None:
        return old, new
    pair = torch.stack([old, new])[:, :, rows, columns]
    if pair.shape[2:] == THUMBNAIL:
        return old, new
    old, new = F.interpolate(pair, size=tuple(THUMBNAIL), mode="bilinear")
    return old, new


def _inside(lit: Tensor) -> slice | None:
    """The span of what is lit, less the one at each bar that is partly bar; None if nothing is."""
    where = lit.nonzero()[:, 0].tolist()
    if len(where) <= 2:
        return None
    first, last = where[0], where[-1]
    return slice(first + (first > 0), last + (last == len(lit) - 1))
