"""A model in another shape goes on from what it knows."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from rtr_core.errors import WeightsError
from rtr_core.model.transformer import Transformer
from rtr_core.shapes import Size, Stride
from rtr_core.train import runs
from rtr_core.train.loop import Schedule
from rtr_core.train.material import Material
from rtr_core.train.network import Network, opened
from rtr_core.train.reshape import reshaped, with_channels
from rtr_core.train.seen import psnr
from rtr_core.train.vae import VaeTraining, begun, round_trip, windows
from rtr_core.untrained import randomized
from rtr_core.vae.stream import EncoderStream
from tests.train.scenes import scene
from tests.train.toys import MODEL, VAE, make_network, make_result

COARSE = replace(MODEL, patch=Stride(1, 2, 2))


@pytest.fixture(scope="module")
def pixels():
    stills = [scene(96, 96, seed) for seed in range(4)]
    material = Material(runs=[np.stack([np.roll(s, n, 1) for n in range(12)]) for s in stills])
    rngs = [np.random.default_rng(n) for n in range(40)]
    return windows(material, VaeTraining(side=32), 9, rngs)


@pytest.fixture
def vae(pixels):
    return begun(VAE, pixels)


def test_more_channels_leave_the_others_as_they_are_and_lose_less(vae, pixels):
    wide = with_channels(vae, VAE.channels + 8, pixels)
    with torch.no_grad():
        before, after = (EncoderStream(one).push(pixels) for one in (vae, wide))
        errors = [round_trip(one, pixels) - pixels for one in (vae, wide)]
    assert after.shape[1] == VAE.channels + 8
    torch.testing.assert_close(after[:, : VAE.channels], before, atol=1e-5, rtol=0)
    assert psnr(errors[1]) > psnr(errors[0]) + 0.5
    new = after[:, VAE.channels :, 1:].transpose(0, 1).flatten(1)
    assert new.mean(1).abs().max() < 0.05 and (new.std(1) - 1).abs().max() < 0.05


def test_new_channels_tell_nothing_that_the_others_do(vae, pixels):
    """So zero, which a model that does not know them yet paints there, is the best guess."""
    wide = with_channels(vae, VAE.channels + 8, pixels)
    with torch.no_grad():
        latents = EncoderStream(wide).push(pixels)[:, :, 1:].transpose(0, 1).flatten(1)
    both = torch.corrcoef(latents)[: VAE.channels, VAE.channels :]
    assert both.abs().max() < 0.05


def coarse(seed: int = 0) -> Transformer:
    return randomized(Transformer(COARSE), torch.Generator().manual_seed(seed))


def answers(transformer: Transformer, latents: torch.Tensor) -> torch.Tensor:
    """What comes of latents without attention to others: positions differ between the shapes."""
    tokens = transformer._patchify(latents)
    time, _ = transformer._time(torch.ones(1, 1), tokens)
    head = transformer.head(tokens, time)
    return transformer._unpatchify(head, latents)


def test_finer_tokens_answer_a_flat_picture_as_the_coarse_one_on_average():
    old = coarse()
    new = reshaped(old, COARSE.out_channels, Stride(1, 1, 1), COARSE.adapter_dim)
    assert new.config.tile == 2 * old.config.tile and new.config.patch == (1, 1, 1)
    flat = torch.randn(1, COARSE.in_channels, 1, 1, 1).expand(-1, -1, -1, 4, 4)
    with torch.no_grad():
        before, after = answers(old, flat), answers(new, flat)
    torch.testing.assert_close(after.mean((-2, -1)), before.mean((-2, -1)))
    reference = flat[:, : COARSE.out_channels]
    with torch.no_grad():
        shown = [each.reference_adapter(reference)[:, :, 0] for each in (old, new)]
    torch.testing.assert_close(*shown)


def test_further_channels_count_for_nothing_at_first():
    old, more = coarse(), 3
    wide = reshaped(old, COARSE.out_channels + more, COARSE.patch, COARSE.adapter_dim)
    noise, source = torch.randn(2, 1, COARSE.out_channels, 1, 4, 4)
    told = torch.cat([noise, source], 1)
    unknown = torch.randn(1, more, 1, 4, 4)
    with torch.no_grad():
        before = answers(old, told)
        after = answers(wide, torch.cat([noise, unknown, source, unknown], 1))
    torch.testing.assert_close(after[:, : COARSE.out_channels], before)
    assert not after[:, COARSE.out_channels :].any()


def test_a_narrower_adapter_keeps_the_units_that_add_most():
    old = coarse()
    with torch.no_grad():
        old.reference_adapter.down.weight[:, ::2] *= 1e-4
    half = reshaped(old, COARSE.out_channels, COARSE.patch, COARSE.adapter_dim // 2)
    reference = torch.randn(1, COARSE.out_channels, 1, 4, 4)
    with torch.no_grad():
        shown = [each.reference_adapter(reference) for each in (old, half)]
    torch.testing.assert_close(*shown, atol=1e-2, rtol=1e-2)


def test_the_same_shape_is_the_same_model(vae, pixels):
    old = coarse()
    same = reshaped(old, COARSE.out_channels, COARSE.patch, COARSE.adapter_dim)
    for one, other in ((old, same), (vae, with_channels(vae, VAE.channels, pixels))):
        state = other.state_dict()
        assert all(tensor.equal(state[name]) for name, tensor in one.state_dict().items())
        assert one.config == other.config


@pytest.mark.parametrize(
    ("channels", "patch", "adapter"),
    [
        (COARSE.out_channels - 1, COARSE.patch, COARSE.adapter_dim),
        (COARSE.out_channels, Stride(1, 4, 4), COARSE.adapter_dim),
        (COARSE.out_channels, Stride(1, 2, 1), COARSE.adapter_dim),
        (COARSE.out_channels, Stride(1, 0, 0), COARSE.adapter_dim),
        (COARSE.out_channels, COARSE.patch, 2 * COARSE.adapter_dim),
    ],
)
def test_what_cannot_go_on_is_refused(channels, patch, adapter):
    with pytest.raises(WeightsError, match=r"patch|channels"):
        reshaped(coarse(), channels, patch, adapter)


def test_a_tile_tells_a_token_where_it_stands():
    """Tokens of one colour differ by their place in a tile, and by that alone."""
    transformer = randomized(
        Transformer(replace(MODEL, patch=Stride(1, 1, 1), tile=2)), torch.Generator().manual_seed(0)
    )
    flat = torch.ones(1, MODEL.in_channels, 1, 4, 6)
    with torch.no_grad():
        tokens = transformer._patchify(flat)[0, 0].unflatten(0, Size(4, 6))
        shown = transformer._adapted(flat[:, : MODEL.out_channels])[0, 0].unflatten(0, (4, 6))
    for side in (tokens, shown):
        assert side[2:, 2:].equal(side[:2, :2].repeat(1, 2, 1)[:, :4])
        assert not side[0, 0].allclose(side[0, 1]) and not side[0, 0].allclose(side[1, 0])
        first, second, *_ = transformer.tile_embedding
        torch.testing.assert_close(side[0, 1] - side[0, 0], second - first)


def test_a_reshaped_file_is_a_model_that_stages_open(tmp_path):
    for seed in range(6):
        cv2.imwrite(str(tmp_path / f"{seed}.png"), scene(280, 280, seed))
    model, out, other = (tmp_path / f"{name}.safetensors" for name in ("model", "out", "other"))
    make_result().write(model, Network(coarse(), make_network().text))
    told = list(runs.reshape(tmp_path, model, out, channels=6, patch=1, adapter=8))
    assert told[-1].startswith(f"wrote {out}")
    network, parts = opened(out)
    made = network.transformer.config
    assert (made.out_channels, made.patch, made.tile, made.adapter_dim) == (6, (1, 1, 1), 2, 8)
    assert parts.vae.channels == 6
    learned_on = {"channels": 6, "patch": 1, "vae_file": out}
    list(runs.reshape(tmp_path, model, other, **learned_on))
    kept = opened(other)[1].vae.state_dict()
    assert all(kept[name].equal(tensor) for name, tensor in parts.vae.state_dict().items())
    with pytest.raises(WeightsError, match="give --channels"):
        list(runs.reshape(tmp_path, model, other, vae_file=out))


def test_an_autoencoder_that_is_there_learns_on(tmp_path):
    for seed in range(6):
        cv2.imwrite(str(tmp_path / f"{seed}.png"), scene(280, 280, seed))
    model, run = tmp_path / "model.safetensors", tmp_path / "run"
    make_result().write(model, make_network())
    schedule = Schedule(steps=2, batch=1, rate=1e-6)
    list(runs.train_vae(tmp_path, run, schedule, begin=model, encoder=model))
    old, new = (runs.tiny_vae(file).state_dict() for file in (model, run / "vae.safetensors"))
    for name, tensor in new.items():
        assert (tensor - old[name]).abs().max() < 1e-3
        assert tensor.equal(old[name]) or not name.startswith("encoder")
    assert any(not tensor.equal(old[name]) for name, tensor in new.items())
