"""Frames by WebRTC, where aiortc is installed: a channel on which nothing waits for what was lost.

    peer = Peer(heard)                 # what comes by the channel
    answer = await peer.meet(offer)    # goes back by the socket
    peer.send(frame) or by the socket

It carries the very messages that the socket would, frames alone, and either side may use the socket
at any time: while no channel is open, and for a frame that is too large for one. No server outside
is asked for addresses, so both have to be in one network.
"""

import asyncio
import ipaddress
import time
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from typing import Any

from .wire import Refused

LARGEST = 65_536  # bytes of a message on a channel: what aiortc says it takes
MOST_WAITING = 2 * LARGEST  # bytes that a channel has not sent yet; beyond that frames are dropped
SECONDS_TO_MEET = 5.0
SECONDS_BETWEEN = 1.0  # offers: each opens ports

TRANSPORTS = ("auto", "webrtc", "websocket")


def offered(transport: str, address: str | None) -> bool:
    """Whether a page at this address is to try it. On this very machine nothing is ever lost, and
    a socket costs less."""
    if transport == "websocket" or find_spec("aiortc") is None:
        return False
    return transport == "webrtc" or not _is_here(address)


class Peer:
    """One page's way around the socket."""

    def __init__(self, heard: Callable[[bytes], None]):
        self.heard = heard
        self.dropped = 0
        self._connection: Any = None
        self._channel: Any = None
        self._met = -SECONDS_BETWEEN

    @property
    def is_open(self) -> bool:
        return self._channel is not None and self._channel.readyState == "open"

    async def meet(self, offer: str) -> str:
        """The answer to a page's offer. A connection before this one is closed."""
        from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription

        now = time.monotonic()
        if now < self._met + SECONDS_BETWEEN:
            raise Refused("message", "An offer of WebRTC may come once a second.")
        self._met = now
        await self.close()
        self._connection = connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        connection.on("datachannel", self._opened)

        async def answered() -> None:
            await connection.setRemoteDescription(RTCSessionDescription(offer, "offer"))
            if connection.sctp is None:
                raise ValueError("it has no channel")
            await connection.setLocalDescription(await connection.createAnswer())

        try:
            if "m=audio" in offer or "m=video" in offer:
                raise ValueError("it has streams, and is to have a channel alone")
            await asyncio.wait_for(answered(), SECONDS_TO_MEET)
        except Exception as error:  # whatever a reader of SDP may meet in a stranger's
            await self.close()
            why = f"{type(error).__name__}: {error}"[:200]
            raise Refused("message", f"This offer of WebRTC cannot be answered: {why}") from error
        return connection.localDescription.sdp

    def send(self, frame: bytes) -> bool:
        """Whether it takes this frame; one that it has no room for is taken, and dropped."""
        if not self.is_open or len(frame) > LARGEST:
            return False
        if self._channel.bufferedAmount > MOST_WAITING:
            self.dropped += 1
        else:
            self._channel.send(frame)
        return True

    async def close(self) -> None:
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None:
            with suppress(Exception):  # of a connection that was half made
                await connection.close()

    def _opened(self, channel: Any) -> None:
        if self._channel is not None:
            channel.close()  # one is enough
            return
        self._channel = channel
        channel.on("message", self._hear)

    def _hear(self, message: str | bytes) -> None:
        self.heard(message if isinstance(message, bytes) else message.encode())


def _is_here(address: str | None) -> bool:
    try:
        return ipaddress.ip_address(address or "").is_loopback
    except ValueError:
        return False
