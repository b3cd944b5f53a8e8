"""A server of our own for the live page, where no host has one.

serve(stage, Place(port=8190), say=print)
"""

import asyncio
import signal
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from ..errors import RtrError
from .certificate import secure
from .routes import ROOT, Routes
from .stage import Stage

LOOPBACK = "127.0.0.1"
EVERYWHERE = ("0.0.0.0", "::", "")


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a server listens."""

    host: str = LOOPBACK
    port: int = 8190
    certificates: Path | None = None  # folder of them; None: not secure
    transport: str = "auto"  # of frames, see `peer.offered`

    @property
    def scheme(self) -> str:
        return "http" if self.certificates is None else "https"

    @property
    def hosts(self) -> list[str]:
        """Under which it is reached, those for other devices first."""
        if self.host in EVERYWHERE:
            return [*filter(None, [address()]), LOOPBACK]
        return [self.host]

    @property
    def links(self) -> list[str]:
        return [f"{self.scheme}://{host}:{self.port}" for host in self.hosts]

    def secured(self) -> ssl.SSLContext | None:
        if self.certificates is None:
            return None
        return secure(self.certificates, [*self.hosts, "localhost"])


def application(stage: Stage, place: Place) -> web.Application:
    made, table = web.Application(), web.RouteTableDef()

    def stage_of(name: str) -> Stage | None:
        return None if name else stage

    Routes(stage_of, lambda request: place.links, place.transport).add(table)
    made.add_routes(table)
    return made


def serve(stage: Stage, place: Place, say: Callable[[str], None]) -> None:
    """Until it is interrupted; then all recordings are ended."""
    try:
        asyncio.run(_serve(stage, place, say))
    finally:
        stage.close()


async def _serve(stage: Stage, place: Place, say: Callable[[str], None]) -> None:
    runner = web.AppRunner(application(stage, place), access_log=None)
    await runner.setup()
    over, loop = asyncio.Event(), asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError):  # on Windows
            loop.add_signal_handler(name, over.set)
    try:
        site = web.TCPSite(runner, place.host, place.port, ssl_context=place.secured())
        try:
            await site.start()
        except OSError as error:
            raise RtrError(
                f"Nothing can listen on {place.host}:{place.port}: {error.strerror or error}. "
                f"Choose another --port, or --listen."
            ) from error
        for link in place.links:
            say(f"{link}{ROOT}?token={stage.tokens.perform}")
        say(f"picture only: {place.links[-1]}{ROOT}/view?token={stage.tokens.watch}")
        await over.wait()
    finally:
        await runner.cleanup()


def address() -> str | None:
    """This machine's address in its network, without a packet being sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            asking.connect(("192.0.2.1", 9))  # kept for documentation: nobody has it
            return asking.getsockname()[0]
        except OSError:
            return None
