"""Student and decoder learn together what is seen; the encoder stays as it was."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from rtr_core.errors import WeightsError
from rtr_core.train import runs
from rtr_core.train.data import DataConfig
from rtr_core.train.finish import Finish, FinishStage
from rtr_core.train.loop import Dice, Schedule, Turn
from rtr_core.train.material import Material
from rtr_core.train.network import TINY, opened
from rtr_core.train.vae import VaeTraining, begun, windows
from tests.train.scenes import scene
from tests.train.test_losses import woken
from tests.train.toys import VAE, make_network, make_result

SMALL = Finish(data=DataConfig(side=32, styles=1))


@pytest.fixture
def stage():
    stills = [scene(96, 96, seed) for seed in range(4)]
    material = Material(runs=[np.stack([np.roll(s, n, 1) for n in range(12)]) for s in stills])
    rngs = [np.random.default_rng(n) for n in range(30)]
    vae = begun(VAE, windows(material, VaeTraining(side=32), 9, rngs))
    return FinishStage(woken(make_network()), material, make_result().of(vae), SMALL)


def turn():
    return Turn("finish", Dice(0), [Dice(0, row) for row in range(8)])


@pytest.mark.parametrize("by_reference", [False, True])
def test_student_and_decoder_learn_and_the_encoder_does_not(stage, by_reference):
    batch = stage.windows([dice.rng for dice in turn().each], by_reference)
    assert (batch.reference is not None) == by_reference
    before = {name: t.clone() for name, t in stage.both.state_dict().items()}
    open_to_change = [p for p in stage.both.parameters() if p.requires_grad]
    optimizer, losses = torch.optim.Adam(open_to_change, 3e-3), []
    for _ in range(40):
        loss, facts = stage.loss(turn(), batch)
        assert {"psnr painted", "psnr encoded", "error"} == set(facts)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    changed = {n for n, t in stage.both.state_dict().items() if not t.equal(before[n])}
    assert any(name.startswith("student.transformer.blocks") for name in changed)
    assert any(name.startswith("vae.decoder") for name in changed)
    assert not any(name.startswith("vae.encoder") for name in changed)


def test_who_paints_by_a_reference_is_asked_for_its_style_and_who_decodes_for_the_targets(stage):
    dice = [Dice(3, n).rng for n in range(4)]
    by_reference, by_prompt = (stage.windows(dice, told) for told in (True, False))
    shown = by_reference.style(3)
    assert torch.equal(shown[:3], by_reference.reference[:3])
    assert torch.equal(shown[3:], by_reference.target[3:, :, -1:])
    assert torch.equal(by_prompt.style(3), by_prompt.target[:, :, -1:])


def test_of_what_is_not_painted_every_second_is_shown_as_it_was_filmed(stage):
    batch = stage.windows([Dice(3, n).rng for n in range(6)], by_reference=False)
    half = batch.half_as_filmed(2)
    for row in (0, 1, 3, 5):
        assert torch.equal(half.target[row], batch.target[row])
    for row in (2, 4):
        assert torch.equal(half.target[row], batch.source[row])
        assert not torch.equal(half.target[row], batch.target[row])


def test_pairs_stay_good_for_a_decoder_that_learned_more(stage, tmp_path):
    vae = stage.both.vae
    before = runs.fingerprint_of(vae)
    with torch.no_grad():
        vae.decoder_shortcut.weight.add_(1)
    assert runs.fingerprint_of(vae) == before
    stage.write(tmp_path, 5, {"finish": stage.both})
    student, parts = opened(tmp_path / "model.safetensors")
    assert parts.vae.decoder_shortcut.weight.equal(vae.decoder_shortcut.weight)
    assert student.state_dict().keys() == stage.both.student.state_dict().keys()
    assert len(list(tmp_path.glob("strip-000005-*.png"))) == 2
    with torch.no_grad():
        vae.encoder_shortcut.weight.add_(1)
    assert runs.fingerprint_of(vae) != before


def test_another_decoder_must_belong_to_the_same_latents(stage, tmp_path):
    stage.write(tmp_path, 5, {"finish": stage.both})
    with torch.no_grad():
        stage.both.vae.encoder_shortcut.weight.add_(1)
    (tmp_path / "other").mkdir()
    stage.write(tmp_path / "other", 5, {"finish": stage.both})
    files = (folder / "model.safetensors" for folder in (tmp_path, tmp_path / "other"))
    student, other = files
    schedule = Schedule(steps=1, batch=1)
    with pytest.raises(WeightsError, match="encodes otherwise"):
        list(runs.finish(tmp_path, tmp_path / "run", schedule, student=student, vae_file=other))


def test_a_released_file_learns_in_fp32(stage, tmp_path):
    stage.result.write(tmp_path / "bf16.safetensors", stage.both.student, torch.bfloat16)
    network, parts = opened(tmp_path / "bf16.safetensors")
    learning = [*network.parameters(), *parts.vae.parameters()]
    assert {p.dtype for p in learning} == {torch.float32}


def test_the_built_in_model_is_learned_on_from_by_its_name():
    network, parts = opened(Path("rtr-tiny"))
    assert runs.fingerprint_of(runs.tiny_vae(Path("rtr-tiny"))) == runs.fingerprint_of(parts.vae)
    assert network.transformer.config == TINY


def test_what_is_released_may_lie_between_a_model_and_the_one_it_was_trained_from(stage, tmp_path):
    files = [tmp_path / f"{name}.safetensors" for name in ("old", "new", "between")]
    stage.result.write(files[0], stage.both.student)
    with torch.no_grad():
        for parameter in (*stage.both.student.parameters(), *stage.both.vae.parameters()):
            parameter.add_(1.0)
    stage.result.write(files[1], stage.both.student)
    list(runs.release(files[1], files[2], card=None, towards=files[0], share=0.25))
    old, between = load_file(files[0]), load_file(files[2])
    assert between.keys() == old.keys() and {t.dtype for t in between.values()} == {torch.bfloat16}
    apart = [(between[name].float() - old[name]).mean() for name in old]
    assert all(abs(float(a) - 0.75) < 0.02 for a in apart)
    list(runs.release(files[1], files[2], card=None, towards=files[0], share=0.25, student=False))
    seen = load_file(files[2])
    assert all(seen[name].equal(between[name]) == name.startswith("vae.") for name in old)
