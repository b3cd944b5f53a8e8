"""Training stops and goes on, alone or in company, as if nothing had happened."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rtr_core.errors import NumericsError, ShapeError, StyleError, WeightsError
from rtr_core.train.checkpoint import Checkpoint
from rtr_core.train.flow_stage import FlowStage
from rtr_core.train.loop import Schedule, Trainer
from rtr_core.train.network import opened
from rtr_core.train.student import Student
from rtr_core.train.teacher import Teacher
from tests.train.toys import RECIPE, make_network, make_pairs, make_result

SHORT = Schedule(
    steps=6, batch=4, rate=3e-3, warmup=2, bf16=False, save_every=3, tell_every=1, average=0.9
)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return make_pairs(tmp_path_factory.mktemp("pairs"))


def teacher(pairs, seed=0):
    return FlowStage(make_network(seed), pairs, make_result(), Teacher())


def losses(folder: Path) -> list[float]:
    lines = (folder / "log.jsonl").read_text().splitlines()
    return [json.loads(line)["teacher loss"] for line in lines]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(Checkpoint.read(folder / "checkpoint.safetensors").tensors)


@pytest.mark.filterwarnings("ignore:Mismatch dtype")  # as bf16 on the CPU has it
@pytest.mark.parametrize(("can", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_where_a_device_does_not_multiply_in_bf16_training_is_in_fp32(
    pairs, tmp_path, monkeypatch, can, dtype
):
    monkeypatch.setattr("rtr_core.train.loop.has_bf16", lambda device: can)
    trainer, seen = Trainer(teacher(pairs), replace(SHORT, bf16=True, steps=1), tmp_path), []
    stage = trainer.stage
    was = stage.loss
    stage.loss = lambda turn, batch: (
        seen.append(torch.is_autocast_enabled("cpu")) or was(turn, batch)
    )
    for _ in trainer.run():
        pass
    assert trainer.dtype == dtype and seen == [can]


def test_a_run_that_was_killed_goes_on_to_the_same_losses_and_weights(pairs, tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for _ in Trainer(teacher(pairs), SHORT, whole).run():
        pass
    running = Trainer(teacher(pairs), SHORT, broken).run()
    for _ in range(5):  # saved after step 3, killed in step 6
        next(running)
    running.close()
    lost = losses(broken)
    assert lost == losses(whole)[:5]
    again = Trainer(teacher(pairs, seed=9), SHORT, broken)  # whatever it begins with
    assert again.step == 3
    for _ in again.run():
        pass
    assert losses(broken)[5:] == losses(whole)[3:]
    one, other = weights(whole), weights(broken)
    assert one.keys() == other.keys() and all(one[name].equal(other[name]) for name in one)


def test_a_run_may_be_made_longer_but_not_otherwise_changed(pairs, tmp_path):
    for _ in Trainer(teacher(pairs), replace(SHORT, steps=1), tmp_path).run():
        pass
    assert Trainer(teacher(pairs), replace(SHORT, steps=3), tmp_path).step == 1
    with pytest.raises(WeightsError, match=r"schedule = .*'batch': 4.*'batch': 2"):
        Trainer(teacher(pairs), replace(SHORT, batch=2), tmp_path)
    student = FlowStage(make_network(), pairs, make_result(), Student(recipe=RECIPE))
    with pytest.raises(WeightsError, match="way"):
        Trainer(student, SHORT, tmp_path)


def test_a_loss_that_is_not_finite_stops_at_the_last_good_checkpoint(pairs, tmp_path):
    stage = teacher(pairs)
    run = Trainer(stage, SHORT, tmp_path).run()
    for _ in range(4):
        next(run)
    with torch.no_grad():
        stage.network.transformer.head.head.bias.fill_(float("nan"))
    with pytest.raises(NumericsError, match=r"became nan .*in step [45] of seed 0"):
        list(run)
    kept = Checkpoint.read(tmp_path / "checkpoint.safetensors")
    assert kept.step == 3 and all(t.isfinite().all() for t in kept.tensors.values())


def test_something_else_in_the_place_of_a_checkpoint_is_refused(pairs, tmp_path):
    (tmp_path / "checkpoint.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(WeightsError):
        Trainer(teacher(pairs), SHORT, tmp_path)


def test_what_a_stage_writes_is_a_model_that_the_next_stage_and_the_stylizer_open(pairs, tmp_path):
    for _ in Trainer(teacher(pairs), SHORT, tmp_path).run():
        pass
    network, parts = opened(tmp_path / "model.safetensors")
    assert parts.recipe == RECIPE
    assert all(p.requires_grad for p in network.parameters())
    assert list(tmp_path.glob("strip-*-prompt.png"))


def test_figures_go_to_tensorboard_as_well(pairs, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trainer = Trainer(teacher(pairs), replace(SHORT, tensorboard=True), tmp_path)
    told = [facts["teacher loss"] for facts in trainer.run()]
    read = EventAccumulator(str(tmp_path)).Reload().Scalars("teacher loss")
    assert [event.value for event in read] == pytest.approx(told)


def test_tensorboard_that_is_not_installed_is_asked_for(pairs, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(StyleError, match="pip install tensorboard"):
        Trainer(teacher(pairs), replace(SHORT, tensorboard=True), tmp_path)


def test_a_batch_that_cannot_be_shared_evenly_is_refused(monkeypatch):
    from rtr_core.train import ranks

    monkeypatch.setattr(ranks, "count", lambda: 3)
    with pytest.raises(ShapeError, match="batch of 4 cannot be shared by 3"):
        ranks.rows(4)


COMPANY = """
import sys
from pathlib import Path
import torch
from rtr_core.train import ranks
from rtr_core.train.pairs import Pairs
from tests.train.test_loop import SHORT, teacher, Trainer
torch.set_num_threads(1)
ranks.join()
for _ in Trainer(teacher(Pairs(Path(sys.argv[1]))), SHORT, Path(sys.argv[2])).run():
    pass
"""


def test_two_processes_train_as_one_does_on_the_same_batch(pairs, tmp_path):
    alone, together = tmp_path / "alone", tmp_path / "together"
    for _ in Trainer(teacher(pairs), SHORT, alone).run():
        pass
    rank = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29533"}
    words = [sys.executable, "-c", COMPANY, str(pairs.folder), str(together)]
    root = Path(__file__).parents[2]
    running = [
        subprocess.Popen(words, cwd=root, env={**os.environ, **rank, "RANK": str(n)})
        for n in range(2)
    ]
    assert [process.wait(timeout=120) for process in running] == [0, 0]
    one, other = weights(alone), weights(together)
    for name, value in one.items():
        if ".module." in f".{name}":
            torch.testing.assert_close(other[name], value, rtol=1e-4, atol=1e-5)
