"""A decoder learns what its student paints, and everything else stays as it was."""

import numpy as np
import pytest
import torch

from rtr_core.train import runs
from rtr_core.train.data import DataConfig
from rtr_core.train.decoder import DecoderStage, DecoderTraining
from rtr_core.train.loop import Dice, Turn
from rtr_core.train.material import Material
from rtr_core.train.network import opened
from rtr_core.train.vae import VaeTraining, begun, windows
from tests.train.scenes import scene
from tests.train.test_losses import woken
from tests.train.toys import VAE, make_network, make_result

SMALL = DecoderTraining(data=DataConfig(side=32, styles=1))


@pytest.fixture
def stage():
    stills = [scene(96, 96, seed) for seed in range(4)]
    material = Material(runs=[np.stack([np.roll(s, n, 1) for n in range(12)]) for s in stills])
    rngs = [np.random.default_rng(n) for n in range(30)]
    vae = begun(VAE, windows(material, VaeTraining(side=32), 9, rngs))
    return DecoderStage(woken(make_network()), vae, material, make_result(), SMALL)


def turn():
    return Turn("vae", Dice(0), [Dice(0, row) for row in range(6)])


@pytest.mark.parametrize("by_reference", [False, True])
def test_it_learns_to_show_what_the_student_paints(stage, by_reference):
    rngs = [dice.rng for dice in turn().each]
    batch = stage._windows(rngs, by_reference)
    assert (batch.reference is not None) == by_reference
    before = {name: t.clone() for name, t in stage.vae.state_dict().items()}
    open_to_change = [p for p in stage.vae.parameters() if p.requires_grad]
    optimizer, losses = torch.optim.Adam(open_to_change, 3e-3), []
    for _ in range(40):
        loss, facts = stage.loss(turn(), batch)
        assert {"psnr painted", "psnr encoded"} == set(facts)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
    changed = {n for n, t in stage.vae.state_dict().items() if not t.equal(before[n])}
    assert changed and all(name.startswith("decoder") for name in changed)
    assert all(p.grad is None for p in stage.student.parameters())


def test_pairs_stay_good_for_a_decoder_that_learned_more(stage, tmp_path):
    before = runs.fingerprint_of(stage.vae)
    with torch.no_grad():
        stage.vae.decoder_shortcut.weight.add_(1)
    assert runs.fingerprint_of(stage.vae) == before
    stage.write(tmp_path, 5, {"vae": stage.vae})
    student, parts = opened(tmp_path / "model.safetensors")
    assert parts.vae.decoder_shortcut.weight.equal(stage.vae.decoder_shortcut.weight)
    assert student.state_dict().keys() == stage.student.state_dict().keys()
    assert len(list(tmp_path.glob("strip-000005-*.png"))) == 2
    with torch.no_grad():
        stage.vae.encoder_shortcut.weight.add_(1)
    assert runs.fingerprint_of(stage.vae) != before
