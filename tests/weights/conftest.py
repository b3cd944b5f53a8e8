"""A small random transformer, and files of it in every layout people have."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from rtr_core import untrained
from rtr_core.model.chunk_causal import bidirectional
from rtr_core.model.config import TransformerConfig
from rtr_core.model.transformer import Transformer
from rtr_core.shapes import Size

SMALL = TransformerConfig(
    dim=128,
    ffn_dim=192,
    heads=2,
    layers=2,
    in_channels=16,
    out_channels=16,
    text_dim=32,
    text_rows=8,
    freq_dim=64,
)
SMALL_RTR = TransformerConfig(
    dim=128,
    ffn_dim=192,
    heads=2,
    layers=2,
    in_channels=32,
    out_channels=16,
    text_dim=32,
    text_rows=8,
    freq_dim=64,
    adapter_dim=48,
)

Save = Callable[..., Path]


def random_transformer(config: TransformerConfig, seed: int = 0) -> Transformer:
    module = untrained.randomized(Transformer(config), torch.Generator().manual_seed(seed))
    return module.eval().requires_grad_(False)


@pytest.fixture
def transformer() -> Transformer:
    return random_transformer(SMALL_RTR)


@pytest.fixture
def wan() -> Transformer:
    return random_transformer(SMALL)


@pytest.fixture
def run() -> Callable[[Transformer], Tensor]:
    """What a transformer says of the same two noisy latent frames and the same text."""

    def run(module: Transformer) -> Tensor:
        rng = torch.Generator().manual_seed(7)
        config = module.config
        x = torch.randn(1, config.in_channels, 2, 4, 6, generator=rng)
        text = torch.randn(1, 8, config.text_dim, generator=rng)
        memory = bidirectional(Size(2, 3), frames=2, context=module.encode_context(text))
        with torch.no_grad():
            return module(x, torch.tensor([[0.7, 0.3]]), memory)

    return run


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Write tensors (or anything, as a PyTorch file) and say where they are."""

    def save(content, name: str = "model.safetensors", metadata=None) -> Path:
        path = tmp_path / name
        if path.suffix in (".safetensors", ".sft"):
            save_file({k: v.contiguous() for k, v in content.items()}, path, metadata)
        else:
            torch.save(content, path)
        return path

    return save
