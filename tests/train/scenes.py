"""Pictures for tests of training: shapes, slopes and soft textures, as in a photograph."""

import cv2
import numpy as np


def scene(height: int, width: int, seed: int = 0) -> np.ndarray:
    """uint8 `[h w 3]`."""
    rng = np.random.default_rng(seed)
    small = rng.random((8, 8, 3)).astype(np.float32)
    picture = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(6):
        color = tuple(float(c) for c in rng.random(3))
        middle = int(rng.integers(width)), int(rng.integers(height))
        cv2.circle(picture, middle, int(rng.integers(6, 30)), color, -1, cv2.LINE_AA)
    picture += 0.04 * cv2.GaussianBlur(
        rng.normal(0, 4, picture.shape).astype(np.float32), (0, 0), 1
    )
    return (np.clip(picture, 0, 1) * 255).round().astype(np.uint8)


def clip(frames: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """uint8 `[t h w 3]`: a scene that moves to the left, two pixels a frame."""
    wide = scene(height, width + 2 * frames, seed)
    return np.stack([wide[:, 2 * n : 2 * n + width] for n in range(frames)])
