"""A performance by a person at the page: a camera, a tapped chip, a dropped picture, a recording.

The camera is made up by Chromium; the server, wherever it is, has a real model.
"""

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import rtr_core

from .browser import CAMERA, browser_path, chromium

__all__ = ["browser_path", "on_stage", "performed"]

PAINTING = Path(rtr_core.__file__).parent / "assets" / "the-kiss.jpg"
WAIT = 60_000  # ms
STYLED = """() => {
  const canvas = document.getElementById("styled");
  return Array.from(canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data);
}"""
DROP = """async (coded) => {
  const bytes = Uint8Array.from(atob(coded), (letter) => letter.charCodeAt(0));
  const dataTransfer = new DataTransfer();
  dataTransfer.items.add(new File([bytes], "the-kiss.jpg", {type: "image/jpeg"}));
  document.dispatchEvent(new DragEvent("drop", {dataTransfer, bubbles: true}));
}"""


class Performed(NamedTuple):
    moved: tuple[float, float]  # by how much the mean colour went, at the chip and at the picture
    command: str  # that renders the recording again
    errors: list[str]


@contextmanager
def on_stage(link: str, *flags: str, **options: Any) -> Iterator[tuple[Any, list[str]]]:
    """The page at `link` with its camera on, once a styled picture is there."""
    with chromium(CAMERA, "--use-fake-ui-for-media-stream", *flags) as browser:
        context = browser.new_context(permissions=["camera"], **options)
        page, errors = context.new_page(), []
        page.set_default_timeout(WAIT)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(link)
        page.wait_for_selector("#chips .chip")
        page.click("#start .source-camera")
        page.wait_for_selector(".picture.live")
        yield page, errors
        context.close()


def performed(link: str) -> Performed:
    """Taps the second chip, drops a painting, and records for a while in between."""
    with on_stage(link) as (page, errors):
        first = color(page)
        page.keyboard.press("r")
        page.wait_for_selector("body.recording, #timer:not([hidden])")
        page.wait_for_timeout(1500)  # in its first style
        page.keyboard.press("2")
        tapped = changed(page, first, told="thermal")
        page.evaluate(DROP, base64.b64encode(PAINTING.read_bytes()).decode())
        dropped = changed(page, tapped, told="your picture")
        page.keyboard.press("r")
        page.wait_for_selector("#recorded[open]")
        command = page.inner_text("#command-list")
        return Performed((apart(first, tapped), apart(tapped, dropped)), command, errors)


def color(page: Any) -> tuple[float, float, float]:
    """The mean colour of the styled picture, 0..255."""
    levels = page.evaluate(STYLED)
    red, green, blue = (sum(levels[band::4]) / (len(levels) // 4) for band in range(3))
    return red, green, blue


def changed(page: Any, before: tuple[float, float, float], told: str) -> tuple[float, float, float]:
    """Its colour once the page tells of this style and the colour is another one."""
    for _ in range(200):
        now, style = color(page), page.inner_text("#style-tag")
        if told in style.lower() and apart(before, now) > 8:
            return now
        page.wait_for_timeout(100)
    raise AssertionError(f"the style shown is {style!r}; the colour was {before}, is {now}")


def apart(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    return max(abs(a - b) for a, b in zip(one, other, strict=True))
