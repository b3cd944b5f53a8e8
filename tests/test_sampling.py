"""Sampling and flow matching, with a model that is one line."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from rtr_core import Recipe
from rtr_core.families import RTR, SELF_FORCING
from rtr_core.flow import (
    add_noise,
    clean_from_velocity,
    randn,
    shift_sigma,
    velocity_target,
)
from rtr_core.sampling import SeededNoise, few_step, set_out

RECIPE = Recipe(name="two", timesteps=(1000, 400))


def latents(seed: int) -> Tensor:
    return torch.randn(1, 3, 2, 4, 4, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("sigma", [0.05, 0.5, 1.0])
def test_the_velocity_target_leads_back_to_the_clean_latents(sigma):
    clean, noise = latents(1), latents(2)
    x = add_noise(clean, noise, sigma)
    assert_close(clean_from_velocity(x, velocity_target(clean, noise), sigma), clean)


def test_a_noise_level_may_differ_per_latent_frame():
    clean, noise = latents(1), latents(2)
    sigma = torch.tensor([[0.2, 0.9]])[:, None, :, None, None]
    x = add_noise(clean, noise, sigma)
    assert_close(clean_from_velocity(x, velocity_target(clean, noise), sigma), clean)


def test_shifting_gives_the_published_timesteps():
    steps = [round(1000 * sigma, 1) for sigma in SELF_FORCING.sigmas]
    assert steps == [1000.0, 937.5, 833.3, 625.0]
    assert shift_sigma(0.3, 1.0) == pytest.approx(0.3)


def test_a_perfect_denoiser_is_done_in_any_number_of_steps():
    clean = latents(1)
    for sigmas in ([1.0], [1.0, 0.5], [0.9, 0.6, 0.3, 0.1]):
        assert torch.equal(few_step(lambda x, s: clean, latents(2), sigmas, SeededNoise(0)), clean)


def test_every_step_sees_its_own_noise_level_and_fresh_noise():
    seen: list[tuple[Tensor, float]] = []

    def denoise(x: Tensor, sigma: float) -> Tensor:
        seen.append((x, sigma))
        return torch.zeros_like(x)

    few_step(denoise, latents(1), [1.0, 0.5, 0.25], SeededNoise(0))
    assert [sigma for _, sigma in seen] == [1.0, 0.5, 0.25]
    draws = [seen[1][0] / 0.5, seen[2][0] / 0.25]
    assert not torch.allclose(*draws) and all(0.6 < draw.std() < 1.4 for draw in draws)


@pytest.mark.parametrize("first", [1000, 800])
def test_the_first_step_starts_from_the_source_under_its_noise_level(first):
    source = latents(1)
    recipe = RECIPE.override(timesteps=(first, 400), strength=0.5)
    chunk = set_out(recipe, source, SeededNoise(3), strength=0.5)
    sigma = first / 4000
    assert chunk.level == pytest.approx(sigma)
    assert_close(chunk.x, add_noise(source, SeededNoise(3).like(source), sigma))


def test_at_sigma_one_the_source_is_gone():
    chunk = set_out(RECIPE, latents(1), SeededNoise(3))
    assert torch.equal(chunk.x, SeededNoise(3).like(latents(1)))


def test_noise_is_drawn_in_fp32_so_that_a_dtype_never_changes_a_take():
    wide = SeededNoise(1).like(torch.zeros(64))
    narrow = SeededNoise(1).like(torch.zeros(64, dtype=torch.bfloat16))
    assert torch.equal(wide.to(torch.bfloat16), narrow)
    rng = torch.Generator().manual_seed(1)
    assert torch.equal(randn((64,), rng, torch.zeros(64)), wide)


def test_noise_can_be_put_back_to_where_it_was():
    noise, like = SeededNoise(1), torch.zeros(8)
    noise.like(like)
    before = noise.snapshot()
    first = noise.like(like)
    noise.restore(before)
    assert torch.equal(noise.like(like), first)


def test_a_recipe_survives_json_and_refuses_what_it_does_not_know():
    import json

    assert Recipe.from_mapping(json.loads(RTR.to_json())) == RTR
    assert RTR.override(window=9).window == 9 and RTR.window != 9
