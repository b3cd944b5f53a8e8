"""Processes that share the weights train as one does, and one goes on from what they wrote."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from rtr_core.errors import RankError, WeightsError
from rtr_core.train.checkpoint import Checkpoint
from rtr_core.train.network import opened
from tests.scale.company import ended, started
from tests.train import shards
from tests.train.toys import make_pairs

MODULE = "tests.train.shards"


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return make_pairs(tmp_path_factory.mktemp("pairs"))


def losses(folder: Path) -> list[dict[str, float]]:
    lines = (folder / "log.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


def assert_alike(one: Path, other: Path) -> None:
    """The same curve, and the same weights at its end."""
    curves = losses(one), losses(other)
    assert len(curves[0]) == len(curves[1])
    for facts, others in zip(*curves, strict=True):
        assert facts == pytest.approx(others, rel=1e-4)
    states = [Checkpoint.found(folder) for folder in (one, other)]
    assert states[0] and states[1] and states[0].step == states[1].step == 6
    assert states[0].tensors.keys() == states[1].tensors.keys()
    for name, value in states[0].tensors.items():
        # sums are taken in another order, and Adam makes much of gradients that are nearly nothing
        torch.testing.assert_close(states[1].tensors[name], value, rtol=1e-4, atol=5e-5)


@pytest.fixture(scope="module")
def alone(pairs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    shards.main("teacher", str(pairs.folder), str(folder), "99")
    return folder


@pytest.fixture(scope="module")
def broken(pairs, tmp_path_factory):
    """A run of two ranks, killed in its fifth step."""
    folder = tmp_path_factory.mktemp("broken") / "run"
    ended(started(MODULE, 2, "teacher", str(pairs.folder), str(folder), "4"))
    return folder


def goes_on(broken: Path, folder: Path) -> Path:
    shutil.copytree(broken, folder)
    log = folder / "log.jsonl"
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:3]))  # what was saved
    return folder


def test_two_ranks_with_shared_weights_train_as_one_process_does(pairs, alone, tmp_path):
    ended(started(MODULE, 2, "teacher", str(pairs.folder), str(tmp_path / "run"), "99"))
    assert_alike(alone, tmp_path / "run")
    network, _ = opened(tmp_path / "run" / "model.safetensors")
    whole, _ = opened(alone / "model.safetensors")
    for one, other in zip(network.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=5e-5)


def test_one_process_goes_on_from_what_two_ranks_wrote(pairs, alone, broken, tmp_path):
    folder = goes_on(broken, tmp_path / "run")
    shards.main("teacher", str(pairs.folder), str(folder), "99", seed=9)
    assert_alike(alone, folder)
    assert not list(folder.glob("checkpoint/plan.json"))  # one checkpoint, not two


def test_four_ranks_go_on_from_what_two_wrote(pairs, alone, broken, tmp_path):
    folder = goes_on(broken, tmp_path / "run")
    ended(started(MODULE, 4, "teacher", str(pairs.folder), str(folder), "99"))
    assert_alike(alone, folder)
    assert len(list(folder.glob("checkpoint/*.safetensors"))) == 4  # the old pieces are gone


def test_post_training_with_three_players_is_shared_as_well(pairs, tmp_path):
    alone, together = tmp_path / "alone", tmp_path / "together"
    ended(started(MODULE, 2, "distill", str(pairs.folder), str(together), "99"))
    shards.main("distill", str(pairs.folder), str(alone), "99")
    for facts, others in zip(losses(alone), losses(together), strict=True):
        # the discriminator's penalty measures the noise of each process's own samples
        assert facts == pytest.approx(others, rel=2e-3)


def test_a_checkpoint_whose_pieces_are_of_two_runs_is_refused(broken, tmp_path):
    folder = goes_on(broken, tmp_path / "run")
    (piece,) = folder.glob("checkpoint/*-1-of-2.safetensors")
    shutil.copy(next(folder.glob("checkpoint/*-0-of-2.safetensors")), piece)
    found = Checkpoint.found(folder)
    assert found is not None
    with pytest.raises(WeightsError, match="some are of another checkpoint"):
        dict(found.tensors)


def test_a_plan_leads_nowhere_but_to_its_own_folder(broken, tmp_path):
    plan = goes_on(broken, tmp_path / "run") / "checkpoint" / "plan.json"
    plan.write_text(json.dumps(json.loads(plan.read_text()) | {"pieces": ["../../x.safetensors"]}))
    with pytest.raises(WeightsError, match="outside its own folder"):
        Checkpoint.found(tmp_path / "run")


def test_ranks_that_begin_with_other_weights_are_named_before_a_step(pairs, tmp_path):
    words = "teacher", str(pairs.folder), str(tmp_path / "run"), "6", "differing"
    running = started(MODULE, 2, *words)
    said = [process.communicate(timeout=150)[0] for process in running]
    assert all("Rank 1 has weights = " in each for each in said), said
    assert [process.returncode for process in running] == [1, 1]
    assert not (tmp_path / "run" / "log.jsonl").exists()


def test_weights_are_shared_by_processes_that_torchrun_started_only(pairs, tmp_path):
    with pytest.raises(RankError, match="torchrun"):
        shards.main("teacher", str(pairs.folder), str(tmp_path), "1", shard=True)
