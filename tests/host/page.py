"""The host's own page in a headless Chromium."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
VIEW = {"width": 1600, "height": 1000}
DIALOG = "[role=dialog]:visible, .p-dialog-mask:visible"
READY = "() => window.app?.graph && window.app?.extensionManager"
QUEUE = """async () => {
  const seen = window.seen = {previews: 0, texts: [], errors: [], done: false};
  const api = app.api;
  api.addEventListener('b_preview', () => seen.previews++);
  api.addEventListener('progress_text', e => seen.texts.push(e.detail.text));
  api.addEventListener('execution_error', e => seen.errors.push(e.detail.exception_message));
  api.addEventListener('execution_success', () => seen.done = true);
  await app.queuePrompt(0);
}"""


def browser_path() -> str | None:
    return next(filter(None, map(shutil.which, BROWSERS)), None)


class Page:
    """What a person at the page can do, and what its console says."""

    def __init__(self, page: Any, address: str):
        self.page, self.console = page, []
        page.on("console", lambda said: self.console.append((said.type, said.text)))
        page.on("pageerror", lambda error: self.console.append(("error", str(error))))
        page.goto(address, timeout=180_000)
        page.wait_for_function(READY, timeout=180_000)
        page.wait_for_timeout(4000)

    def open_template(self, pack: str, name: str) -> None:
        """Through the template browser, by its own buttons."""
        page = self.page
        page.evaluate("() => app.extensionManager.command.execute('Comfy.BrowseTemplates')")
        page.get_by_text(pack, exact=False).first.click(timeout=60_000)
        page.locator(f"[data-testid='template-workflow-{name}']").first.click(timeout=60_000)
        page.wait_for_function("() => app.graph._nodes.length > 3", timeout=60_000)
        page.wait_for_timeout(1500)

    def load(self, workflow: dict[str, Any]) -> None:
        self.page.evaluate("flow => app.loadGraphData(flow)", workflow)
        self.page.wait_for_timeout(1000)
        self.put_dialogs_away()

    def put_dialogs_away(self) -> None:
        """What it greets newcomers with, or says of models that are not here."""
        for _ in range(5):
            if not self.page.locator(DIALOG).count():
                return
            self.page.keyboard.press("Escape")
            self.page.wait_for_timeout(700)
        raise AssertionError("a dialog of the host stays in front of the graph")

    def queue(self) -> None:
        self.page.evaluate(QUEUE)

    def wait_for(self, what: str, seconds: int = 600) -> None:
        """Until something of `window.seen` is there."""
        self.page.wait_for_function(f"() => {what}", timeout=seconds * 1000)

    @property
    def seen(self) -> dict[str, Any]:
        return self.page.evaluate("() => window.seen")


@contextmanager
def opened(address: str) -> Iterator[Page]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=browser_path(), args=["--no-sandbox", "--disable-gpu"]
        )
        try:
            yield Page(browser.new_page(viewport=VIEW), address)
        finally:
            browser.close()
