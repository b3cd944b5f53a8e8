"""Blocks that are recomputed give the same losses and gradients, and nobody else notices."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from rtr_core.train.distill import Distillation, DistillStage
from rtr_core.train.flow_stage import FlowStage
from rtr_core.train.loop import Dice, Schedule, Trainer, Turn
from rtr_core.train.recompute import Recomputed, recomputed
from rtr_core.train.student import Student
from rtr_core.train.teacher import Teacher
from tests.train.toys import RECIPE, make_network, make_pairs, make_result, woken

SCHEDULE = Schedule(steps=2, batch=2, warmup=1, bf16=False, save_every=2, tell_every=1, average=0.9)
CLEAN = RECIPE.override(commit="clean", anchor=1)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return make_pairs(tmp_path_factory.mktemp("pairs"))


def flow(pairs, way):
    return FlowStage(woken(make_network()), pairs, make_result(), way)


def distilling(pairs, recipe):
    torch.manual_seed(0)  # of the discriminator
    student, teacher = woken(make_network(0), 0), woken(make_network(1), 1)
    return DistillStage(student, teacher, pairs, make_result(), Distillation(recipe=recipe))


def gradients(stage, player, seed, bf16):
    """Of a player's loss, with respect to all that learns, and the loss itself."""
    turn = Turn(player, Dice(seed), [Dice(seed, row) for row in range(3)])
    batch = stage.batch(turn)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        loss, _ = stage.loss(turn, batch)
    loss.backward()
    found = {
        f"{name}.{key}": parameter.grad
        for name, module in stage.players.items()
        for key, parameter in module.named_parameters()
    }
    return loss.detach(), found


STAGES = {
    "teacher": ("teacher", lambda pairs: flow(pairs, Teacher())),
    "student": ("student", lambda pairs: flow(pairs, Student(recipe=RECIPE))),
    "rollout": ("student", lambda pairs: distilling(pairs, RECIPE)),
    "clean rollout": ("student", lambda pairs: distilling(pairs, CLEAN)),
    "critic": ("critic", lambda pairs: distilling(pairs, RECIPE)),
    "discriminator": ("discriminator", lambda pairs: distilling(pairs, RECIPE)),
}


@pytest.mark.filterwarnings("ignore:Mismatch dtype")  # as bf16 on the CPU has it
@pytest.mark.parametrize("bf16", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("name", STAGES)
def test_recomputed_blocks_give_the_same_losses_and_gradients(pairs, name, bf16):
    player, make = STAGES[name]
    for seed in range(2):  # by prompt and by reference, one step of a rollout and two
        kept, again = make(pairs), make(pairs)
        for module in again.players.values():
            recomputed(module)
        one, other = (gradients(stage, player, seed, bf16) for stage in (kept, again))
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_less_is_kept_for_the_backward_pass(pairs):
    def kept(network) -> int:
        stage, sizes = FlowStage(network, pairs, make_result(), Teacher()), {}
        turn = Turn("teacher", Dice(0), [Dice(0, 0)])
        own = {p.untyped_storage().data_ptr() for p in network.parameters()}

        def pack(tensor):
            storage = tensor.untyped_storage()
            sizes[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss, _ = stage.loss(turn, stage.batch(turn))
        loss.backward()
        return sum(size for at, size in sizes.items() if at not in own)

    assert kept(recomputed(make_network())) < 0.5 * kept(make_network())


def test_names_and_parameters_stay_and_copies_are_on_their_own():
    network = make_network()
    before = dict(network.named_parameters())
    names = list(network.state_dict())
    recomputed(network)
    after = dict(network.named_parameters())
    assert list(network.state_dict()) == names
    assert before.keys() == after.keys() and all(before[name] is after[name] for name in before)
    assert all(isinstance(block, Recomputed) for block in network.transformer.blocks)
    copy = deepcopy(network)
    with torch.no_grad():
        for parameter in copy.transformer.blocks.parameters():
            parameter.zero_()
    assert all(block.ffn[0].weight.any() for block in network.transformer.blocks)


def test_a_run_goes_on_with_checkpointing_or_without(pairs, tmp_path):
    """It is no part of what makes runs comparable, for it changes no number."""

    schedule = replace(SCHEDULE, steps=4, save_every=1)

    def trainer(schedule, folder):
        stage = FlowStage(make_network(), pairs, make_result(), Teacher())
        return Trainer(stage, schedule, folder)

    plain = [facts["teacher loss"] for facts in trainer(schedule, tmp_path / "plain").run()]
    running = trainer(schedule, tmp_path / "mixed").run()
    begun = [next(running)["teacher loss"] for _ in range(2)]  # saved after the first
    running.close()
    goes_on = trainer(replace(schedule, checkpointing=True), tmp_path / "mixed")
    rest = [facts["teacher loss"] for facts in goes_on.run()]
    assert [*begun[:1], *rest] == plain
