"""Tests against a real ComfyUI. One host serves a file of tests."""

from collections.abc import Iterator

import pytest

from tests.host.comfy import Comfy, comfy_folder

MODES = {
    "classic": (),
    "none": ("--cache-none",),
    "lru": ("--cache-lru", "20"),
    "ram": ("--cache-ram", "100000"),  # more than any machine has: the host is always short of it
}


def modes() -> list[str]:
    """Those that the host at hand knows."""
    folder = comfy_folder()
    known = (folder / "comfy" / "cli_args.py").read_text() if folder else ""
    return [mode for mode, options in MODES.items() if all(o in known for o in options[:1])]


def pytest_ignore_collect(collection_path):
    """Without a host only one file is looked at, which says so in one line."""
    if comfy_folder() is None and collection_path.name.startswith("test_"):
        return collection_path.name != "test_host.py"
    return None


def started(folder, base, *options: str) -> Iterator[Comfy]:
    host = Comfy(folder, base, *options).wait()
    try:
        yield host
    finally:
        host.stop()


@pytest.fixture(scope="module")
def comfy(tmp_path_factory) -> Iterator[Comfy]:
    yield from started(comfy_folder(), tmp_path_factory.mktemp("comfy"))


@pytest.fixture(scope="module", params=modes())
def comfy_in_each_mode(request, tmp_path_factory) -> Iterator[Comfy]:
    base = tmp_path_factory.mktemp(f"comfy-{request.param}")
    yield from started(comfy_folder(), base, *MODES[request.param])
