"""Takes: what a teacher is asked is what it was trained on, and a reference can be let go."""

import numpy as np
import pytest
import torch

from rtr_core import Style, Stylizer
from rtr_core.evaluate import takes
from rtr_core.frames import to_frames, to_pixels
from rtr_core.parts import Parts
from rtr_core.recipes import Recipe
from rtr_core.sampling import SeededNoise
from rtr_core.train import network
from rtr_core.train.pairs import Batch
from rtr_core.train.teacher import Teacher
from rtr_core.untrained import randomized
from rtr_core.vae.tiny import TinyVae
from tests.train.scenes import clip, scene
from tests.train.toys import MODEL, RECIPE, TEXT, VAE

SIDE = 32


@pytest.fixture(scope="module")
def trained() -> network.Network:
    made = network.begun(MODEL, TEXT)
    with torch.no_grad():
        made.transformer.head.head.weight.normal_(0, 0.1, generator=torch.manual_seed(0))
    return made


@pytest.fixture(scope="module")
def stylizer(trained) -> Stylizer:
    vae = randomized(TinyVae(VAE), torch.Generator().manual_seed(0))
    parts = Parts(
        transformer=trained.transformer, vae=vae, text=trained.text, recipe=RECIPE, name="toy"
    )
    return Stylizer.of(parts)


@pytest.mark.parametrize("style", [Style(prompt="ink"), Style(reference=scene(SIDE, SIDE, 5))])
def test_a_teacher_asked_in_one_step_sees_what_it_saw_in_training(stylizer, trained, style):
    source, parts = clip(9, SIDE, SIDE), stylizer.parts
    came = takes.sampled(stylizer, style, source, steps=1, seed=3)

    geometry = parts.geometry((SIDE, SIDE))
    with torch.no_grad():
        latents = takes.encode(parts, to_pixels(torch.from_numpy(source), geometry, torch.zeros(1)))
        reference = parts.encode(style, geometry).latent
        batch = Batch(latents, latents, [style.prompt or ""], reference, ["ink"])
        memory = Teacher().memory(
            geometry.grid, 3, 0 if reference is None else 1, trained.encode(batch.prompts)
        )
        noise = SeededNoise(3).like(latents)
        clean = trained.clean(noise, torch.ones(1, 3), batch, memory)
        expected = takes.as_bytes(to_frames(takes.decode(parts, clean), geometry.size))
    assert np.abs(came.astype(int) - expected).max() <= 1


def test_many_steps_begin_at_noise_and_go_down_evenly():
    assert takes.many_sigmas(RECIPE, 4) == pytest.approx((1, 0.75, 0.5, 0.25))
    shifted = takes.many_sigmas(Recipe(name="", timesteps=(1000,), shift=5.0), 4)
    assert shifted[0] == 1 and shifted[2] > 0.5


def test_a_reference_let_go_is_seen_first_and_rolls_out_of_the_window(stylizer):
    style, source = Style(reference=scene(SIDE, SIDE, 5)), clip(17, SIDE, SIDE)
    kept, freed = (stylizer.session(style, (SIDE, SIDE)) for _ in range(2))
    takes.let_go(freed)
    assert [frame.index for frame in freed.memory.segments.slots] == [0]
    chunks = [[*session.push(source)] for session in (kept, freed)]
    assert any(frame.anchored for frame in kept.memory.segments.slots)
    assert not any(frame.anchored for frame in freed.memory.segments.slots)
    assert min(frame.index for frame in freed.memory.segments.slots) > 0
    torch.testing.assert_close(chunks[0][0], chunks[1][0])  # it still stood before the first
    assert not torch.equal(chunks[0][-1], chunks[1][-1])


def test_a_switch_is_seen_in_the_chunks_that_follow(stylizer):
    source = clip(17, SIDE, SIDE)
    ink, oil = Style(prompt="ink"), Style(prompt="oil")
    old, new = takes.switched(stylizer, ink, oil, source, chunks=(2, 3))
    unswitched = takes.styled(stylizer, ink, source)
    assert len(old) == 5 and [len(chunk) for chunk in new] == [4, 4, 4]
    np.testing.assert_array_equal(old, unswitched[:5])
    assert (new[0] != unswitched[5:9]).any()


def test_as_many_frames_come_out_as_went_in_however_they_are_taken(stylizer):
    source, style = clip(10, SIDE, SIDE), Style(prompt="ink")
    assert takes.styled(stylizer, style, source).shape == source.shape
    assert takes.sampled(stylizer, style, source, steps=2).shape == source.shape
    assert takes.round_trip(stylizer.parts, source).shape == source.shape


def test_takes_beside_each_other_equal_takes_one_by_one(stylizer):
    source, styles = clip(9, SIDE, SIDE), [Style(prompt=p) for p in ("ink", "oil", "chalk")]
    torch.set_num_threads(2)
    beside = takes.side_by_side(lambda style: takes.styled(stylizer, style, source), styles)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)
    for style, frames in zip(styles, beside, strict=True):
        np.testing.assert_array_equal(frames, takes.styled(stylizer, style, source))
