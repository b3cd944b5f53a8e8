"""The live page on a real host: beside its queue, on the model and styles of a graph."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("aiohttp", reason="no aiohttp to ask the live page with")

import aiohttp

from tests.host.comfy import Comfy, comfy_folder
from tests.host.conftest import started
from tests.host.graphs import Wires
from tests.live.performer import Performer


@pytest.fixture(scope="module", params=((), ("--cache-none",)), ids=("classic", "none"))
def comfy(request, tmp_path_factory) -> Iterator[Comfy]:
    yield from started(comfy_folder(), tmp_path_factory.mktemp("live"), *request.param)


def opened(comfy: Comfy, *prompts: str, workflow: str = "one", **chosen: Any) -> str:
    """The link of a queued RTR Live."""
    graph = Wires()
    styles = {
        f"style_{n}": graph.add("RTRStyle", prompt=prompt) for n, prompt in enumerate(prompts, 1)
    }
    graph.add("RTRLive", **graph.model(), **styles, **chosen)
    outputs = comfy.run(graph.nodes, workflow=workflow)
    (told,) = [out["rtr_live"][0] for out in outputs.values() if "rtr_live" in out]
    return f"http://127.0.0.1:{comfy.port}{told['link']}"


def performed(link: str, perform) -> Any:
    async def work():
        async with aiohttp.ClientSession() as client:
            wire = link.replace("/rtr/live?", "/rtr/live/wire?")
            page = Performer(await client.ws_connect(wire, max_msg_size=0))
            return await perform(page)

    return asyncio.run(asyncio.wait_for(work(), 120))


def test_wired_styles_are_the_chips_and_a_tap_switches(comfy):
    link = opened(comfy, "ink wash painting", "thermal camera")

    async def perform(page):
        hello = await page.next("hello")
        await page.begin()
        await page.played(5)
        await page.say(do="style", style={"chip": 1})
        switched = await page.next("style", 1)
        await page.played(4)
        await page.until(lambda: len(page.frames) == 9)
        return [chip["name"] for chip in hello["chips"]], switched["name"]

    names, now = performed(link, perform)
    assert names == ["ink wash painting", "thermal camera"] and now == "thermal camera"


def test_without_styles_the_chips_are_what_the_model_has_learned(comfy):
    link = opened(comfy)

    async def perform(page):
        return len((await page.next("hello"))["chips"])

    assert performed(link, perform) == 18


def test_a_recording_comes_out_as_video_when_the_graph_is_queued_again(comfy):
    link = opened(comfy, "ink wash painting", workflow="take")

    async def perform(page):
        await page.begin()
        await page.say(do="record", on=True)
        await page.next("recording")
        await page.played(9)
        await page.say(do="record", on=False)
        return (await page.next("recorded"))["frames"]

    assert performed(link, perform) == 9
    graph = Wires()
    style = graph.add("RTRStyle", prompt="ink wash painting")
    live = graph.add("RTRLive", **graph.model(), style_1=style)
    graph.add("SaveVideo", video=live, filename_prefix="take", format="auto", codec="auto")
    comfy.run(graph.nodes, workflow="take")
    assert list((comfy.base / "output").glob("take*.mp4"))
    assert list((comfy.base / "output" / "rtr_takes").glob("*/source.mkv"))


def test_the_stream_goes_on_after_free_or_says_what_brings_it_back(comfy):
    link = opened(comfy, "ink wash painting", workflow="free")

    async def perform(page):
        await page.begin()
        await page.played(5)
        comfy.post("/free", {"unload_models": True, "free_memory": True})
        await asyncio.sleep(2)
        for _ in range(4):
            await page.frame()
        await page.until(lambda: page.ahead == 0 or bool(page.all("waiting")))
        if page.all("waiting"):
            assert "queue the graph" in page.all("waiting")[0]["why"]
            await asyncio.to_thread(opened, comfy, "ink wash painting", workflow="free")
        await page.until(lambda: len(page.frames) == 9)

    performed(link, perform)


def test_a_queued_graph_and_the_stream_both_get_on(comfy):
    link = opened(comfy, "ink wash painting", workflow="both")
    graph = Wires()
    images = graph.add("ProbeFrames", count=120, width=128, height=128)
    graph.add("ProbeHash", images=graph.add("RTRStylizeText", images=images, **graph.model()))

    async def perform(page):
        await page.begin()
        await page.played(5)
        queued = comfy.queue(graph.nodes)
        ended = asyncio.ensure_future(asyncio.to_thread(comfy.result, queued))
        before = len(page.frames)
        while not ended.done():
            await page.played(4)
        assert await ended
        return len(page.frames) - before

    assert performed(link, perform) >= 8


def test_a_graph_that_is_queued_with_other_styles_opens_its_pages_anew(comfy):
    link = opened(comfy, "ink wash painting", workflow="anew")

    async def perform(page):
        await page.begin()
        await page.played(5)
        again = await asyncio.to_thread(opened, comfy, "woodcut", workflow="anew")
        await page.until(lambda: page.socket.closed)
        return again, page.socket.close_code

    again, code = performed(link, perform)
    assert again == link and code == 1012


def test_a_link_without_its_token_is_turned_away(comfy):
    link = opened(comfy, "ink wash painting")

    async def work():
        async with (
            aiohttp.ClientSession() as client,
            client.get(link) as page,
            client.get(link.replace("token=", "token=x")) as stranger,
        ):
            return page.status, stranger.status

    assert asyncio.run(work()) == (200, 403)


def test_an_artist_performs_in_a_browser_on_the_host_s_own_page(comfy):
    pytest.importorskip("playwright.sync_api", reason="no playwright to drive a browser with")
    from tests.live import artist

    if artist.browser_path() is None:
        pytest.skip("no Chromium on PATH to open the live page with")
    link = opened(comfy, "ink wash painting", "thermal camera", workflow="browser")
    done = artist.performed(link)
    assert not done.errors and min(done.moved) > 8 and "rtr_takes" in done.command
