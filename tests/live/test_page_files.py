"""The page's files: plain, whole, and from nowhere else."""

import re

import pytest

from tests.test_structure import BANNED, LONGEST_FILE, ROOT

PAGE = ROOT / "live" / "page"
FILES = sorted(PAGE.iterdir())
TEXTS = {path.name: path.read_text(encoding="utf-8") for path in FILES}


@pytest.mark.parametrize("name", TEXTS)
def test_a_file_fits_in_a_head_and_needs_nothing_from_elsewhere(name):
    text = TEXTS[name]
    assert len(text.splitlines()) <= LONGEST_FILE
    addresses = re.findall(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}[^\s\"']*", text)
    assert set(addresses) <= {"http://www.w3.org/2000/svg"}
    if name.endswith(".html"):
        assert not re.search(r"<[^>]*\s(on[a-z]+|style)\s*=", text), "code or looks inside the HTML"


@pytest.mark.parametrize("name", [name for name in TEXTS if name.endswith(".js")])
def test_banned_words_stay_out_of_the_page_too(name):
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", TEXTS[name])
    assert not BANNED.search(words.replace("_", " "))


def test_every_file_that_is_named_is_there_and_every_one_there_is_named():
    named = {"index.html", "view.html"}
    for text in TEXTS.values():
        named |= set(re.findall(r"(?:live/page/|page/|\./|\")([a-z]+\.(?:js|css|svg))\"", text))
    assert named == set(TEXTS)


@pytest.mark.parametrize("name", ["index.html", "view.html"])
def test_what_is_found_by_its_id_is_in_the_page_once(name):
    ids = re.findall(r'\bid="([^"]+)"', TEXTS[name])
    assert len(ids) == len(set(ids))
    if name == "index.html":
        sought = {id for text in TEXTS.values() for id in re.findall(r'find\("([a-z-]+)"\)', text)}
        assert len(sought) > 20 and sought <= set(ids)


def test_addresses_are_relative_because_hosts_serve_the_page_at_more_than_one():
    for name, text in TEXTS.items():
        assert not re.search(r"""(?:src|href|fetch\(|import)[=\s(]*["'`]/""", text), name
