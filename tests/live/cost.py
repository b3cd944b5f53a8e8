"""What the wire and the page cost: frames a second of a bare session, and through a server.

    python -m tests.live.cost [websocket | webrtc | page]

Both take turns, and the median of the pairs is told, so that what else the machine does slows down
both. For the wire alone the performer is a process of its own, without a browser. With the page
it is a Chromium before a made-up camera, which draws without a GPU: it competes for the very
processors that stylize, as none does on a phone.
The bare session has a thread of its own too, as the server's worker has, that ends with it.
"""

import asyncio
import multiprocessing
import sys
import time

import numpy as np
import torch
from aiohttp import ClientSession

from rtr_core import Style, Stylizer
from rtr_core.live.apart import apart
from rtr_core.live.images import decoded_frame
from rtr_core.live.stage import Stage
from rtr_core.live.viewer import Chip, Setup
from rtr_core.shapes import Size
from tests.live.artist import on_stage
from tests.live.browser import CAMERA
from tests.live.met import Met
from tests.live.performer import Performer, picture, serving, standing

SIZE, CHUNKS, REPEATS = Size(256, 256), 40, 8
FRAMES = 1 + 4 * CHUNKS
SETTLES, SEEN = 4, 12  # seconds of a page, before and while it is measured
RATE = 30  # frames a second of the camera
DESK = {"viewport": {"width": 1280, "height": 800}}
STYLE = Style(prompt="ink wash painting")
SOURCES = [picture(n, *SIZE) for n in range(16)]


@torch.inference_mode()
def bare(stylizer: Stylizer) -> float:
    """Frames a second of a session, its frames in memory."""
    frames = torch.stack([decoded_frame(data, SIZE) for data in SOURCES])
    session = stylizer.session(STYLE, SIZE)
    began = time.perf_counter()
    for n in range(FRAMES):
        for _ in session.push(frames[n % len(frames)][None]):
            pass
    session.commit()
    return FRAMES / (time.perf_counter() - began)


async def performed(address: str, transport: str) -> None:
    """A page without a browser: as many frames as credits allow."""
    async with ClientSession() as client:
        socket = await client.ws_connect(address, max_msg_size=0)
        page = Met(socket) if transport == "webrtc" else Performer(socket)
        if isinstance(page, Met):
            await page.meet()
        begun = await page.begin(*SIZE)
        for n in range(FRAMES + begun["ahead"]):
            await page.frame(SOURCES[n % len(SOURCES)])
            while page.ahead >= begun["ahead"]:
                await asyncio.sleep(0.002)


def perform(address: str, transport: str) -> None:
    asyncio.run(performed(address, transport))


async def served(stylizer: Stylizer, transport: str) -> float:
    """Frames a second that leave a server, while a performer in another process sends."""
    stage = Stage.of(stylizer, Setup(chips=(Chip("ink", STYLE),), side=SIZE.height))
    async with serving(stage, transport) as server:
        process = multiprocessing.get_context("spawn").Process(
            target=perform, args=(server.address("/wire"), transport), daemon=True
        )
        process.start()
        while not (stage._viewers and stage._viewers[0].frames):
            await asyncio.sleep(0.01)
        began, before = time.perf_counter(), stage._viewers[0].frames
        while stage._viewers and stage._viewers[0].frames < FRAMES - 4:
            await asyncio.sleep(0.01)
        done = stage._viewers[0].frames - before
        rate = done / (time.perf_counter() - began)
        await asyncio.to_thread(process.join)
        return rate


def seen(stylizer: Stylizer) -> float:
    """Frames a second of a server whose performer is the page in a browser."""
    stage = Stage.of(stylizer, Setup(chips=(Chip("ink", STYLE),), side=SIZE.height))
    with standing(stage) as link, on_stage(link, f"{CAMERA}=fps={RATE}", **DESK):
        time.sleep(SETTLES)
        (viewer,) = stage._viewers
        began, before = time.perf_counter(), viewer.frames
        time.sleep(SEEN)
        return (viewer.frames - before) / (time.perf_counter() - began)


def main() -> None:
    stylizer = apart(lambda: Stylizer.load("rtr-tiny", device="cpu"))
    threads = torch.get_num_threads()
    way = (sys.argv[1:] or ["websocket"])[0]

    def through() -> float:
        return seen(stylizer) if way == "page" else asyncio.run(served(stylizer, way))

    rates = np.array([(apart(lambda: bare(stylizer)), through()) for _ in range(REPEATS)])
    alone, less = np.median(rates, 0)
    cost = np.median(rates[:, 1] / rates[:, 0] - 1)  # of a pair both are slowed down alike
    sys.stdout.write(
        f"{SIZE}, {threads} threads, {FRAMES} frames: a bare session {alone:.1f} frames a second, "
        f"through the server by {way} {less:.1f} ({cost:+.1%}); of the pairs "
        + ", ".join(f"{b / a - 1:+.1%}" for a, b in rates)
        + "\n"
    )


if __name__ == "__main__":
    main()
