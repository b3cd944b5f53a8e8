"""A virtual camera: what the lead's page sees, for any program that takes a camera.

    stage.sinks.append(VirtualCamera(size))

Needs `pip install pyvirtualcam`, and what that needs: OBS on Windows and macOS, v4l2loopback on
Linux.
"""

from typing import Any

import torch
from torch import Tensor

from ..errors import RtrError
from ..shapes import Size

RATE = 30  # frames a second that the camera claims; it shows each frame when it comes


class VirtualCamera:
    """Takes frames `[h w 3]` in 0..1. A stream of another size opens the camera anew."""

    def __init__(self, size: Size):
        """Opened once in some size, so that who has no such camera learns it at once."""
        try:
            import pyvirtualcam  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            message = "A virtual camera needs a package: pip install pyvirtualcam"
            raise RtrError(message) from error
        self._make = pyvirtualcam.Camera
        self._camera: Any = None
        self._size: Size | None = None
        self._open(size)
        self.close()

    def __call__(self, frame: Tensor) -> None:
        size = Size(*frame.shape[:2])
        if size != self._size:
            self.close()
            self._open(size)
        try:
            self._camera.send((frame.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy())
        except Exception as error:  # of a driver
            self.close()
            raise RtrError(f"The virtual camera stopped: {error}") from error

    def _open(self, size: Size) -> None:
        try:
            self._camera = self._make(width=size.width, height=size.height, fps=RATE)
        except RuntimeError as error:
            raise RtrError(f"The virtual camera cannot be opened: {error}") from error
        self._size = size

    def close(self) -> None:
        if self._camera is not None:
            self._camera.close()
        self._camera = self._size = None
