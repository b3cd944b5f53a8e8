"""How pages share a device with one another, and with the host's queue."""

import asyncio
import os
import time
from pathlib import Path

import pytest

pytest.importorskip("aiohttp", reason="no aiohttp to serve the live page with")

from contextlib import nullcontext

from rtr_core.live.stage import Away, Stage, low_latency
from rtr_core.live.viewer import EAGER, Setup, Viewer, fitted
from rtr_core.live.wire import Begin, Picture, StyleWish
from rtr_core.shapes import Size
from tests.live.performer import picture, serving
from tests.live.test_server import CHIPS, stage_of

STATM = Path("/proc/self/statm")
SETUP = Setup(chips=CHIPS, side=96)


def test_a_slow_page_and_one_that_vanishes_do_not_disturb_the_others(stylizer):
    """Four of them: the slow one reads nothing, and only its own frames are dropped."""

    async def work():
        async with serving(stage_of(stylizer)) as server:
            pages = [await server.performer() for _ in range(4)]
            for page in pages:
                await page.begin()
            quick, other, slow, gone = pages
            slow.reading.cancel()
            gone.socket._response.connection.transport.abort()  # no goodbye
            for _ in range(6):
                for _ in range(4):
                    await slow.frame()
                await asyncio.gather(quick.stream(4), other.stream(4))
            await quick.until(lambda: len(quick.frames) >= 21 and len(other.frames) >= 21)
            assert quick.frames[:21] == other.frames[:21]
            await quick.until(lambda: server.stage.viewers == 3)

    asyncio.run(asyncio.wait_for(work(), 60))


def test_beside_a_busy_host_a_stream_takes_half_of_the_time_and_goes_on(stylizer):
    async def shares(busy: bool) -> tuple[float, int]:
        """Of the time, what turns took; and how many frames came."""
        spent = 0.0
        stage = Stage(SETUP, lambda: nullcontext(stylizer), lambda: busy)
        turn = stage._turn

        def timed(viewer):
            nonlocal spent
            began = time.monotonic()
            frames = turn(viewer)
            spent += time.monotonic() - began
            return frames

        stage._turn = timed
        async with serving(stage) as server:
            page = await server.performer()
            await page.begin()
            await page.played(5)
            spent, began = 0.0, time.monotonic()
            while time.monotonic() - began < 2:
                await page.stream(4)
            return spent / (time.monotonic() - began), len(page.frames)

    async def work():
        share, frames = await shares(busy=True)
        assert share < 0.55 and frames >= 9

    asyncio.run(asyncio.wait_for(work(), 60))


def test_weights_that_are_away_are_waited_for_and_the_stream_goes_on(stylizer):
    there = True

    def weights():
        if not there:
            raise Away("The model is away: queue the graph.")
        return nullcontext(stylizer)

    async def work():
        nonlocal there
        async with serving(Stage(SETUP, weights)) as server:
            page = await server.performer()
            await page.begin()
            await page.played(5)
            there = False
            for _ in range(4):
                await page.frame()
            assert "queue the graph" in (await page.next("waiting"))["why"]
            there = True
            await page.until(lambda: len(page.frames) == 9)

    asyncio.run(asyncio.wait_for(work(), 60))


def test_memory_is_flat_while_frames_come_and_go(stylizer):
    def resident() -> int:
        return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    async def work():
        async with serving(stage_of(stylizer)) as server:
            page = await server.performer()
            await page.begin()
            await page.stream(120)
            page.frames.clear()
            before = resident()
            for _ in range(4):
                await page.stream(120)
                page.frames.clear()
            assert resident() - before < 8 * 2**20

    if not STATM.is_file():
        pytest.skip("no /proc to ask how much memory this process has")
    asyncio.run(asyncio.wait_for(work(), 120))


def test_more_frames_than_can_be_taken_are_let_go_of_the_oldest_first(stylizer):
    async def work():
        stage = Stage(SETUP, lambda: nullcontext(stylizer))
        async with serving(stage) as server:
            page = await server.performer()
            begun = await page.begin()
            await page.played(1)
            ahead = begun["ahead"]
            with stage._change:  # the worker cannot look for its next turn
                data = picture()
                for time_ in range(100, 100 + 3 * ahead):
                    await page.frame(data, float(time_))
                await asyncio.sleep(0.3)
            await page.until(lambda: len(page.frames) >= 1 + 4)
            assert sum(said["dropped"] for said in page.all("taken")) == 2 * ahead
            assert page.frames[1][0] == 100 + 2 * ahead

    asyncio.run(asyncio.wait_for(work(), 60))


def test_the_first_frame_of_a_stream_sets_no_pace_and_a_worker_that_waits_asks_for_more(stylizer):
    """One frame takes a chunk's work, a style's and all that is done once: as a pace it would slow
    a stream down for many chunks."""
    told = []
    viewer = Viewer(SETUP, told.append, lambda time, data, frame: None, lambda take: None)

    def told_pace() -> float:
        viewer.put(Picture(float(len(told)), picture()))
        viewer.missing = 1  # one is enough for a turn
        viewer.turn(stylizer)
        return [said for said in told if said["is"] == "taken"][-1]["pace"]

    viewer.wish(Begin(Size(64, 96), StyleWish(chip=0)))
    viewer.turn(stylizer)
    viewer.learn_pace(1, 5.0, False)
    assert told_pace() == 0  # not known: the page sends as fast as it may
    viewer.learn_pace(4, 0.4, False)
    assert told_pace() == 0.1
    viewer.learn_pace(4, 0.4, True)
    assert told_pace() == 0.09


def test_a_stream_that_is_waited_for_is_eager_and_one_that_waits_is_not(stylizer):
    async def work():
        stage = Stage(SETUP, lambda: nullcontext(stylizer))
        async with serving(stage) as server:
            page = await server.performer()
            await page.begin()
            await page.played(1)
            for _ in range(3):
                await page.played(4)
                await asyncio.sleep(0.2)
            (viewer,) = stage._viewers
            assert viewer.haste == EAGER
            with stage._change:
                for _ in range(8):
                    await page.frame()
                await asyncio.sleep(0.3)
            await page.until(lambda: page.ahead == 0)
            await page.until(lambda: viewer.haste == 1)

    asyncio.run(asyncio.wait_for(work(), 60))


def test_a_stream_has_the_shape_of_its_source_and_no_more_pixels():
    assert fitted(Size(480, 640), 256) == Size(224, 288)
    assert fitted(Size(1920, 1080), 256) == Size(336, 192)
    assert fitted(Size(64, 96), 256) == Size(64, 96)
    assert fitted(Size(1, 4000), 256).height == 16


def test_the_low_latency_recipe_has_one_call_for_each_latent_frame(stylizer):
    several = stylizer.recipe.override(timesteps=(1000, 500, 250), chunk=3, commit="clean")
    quick = low_latency(several)
    assert (quick.chunk, quick.buffer, quick.flight, quick.commit) == (1, 3, "apart", "last step")
    assert low_latency(stylizer.recipe).buffer == 1
    in_panes = stylizer.recipe.override(chunk=2, panes=(2, 4, 4))
    assert low_latency(in_panes).panes == (1, 4, 4)
