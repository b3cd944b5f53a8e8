"""The live page in a headless Chromium with a camera that is made up."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.host.page import browser_path

from .fake import Fake

DESK, PHONE = {"width": 960, "height": 600}, {"width": 390, "height": 844}
STUDIO = "studio.test"  # a name that is this machine, and to a browser no secure one
FLAGS = ("--no-sandbox", "--disable-gpu", f"--host-resolver-rules=MAP {STUDIO} 127.0.0.1")
CAMERA = "--use-fake-device-for-media-stream"


@contextmanager
def chromium(*flags: str) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=browser_path(), args=[*FLAGS, *flags])
        yield browser
        browser.close()


class Visit:
    """A page of the fake server, and what went wrong on it."""

    def __init__(self, browser: Any, fake: Fake, **options: Any):
        permissions = options.pop("permissions", ["camera"])
        self.fake, self.errors = fake, []
        options.setdefault("viewport", DESK)
        self.context = browser.new_context(permissions=permissions, **options)
        self.page = self.context.new_page()
        self.page.set_default_timeout(8000)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))

    def open(self, path: str = "/rtr/live?token=T", host: str = "127.0.0.1") -> "Visit":
        self.page.goto(self.fake.address.replace("127.0.0.1", host) + path)
        return self

    def start(self) -> "Visit":
        """As an artist does: the page is opened, the camera is tapped, a picture is there."""
        self.open()
        self.page.wait_for_selector("#chips .chip")
        self.page.click("#start .source-camera")
        self.page.wait_for_selector(".picture.live")
        return self

    def text(self, selector: str) -> str:
        return self.page.inner_text(selector)

    def until(self, fact: Callable[[], Any], seconds: float = 8) -> Any:
        """The fact's value once it is one."""
        end = time.monotonic() + seconds
        while not (value := fact()):
            assert time.monotonic() < end, "this did not come to be in time"
            self.page.wait_for_timeout(40)
        return value

    def drop(self, name: str, kind: str, made: str) -> None:
        """A file dropped on the page; `made` is JavaScript that gives what is in it."""
        self.page.evaluate(
            f"""async () => {{
              const file = new File([await ({made})()], "{name}", {{type: "{kind}"}});
              const dataTransfer = new DataTransfer();
              dataTransfer.items.add(file);
              document.dispatchEvent(new DragEvent("drop", {{dataTransfer, bubbles: true}}));
            }}"""
        )

    def close(self) -> None:
        self.context.close()
        assert not self.errors, self.errors
