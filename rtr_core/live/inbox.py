"""Frames that came and were not taken yet: few, the newest, and in the order of their times."""

import math
from collections import deque
from threading import Lock
from typing import NamedTuple

from .wire import Picture


class Waiting(NamedTuple):
    picture: Picture
    since: float  # seconds, of time.monotonic


class Inbox:
    """Filled by a socket, emptied by the worker. Where it is full the oldest frame goes."""

    def __init__(self, most: int):
        self.most = most
        self._waiting: deque[Waiting] = deque()
        self._dropped = 0
        self._newest = -math.inf
        self._lock = Lock()

    def put(self, waiting: Waiting) -> None:
        with self._lock:
            if waiting.picture.time < self._newest:  # it was overtaken on its way
                self._dropped += 1
                return
            self._newest = waiting.picture.time
            if len(self._waiting) >= self.most:
                self._waiting.popleft()
                self._dropped += 1
            self._waiting.append(waiting)

    def take(self, frames: int) -> tuple[list[Waiting], int]:
        """The oldest so many, once there are as many; and how many were let go of since."""
        with self._lock:
            there = len(self._waiting) >= frames
            taken = [self._waiting.popleft() for _ in range(frames)] if there else []
            dropped, self._dropped = self._dropped, 0
            return taken, dropped

    def __len__(self) -> int:
        return len(self._waiting)
