"""The live page as an artist meets it: in a browser, with a camera, on a server without a model.

Needs playwright (`pip install playwright`) and a Chromium; else it is skipped.
"""

import asyncio
import re

import av
import numpy as np
import pytest

pytest.importorskip("playwright.sync_api", reason="no playwright to drive a browser with")
pytest.importorskip("aiohttp", reason="no aiohttp to serve the page with")

from .browser import CAMERA, PHONE, STUDIO, Visit, browser_path, chromium
from .fake import AHEAD, serving

if browser_path() is None:
    pytest.skip("no Chromium on PATH to open the live page with", allow_module_level=True)

PICTURE = """() => new Promise(done => {
  const canvas = Object.assign(document.createElement("canvas"), {width: 40, height: 30});
  canvas.getContext("2d").fillRect(0, 0, 20, 30);
  canvas.toBlob(done);
})"""
# How far the styled canvas is from the plain one with the colours that chip 0 exchanges.
APART = """() => {
  const [styled, plain] = ["styled", "plain"].map(id => {
    const canvas = document.getElementById(id);
    return canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  });
  let apart = 0;
  for (let i = 0; i < styled.length; i += 4)
    apart += Math.abs(styled[i] - plain[i + 2]) + Math.abs(styled[i + 2] - plain[i]);
  const digest = plain.reduce((sum, value) => (sum * 31 + value) % 65521, 0);
  return [apart / (styled.length / 2), digest];
}"""
# How often the page asked for a frame of the camera and to be drawn since it was asked for this.
ASKED = """() => {
  const counting = (owner, name, counts) => {
    const asks = owner[name];
    owner[name] = function (tell) { counts[name]++; return asks.call(this, tell); };
  };
  if (!window.asked) {
    window.asked = {requestVideoFrameCallback: 0, requestAnimationFrame: 0};
    counting(HTMLVideoElement.prototype, "requestVideoFrameCallback", window.asked);
    counting(window, "requestAnimationFrame", window.asked);
  }
  const figure = (name) => parseInt(document.getElementById(`figure-${name}`).textContent);
  return {...window.asked, sent: figure("sent"), seen: figure("seen")};
}"""

# Where the white half of a picture is: on the mirrored styled and plain canvas, and in a still.
MIRRORED = """async () => {
  const { Show } = await import(new URL("live/page/show.js", document.baseURI));
  const part = (id) => document.getElementById(id).cloneNode();
  const parts = {picture: part("picture"), split: part("split"), styled: part("styled"),
    plain: part("plain")};
  const show = new Show((id) => parts[id], () => half);
  const half = new OffscreenCanvas(32, 16);
  const pen = half.getContext("2d");
  pen.fillStyle = "white";
  pen.fillRect(0, 0, 16, 16);
  const side = (canvas) => canvas.getContext("2d").getImageData(8, 8, 1, 1).data[0] > 127
    ? "left" : "right";
  show.size(32, 16);
  show.mirror(true);
  show.draw(0, half);
  const still = new OffscreenCanvas(32, 16);
  still.getContext("2d").drawImage(await createImageBitmap(await show.still()), 0, 0);
  return [parts.styled, parts.plain, still].map(side);
}"""


@pytest.fixture(scope="module")
def fake():
    with serving() as fake:
        yield fake


@pytest.fixture(scope="module")
def browser():
    with chromium(CAMERA) as browser:
        yield browser


@pytest.fixture(scope="module")
def stream(browser, fake):
    """One page that runs through most of these tests, as a page does on a stage."""
    visit = Visit(browser, fake).start()
    yield visit
    visit.close()


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Two seconds in a kind that every Chromium plays, with or without patents."""
    path = tmp_path_factory.mktemp("clips") / "clip.webm"
    with av.open(path, "w") as out:
        stream = out.add_stream("libvpx", rate=15)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        for at in range(30):
            picture = np.full((96, 160, 3), 8 * at, np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        out.mux(stream.encode())
    return path


@pytest.fixture
def visit(browser, fake):
    visit = Visit(browser, fake)
    yield visit
    visit.close()


def test_frames_flow_within_the_credits_and_latency_is_told(stream, fake):
    told = r"[\d.]+ fps\s+(\d+ ms|\d\.\d s) latency\s+\d+ dropped"
    stream.until(lambda: re.fullmatch(told, stream.text("#figures").strip()))
    assert 0 < fake.most_ahead <= AHEAD
    size = fake.said("begin")[0]
    assert size["width"] / size["height"] == pytest.approx(16 / 9, abs=0.5)
    assert size["style"] == {"chip": 0}


def test_both_sides_of_the_split_are_of_one_frame(stream):
    apart, before = stream.page.evaluate(APART)
    assert apart < 12  # JPEG, twice
    stream.page.wait_for_timeout(300)
    apart, after = stream.page.evaluate(APART)
    assert apart < 12 and before != after  # and it moves


def test_a_mirror_is_drawn_and_a_still_is_as_it_was_streamed(stream):
    assert stream.page.evaluate(MIRRORED) == ["right", "right", "left"]


def test_the_split_is_dragged_and_goes_with_keys(stream):
    page, handle = stream.page, stream.page.locator("#split")
    box, picture = handle.bounding_box(), page.locator("#picture").bounding_box()
    page.mouse.move(box["x"] + 24, picture["y"] + 60)
    page.mouse.down()
    page.mouse.move(picture["x"] + picture["width"] * 0.7, picture["y"] + 60, steps=4)
    page.mouse.up()
    assert int(handle.get_attribute("aria-valuenow")) == pytest.approx(70, abs=1)
    clip = page.evaluate("() => getComputedStyle(document.querySelector('.plain-side')).clipPath")
    assert "30%" in clip
    page.keyboard.press("s")
    assert handle.get_attribute("aria-valuenow") == "0"
    page.keyboard.press("s")
    assert int(handle.get_attribute("aria-valuenow")) == pytest.approx(70, abs=1)
    handle.focus()
    page.keyboard.press("Home")
    assert handle.get_attribute("aria-valuenow") == "0"


def test_a_tapped_chip_asks_for_its_style_with_the_fade(stream, fake):
    stream.page.locator("#fade").fill("3")
    stream.page.click("#chips .chip:nth-child(2) > button")
    said = stream.until(lambda: fake.said("style"))[-1]
    assert said == {"do": "style", "style": {"chip": 1}, "fade": 12}
    stream.page.wait_for_selector("#chips .chip:nth-child(2) > [aria-pressed=true]")
    stream.until(lambda: stream.text("#style-tag") == "thermal")


def test_keys_choose_hold_and_write(stream, fake):
    page = stream.page
    page.keyboard.press("4")
    stream.until(lambda: fake.said("style")[-1]["style"] == {"chip": 3})
    page.keyboard.press("ArrowRight")
    stream.until(lambda: fake.said("style")[-1]["style"] == {"chip": 4})
    page.keyboard.down(" ")
    assert "held" in page.get_attribute("#picture", "class")
    page.keyboard.up(" ")
    assert "held" not in page.get_attribute("#picture", "class")
    page.keyboard.press("/")
    page.keyboard.type("a paper theatre, 1 lamp")  # no key of these means anything in the box
    page.keyboard.press("Enter")
    stream.until(lambda: fake.said("style")[-1]["style"] == {"prompt": "a paper theatre, 1 lamp"})
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    assert page.locator("#help").is_visible()
    page.keyboard.press("Escape")


def test_strength_is_said_once_it_is_touched(stream, fake):
    assert all("strength" not in said["style"] for said in fake.said("style"))
    stream.page.keyboard.press("1")
    stream.page.locator("#strength").fill("40")
    stream.until(lambda: fake.said("style")[-1]["style"] == {"chip": 0, "strength": 0.4})


def test_a_dropped_picture_becomes_the_style(stream, fake):
    stream.page.fill("#prompt", "gold")
    stream.drop("klimt.png", "image/png", PICTURE)
    stream.until(lambda: fake.said("style")[-1]["style"].get("reference") == "r1")
    assert fake.said("style")[-1]["style"]["prompt"] == "gold"
    assert fake.references[0].startswith(b"\x89PNG")
    assert stream.page.locator("#attached").is_visible()


def test_what_is_no_picture_is_told_in_a_sentence_and_nothing_is_sent(stream, fake):
    before = len(fake.references)
    stream.drop("notes.txt", "text/plain", "() => 'no picture'")
    stream.until(lambda: "“notes.txt” is no picture" in stream.text("#message"))
    assert len(fake.references) == before


def test_a_take_is_timed_and_ends_with_the_command_that_renders_it_again(stream, fake):
    stream.page.keyboard.press("Escape")  # out of the box, if a test before wrote there
    stream.page.keyboard.press("r")
    stream.page.wait_for_selector("#timer:visible")
    stream.until(lambda: stream.text("#elapsed") == "0:01")
    stream.page.click("#record")
    stream.page.wait_for_selector("#recorded[open]")
    assert "rtr stylize takes/2026-11-25-031502" in stream.text("#command-list")
    stream.context.grant_permissions(["camera", "clipboard-read", "clipboard-write"])
    stream.page.click("#command-list .copy")
    copied = stream.page.evaluate("() => navigator.clipboard.readText()")
    assert copied.startswith("rtr stylize ")
    stream.page.keyboard.press("Escape")
    assert not stream.page.locator("#timer").is_visible()


def test_links_come_with_a_code_to_scan_and_the_hint_of_tls(stream):
    stream.page.click("#open-links")
    stream.page.wait_for_selector("#qr:visible")
    assert "/rtr/live/view?token=V" in stream.text("#view-list")
    assert "--tls" in stream.text("#link-hint")
    stream.page.keyboard.press("Escape")


def test_a_camera_that_changes_its_size_begins_again(stream, fake):
    before = len(fake.said("begin"))
    stream.page.evaluate(
        """() => document.getElementById("video").srcObject.getVideoTracks()[0]
             .applyConstraints({width: {exact: 640}, height: {exact: 480}})"""
    )
    stream.until(lambda: fake.said("begin")[before:])
    assert fake.said("begin")[-1]["height"] == 480
    stream.until(lambda: stream.page.evaluate("() => styled.width / styled.height") < 1.5)


def test_a_camera_that_ends_is_asked_for_again(stream, fake):
    before = len(fake.said("begin"))
    stream.page.evaluate(
        """() => document.getElementById("video").srcObject.getVideoTracks()[0]
             .dispatchEvent(new Event("ended"))"""
    )
    stream.until(lambda: "camera went away" in stream.text("#message"))
    stream.until(lambda: fake.said("begin")[before:])


def test_a_lost_connection_comes_back_with_the_style_and_its_picture(stream, fake):
    begun, sent = len(fake.said("begin")), len(fake.references)
    closing = [socket.close() for socket in fake.sockets if not socket.closed]
    for close in closing:
        asyncio.run_coroutine_threadsafe(close, fake.loop)
    stream.until(lambda: fake.said("begin")[begun:])
    assert fake.said("begin")[-1]["style"]["prompt"] == "gold"
    assert fake.said("begin")[-1]["style"]["reference"] == f"r{sent + 1}"  # it is sent anew
    stream.until(lambda: stream.page.locator(".figures.live").count())


def test_a_slow_server_is_never_sent_more_than_it_asked_for_and_drops_are_told(stream, fake):
    fake.pause, before = 0.4, int(stream.text("#figure-dropped"))
    stream.page.wait_for_timeout(900)
    fake.pause = 0.0
    stream.until(lambda: int(stream.text("#figure-dropped")) > before)
    assert fake.most_ahead <= AHEAD


def test_a_slow_stream_asks_for_fewer_frames_of_the_camera_and_looks_at_fewer(stream, fake):
    def rate() -> int:
        track = "document.getElementById('video').srcObject.getVideoTracks()[0]"
        return stream.page.evaluate(f"() => {track}.getSettings().frameRate")

    most = rate()
    assert most > 15
    fake.pace = 1 / 8
    stream.until(lambda: rate() == 15)
    before = stream.page.evaluate(ASKED)
    stream.page.wait_for_timeout(2000)
    after = stream.page.evaluate(ASKED)
    asked, drawn, sent, seen = (after[name] - before[name] for name in before)
    assert 4 < sent < seen  # about 16 and 30, told every half second
    assert asked < 2 * sent + 4 and drawn < 3 * sent + 4  # else it is drawn 60 times a second
    told = [int(stream.page.text_content(f"#figure-{name}")) for name in ("seen", "spared", "here")]
    assert told[0] - told[1] - told[2] == pytest.approx(after["sent"], abs=8)
    fake.pace = 1 / 25
    stream.until(lambda: rate() == most)


def test_a_tab_that_slept_shows_what_is_new(stream):
    hide = "is => {Object.defineProperty(document, 'hidden', {configurable: true, get: () => is});"
    hide += " document.dispatchEvent(new Event('visibilitychange'));}"
    stream.page.evaluate(hide, True)
    unshown = "() => Number(document.getElementById('figure-late').textContent)"
    before = stream.page.evaluate(unshown)
    # it goes on sending, and draws nothing that no one sees
    stream.until(lambda: stream.page.evaluate(unshown) > before)
    stream.page.evaluate(hide, False)
    stream.until(lambda: stream.page.locator(".figures.live").count())
    stream.until(lambda: stream.text("#figure-latency").endswith("s"))


def test_watchers_see_the_picture_and_nothing_else(stream, fake, visit):
    visit.open("/rtr/live/view?token=V").page.wait_for_selector("canvas.live")
    background = "() => getComputedStyle(document.body).backgroundColor"
    assert visit.page.evaluate(background) == "rgba(0, 0, 0, 0)"
    assert visit.page.locator("button, input, a").count() == 0


def test_on_a_phone_everything_fits_and_a_swipe_is_the_next_style(browser, fake):
    phone = Visit(browser, fake, viewport=PHONE, has_touch=True, is_mobile=True).start()
    assert phone.page.evaluate("() => document.documentElement.scrollWidth") <= PHONE["width"]
    for button in phone.page.locator(
        "#dock > :not(#chips) button:visible, nav button:visible"
    ).all():
        box = button.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= PHONE["width"]
        assert box["y"] + box["height"] <= PHONE["height"]
        assert min(box["width"], box["height"]) >= 44
    touch = phone.context.new_cdp_session(phone.page)
    for kind, x in (("touchStart", 320), ("touchMove", 200), ("touchMove", 90), ("touchEnd", None)):
        points = [] if x is None else [{"x": x, "y": 420}]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    phone.until(lambda: fake.said("style")[-1]["style"] == {"chip": 1})
    phone.close()


def test_a_camera_that_is_not_allowed_is_told_with_ways_to_go_on(browser, fake):
    visit = Visit(browser, fake, permissions=[]).open()
    visit.page.click("#start .source-camera")
    visit.page.wait_for_selector("#notice:visible")
    assert "not allowed: allow it" in visit.text("#notice-text")
    assert "Try again" in visit.text("#notice-ways") and "Video file" in visit.text("#notice-ways")
    visit.context.grant_permissions(["camera"])
    visit.page.click("#notice-ways button:first-child")
    visit.page.wait_for_selector(".picture.live")
    visit.close()


def test_a_page_that_is_not_secure_says_how_to_make_it_so(visit):
    visit.open(host=STUDIO).page.click("#start .source-camera")
    visit.page.wait_for_selector("#notice:visible")
    assert "rtr live --tls" in visit.text("#notice-text")


def test_full_is_said_and_a_free_place_is_taken(visit, fake):
    fake.is_full = True
    visit.open().page.wait_for_selector("#notice:visible")
    assert "All 4 places are taken" in visit.text("#notice-text")
    fake.is_full = False
    visit.page.click("#notice-ways button")
    visit.page.wait_for_selector("#chips .chip")
    assert not visit.page.locator("#notice").is_visible()


def test_no_camera_is_told_and_a_clip_will_do(visit, fake, clip):
    """The made-up camera is the only one, and here it is asked for by a name that it has not."""
    visit.open().page.evaluate(
        """() => {
          const real = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
          navigator.mediaDevices.getUserMedia = wish =>
            real({video: {...wish.video, deviceId: {exact: "gone"}}});
        }"""
    )
    visit.page.click("#start .source-camera")
    visit.page.wait_for_selector("#notice:visible")
    assert "camera is gone" in visit.text("#notice-text")
    with visit.page.expect_file_chooser() as chooser:
        visit.page.get_by_role("button", name="Video file").last.click()
    before = len(fake.said("begin"))
    chooser.value.set_files(clip)
    visit.until(lambda: fake.said("begin")[before:])
    assert fake.said("begin")[-1]["width"] == 160
    visit.page.wait_for_selector(".picture.live")
    assert visit.page.locator("#loop").is_checked()
