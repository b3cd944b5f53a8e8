"""The clip that the pack brings, in small: real pictures for tests."""

from itertools import islice
from pathlib import Path

import cv2
import numpy as np

import rtr_core
from rtr_core.media.source import open_source

SAMPLE = Path(rtr_core.__file__).parent / "assets" / "sample.mp4"


def sample(frames: int, height: int = 96, width: int = 128) -> np.ndarray:
    """Its first frames, uint8 `[t h w 3]`."""
    with open_source(SAMPLE) as opened:
        pixels = [frame.pixels.numpy() for frame in islice(opened.frames(), frames)]
    return np.stack([cv2.resize(p, (width, height), interpolation=cv2.INTER_AREA) for p in pixels])
