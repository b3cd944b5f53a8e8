"""What a page is to be told, in order; of styled frames only the newest, where it is slow."""

import asyncio
import json
from collections import deque
from collections.abc import Mapping
from typing import Any, NamedTuple

from aiohttp import WSCloseCode

MOST_FRAMES = 16
MOST_NOTES = 256  # a page that takes none of so many is gone


class Sent(NamedTuple):
    data: str | bytes | WSCloseCode  # the last: the socket is to be closed
    is_frame: bool = False


class Outbox:
    """Filled from any thread, emptied by the task that writes to the socket."""

    def __init__(self, loop: asyncio.AbstractEventLoop, most: int = MOST_FRAMES):
        self.loop, self.most = loop, most
        self.dropped = 0  # frames the page was too slow for
        self.is_stuck = False
        self._waiting: deque[Sent] = deque()
        self._there = asyncio.Event()

    def tell(self, said: Mapping[str, Any]) -> None:
        self._post(Sent(json.dumps(said)))

    def show(self, data: bytes) -> None:
        self._post(Sent(data, is_frame=True))

    def end(self, code: WSCloseCode) -> None:
        """Close the socket, after what it is still to be told."""
        self._post(Sent(code))

    async def take(self) -> str | bytes | WSCloseCode:
        while not self._waiting:
            self._there.clear()
            await self._there.wait()
        return self._waiting.popleft().data

    def _post(self, sent: Sent) -> None:
        try:
            self.loop.call_soon_threadsafe(self._put, sent)
        except RuntimeError:  # the loop is closed: nobody listens any more
            self.is_stuck = True

    def _put(self, sent: Sent) -> None:
        frames = [old for old in self._waiting if old.is_frame]
        if sent.is_frame and len(frames) >= self.most:
            self._waiting.remove(frames[0])
            self.dropped += 1
        self._waiting.append(sent)
        self.is_stuck = len(self._waiting) - len(frames) > MOST_NOTES
        self._there.set()
