"""One autoencoder sees, another shows: each does to the bit what it does alone."""

from dataclasses import replace

import pytest
import torch

from rtr_core.errors import WeightsError
from rtr_core.shapes import Size
from rtr_core.vae.paired import paired
from rtr_core.vae.stream import DecoderStream, EncoderStream
from rtr_core.vae.tiled import tiled
from rtr_core.vae.tiny import TinyVae
from rtr_core.vae.tiny_config import TinyVaeConfig
from rtr_core.vae.wan import WanVae
from rtr_core.vae.wan_config import WanVaeConfig
from tests.vae.seeded import with_seeded_weights

WAN = WanVaeConfig(dim=8, decoder_dim=8, multipliers=(1, 1, 1, 1), depth=1)
TINY = TinyVaeConfig(encoder_widths=(8,) * 4, decoder_widths=(8,) * 4, depth=1)


@pytest.fixture(scope="module")
def wan() -> WanVae:
    return with_seeded_weights(WanVae(WAN)).requires_grad_(False)


@pytest.fixture(scope="module")
def tiny() -> TinyVae:
    return with_seeded_weights(TinyVae(TINY)).requires_grad_(False)


@pytest.fixture(scope="module")
def clip() -> torch.Tensor:
    return torch.rand(1, 3, 9, 32, 48, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_it_encodes_as_the_one_and_decodes_as_the_other(wan, tiny, clip):
    both = paired(wan, tiny)
    latents = EncoderStream(both).push(clip)
    assert torch.equal(latents, EncoderStream(wan).push(clip))
    pixels = DecoderStream(both).push(latents)
    assert torch.equal(pixels, DecoderStream(tiny).push(latents))
    assert pixels.shape == clip.shape and not torch.equal(pixels, DecoderStream(wan).push(latents))


def test_no_cut_changes_a_bit(wan, tiny, clip):
    both = tiled(paired(wan, tiny), Size(32, 32), overlap=16)
    encoder, decoder = EncoderStream(both), DecoderStream(both)
    made = [z for frame in clip.split(1, dim=2) if (z := encoder.push(frame)) is not None]
    latents = torch.cat(made, dim=2)
    assert torch.equal(latents, EncoderStream(both).push(clip))
    pixels = torch.cat([decoder.push(z) for z in made], dim=2)
    assert torch.equal(pixels, DecoderStream(both).push(latents))


def test_halves_that_are_not_needed_take_no_memory(wan, tiny):
    count = lambda vae: sum(w.numel() for w in vae.parameters())  # noqa: E731
    both = paired(wan, tiny)
    assert count(both) == count(wan) - count(wan.decoder) + count(tiny.decoder)
    assert hasattr(wan, "decoder") and hasattr(tiny, "encoder")  # those that were given stay


def test_latents_of_another_family_are_refused(wan):
    other = with_seeded_weights(TinyVae(replace(TINY, channels=48, patch=2)))
    with pytest.raises(WeightsError, match=r"48 channels.*taew2_1 goes with Wan 2\.1"):
        paired(wan, other)
