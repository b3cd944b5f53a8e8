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


@pytest.fixture(scope="session")
def depth_folder(tmp_path_factory) -> Path:
    """A small random Depth-Anything, as transformers saves it."""
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config

    backbone = Dinov2Config(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        mlp_ratio=2,
        image_size=28,
        patch_size=14,
        out_features=["stage1", "stage2"],
        apply_layernorm=True,
        reshape_hidden_states=False,
    )
    config = DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=16,
        reassemble_factors=[2, 1],
        neck_hidden_sizes=[8, 8],
        fusion_hidden_size=8,
        head_hidden_size=8,
    )
    model = DepthAnythingForDepthEstimation(config)
    untrained.randomized(model, torch.Generator().manual_seed(0))
    with torch.no_grad():
        model.head.conv3.bias.fill_(1.0)  # or its last layer might let nothing through
    folder = tmp_path_factory.mktemp("models") / "depth-anything"
    model.save_pretrained(folder)
    return folder
