"""A model learns from the structure that pairs tell beside their sources."""

import numpy as np
import pytest
import torch

from rtr_core.errors import WeightsError
from rtr_core.flight import Flight
from rtr_core.intake import Waiting
from rtr_core.model.structure import with_structure
from rtr_core.parts import Parts
from rtr_core.sampling import SeededNoise
from rtr_core.structure import outlines
from rtr_core.train import runs
from rtr_core.train.data import DataConfig, make_shards
from rtr_core.train.finish import Finish, FinishStage
from rtr_core.train.flow_stage import FlowStage, grid_of
from rtr_core.train.loop import Dice, Turn
from rtr_core.train.makers import Procedural
from rtr_core.train.material import Material
from rtr_core.train.network import Network
from rtr_core.train.pairs import Pairs, Shard
from rtr_core.train.rollout import rolled_out
from rtr_core.train.student import Student
from rtr_core.train.teacher import Teacher
from rtr_core.vae.stream import EncoderStream
from rtr_core.verify import Latents
from tests.train.scenes import scene
from tests.train.toys import CHANNELS, FRAMES, RECIPE, SIDE, make_network, make_result, woken

ROWS = 16


def told_network(seed: int = 0) -> Network:
    network = make_network(seed)
    network.transformer = with_structure(network.transformer)
    return network


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> Pairs:
    """Targets that follow from the structure, and not from the source."""
    rng, folder = torch.Generator().manual_seed(0), tmp_path_factory.mktemp("pairs")
    source, structure = torch.randn(2, ROWS, CHANNELS, FRAMES, SIDE, SIDE, generator=rng)
    tensors = {
        "source": torch.cat([source, structure], dim=1).bfloat16(),
        "target": structure.bfloat16(),
        "reference": structure[:, :, :1].bfloat16(),
    }
    shard = Shard(tensors=tensors, styles=["ink"] * ROWS, prompts=[("ink",)] * ROWS)
    shard.write(folder / "pairs-00000.safetensors", "toy")
    return Pairs(folder)


def turn(player: str, step: int = 0, rows: int = 4) -> Turn:
    return Turn(player, Dice(step), [Dice(step, row) for row in range(rows)])


@pytest.mark.parametrize("way", [Teacher(), Student(recipe=RECIPE)], ids=["teacher", "student"])
def test_a_projection_of_zeros_learns_what_only_the_structure_tells(pairs, way):
    assert pairs.structure
    network = told_network()
    stage = FlowStage(network, pairs, make_result(), way)
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    for step in range(80):
        loss, _ = stage.loss(turn(way.name, step, 8), pairs.batch(turn(way.name, step, 8), 0.0))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    batch, sigma = pairs.batch(turn(way.name, 999, ROWS), 0.0), torch.ones(ROWS, FRAMES)
    other = batch._replace(source=batch.source.roll(1, dims=0))
    with torch.no_grad():
        right, wrong = (
            (stage.predicted(network, turn(way.name, 999, ROWS), each, sigma) - batch.target)
            .square()
            .mean()
            for each in (batch, other)
        )
    assert right < 0.5 * wrong
    assert network.transformer.structure_embedding.weight.abs().max() > 0


def test_a_rollout_is_what_a_session_renders_of_source_and_structure(pairs):
    network = woken(told_network())
    with torch.no_grad():
        network.transformer.structure_embedding.weight.normal_(0, 0.3)
    batch = pairs.batch(turn("student", rows=1), 0.0)
    grid = grid_of(network, batch.target)
    source, structure = batch.source.split(CHANNELS, dim=1)
    with torch.no_grad():
        rolled = rolled_out(network, RECIPE, batch, grid, 1, SeededNoise(3))
        parts = Parts(
            transformer=network.transformer,
            vae=Latents(CHANNELS),
            text=None,
            recipe=RECIPE,
            name="toy",
        )
        flight = Flight(parts, RECIPE, grid, seed=3)
        flight.past.memory.reset_context(network.encode(batch.prompts))
        for n in range(FRAMES):
            one, its = (latents[:, :, n : n + 1] for latents in (source, structure))
            flight.set_out(Waiting(one, 1, 0.0, its))
            landed = flight.move_on(lambda: None)
            assert landed and landed.x.equal(rolled[:, :, n : n + 1])
            flight.remember(lambda: None)
            flight.past.commit()


@pytest.fixture(scope="module")
def material() -> Material:
    return Material(stills=[scene(80, 80, seed) for seed in range(4)])


def made(material, folder, structure: bool) -> Pairs:
    config = DataConfig(side=32, rows=4, styles=2, structure=structure)
    vae = make_result().vae
    place = folder, runs.fingerprint_of(vae)
    list(make_shards(material, vae, Procedural(), config, place, 4))
    return Pairs(folder)


def test_pairs_hold_the_outlines_of_their_sources_where_that_is_asked_for(material, tmp_path):
    with_it, without = (made(material, tmp_path / str(told), told) for told in (True, False))
    assert with_it.structure and not without.structure
    one, other = (rows._tensor("source", rows.rows) for rows in (with_it, without))
    source, structure = one.chunk(2, dim=1)
    assert source.equal(other) and not torch.allclose(structure, source)


def test_a_model_and_pairs_that_do_not_tell_the_same_are_refused(material, tmp_path):
    file = tmp_path / "model.safetensors"
    make_result().write(file, told_network())
    for structure, words in ((True, "are with the structure"), (False, "are not with the struct")):
        made(material, tmp_path / str(structure), structure)
        learner = make_network() if structure else told_network()
        with pytest.raises(WeightsError, match=words):
            runs.rows_for(learner, make_result().vae, tmp_path / str(structure))
    assert runs.rows_for(told_network(), make_result().vae, tmp_path / "True").structure


def test_the_finish_tells_the_structure_as_pairs_do(material):
    stage = FinishStage(
        woken(told_network()), material, make_result(), Finish(data=DataConfig(side=32, styles=1))
    )
    batch = stage.windows([np.random.default_rng(0), np.random.default_rng(1)], False)
    source, structure = stage.encoded(batch).source.chunk(2, dim=1)
    for latents, pixels in ((source, batch.source), (structure, outlines(batch.source))):
        expected = EncoderStream(stage.both.vae).push(pixels)
        assert expected is not None and latents.equal(expected)
    loss, _ = stage.loss(turn("finish", rows=2), batch)
    loss.backward()
    gradient = stage.both.student.transformer.structure_embedding.weight.grad
    assert gradient is not None and gradient.abs().max() > 0
