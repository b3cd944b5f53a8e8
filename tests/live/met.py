"""A page without a browser that meets its server by WebRTC."""

import random
from typing import Any

from aiortc import RTCPeerConnection, RTCSessionDescription

from rtr_core.live.wire import HEAD, framed

from .performer import Performer, picture


class Met(Performer):
    """A performer whose frames go by a channel, of which every so manyth is lost."""

    def __init__(self, socket: Any):
        super().__init__(socket)
        self.connection, self.chance = RTCPeerConnection(), random.Random(0)
        self.loss, self.by_channel = 0.0, 0

    async def meet(self) -> None:
        self.channel = self.connection.createDataChannel("frames", ordered=False, maxRetransmits=0)
        self.channel.on("message", self._came)
        await self.connection.setLocalDescription(await self.connection.createOffer())
        await self.say(do="offer", sdp=self.connection.localDescription.sdp)
        answer = RTCSessionDescription((await self.next("answer"))["sdp"], "answer")
        await self.connection.setRemoteDescription(answer)
        await self.until(lambda: self.channel.readyState == "open")

    async def frame(self, data: bytes | None = None, time: float | None = None) -> None:
        time = float(self.sent) if time is None else time
        if self.chance.random() >= self.loss:
            self.channel.send(framed(time, picture(self.sent) if data is None else data))
        self.sent += 1
        self.waiting.append(time)

    def _came(self, message: bytes) -> None:
        self.by_channel += 1
        self.frames.append((HEAD.unpack_from(message)[1], message[HEAD.size :]))
