"""What can be measured of frames: pure functions of frames `[t h w 3]`, float32 in 0..1.

`floats` makes such frames of what a clip, a look or a session gives. A ratio to the target's own
value is for the caller: most of these mean little by themselves.
"""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from ..appearance import Frames, change, gray, slopes
from ..errors import ShapeError

LEAST_ERROR = 1e-10  # of squares: a copy has 100 dB and not infinitely many
COARSE = 4  # pixels that motion is averaged over, so that noise is not taken for it
BLOCK = 8  # pixels that structure is averaged over
PLAIN = 0.02  # standard deviation of a picture in which there is hardly anything to shine through


def floats(frames: np.ndarray | Tensor) -> Frames:
    """uint8 0..255 or floats 0..1, from numpy or torch."""
    values = frames.cpu().numpy() if isinstance(frames, Tensor) else frames
    if values.ndim != 4 or values.shape[-1] != 3 or not len(values):
        raise ShapeError(f"Frames to measure are [t h w 3], not {list(values.shape)}.")
    if values.dtype == np.uint8:
        return values.astype(np.float32) / 255
    return values.astype(np.float32, copy=False)


# ---- likeness ----


def psnr(frames: Frames, target: Frames) -> float:
    """In dB, of all frames together; 100 for a copy."""
    _same_shape(frames, target)
    return decibel(float(np.square(frames - target).mean(dtype=np.float64)))


def decibel(error: float) -> float:
    return float(-10 * np.log10(max(error, LEAST_ERROR)))


def distances(outputs: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> np.ndarray:
    """Mean squared error of each output to each target `[outputs targets]`, of `[t ...]` each."""
    total = np.zeros((len(outputs), len(targets)))
    count = len(outputs[0])
    for moment in range(count):  # frame by frame, or a copy of all would be needed
        ours, theirs = (
            np.stack([clip[moment].ravel() for clip in clips]) for clips in (outputs, targets)
        )
        middle = theirs.mean(0)
        ours, theirs = ours - middle, theirs - middle
        squares = np.square(ours).sum(1)[:, None] + np.square(theirs).sum(1)[None]
        total += (squares - 2 * ours @ theirs.T) / ours.shape[1]
    return np.maximum(total / count, 0)


def edge_correlation(frames: Frames, source: Frames) -> float:
    """How far edges are where those of the source are: 1 for a copy, about 0 for another clip."""
    _same_shape(frames, source)
    ours, theirs = slopes(frames).ravel(), slopes(source).ravel()
    ours, theirs = ours - ours.mean(), theirs - theirs.mean()
    norm = np.sqrt(np.square(ours).sum() * np.square(theirs).sum())
    return float((ours * theirs).sum() / norm) if norm > 0 else 0.0


def structure(frames: Frames, source: Frames) -> float:
    """How far there is something where there is something in the source: 1 for a copy, about 0 for
    another clip. Seen from afar, so that lines may have moved a little and be of another kind."""
    _same_shape(frames, source)
    ours, theirs = (_blocks(np.sqrt(slopes(side))) for side in (frames, source))
    norms = np.sqrt(np.square(ours).sum((1, 2)) * np.square(theirs).sum((1, 2)))
    return float(((ours * theirs).sum((1, 2)) / np.maximum(norms, 1e-8)).mean())


# ---- pictures ----


def blockiness(frames: Frames, grid: int) -> float:
    """Mean step across the lines of a grid, over the mean step elsewhere: 1 where none shows."""
    light = gray(frames)
    on = off = count_on = count_off = 0.0
    for axis in (1, 2):
        steps = np.abs(np.diff(light, axis=axis)).mean((0, 3 - axis))
        is_line = np.arange(1, len(steps) + 1) % grid == 0
        on, count_on = on + steps[is_line].sum(), count_on + is_line.sum()
        off, count_off = off + steps[~is_line].sum(), count_off + (~is_line).sum()
    return float((on / count_on) / max(off / count_off, 1e-8))


# ---- time ----


def flicker(frames: Frames) -> float:
    """Mean difference of neighbouring frames. On a scene that stands; elsewhere see `motion`."""
    return float(np.abs(np.diff(frames, axis=0)).mean()) if len(frames) > 1 else 0.0


def motion_energy(frames: Frames) -> float:
    """Mean difference of neighbouring frames seen from afar: what moves, and not what flickers."""
    return flicker(coarse(frames))


def coarse(frames: Frames) -> Frames:
    """Frames seen from afar."""
    return _averaged(frames, COARSE)


def ghosting(frames: Frames, target: Frames) -> float:
    """The share of the past in frames: 0 for a copy or a blur, about 1 for frozen frames.

    What frames have that their target has not is fitted by the frames before and behind it; what
    comes of both alike is blur.
    """
    _same_shape(frames, target)
    if len(frames) < 3:
        return 0.0
    ours, theirs = (side[:, ::2, ::2].astype(np.float64) for side in (frames, target))
    excess = (ours - theirs)[1:-1].ravel()
    ahead = (theirs[2:] - theirs[1:-1]).ravel()
    behind = (theirs[:-2] - theirs[1:-1]).ravel()
    sides = np.stack([behind, ahead])
    matrix = sides @ sides.T
    if np.linalg.det(matrix) < 1e-9 * max(np.trace(matrix), 1e-9) ** 2:
        return 0.0  # nothing moves, or all by one jump: there is no past to be told apart
    past, future = np.linalg.solve(matrix, sides @ excess)
    return float(past - future)


def shining_through(frames: Frames, target: Frames, picture: Frames) -> float:
    """The share of a picture `[1 h w 3]` that frames hold over their target, seen from afar: 0 for
    a copy or a blur, 1 where all of it is laid over them."""
    _same_shape(frames, target)
    _same_shape(frames[:1], picture)
    excess, shown = (_averaged(side, BLOCK) for side in (frames - target, picture))
    shown = shown - shown.mean((1, 2), keepdims=True)
    return float((excess.mean(0) * shown[0]).mean() / (np.square(shown).mean() + PLAIN**2))


def drift(first: float, last: float) -> float:
    """How far a figure went, as a share of where it began."""
    return abs(change(first, last))


def _averaged(frames: np.ndarray, block: int) -> np.ndarray:
    """`[t h w ...]` in means of blocks; what does not fill one is left out."""
    height, width = (side // block for side in frames.shape[1:3])
    whole = frames[:, : height * block, : width * block]
    return whole.reshape(len(frames), height, block, width, block, *frames.shape[3:]).mean((2, 4))


def _blocks(maps: np.ndarray) -> np.ndarray:
    means = _averaged(maps, BLOCK)
    return means - means.mean((1, 2), keepdims=True)


def _same_shape(frames: Frames, target: Frames) -> None:
    if frames.shape != target.shape:
        raise ShapeError(
            f"Frames of {list(frames.shape)} cannot be measured against {list(target.shape)}."
        )
