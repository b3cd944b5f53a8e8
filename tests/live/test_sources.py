"""Where pictures come from and go to, and what is said where they do not: no camera, a screen, a
virtual camera."""

import asyncio
import sys
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("aiohttp", reason="no aiohttp to serve the live page with")

from rtr_core.errors import RtrError
from rtr_core.live.camera import VirtualCamera
from rtr_core.shapes import Size
from tests.live.browser import CAMERA, Visit, browser_path, chromium
from tests.live.fake import serving as page_served
from tests.live.performer import serving
from tests.live.test_server import run, stage_of

needs_browser = pytest.mark.skipif(browser_path() is None, reason="no Chromium on PATH")
# A browser without a screen shares a canvas that is drawn on, in place of one.
SHARED = """() => {
  const canvas = Object.assign(document.createElement("canvas"), {width: 640, height: 400});
  const pen = canvas.getContext("2d");
  setInterval(() => pen.fillRect(9 * Math.random(), 0, 300, 300), 40);
  window.shared = canvas.captureStream(15);
  navigator.mediaDevices.getDisplayMedia = async () => window.shared;
}"""


class Device:
    """What pyvirtualcam opens."""

    def __init__(self, width: int, height: int, fps: float):
        self.size, self.sent, self.is_open = Size(height, width), [], True
        DEVICES.append(self)

    def send(self, frame: np.ndarray) -> None:
        if BROKEN:
            raise RuntimeError(BROKEN[0])
        self.sent.append(frame)

    def close(self) -> None:
        self.is_open = False


DEVICES: list[Device] = []
BROKEN: list[str] = []


@pytest.fixture
def device(monkeypatch):
    DEVICES.clear()
    BROKEN.clear()
    monkeypatch.setitem(sys.modules, "pyvirtualcam", SimpleNamespace(Camera=Device))


@needs_browser
def test_a_machine_without_a_camera_says_so_and_how_to_go_on():
    pytest.importorskip("playwright.sync_api", reason="no playwright to drive a browser with")
    with page_served() as fake, chromium("--use-fake-ui-for-media-stream") as browser:
        visit = Visit(browser, fake).open()
        visit.page.wait_for_selector("#chips .chip")
        visit.page.click("#start .source-camera")
        said = "No camera was found: plug one in, or take the screen or a video file."
        visit.until(lambda: said in visit.text("body"))
        assert visit.page.locator("#start .source-file").count()
        visit.close()


@needs_browser
@pytest.mark.parametrize(("side", "size"), [(256, (640, 360)), (512, (1280, 720))])
def test_a_camera_is_asked_for_no_larger_a_picture_than_the_stream_has_use_for(side, size):
    pytest.importorskip("playwright.sync_api", reason="no playwright to drive a browser with")
    with page_served() as fake, chromium(CAMERA) as browser:
        fake.side = side
        visit = Visit(browser, fake).start()
        began = fake.said("begin")[-1]
        assert (began["width"], began["height"]) == size
        visit.close()


@needs_browser
def test_a_screen_is_restyled_as_a_camera_is_and_one_that_is_not_shared_any_more_is_told():
    pytest.importorskip("playwright.sync_api", reason="no playwright to drive a browser with")
    with page_served() as fake, chromium() as browser:
        visit = Visit(browser, fake).open()
        visit.page.wait_for_selector("#chips .chip")
        visit.page.evaluate(SHARED)
        visit.page.click("#start .source-screen")
        visit.page.wait_for_selector(".picture.live")
        began = fake.said("begin")[-1]
        assert (began["width"], began["height"]) == (640, 400)
        visit.page.evaluate("shared.getVideoTracks()[0].dispatchEvent(new Event('ended'))")
        visit.until(lambda: "screen is no longer shared" in visit.text("body"))
        visit.close()


def test_a_virtual_camera_shows_what_the_last_page_to_begin_sees(stylizer, device):
    async def work():
        stage = stage_of(stylizer)
        stage.sinks.append(VirtualCamera(Size(64, 64)))
        async with serving(stage) as server:
            first, second = await server.performer(), await server.performer()
            for page in (first, second):
                await page.begin()
                await page.stream(5)
                await page.until(lambda page=page: len(page.frames) == 5)
            await first.stream(4)  # the second has the camera now
            await first.until(lambda: len(first.frames) == 9)

    run(work())
    probe, shown = DEVICES
    assert not probe.is_open and shown.size == Size(64, 96) and len(shown.sent) == 10
    assert shown.sent[0].dtype == np.uint8 and shown.sent[0].std() > 5


def test_a_virtual_camera_that_fails_is_told_of_once_and_the_stream_goes_on(stylizer, device):
    async def work():
        stage = stage_of(stylizer)
        stage.sinks.append(VirtualCamera(Size(64, 64)))
        async with serving(stage) as server:
            page = await server.performer()
            await page.begin()
            await page.stream(5)
            BROKEN.append("the device was taken away")
            await page.stream(8)
            await page.until(lambda: len(page.frames) == 13)
            (refused,) = page.all("refused")
            assert "the device was taken away" in refused["why"] and not stage.sinks

    run(work())


def test_a_virtual_camera_that_is_not_there_is_told_before_anything_is_served(monkeypatch):
    def none(**size):
        raise RuntimeError("No v4l2loopback device found")

    monkeypatch.setitem(sys.modules, "pyvirtualcam", SimpleNamespace(Camera=none))
    with pytest.raises(RtrError, match="cannot be opened: No v4l2loopback device found"):
        VirtualCamera(Size(64, 64))
    monkeypatch.setitem(sys.modules, "pyvirtualcam", None)
    with pytest.raises(RtrError, match="pip install pyvirtualcam"):
        VirtualCamera(Size(64, 64))


def test_two_pages_with_one_link_have_a_stream_each_and_watchers_see_the_last_to_begin(stylizer):
    async def work():
        async with serving(stage_of(stylizer)) as server:
            first, second = await server.performer(), await server.performer()
            watcher = await server.watcher()
            await first.begin(chip=0)
            await second.begin(chip=1)
            await asyncio.gather(first.stream(9), second.stream(9))
            await first.until(lambda: len(first.frames) == len(second.frames) == 9)
            await watcher.until(lambda: len(watcher.frames) == 9)
            assert [data for _, data in watcher.frames] == [data for _, data in second.frames]
            assert first.frames[-1] != second.frames[-1]

    run(work())
