"""Flicker of what moves: frames are led along the motion of their source and then compared.

Lai et al., Learning Blind Video Temporal Consistency, with OpenCV's DIS for the optical flow.
"""

from itertools import pairwise
from typing import NamedTuple

import cv2
import numpy as np

from ..appearance import Frames, gray

EDGE = cv2.BORDER_REPLICATE


class Flows(NamedTuple):
    """Where each pixel of a frame is in the next one, and whether it is still seen there."""

    forward: np.ndarray  # [t-1 h w 2], to the right and down
    seen: np.ndarray  # [t-1 h w]


def flows_of(source: Frames) -> Flows:
    """The motion of a source, from each frame to the next."""
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    light = np.round(gray(source) * 255).astype(np.uint8)
    forward, seen = [], []
    for now, then in pairwise(light):
        there = search.calc(now, then, None)  # type: ignore[call-overload]  # None: no guess
        back = search.calc(then, now, None)  # type: ignore[call-overload]
        forward.append(there)
        seen.append(_stays(there, back))
    return Flows(np.stack(forward), np.stack(seen))


def warp_error(frames: Frames, flows: Flows) -> float:
    """Mean squared difference of neighbouring frames along the motion, where nothing is hidden.

    Frozen and ghosted frames have less of it than true ones: never report it without
    `motion_energy` and `ghosting` beside it.
    """
    errors = []
    for now, then, flow, seen in zip(frames[:-1], frames[1:], *flows, strict=True):
        squares = np.square(warped(then, flow) - now).mean(-1)
        errors.append(squares[seen].mean() if seen.any() else squares.mean())
    return float(np.mean(errors))


def warped(frame: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """What a frame shows at the ends of the flow, where its beginnings are."""
    height, width = flow.shape[:2]
    across, down = np.meshgrid(
        np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)
    )
    return cv2.remap(
        frame, across + flow[..., 0], down + flow[..., 1], cv2.INTER_LINEAR, borderMode=EDGE
    )


def _stays(there: np.ndarray, back: np.ndarray) -> np.ndarray:
    """Pixels that the way back leads home, away from borders of motion; the paper's numbers."""
    returned = warped(back, there)
    lengths = np.square(there).sum(-1) + np.square(returned).sum(-1)
    is_hidden = np.square(there + returned).sum(-1) > 0.01 * lengths + 0.5
    bends = sum(np.square(np.gradient(there[..., n], axis=axis)) for n in (0, 1) for axis in (0, 1))
    is_border = bends > 0.01 * np.square(there).sum(-1) + 0.002
    height, width = there.shape[:2]
    across = np.arange(width)[None] + there[..., 0]
    down = np.arange(height)[:, None] + there[..., 1]
    inside = (across >= 0) & (across <= width - 1) & (down >= 0) & (down <= height - 1)
    return inside & ~is_hidden & ~is_border
