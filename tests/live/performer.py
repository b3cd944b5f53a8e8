"""A page without a browser: says what a page says, and remembers what it is told."""

import asyncio
import io
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

import numpy as np
from aiohttp import ClientSession, WSMsgType, web
from PIL import Image

from rtr_core.live.server import Place, application
from rtr_core.live.stage import Stage
from rtr_core.live.wire import FRAME, HEAD, framed

PATIENCE = 20  # seconds
Page = TypeVar("Page", bound="Performer")


def picture(seed: int = 0, height: int = 64, width: int = 96, form: str = "JPEG") -> bytes:
    """An image file of a smooth scene that moves with `seed`."""
    down, across = np.mgrid[0:height, 0:width]
    waves = [np.sin((down * a + across * b + 3 * seed) / 11) for a, b in ((1, 2), (2, 1), (1, -1))]
    pixels = ((np.stack(waves, -1) + 1) * 127).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


class Performer:
    """One socket. `told` are texts, `frames` styled frames with their times."""

    def __init__(self, socket: Any):
        self.socket = socket
        self.told: list[dict[str, Any]] = []
        self.frames: list[tuple[float, bytes]] = []
        self.sent = 0  # frames
        self.waiting: list[float] = []  # times of those that were not taken yet
        self.reading = asyncio.ensure_future(self._read())

    async def say(self, **said: Any) -> None:
        await self.socket.send_str(json.dumps(said))

    async def begin(self, height: int = 64, width: int = 96, **style: Any) -> dict[str, Any]:
        begun = len(self.all("begun"))
        await self.say(do="begin", height=height, width=width, style=style or {"chip": 0})
        return await self.next("begun", begun)

    async def frame(self, data: bytes | None = None, time: float | None = None) -> None:
        time = float(self.sent) if time is None else time
        await self.socket.send_bytes(framed(time, picture(self.sent) if data is None else data))
        self.sent += 1
        self.waiting.append(time)

    @property
    def ahead(self) -> int:
        return len(self.waiting)

    async def stream(self, frames: int) -> None:
        """So many frames, at the pace at which they are taken."""
        for _ in range(frames):
            await self.frame()
            await self.until(lambda: self.ahead <= 4)

    async def played(self, frames: int) -> None:
        """So many that complete a chunk, until they are in the session."""
        await self.stream(frames)
        await self.until(lambda: self.ahead == 0)

    def all(self, kind: str) -> list[dict[str, Any]]:
        return [said for said in self.told if said["is"] == kind]

    async def next(self, kind: str, after: int = 0) -> dict[str, Any]:
        """The first of its kind after so many."""
        await self.until(lambda: len(self.all(kind)) > after)
        return self.all(kind)[after]

    async def until(self, true: Callable[[], bool]) -> None:
        async def wait() -> None:
            while not true():
                await asyncio.sleep(0.005)

        try:
            await asyncio.wait_for(wait(), PATIENCE)
        except asyncio.TimeoutError:
            raise AssertionError(f"told {self.told[-6:]}, {len(self.frames)} frames") from None

    async def _read(self) -> None:
        async for message in self.socket:
            if message.type == WSMsgType.TEXT:
                self._hear(json.loads(message.data))
            elif message.type == WSMsgType.BINARY:
                kind, time = HEAD.unpack_from(message.data)
                assert kind == FRAME
                self.frames.append((time, message.data[HEAD.size :]))

    def _hear(self, said: dict[str, Any]) -> None:
        self.told.append(said)
        if said["is"] == "begun":
            self.waiting.clear()
        if said["is"] == "taken" and said["time"] is not None:
            self.waiting = [time for time in self.waiting if time > said["time"]]


class Server:
    def __init__(self, stage: Stage, base: str, client: ClientSession):
        self.stage, self.base, self.client = stage, base, client

    def address(self, path: str = "", token: str | None = None) -> str:
        token = self.stage.tokens.perform if token is None else token
        return f"{self.base}/rtr/live{path}?token={token}"

    async def performer(self, kind: type[Page] = Performer) -> Page:
        return kind(await self.client.ws_connect(self.address("/wire"), max_msg_size=0))

    async def watcher(self) -> Performer:
        address = self.address("/watch", self.stage.tokens.watch)
        return Performer(await self.client.ws_connect(address, max_msg_size=0))


@asynccontextmanager
async def serving(stage: Stage, transport: str = "auto") -> AsyncIterator[Server]:
    """A real server on a free port of this machine."""
    runner = web.AppRunner(application(stage, Place(transport=transport)), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        async with ClientSession() as client:
            yield Server(stage, f"http://127.0.0.1:{port}", client)
    finally:
        await runner.cleanup()
        stage.close()


@contextmanager
def standing(stage: Stage, transport: str = "auto") -> Iterator[str]:
    """A server beside this thread; gives its link."""
    over, ready, links = threading.Event(), threading.Event(), []

    async def work():
        async with serving(stage, transport) as server:
            links.append(server.address())
            ready.set()
            await asyncio.to_thread(over.wait)

    thread = threading.Thread(target=lambda: asyncio.run(work()))
    thread.start()
    ready.wait(30)
    try:
        yield links[0]
    finally:
        over.set()
        thread.join()
