"""Filters that look at a few pixels around each: blurs, outlines, brush dabs, shadows.

A blur is given by its sigma and reads 3 sigma to each side; no look reads further than ~24 pixels.
"""

import cv2
import numpy as np

from .tones import Picture, luma, soft_step

EDGE = cv2.BORDER_REPLICATE


def blur(picture: Picture, sigma: float) -> Picture:
    size = 2 * int(np.ceil(2.6 * sigma)) + 1
    return cv2.GaussianBlur(picture, (size, size), sigma, borderType=EDGE)


def box(picture: Picture, radius: int) -> Picture:
    return cv2.blur(picture, (2 * radius + 1, 2 * radius + 1), borderType=EDGE)


def flattened(picture: Picture, radius: int, keep: float) -> Picture:
    """Smooth inside, sharp at edges that are stronger than about `keep` (a guided filter)."""
    mean = box(picture, radius)
    variance = box(picture * picture, radius) - mean * mean
    share = variance / (variance + np.float32(keep * keep))
    return box(share, radius) * picture + box(mean - share * mean, radius)


def outlines(gray: Picture, sigma: float, low: float, high: float) -> Picture:
    """Lines along the dark side of edges; wider with sigma."""
    return soft_step(blur(gray, 1.6 * sigma) - blur(gray, sigma), low, high)


def slopes(gray: Picture, sigma: float) -> tuple[Picture, Picture]:
    """How steeply the picture rises to the right and down, per pixel."""
    smooth = blur(gray, sigma)
    across = cv2.Scharr(smooth, cv2.CV_32F, 1, 0, scale=1 / 32, borderType=EDGE)
    down = cv2.Scharr(smooth, cv2.CV_32F, 0, 1, scale=1 / 32, borderType=EDGE)
    return across, down


def edges(gray: Picture, sigma: float, low: float, high: float) -> Picture:
    """Lines on edges, in the middle of them."""
    return soft_step(cv2.magnitude(*slopes(gray, sigma)), low, high)


def moved(picture: Picture, right: int, down: int) -> Picture:
    """The picture moved by whole pixels; its border is repeated."""
    matrix = np.array([[1, 0, right], [0, 1, down]], np.float32)
    size = picture.shape[1], picture.shape[0]
    return cv2.warpAffine(picture, matrix, size, flags=cv2.INTER_NEAREST, borderMode=EDGE)


def dabs(picture: Picture, radius: int, sharpness: float) -> Picture:
    """Brush dabs: each pixel takes the means of the calm one among eight neighbourhoods.

    A soft Kuwahara filter: weights fall with variance, so that no pixel jumps between them.
    """
    gray = luma(picture)
    mean, tone = box(picture, radius), box(gray, radius)
    variance = np.maximum(box(gray * gray, radius) - tone * tone, 0)
    weight = 1 / (1 + (variance * np.float32(sharpness)) ** 2)
    packed = np.dstack([mean * weight[..., None], weight])
    total = packed * np.float32(0.05)
    straight, slant = radius + 1, round(0.75 * (radius + 1))
    for right, down in [(straight, 0), (slant, slant), (0, straight), (-slant, slant)]:
        total += moved(packed, right, down) + moved(packed, -right, -down)
    return total[..., :3] / total[..., 3:]
