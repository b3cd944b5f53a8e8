"""What a page gets: styled frames of its own, at the next chunk what it asks for, and the truth."""

import asyncio
import io
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("aiohttp", reason="no aiohttp to serve the live page with")

from rtr_core import Style, Stylizer
from rtr_core.live.stage import Stage
from rtr_core.live.viewer import Chip, Setup
from tests.live.performer import picture, serving

CHIPS = tuple(Chip(name, Style(prompt=name)) for name in ("ink wash painting", "thermal camera"))


def stage_of(stylizer: Stylizer, takes: Path | None = None, most: int = 4) -> Stage:
    return Stage.of(stylizer, Setup(chips=CHIPS, side=96, takes=takes), most=most)


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data))).astype(float)


def run(work) -> None:
    asyncio.run(asyncio.wait_for(work, 60))


def test_every_frame_comes_back_styled_with_its_own_time(stylizer):
    async def work():
        async with serving(stage_of(stylizer)) as server:
            page = await server.performer()
            hello = await page.next("hello")
            assert [chip["name"] for chip in hello["chips"]] == [chip.name for chip in CHIPS]
            begun = await page.begin()
            assert (begun["width"], begun["height"]) == (96, 64)
            await page.stream(9)
            await page.until(lambda: len(page.frames) == 9)
            assert [time for time, _ in page.frames] == list(range(9))
            assert pixels(page.frames[-1][1]).shape == (64, 96, 3)
            assert abs(pixels(page.frames[-1][1]) - pixels(picture(8))).mean() > 5

    run(work())


def test_a_tapped_chip_shows_from_the_next_chunk_on(stylizer):
    async def work():
        async with serving(stage_of(stylizer)) as server:
            one, other = await server.performer(), await server.performer()
            for page in (one, other):
                await page.begin()
                await page.played(5)
            await one.say(do="style", style={"chip": 1})
            assert (await one.next("style", 1))["frame"] == 5
            for page in (one, other):
                await page.stream(4)
                await page.until(lambda page=page: len(page.frames) == 9)
            apart = [
                abs(pixels(a) - pixels(b)).mean()
                for (_, a), (_, b) in zip(one.frames, other.frames, strict=True)
            ]
            assert apart[:5] == [0] * 5 and min(apart[5:]) > 10

    run(work())


def test_a_dropped_picture_becomes_the_style(stylizer):
    async def work():
        async with serving(stage_of(stylizer)) as server:
            page = await server.performer()
            await page.begin()
            await page.socket.send_bytes(b"\x02" + picture(5, 80, 80, "PNG"))
            name = (await page.next("reference"))["id"]
            await page.say(do="style", style={"reference": name}, fade=4)
            assert "reference" in (await page.next("style", 1))["name"]
            await page.stream(5)
            await page.socket.send_bytes(b"\x02" + b"no picture at all")
            assert (await page.next("refused"))["what"] == "reference"
            await page.say(do="style", style={"reference": "r77"})
            assert "drop the image once more" in (await page.next("refused", 1))["why"]

    run(work())


def test_a_full_stage_says_so_and_a_place_is_free_within_two_seconds_of_a_closed_tab(stylizer):
    async def work():
        async with serving(stage_of(stylizer, most=1)) as server:
            page = await server.performer()
            await page.begin()
            await page.stream(5)
            late = await server.performer()
            assert "places are taken" in (await late.next("full"))["why"]
            await late.until(lambda: late.socket.closed)
            assert late.socket.close_code == 1013
            session, began = server.stage._viewers[0], time.monotonic()
            await page.socket.close()
            while session.session is not None or server.stage._leaving:
                assert time.monotonic() - began < 2
                await asyncio.sleep(0.01)
            again = await server.performer()
            await again.begin()

    run(work())


def test_a_camera_that_changes_its_size_goes_on_with_another_stream(stylizer):
    async def work():
        async with serving(stage_of(stylizer)) as server:
            page = await server.performer()
            await page.begin()
            await page.played(5)
            begun = await page.begin(height=480, width=640)
            assert (begun["width"], begun["height"]) == (112, 80)
            assert begun["width"] * begun["height"] <= 1.1 * 96 * 96
            await page.frame(picture(0, 80, 112))
            await page.until(lambda: len(page.frames) == 6)
            await asyncio.sleep(0.5)
            for _ in range(4):
                await page.frame(picture(0, 64, 96))
            await page.next("refused")
            assert "112x80" in page.all("refused")[0]["why"]

    run(work())


def test_a_page_that_asks_for_nothing_it_can_have_is_told_why(stylizer):
    async def work():
        async with serving(stage_of(stylizer)) as server:
            page = await server.performer()
            for said, why in (
                ({"do": "style", "style": {"chip": 0}}, "begin first"),
                ({"do": "record", "on": True}, "begin first"),
                ({"do": "begin", "height": 64, "width": 96, "style": {"chip": 9}}, "2 chips"),
                ({"do": "begin", "height": 64, "width": 96, "style": {}}, "tap a chip"),
                ({"do": "begin", "height": 0, "width": 96, "style": {"chip": 0}}, "height is"),
                ({"do": "dance"}, "begin, style, record or offer"),
            ):
                before = len(page.all("refused"))
                await page.say(**said)
                assert why in (await page.next("refused", before))["why"]

    run(work())


def test_watchers_see_the_performer_who_began_last_and_cannot_perform(stylizer):
    async def work():
        async with serving(stage_of(stylizer)) as server:
            watcher = await server.watcher()
            first, second = await server.performer(), await server.performer()
            for number, page in enumerate((first, second), 1):
                await page.begin()
                await page.played(1)
                await watcher.until(lambda number=number: len(watcher.frames) == number)
            await first.frame(time=7)
            await second.stream(4)
            await watcher.until(lambda: len(watcher.frames) == 6)
            assert [data for _, data in watcher.frames[2:]] == [d for _, d in second.frames[1:]]
            closed = server.address("/wire", server.stage.tokens.watch)
            async with server.client.get(closed) as answer:
                assert answer.status == 403

    run(work())


def test_links_without_a_token_and_pages_of_other_sites_are_turned_away(stylizer):
    async def work():
        async with serving(stage_of(stylizer)) as server:
            for path in ("", "/view", "/wire", "/watch", "/qr.svg"):
                for token in ("", "x" * 16):
                    async with server.client.get(server.address(path, token)) as answer:
                        assert answer.status == 403
                        assert "not valid any more" in await answer.text()
            strange = {"Origin": "http://elsewhere.example"}
            async with server.client.get(server.address("/wire"), headers=strange) as answer:
                assert answer.status == 403
            for path in ("/page/../stage.py", "/page/%2e%2e%2fstage.py", "/page/stage.py"):
                async with server.client.get(f"{server.base}/rtr/live{path}") as answer:
                    assert answer.status == 404

    run(work())
