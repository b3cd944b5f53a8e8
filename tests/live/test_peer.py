"""WebRTC: frames go around the socket, and a page is as well off where they are lost on the way."""

import asyncio
import random
from contextlib import asynccontextmanager

import pytest

pytest.importorskip("aiohttp", reason="no aiohttp to serve the live page with")
pytest.importorskip("aiortc", reason="no aiortc to meet by WebRTC with")

from rtr_core.live.peer import LARGEST, Peer, offered
from rtr_core.live.wire import framed
from tests.live.met import Met
from tests.live.performer import Performer, picture, serving
from tests.live.test_server import run, stage_of


@asynccontextmanager
async def meeting(stage, loss: float = 0.0):
    async with serving(stage, transport="webrtc") as server:
        page = await server.performer(Met)
        page.loss = loss
        try:
            assert (await page.next("hello"))["rtc"]
            await page.meet()
            yield page
        finally:
            await page.connection.close()


def test_frames_come_and_go_by_the_channel_with_their_own_times(stylizer):
    async def work():
        async with meeting(stage_of(stylizer)) as page:
            await page.begin()
            await page.stream(9)
            await page.until(lambda: len(page.frames) == 9)
            assert [time for time, _ in page.frames] == list(range(9))
            assert page.by_channel == 9

    run(work())


def test_frames_that_are_lost_cost_no_credit_and_hold_up_no_others(stylizer):
    async def work():
        async with meeting(stage_of(stylizer), loss=0.2) as page:
            begun = await page.begin()
            for _ in range(60):
                await page.frame()
                if page.ahead >= begun["ahead"]:  # the last of them may all be lost: a page waits
                    await asyncio.sleep(0.02)
            times = [time for time, _ in page.frames]
            assert len(times) > 20 and times == sorted(times)
            await page.stream(8)
            await page.until(lambda: page.ahead <= 4)

    run(work())


def test_a_frame_that_was_overtaken_is_let_go_of(stylizer):
    async def work():
        async with meeting(stage_of(stylizer)) as page:
            await page.begin()
            for time in (0, 1, 3, 2, 4, 5):
                await page.frame(time=time)
            await page.until(lambda: len(page.frames) == 5)
            assert [time for time, _ in page.frames] == [0, 1, 3, 4, 5]

    run(work())


def test_where_the_channel_closes_frames_go_by_the_socket_again(stylizer, made):
    async def work():
        async with meeting(stage_of(stylizer)) as page:
            await page.begin()
            await page.stream(5)
            await page.until(lambda: len(page.frames) == 5)
            await page.say(do="offer", sdp=None)
            await page.until(lambda: made[-1]._connection is None)
            for _ in range(4):
                await Performer.frame(page)
            await page.until(lambda: len(page.frames) == 9)
            assert page.by_channel == 5

    run(work())


def test_a_page_that_vanishes_leaves_no_connection(stylizer, made):
    async def work():
        stage = stage_of(stylizer)
        async with meeting(stage) as page:
            await page.begin()
            await page.stream(5)
            connection = made[-1]._connection
            page.socket._writer.transport.abort()
            await page.until(lambda: stage.viewers == 0 and connection.connectionState == "closed")
            assert made[-1]._connection is None

    run(work())


def test_offers_that_are_none_are_refused_and_the_socket_goes_on(stylizer, made):
    async def work():
        async with serving(stage_of(stylizer), transport="webrtc") as server:
            page = await server.performer()
            offers = ["", "v=0", "v=0\r\nm=application 9 UDP/DTLS/SCTP x", "m=video 9 RTP/AVP 96"]
            for number, sdp in enumerate(offers):
                await page.say(do="offer", sdp=sdp)
                refused = await page.next("refused", number)
                assert "offer of WebRTC" in refused["why"]
                await asyncio.sleep(1)
            assert made[-1]._connection is None
            await page.begin()
            await page.stream(5)
            await page.until(lambda: len(page.frames) == 5)

    run(work())


def test_offers_come_once_a_second_at_most_and_text_by_the_channel_is_refused(stylizer):
    async def work():
        async with meeting(stage_of(stylizer)) as page:
            page.channel.send("hello")
            assert "neither" in (await page.next("refused"))["why"]
            await page.say(do="offer", sdp=page.connection.localDescription.sdp)
            assert "once a second" in (await page.next("refused", 1))["why"]

    run(work())


def test_mutated_frames_by_the_channel_are_refused_and_the_page_goes_on(stylizer):
    async def work():
        rng = random.Random(1)
        async with meeting(stage_of(stylizer)) as page:
            await page.begin()
            good = framed(0.0, picture(0))
            for _ in range(200):
                broken = bytearray(good[: rng.randrange(1, len(good))])
                for _ in range(rng.randrange(8)):
                    broken[rng.randrange(len(broken))] = rng.randrange(256)
                page.channel.send(bytes(broken))
                await asyncio.sleep(0.005)
            await page.begin()
            wanted = {float(page.sent + n) for n in range(5)}
            await page.stream(5)
            await page.until(lambda: wanted <= {time for time, _ in page.frames})

    run(work())


def test_what_is_too_large_for_a_channel_goes_by_the_socket():
    peer = Peer(lambda data: None)
    peer._channel = type("Channel", (), {"readyState": "open", "bufferedAmount": 0})()
    assert not peer.send(bytes(LARGEST + 1))


def test_on_this_machine_a_socket_serves_and_elsewhere_webrtc_is_tried():
    assert not offered("auto", "127.0.0.1") and not offered("auto", "::1")
    assert offered("auto", "192.168.1.4") and offered("webrtc", "127.0.0.1")
    assert not offered("websocket", "192.168.1.4")
