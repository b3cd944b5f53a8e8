"""What most tests stand on: a two-layer model with random weights, on one thread.

Its tensors are too small for two threads, which would only wait for one another.
"""

from pathlib import Path

import pytest
import torch

from rtr_core import Stylizer, untrained

GOLDEN = Path(__file__).parent / "golden"


class PackIsNoTestPackage:
    """The root is a package for ComfyUI only: pytest would import it, where there is no host."""

    @staticmethod
    def pytest_collect_directory(path, parent):
        if path == parent.config.rootpath:
            return pytest.Dir.from_parent(parent, path=path)
        return None


def pytest_configure(config):
    config.pluginmanager.register(PackIsNoTestPackage())


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """Encoded prompts of tests are not kept among the user's."""
    monkeypatch.setenv("RTR_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="session")
def stylizer() -> Stylizer:
    return Stylizer.of(untrained.parts())


@pytest.fixture
def rng() -> torch.Generator:
    return torch.Generator().manual_seed(7)


@pytest.fixture
def golden() -> Path:
    return GOLDEN
