"""Memory that conversions use again for each frame.

Fresh memory, some whole planes of it for every frame, takes the system longer to give than the
arithmetic on it lasts: 775 pages of it, and half of the time, at 448x256.
"""

import numpy as np


class Scratch:
    """Float arrays by name, for what is held for a moment. Each stage has one of its own."""

    def __init__(self):
        self._arrays: dict[str, np.ndarray] = {}

    def __call__(self, name: str, *shape: int) -> np.ndarray:
        """The array of that name; what it holds is whatever it was used for last."""
        array = self._arrays.get(name)
        if array is None or array.shape != shape:
            array = self._arrays[name] = np.empty(shape, np.float32)
        return array
