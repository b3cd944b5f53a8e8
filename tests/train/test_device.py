"""Training goes where its networks are: a loss makes no tensor on a device of its own choosing.

Nothing can be worked out on the meta device, so a tensor that lands there by default shows.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch

from rtr_core.train.data import DataConfig
from rtr_core.train.distill import Distillation, DistillStage
from rtr_core.train.finish import Finish, FinishStage
from rtr_core.train.flow_stage import FlowStage
from rtr_core.train.loop import Dice, Turn
from rtr_core.train.material import Material
from rtr_core.train.ode import OdeStage
from rtr_core.train.student import Student
from rtr_core.train.teacher import Teacher
from rtr_core.train.vae import VaeStage, VaeTraining
from rtr_core.untrained import randomized
from rtr_core.vae.tiny import TinyVae
from tests.train.scenes import scene
from tests.train.toys import RECIPE, VAE, make_network, make_pairs, make_result, woken

ONE_STEP = RECIPE.override(timesteps=(1000,), commit="last step")


def made(name, pairs):
    """A stage, and a player of it."""
    network, result = woken(make_network()), make_result()
    stills = [scene(64, 64, seed) for seed in range(3)]
    material = Material(runs=[np.stack([np.roll(s, n, 1) for n in range(12)]) for s in stills])
    match name.split():
        case ["teacher"]:
            return FlowStage(network, pairs, result, Teacher()), "teacher"
        case ["student"]:
            return FlowStage(network, pairs, result, Student(recipe=RECIPE)), "student"
        case ["ode"]:
            way = Student(recipe=RECIPE)
            return OdeStage(network, woken(make_network(1)), pairs, result, way, 4), "student"
        case ["distill", player]:
            teacher = woken(make_network(1))
            return DistillStage(
                network, teacher, pairs, result, Distillation(recipe=RECIPE)
            ), player
        case ["finish"]:
            small = Finish(data=DataConfig(side=32, styles=1))
            return FinishStage(network, material, replace(result, recipe=ONE_STEP), small), "finish"
        case _:
            vae = randomized(TinyVae(VAE), torch.Generator().manual_seed(0))
            return VaeStage(vae, material, VaeTraining(side=32)), "vae"


STAGES = ["teacher", "student", "ode", "vae", "finish"]
STAGES += [f"distill {player}" for player in ("student", "critic", "discriminator")]


@pytest.mark.parametrize("name", STAGES)
def test_a_loss_is_worked_out_where_the_networks_are(name, tmp_path):
    stage, player = made(name, make_pairs(tmp_path))
    turn = Turn(player, Dice(0), [Dice(0, row) for row in range(4)])
    batch = stage.batch(turn)
    with torch.device("meta"):
        loss, facts = stage.loss(turn, batch)
        loss.backward()
    assert loss.device.type == "cpu" and loss.isfinite()
    assert all(fact.device.type == "cpu" for fact in facts.values())
