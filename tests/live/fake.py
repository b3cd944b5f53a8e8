"""A server that says what a live server says, without a model: frames come back with their colours
exchanged, a chunk at a time, and credits are obeyed. What a test wants to see is kept in lists."""

import asyncio
import base64
import io
import json
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from aiohttp import ClientConnectionResetError, WSMsgType, web
from PIL import Image, ImageDraw, ImageFilter

import rtr_core

PAGE = Path(rtr_core.__file__).parent / "live" / "page"
HEAD = struct.Struct("<Bd")
CHUNK, AHEAD = 4, 8
NAMES = ("ink wash", "thermal", "klimt", "neon city", "impressionist oil", "pixel art")
ORDERS = ((2, 1, 0), (1, 0, 2), (0, 2, 1), (1, 2, 0), (2, 0, 1), (0, 0, 0))


def restyled(picture: bytes, chip: int) -> bytes:
    """The picture with its colours exchanged, as a JPEG."""
    bands = Image.open(io.BytesIO(picture)).convert("RGB").split()
    out = io.BytesIO()
    Image.merge("RGB", [bands[band] for band in ORDERS[chip % len(ORDERS)]]).save(out, "JPEG")
    return out.getvalue()


def thumbnail(chip: int) -> str:
    """A face for a chip: some hills, blurred, in its colours."""
    image = Image.new("RGB", (96, 96), (230, 120 + 20 * chip, 90))
    draw = ImageDraw.Draw(image)
    draw.ellipse((50, 14, 78, 42), fill=(255, 230, 160))
    draw.polygon([(0, 96), (0, 60), (34, 38), (70, 70), (96, 54), (96, 96)], fill=(40, 60, 120))
    out = io.BytesIO()
    image.filter(ImageFilter.GaussianBlur(1)).save(out, "PNG")
    turned = restyled(out.getvalue(), chip)
    return "data:image/jpeg;base64," + base64.b64encode(turned).decode()


class Fake:
    """What it says can be changed at any time, and what it heard is kept."""

    def __init__(self):
        self.address = ""
        self.is_full = False
        self.side = 256
        self.chips = [
            {
                "name": name,
                "prompt": f"{name} style",
                "thumbnail": thumbnail(at) if at % 2 else None,
            }
            for at, name in enumerate(NAMES)
        ]
        self.heard: list[dict[str, Any]] = []
        self.references: list[bytes] = []
        self.sockets: list[web.WebSocketResponse] = []
        self.watchers: list[web.WebSocketResponse] = []
        self.most_ahead = 0
        self.pause = 0.0  # seconds that a chunk takes
        self.pace = 1 / 25  # seconds a frame that are told

    def said(self, what: str) -> list[dict[str, Any]]:
        return [message for message in self.heard if message["do"] == what]

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/rtr/live", self._index),
            web.get("/rtr/live/view", self._view),
            web.get("/rtr/live/page/{file}", self._file),
            web.get("/rtr/live/qr.svg", self._qr),
            web.get("/rtr/live/wire", self._wire),
            web.get("/rtr/live/watch", self._watch),
        ]

    async def _index(self, request: web.Request) -> web.FileResponse:
        return web.FileResponse(PAGE / "index.html")

    async def _view(self, request: web.Request) -> web.FileResponse:
        return web.FileResponse(PAGE / "view.html")

    async def _file(self, request: web.Request) -> web.FileResponse:
        return web.FileResponse(PAGE / Path(request.match_info["file"]).name)

    async def _qr(self, request: web.Request) -> web.Response:
        segno = __import__("segno")
        out = io.BytesIO()
        segno.make(f"https://192.168.1.4:8190/rtr/live?{request.query_string}").save(
            out, kind="svg", border=0, scale=8
        )
        return web.Response(body=out.getvalue(), content_type="image/svg+xml")

    async def _watch(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.watchers.append(socket)
        async for _ in socket:
            pass
        self.watchers.remove(socket)
        return socket

    async def _wire(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(max_msg_size=2**25)
        await socket.prepare(request)
        if self.is_full:
            await socket.send_json({"is": "full", "why": "All 4 places are taken: try again soon."})
            await socket.close(code=1013)
            return socket
        self.sockets.append(socket)
        link = f"{self.address}/rtr/live?token=T"
        await socket.send_json(
            {
                "is": "hello",
                "model": "rtr-tiny",
                "side": self.side,
                "chips": self.chips,
                "links": [link.replace("127.0.0.1", "192.168.1.4"), link],
                "view": f"{self.address}/rtr/live/view?token=V",
                "rtc": False,
                "limits": {"frame": 2**21, "reference": 2**24, "prompt": 2000},
            }
        )
        with suppress(ClientConnectionResetError):  # a tab that is closed says no goodbye
            await Viewer(self, socket).listen()
        return socket


class Viewer:
    """One page: its stream from begin on."""

    def __init__(self, fake: Fake, socket: web.WebSocketResponse):
        self.fake, self.socket = fake, socket
        self.waiting: list[tuple[float, bytes]] = []
        self.styled = self.ahead = 0
        self.chip = 0

    async def listen(self) -> None:
        async for message in self.socket:
            if message.type == WSMsgType.BINARY:
                await (self._frame if message.data[0] == 1 else self._reference)(message.data)
            elif message.type == WSMsgType.TEXT:
                said = json.loads(message.data)
                self.fake.heard.append(said)
                await getattr(self, f"_{said['do']}")(said)

    async def _begin(self, said: dict[str, Any]) -> None:
        scale = 320 / max(said["width"], said["height"])
        size = {name: round(said[name] * scale / 16) * 16 for name in ("width", "height")}
        self.waiting.clear()
        self.ahead = 0
        self.chip = said["style"].get("chip", 5)
        await self.socket.send_json({"is": "begun", **size, "chunk": CHUNK, "ahead": AHEAD})

    async def _style(self, said: dict[str, Any]) -> None:
        self.chip = said["style"].get("chip", 5)
        named = self.fake.chips[self.chip]["name"] if "chip" in said["style"] else "your own"
        await asyncio.sleep(0.1)
        await self.socket.send_json({"is": "style", "name": named, "frame": self.styled})

    async def _record(self, said: dict[str, Any]) -> None:
        take = "2026-11-25-031502"
        await self.socket.send_json({"is": "recording", "on": said["on"], "take": take})
        if not said["on"]:
            clip, cues = (f"takes/{take}/{name}" for name in ("source.mp4", "cues.txt"))
            command = f"rtr stylize {clip} night.mp4 --cues {cues} --seed 7"
            done = {"is": "recorded", "take": take, "frames": 412, "command": command}
            await self.socket.send_json(done)

    async def _reference(self, data: bytes) -> None:
        self.fake.references.append(data[1:])
        await self.socket.send_json({"is": "reference", "id": f"r{len(self.fake.references)}"})

    async def _frame(self, data: bytes) -> None:
        self.waiting.append((HEAD.unpack_from(data)[1], data[HEAD.size :]))
        self.ahead += 1
        self.fake.most_ahead = max(self.fake.most_ahead, self.ahead)
        if len(self.waiting) < CHUNK:
            return
        await asyncio.sleep(self.fake.pause)
        for time, picture in self.waiting:
            styled = HEAD.pack(1, time) + restyled(picture, self.chip)
            for socket in [self.socket, *self.fake.watchers]:
                await socket.send_bytes(styled)
        self.styled += CHUNK
        self.ahead -= CHUNK
        newest = self.waiting[-1][0]
        self.waiting.clear()
        taken = {"is": "taken", "time": newest, "dropped": 0, "pace": self.fake.pace}
        await self.socket.send_json(taken)
        stats = {"is": "stats", "fps": 24.0, "milliseconds": 90.0, "dropped": 0, "viewers": 1}
        await self.socket.send_json(stats)


@contextmanager
def serving() -> Iterator[Fake]:
    """A fake on a free port, in a thread of its own."""
    fake, loop, ready = Fake(), asyncio.new_event_loop(), threading.Event()

    async def start() -> web.AppRunner:
        app = web.Application()
        app.add_routes(fake.routes())
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        fake.address = f"http://127.0.0.1:{runner.addresses[0][1]}"
        ready.set()
        return runner

    def run() -> None:
        asyncio.set_event_loop(loop)
        runner = loop.run_until_complete(start())
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())
        loop.close()

    fake.loop = loop
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert ready.wait(10), "the fake server did not start"
    yield fake
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
