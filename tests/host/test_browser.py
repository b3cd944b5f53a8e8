"""In a real browser, over the host's own page: what an artist does first.

Needs playwright (`pip install playwright`) and a Chromium; else it is skipped.
"""

import pytest

from tests.host.comfy import ROOT
from tests.host.page import Page, browser_path, opened

pytest.importorskip("playwright.sync_api", reason="no playwright to drive a browser with")
if browser_path() is None:
    pytest.skip("no Chromium on PATH to open the host's page with", allow_module_level=True)

PACK = "realtime-rerenderer"
WORKFLOWS = sorted(path.stem for path in (ROOT / "workflows").glob("*.json"))


@pytest.fixture(scope="module")
def page(comfy):
    with opened(f"http://127.0.0.1:{comfy.port}") as page:
        yield page


def ours(page: Page) -> list[tuple[str, str]]:
    """What the console says of us, and every error while our templates were open."""
    return [(kind, said) for kind, said in page.console if "rtr" in said.lower() or PACK in said]


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_template_opens_from_the_template_browser_without_a_missing_node(page, name):
    page.open_template(PACK, name)
    kinds = page.page.evaluate("() => app.graph._nodes.map(node => [node.type, !!node.has_errors])")
    assert any(kind.startswith("RTR") for kind, _ in kinds)
    assert not [kind for kind, failed in kinds if failed]
    assert "RTR" not in str(page.page.evaluate("() => app.missingNodesError ?? ''"))


def test_a_template_is_queued_and_its_preview_and_status_appear(page):
    page.open_template(PACK, "tv2v_clip")
    page.queue()
    page.wait_for("window.seen.previews > 0 || window.seen.errors.length")
    page.wait_for("window.seen.done || window.seen.errors.length")
    seen = page.seen
    assert not seen["errors"] and seen["previews"] > 0
    assert any("frames" in text for text in seen["texts"])


def test_help_pages_open_with_their_pictures(page):
    answer = page.page.evaluate(
        """async () => {
          const base = '/extensions/realtime-rerenderer/docs/RTRStream';
          const [text, picture] = await Promise.all([fetch(base + '.md'), fetch(base + '.jpg')]);
          return [text.status, picture.status, picture.headers.get('content-type')];
        }"""
    )
    assert answer == [200, 200, "image/jpeg"]


def test_the_console_says_nothing_of_us(page):
    assert ours(page) == []
