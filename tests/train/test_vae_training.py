"""The tiny autoencoder begins as principal components, and training makes it better."""

import numpy as np
import pytest
import torch

from rtr_core.train import runs
from rtr_core.train.loop import Dice, Turn
from rtr_core.train.material import Material, to_batch
from rtr_core.train.seen import (
    Shown,
    against_contrast,
    against_flicker,
    against_palette,
    against_texture,
    psnr,
    seams_of,
    seen,
)
from rtr_core.train.vae import (
    VaeStage,
    VaeTraining,
    begun,
    components,
    energy,
    fit_back,
    linear_psnr,
    round_trip,
    take_encoder,
    windows,
)
from rtr_core.vae.stream import EncoderStream
from rtr_core.vae.tiny import grouped, ungrouped
from rtr_core.weights.load import load_vae
from tests.train.scenes import scene
from tests.train.toys import VAE

TRAINING = VaeTraining(side=32, styled=0.3)


@pytest.fixture(scope="module")
def material():
    stills = [scene(96, 96, seed) for seed in range(6)]
    return Material(runs=[np.stack([np.roll(s, n, 1) for n in range(12)]) for s in stills])


def some(material, count, first=0):
    rngs = [np.random.default_rng(first + n) for n in range(count)]
    return windows(material, TRAINING, 9, rngs)


def test_grouped_pixels_come_back():
    pixels = torch.randn(2, 3, 8, 16, 24, generator=torch.Generator().manual_seed(0))
    assert ungrouped(grouped(pixels, VAE.stride), VAE.stride).equal(pixels)


def test_an_error_shows_more_where_there_is_little_to_be_seen():
    rng = torch.Generator().manual_seed(0)
    picture, error = (torch.randn(1, 3, 1, 16, 16, generator=rng) for _ in range(2))
    error, faint = 0.05 * error, 0.1 * picture
    assert 0.5 > against_contrast(error, faint) > 20 * against_contrast(error, picture)
    assert against_contrast(error + 0.3, faint).allclose(against_contrast(error, faint))
    assert against_contrast(100 * error, faint) < 1  # a frame that is lost is one frame


def test_what_flickers_is_missed_most_where_nothing_moves():
    rng, away = torch.Generator().manual_seed(0), torch.arange(5).view(5, 1, 1) / 4
    picture = torch.randn(1, 3, 1, 16, 16, generator=rng)
    moving, still = picture * away, picture.expand(-1, -1, 5, -1, -1)
    shimmer = 0.05 * torch.randn(1, 3, 5, 16, 16, generator=rng)
    at_rest, on_the_move = (
        against_flicker(side + shimmer, side, VAE.stride) for side in (still, moving)
    )
    assert at_rest > 20 * on_the_move and at_rest > 5
    assert against_flicker(0.5 * moving, moving, VAE.stride) == 0


def test_a_seam_is_a_step_from_one_latent_to_the_next():
    places = torch.randn(1, 3, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    error = places.repeat_interleave(VAE.stride.height, 3).repeat_interleave(VAE.stride.width, 4)
    steps = places.diff(dim=-1).abs().mean() + places.diff(dim=-2).abs().mean()
    assert seams_of(error, VAE.stride).allclose(steps)
    assert seams_of(error.roll((1, 1), (-2, -1)), VAE.stride) == 0


def test_texture_is_missed_where_it_is_soft_and_not_where_it_lies_elsewhere():
    rng = torch.Generator().manual_seed(0)
    hatched = torch.randn(2, 3, 1, 32, 32, generator=rng)
    soft = hatched.roll(1, -1).lerp(hatched, 0.5)

    def missed(back):
        return against_texture(back, hatched, torch.Generator().manual_seed(1))

    assert missed(hatched.roll(7, -1)) < 0.2 * missed(soft)
    assert missed(0.1 * hatched) > 2 * missed(soft) and missed(hatched) == 0


def test_a_palette_is_missed_where_it_is_pale_and_not_where_it_lies_elsewhere():
    vivid = torch.randn(2, 3, 1, 32, 32, generator=torch.Generator().manual_seed(0))

    def missed(back):
        return against_palette(back, vivid, torch.Generator().manual_seed(1))

    assert missed(vivid.roll((5, 7), (-2, -1))) < 1e-6
    assert missed(0.5 * vivid) > 0.2 and missed(vivid.flip(1)) < 0.2 * missed(0.5 * vivid)


def test_where_a_picture_shows_the_style_colours_are_to_be_its_own():
    target = torch.randn(1, 3, 2, 16, 16, generator=torch.Generator().manual_seed(0))

    def missed(style):
        rng, shown = torch.Generator().manual_seed(1), Shown(palette=1.0)
        return seen(target, target, shown, VAE.stride, rng, style)

    assert missed(None) == 0 and missed(target.roll(3, -1)) < 1e-6
    assert missed(3 * target) > 0.5


def test_it_begins_as_the_best_linear_map(material):
    """Of the groups it was fitted on, no linear code of so few numbers leaves less."""
    pixels = some(material, 40)
    vae = begun(VAE, pixels)
    values = grouped(pixels[:, :, 1:], VAE.stride).flatten(0, 3).double()
    spread = torch.linalg.svdvals(values - values.mean(0))
    least = spread[VAE.channels :].square().sum() / values.numel()
    with torch.no_grad():
        error = (round_trip(vae, pixels) - pixels)[:, :, 1:]
    assert error.double().square().mean() < 1.02 * least


def test_more_channels_leave_less_and_neighbours_leave_less_than_any_code_of_places_alone(material):
    fitted_on, others = some(material, 40), some(material, 20, first=100)
    few, more, most = linear_psnr(fitted_on, others, VAE.stride, (2, 4, 8))
    assert few < more < most
    with torch.no_grad():
        error = (round_trip(begun(VAE, fitted_on), others) - others)[:, :, 1:]
    assert float(psnr(error)) > more


def test_places_meet_better_where_the_way_back_sees_neighbours(material):
    """Steps across the borders of places, over those in their middles."""
    fitted_on, others = some(material, 40), some(material, 20, first=100)
    vae = begun(VAE, fitted_on)
    alone = begun(VAE, fitted_on)
    mean, basis, spread = components(fitted_on, VAE.stride, VAE.channels)
    with torch.no_grad():
        alone.decoder_shortcut.weight.zero_()[:, :, 1, 1] = basis * spread
        alone.decoder_shortcut.bias.copy_(mean)
        with_them, without = (steps(round_trip(each, others)) for each in (vae, alone))
    assert steps(others) < with_them < without


def steps(pixels):
    across = pixels[:, :, 1:].diff(dim=-1).abs().mean((0, 1, 2, 3))
    side = VAE.stride.width
    return float(across[side - 1 :: side].mean() / across[side // 2 - 1 :: side].mean())


def test_a_decoder_can_be_begun_anew_to_an_encoder_that_stays(material):
    pixels = some(material, 40)
    first = begun(VAE, pixels, seed=1)
    second = begun(VAE, pixels, seed=2)
    take_encoder(second, first)
    fit_back(second, pixels)
    stage = VaeStage(second, material, TRAINING)
    assert runs.fingerprint_of(stage.vae) == runs.fingerprint_of(first)
    turn = Turn("vae", Dice(0), [Dice(0, n) for n in range(4)])
    loss, _ = stage.loss(turn, stage.batch(turn))
    loss.backward()
    learning = {name for name, p in stage.vae.named_parameters() if p.grad is not None}
    assert learning and all(name.startswith("decoder") for name in learning)


def test_its_latents_have_mean_zero_and_variance_one(material):
    pixels = some(material, 40)
    with torch.no_grad():
        latents = EncoderStream(begun(VAE, pixels)).push(pixels)[:, :, 1:]
    each = latents.transpose(0, 1).flatten(1)
    torch.testing.assert_close(each.mean(1), torch.zeros(VAE.channels), atol=1e-3, rtol=0)
    torch.testing.assert_close(each.std(1), torch.ones(VAE.channels), atol=1e-2, rtol=0)


def test_the_first_channels_move_the_picture_most(material):
    moved = energy(begun(VAE, some(material, 40)))
    assert moved.argmax() == 0 and moved.mean().item() == pytest.approx(1)


def test_training_lowers_its_loss_on_a_fixed_batch_and_the_result_loads(material, tmp_path):
    vae = begun(VAE, some(material, 40))
    stage = VaeStage(vae, material, TRAINING)
    turn = Turn("vae", Dice(0), [Dice(0, row) for row in range(4)])
    batch, optimizer, losses = stage.batch(turn), torch.optim.Adam(vae.parameters(), 1e-3), []
    for _ in range(100):
        loss, _ = stage.loss(Turn("vae", Dice(0), [Dice(0, row) for row in range(4)]), batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.92 * losses[0]
    stage.write(tmp_path, 40, {"vae": vae})
    with torch.no_grad():
        again = round_trip(load_vae(tmp_path / "vae.safetensors"), batch)
        assert psnr(again - batch) == psnr(round_trip(vae, batch) - batch)


def test_windows_become_pixels_of_a_model():
    pixels = to_batch(np.full((1, 2, 4, 4, 3), 255, np.uint8))
    assert pixels.shape == (1, 3, 2, 4, 4) and pixels.eq(1).all()
