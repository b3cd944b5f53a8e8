"""The whole of it: a browser's camera, a real server, the built-in model, and the take again."""

import asyncio
import time

import pytest

pytest.importorskip("playwright.sync_api", reason="no playwright to drive a browser with")
pytest.importorskip("aiohttp", reason="no aiohttp to serve the page with")

from rtr_core import Stylizer
from rtr_core.cues import CueSheet
from rtr_core.live.stage import Stage
from rtr_core.live.viewer import Setup
from tests.live.artist import on_stage, performed
from tests.live.browser import browser_path
from tests.live.performer import standing
from tests.live.test_server import CHIPS
from tests.live.test_take import frames_of, rendered_again

if browser_path() is None:
    pytest.skip("no Chromium on PATH to open the live page with", allow_module_level=True)

BY = """(by) => document.getElementById("figure-by").textContent === by"""


def test_a_camera_is_restyled_switched_recorded_and_rendered_again(tmp_path):
    stylizer = Stylizer.load("rtr-tiny", device="cpu")
    with standing(Stage.of(stylizer, Setup(chips=CHIPS, side=128, takes=tmp_path))) as link:
        done = performed(link)
    assert not done.errors and min(done.moved) > 8
    (folder,) = tmp_path.iterdir()
    assert str(folder) in done.command
    first, second, third = CueSheet.read(folder / "cues.txt").cues
    assert (first.prompt, second.prompt) == tuple(chip.style.prompt for chip in CHIPS)
    assert third.reference == "reference-1.png"
    again = rendered_again(stylizer, folder, folder / "again.mp4")
    assert frames_of(again) == frames_of(folder / "styled.mp4")


def test_where_webrtc_is_offered_frames_go_by_it_and_where_it_ends_by_the_socket(made):
    pytest.importorskip("aiortc", reason="no aiortc to meet by WebRTC with")
    stylizer = Stylizer.load("rtr-tiny", device="cpu")
    stage = Stage.of(stylizer, Setup(chips=CHIPS, side=128))
    with standing(stage, "webrtc") as link, on_stage(link) as (page, errors):
        for told in ("WebRTC", "WebSocket"):
            page.wait_for_function(BY, arg=told)
            (viewer,) = stage._viewers
            enough, until = viewer.frames + 8, time.monotonic() + 20
            while viewer.frames <= enough and time.monotonic() < until:
                page.wait_for_timeout(100)
            assert viewer.frames > enough and page.locator(".picture.live").count()
            asyncio.run_coroutine_threadsafe(made[-1].close(), viewer.tell.__self__.loop).result(9)
    assert not errors
