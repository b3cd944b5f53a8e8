"""A reference no one here wrote: diffusers' Wan transformer, its saved files and its output."""

import pytest
import torch

from rtr_core.model.chunk_causal import bidirectional
from rtr_core.shapes import Size
from rtr_core.weights.load import load_transformer
from tests.weights.theirs import small_wan

TOLERANCE = 1e-5


@pytest.fixture
def theirs():
    model = small_wan(layers=3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():  # norms as they start hide a swap
            if "norm" in name:
                parameter.normal_(1.0, 0.3)
    return model.eval().requires_grad_(False)


@pytest.mark.parametrize("shards", [{}, {"max_shard_size": "1MB"}])
def test_our_transformer_says_what_diffusers_says(shards, theirs, tmp_path):
    theirs.save_pretrained(tmp_path, **shards)
    assert bool(shards) == (len(list(tmp_path.glob("*.safetensors"))) > 1)
    ours = load_transformer(tmp_path)
    x, text = torch.randn(1, 16, 3, 8, 12), torch.randn(1, 20, 32)
    expected = theirs(x, torch.tensor([400.0]), text, return_dict=False)[0]
    memory = bidirectional(Size(4, 6), frames=3, context=ours.encode_context(text))
    with torch.no_grad():
        found = ours(x, torch.full((1, 3), 0.4), memory)
    assert (found - expected).norm() / expected.norm() < TOLERANCE


def test_heads_come_from_the_config_beside_the_file(theirs, tmp_path):
    theirs.save_pretrained(tmp_path)
    config = tmp_path / "config.json"
    config.write_text(
        config.read_text().replace('"num_attention_heads": 2', '"num_attention_heads": 4')
    )
    assert load_transformer(tmp_path).config.heads == 4
    (file,) = tmp_path.glob("*.safetensors")
    assert load_transformer(file).config.heads == 4
