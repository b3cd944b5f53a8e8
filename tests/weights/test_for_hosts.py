"""What hosts need of weights: their own layers, narrow matrices, and autoencoders they loaded."""

import pytest
import torch
from safetensors.torch import save_file

from rtr_core import StyleError, WeightsError, untrained
from rtr_core.recipes import told_fields
from rtr_core.vae.wan import WanVae
from rtr_core.vae.wan_config import WanVaeConfig
from rtr_core.weights.load import load_transformer, vae_of


def test_matrices_may_be_kept_narrower_than_the_rest(tmp_path):
    parts = untrained.parts()
    save_file(parts.transformer.state_dict(), tmp_path / "model.safetensors")
    narrow = torch.float8_e4m3fn
    loaded = load_transformer(tmp_path / "model.safetensors", matrices=narrow)
    for weight in loaded.parameters():
        assert weight.dtype == (narrow if weight.ndim == 2 else torch.float32)


@pytest.fixture
def theirs() -> WanVae:
    return WanVae(WanVaeConfig(dim=8, decoder_dim=8)).eval().requires_grad_(False)


def test_an_autoencoder_of_a_host_is_ours_over_the_very_same_tensors(theirs):
    ours = vae_of(dict(theirs.named_parameters()), "The VAE")
    pixels = torch.rand(1, 3, 1, 16, 16)
    assert torch.equal(ours.encode_group(pixels, {}), theirs.encode_group(pixels, {}))
    with torch.no_grad():  # as a host moves or patches weights
        theirs.conv2.weight.data = theirs.conv2.weight.data * 2
    latent = torch.rand(1, 16, 1, 2, 2)
    assert torch.equal(ours.decode_latent(latent, {}), theirs.decode_latent(latent, {}))


def test_an_autoencoder_of_another_family_is_refused_by_what_it_seems_to_be():
    weights = {"decoder.conv_in.weight": torch.zeros(2, 4, 3, 3)}
    with pytest.raises(WeightsError, match="The VAE: There is no vae of ours in it"):
        vae_of(weights, "The VAE")


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("", {}),
        ("window=9 chunk=3", {"window": 9, "chunk": 3}),
        ("window=null,\n positions=absolute", {"window": None, "positions": "absolute"}),
        ("timesteps=[1000, 750, 500] shift=5", {"timesteps": [1000, 750, 500], "shift": 5}),
    ],
)
def test_a_recipe_is_told_in_words(text, fields):
    assert told_fields(text) == fields


def test_words_that_are_no_fields_are_refused():
    with pytest.raises(StyleError, match="window=9"):
        told_fields("window 9")
