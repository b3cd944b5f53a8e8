"""A virtual camera: what the lead's page sees, for any program that takes a camera.

    stage.sinks.append(VirtualCamera())

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

    def __init__(self):
        try:
            import pyvirtualcam  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            message = "A virtual camera needs a package: pip install pyvirtualcam"
            raise RtrError(message) from error
        self._open = pyvirtualcam.Camera
        self._camera: Any = None
        self._size: Size | None = None

    def __call__(self, frame: Tensor) -> None:
        size = Size(*frame.shape[:2])
        if size != self._size:
            self.close()
            try:
                self._camera = self._open(width=size.width, height=size.height, fps=RATE)
            except RuntimeError as error:
                raise RtrError(f"The virtual camera cannot be opened: {error}") from error
            self._size = size
        self._camera.send((frame.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy())

    def close(self) -> None:
        if self._camera is not None:
            self._camera.close()
        self._camera = self._size = None
