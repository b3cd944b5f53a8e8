"""The two sockets: a performer's, which steers, and a watcher's, which only sees."""

import asyncio
import json
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from aiohttp import WSCloseCode, WSMsgType, web
from torch import Tensor

from ..errors import RtrError
from .outbox import Outbox
from .peer import Peer
from .stage import Stage
from .viewer import Viewer
from .wire import (
    MOST_A_SECOND,
    MOST_FRAME,
    MOST_MESSAGE,
    MOST_PROMPT,
    MOST_REFERENCE,
    Begin,
    Message,
    Offer,
    Picture,
    Refused,
    framed,
    read,
)

HEARTBEAT = 2.0  # seconds: who answers no ping within half of it is gone
STATS_SECONDS = 1.0
PATIENCE = 50  # refused messages in a row, after which a page is sent away
FULL = WSCloseCode.TRY_AGAIN_LATER

Watchers = set[Outbox]


class Bucket:
    """So many messages a second, and a short burst."""

    def __init__(self, rate: float):
        self.rate, self.level, self.last = rate, rate, time.monotonic()

    def spend(self) -> bool:
        now = time.monotonic()
        self.level = min(self.rate, self.level + (now - self.last) * self.rate)
        self.last = now
        if self.level < 1:
            return False
        self.level -= 1
        return True


async def perform(
    request: web.Request, stage: Stage, watchers: Watchers, hello: Mapping[str, Any]
) -> web.WebSocketResponse:
    """A performer's socket, from its first to its last message."""
    socket = web.WebSocketResponse(heartbeat=HEARTBEAT, max_msg_size=MOST_MESSAGE, compress=False)
    await socket.prepare(request)
    outbox = Outbox(asyncio.get_running_loop())

    def show(taken: float, data: bytes, frame: Tensor) -> None:
        message = framed(taken, data)
        outbox.show(message)
        if stage.lead is viewer:
            for watcher in tuple(watchers):
                watcher.show(message)
            for sink in tuple(stage.sinks):
                try:
                    sink(frame)
                except RtrError as error:
                    stage.sinks.remove(sink)
                    outbox.tell({"is": "refused", "what": "camera", "why": str(error)})

    viewer = stage.enter(outbox.tell, show, partial(outbox.end, WSCloseCode.SERVICE_RESTART))
    if viewer is None:
        why = f"All {stage.most} places are taken. Try again when somebody has left."
        await socket.send_str(json.dumps({"is": "full", "why": why}))
        await socket.close(code=FULL, message=b"full")
        return socket
    outbox.tell(hello)
    ear = Ear(stage, viewer, outbox, may_meet=hello["rtc"])
    beside = [
        asyncio.ensure_future(task)
        for task in (_write(socket, outbox, ear.peer), _stats(stage, viewer, outbox, ear.peer))
    ]
    try:
        async for message in socket:
            if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY) or outbox.is_stuck:
                break
            ear.hear(message.data)
    finally:
        stage.leave(viewer)
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, ear.close(), return_exceptions=True)
    return socket


async def watch(request: web.Request, watchers: Watchers) -> web.WebSocketResponse:
    """A watcher's socket: styled frames until it closes. What it says is not read."""
    socket = web.WebSocketResponse(heartbeat=HEARTBEAT, max_msg_size=1024, compress=False)
    await socket.prepare(request)
    outbox = Outbox(asyncio.get_running_loop())
    watchers.add(outbox)
    writing = asyncio.ensure_future(_write(socket, outbox))
    try:
        async for _ in socket:
            pass
    finally:
        watchers.discard(outbox)
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
    return socket


class Ear:
    """Carries out what one page says, by its socket or by a channel, or tells it why not."""

    def __init__(self, stage: Stage, viewer: Viewer, outbox: Outbox, may_meet: bool):
        self.stage, self.viewer, self.outbox, self.may_meet = stage, viewer, outbox, may_meet
        self.peer = Peer(self.hear)
        self._meeting: asyncio.Future | None = None
        self._bucket, self._refused = Bucket(MOST_A_SECOND), 0

    def hear(self, data: str | bytes) -> None:
        if self._refused >= PATIENCE:
            return  # it is being sent away
        try:
            if not self._bucket.spend():
                raise Refused("message", f"More than {MOST_A_SECOND} messages a second.")
            self._carry_out(read(data))
            self._refused = 0
        except Refused as error:
            self._refuse(error)
        self.stage.wake()

    async def close(self) -> None:
        if self._meeting is not None:
            self._meeting.cancel()
            await asyncio.gather(self._meeting, return_exceptions=True)
        await self.peer.close()

    def _carry_out(self, said: Message) -> None:
        if isinstance(said, Picture):
            self.viewer.put(said)
        elif isinstance(said, Offer):
            self._meet(said.sdp)
        else:
            if isinstance(said, Begin):
                self.stage.lead = self.viewer
            self.viewer.wish(said)

    def _meet(self, sdp: str | None) -> None:
        """Beside the messages that follow: names may have to be looked up for it."""
        if sdp is not None and not self.may_meet:
            raise Refused("message", "There is no WebRTC for this page: send frames by the socket.")
        if self._meeting is not None and not self._meeting.done():
            raise Refused("message", "The offer before this one is still being answered.")
        self._meeting = asyncio.ensure_future(self._met(sdp))

    async def _met(self, sdp: str | None) -> None:
        try:
            if sdp is None:
                await self.peer.close()
            else:
                self.outbox.tell({"is": "answer", "sdp": await self.peer.meet(sdp)})
        except Refused as error:
            self._refuse(error)

    def _refuse(self, error: Refused) -> None:
        self.outbox.tell({"is": "refused", "what": error.what, "why": str(error)})
        self._refused += 1
        if self._refused == PATIENCE:
            self.outbox.end(WSCloseCode.POLICY_VIOLATION)


async def _write(socket: web.WebSocketResponse, outbox: Outbox, peer: Peer | None = None) -> None:
    """Frames by the channel where one is open, and everything else by the socket."""
    with suppress(ConnectionError):
        while not socket.closed:
            data = await outbox.take()
            if isinstance(data, WSCloseCode):
                await socket.close(code=data)
            elif isinstance(data, bytes):
                if peer is None or not peer.send(data):
                    await socket.send_bytes(data)
            else:
                await socket.send_str(data)


async def _stats(stage: Stage, viewer: Viewer, outbox: Outbox, peer: Peer) -> None:
    frames, since = viewer.frames, time.monotonic()
    while True:
        await asyncio.sleep(STATS_SECONDS)
        now = time.monotonic()
        rate = (viewer.frames - frames) / (now - since)
        frames, since = viewer.frames, now
        outbox.tell(
            {
                "is": "stats",
                "fps": round(rate, 1),
                "milliseconds": round(1000 * viewer.latency),
                "dropped": viewer.dropped + outbox.dropped + peer.dropped,
                "viewers": stage.viewers,
                "by": "webrtc" if peer.is_open else "websocket",
            }
        )


def limits() -> dict[str, int]:
    return {"frame": MOST_FRAME, "reference": MOST_REFERENCE, "prompt": MOST_PROMPT}
