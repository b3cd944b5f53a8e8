"""Who learns from which loss, and that the losses are what the papers say."""

from copy import deepcopy

import numpy as np
import pytest
import torch

from rtr_core.flow import add_noise
from rtr_core.model.chunk_causal import ChunkCausal
from rtr_core.sampling import SeededNoise, beside
from rtr_core.train import dmd
from rtr_core.train.distill import Distillation, DistillStage
from rtr_core.train.flow_stage import FlowStage, grid_of
from rtr_core.train.loop import Dice, Turn
from rtr_core.train.ode import OdeStage
from rtr_core.train.rollout import rolled_out
from rtr_core.train.student import Student
from rtr_core.train.teacher import Teacher
from tests.train.toys import FRAMES, RECIPE, STYLES, make_network, make_pairs, make_result, woken


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return make_pairs(tmp_path_factory.mktemp("pairs"))


def turn(player, step=0, rows=4):
    return Turn(player, Dice(step), [Dice(step, row) for row in range(rows)])


@pytest.fixture
def distilling(pairs):
    student, teacher = woken(make_network(0), 0), woken(make_network(1), 1)
    return DistillStage(student, teacher, pairs, make_result(), Distillation(recipe=RECIPE))


def falls(stage, player, steps=40, rate=3e-3):
    """First and last loss of a player on one batch that never changes."""
    module, moment = stage.players[player], turn(player)
    batch, trained = stage.batch(moment), [p for p in module.parameters() if p.requires_grad]
    optimizer, losses = torch.optim.Adam(trained, rate), []
    for _ in range(steps):
        optimizer.zero_grad()
        loss, _ = stage.loss(turn(player), batch)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses[0], losses[-1]


WAYS = {
    "teacher": Teacher(),
    "student": Student(recipe=RECIPE),
    "mixed partitions": Student(recipe=RECIPE, partitions=(1, 3)),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_flow_matching_lowers_its_loss(pairs, way):
    first, last = falls(FlowStage(make_network(), pairs, make_result(), way), way.name)
    assert last < 0.7 * first


@pytest.mark.parametrize("player", ["critic", "discriminator"])
def test_critics_lower_their_losses_on_a_fixed_batch(distilling, player):
    first, last = falls(distilling, player)
    assert last < 0.9 * first


def test_distillation_lowers_the_students_loss(distilling):
    first, last = falls(distilling, "student")
    assert last < 0.95 * first


def test_a_player_s_loss_moves_that_player_alone(distilling):
    for player in distilling.players:
        moment = turn(player)
        loss, _ = distilling.loss(moment, distilling.batch(moment))
        wanted = [p for p in distilling.players[player].parameters() if p.requires_grad]
        grads = torch.autograd.grad(loss, wanted, allow_unused=True)
        assert any(g is not None and g.abs().sum() > 0 for g in grads)
        assert not any(p.requires_grad for p in distilling.teacher.parameters())


def test_the_gradient_of_distribution_matching_is_the_difference_of_two_scores():
    rng = torch.Generator().manual_seed(0)
    clean = torch.randn(2, 3, 2, 4, 4, generator=rng).requires_grad_()
    noise, sigma = torch.randn(clean.shape, generator=rng), torch.full((2, 2), 0.6)
    held, wanted = (torch.randn(clean.shape, generator=rng) for _ in range(2))
    seen = []

    def real(noisy, at):
        seen.append((noisy, at))
        return wanted

    dmd.student_loss(clean, noise, sigma, real, lambda *_: held).backward()
    scale = (clean.detach() - wanted).abs().mean((1, 2, 3, 4), keepdim=True)
    expected = (held - wanted) / scale / clean.numel()
    torch.testing.assert_close(clean.grad, expected)
    torch.testing.assert_close(seen[0][0], add_noise(clean.detach(), noise, 0.6))


@pytest.mark.parametrize("by_reference", [0.0, 1.0])
@pytest.mark.parametrize("exit_step", [0, 1])
def test_the_gradient_of_a_rollout_is_that_of_two_chunks_unrolled_by_hand(
    pairs, by_reference, exit_step
):
    network = woken(make_network())
    batch = pairs.batch(turn("student"), by_reference)
    two = batch._replace(source=batch.source[:, :, :2], target=batch.target[:, :, :2])
    made = rolled_out(network, RECIPE, two, grid_of(network, two.target), exit_step, SeededNoise(0))
    (made - two.target).square().sum().backward()
    got = {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}
    network.zero_grad()

    unrolled = by_hand(network, two, exit_step)
    torch.testing.assert_close(made, unrolled, rtol=1e-4, atol=1e-5)
    (unrolled - two.target).square().sum().backward()
    for name, parameter in network.named_parameters():
        if parameter.grad is not None:  # by hand, what is constant has a gradient of zero
            found = got.get(name, torch.zeros_like(parameter))
            torch.testing.assert_close(found, parameter.grad, rtol=1e-3, atol=1e-4, msg=name)


def by_hand(network, batch, exit_step):
    """Two chunks through the masked twin of the cache: the first as a constant past of the
    second, every step but the last without gradient."""
    sigmas, noise, made = RECIPE.sigmas[: exit_step + 1], SeededNoise(0), []
    references = 0 if batch.reference is None else 1
    past = None
    for chunk in range(2):
        source = batch.source[:, :, chunk : chunk + 1]
        clean = torch.zeros_like(source)  # at sigma 1, where the first step begins, it is gone
        for step, sigma in enumerate(sigmas):
            x = add_noise(clean, noise.like(source), sigma)
            with torch.set_grad_enabled(step == exit_step):
                clean = one_chunk(network, batch, references, past, x, source, sigma)
        made.append(clean)
        past = clean.detach(), source
    return torch.cat(made, dim=2)


def one_chunk(network, batch, references, past, x, source, sigma):
    """A chunk at `sigma` behind a clean one, in a pass in which only the chunk has a gradient."""
    context = network.encode(batch.prompts)
    memory = ChunkCausal(grid_of(network, x), RECIPE.memory, context)
    memory.replace_anchor(references)
    if past is not None:
        memory.commit(1)
    memory.extend(1)
    clean, noisy = [], beside(x, source)
    levels = [sigma]
    if past is not None:
        clean, levels = [beside(*past)], [0.0, sigma]
    told = torch.tensor(levels).expand(len(x), -1)
    memory = ConstantPast(memory, x.shape[0], len(levels) - 1 + references)
    whole = torch.cat([*clean, noisy], dim=2)
    beyond = () if batch.reference is None else (batch.reference,)
    velocity = network.transformer(whole, told, memory, *beyond)[:, :, -1:]
    return x - sigma * velocity


class ConstantPast:
    """A masked pass whose frames before the last are a constant, as a cache's are."""

    def __init__(self, memory, rows, frames):
        self.memory, self.frames = memory, frames
        self.context = memory.context

    def attend(self, layer, q, k, v):
        past = self.frames * self.memory.grid.area
        k, v = (torch.cat([t[:, :past].detach(), t[:, past:]], 1) for t in (k, v))
        return self.memory.attend(layer, q, k, v)


@pytest.mark.parametrize("commit", ["clean", "last step"])
def test_a_rollout_is_what_a_session_renders(pairs, commit):
    """The sampler and the cache are the very ones; so the numbers are."""
    from rtr_core.flight import Flight
    from rtr_core.intake import Waiting
    from rtr_core.parts import Parts
    from rtr_core.verify import Latents

    network, recipe = woken(make_network()), RECIPE.override(commit=commit)
    batch = pairs.batch(turn("student", rows=1), 0.0)
    grid = grid_of(network, batch.target)
    with torch.no_grad():
        rolled = rolled_out(network, recipe, batch, grid, 1, SeededNoise(3))
        vae, transformer = Latents(batch.source.shape[1]), network.transformer
        parts = Parts(transformer=transformer, vae=vae, text=None, recipe=recipe, name="toy")
        flight = Flight(parts, recipe, grid, seed=3)
        flight.past.memory.reset_context(network.encode(batch.prompts))
        for frame in range(FRAMES):
            flight.set_out(Waiting(batch.source[:, :, frame : frame + 1], frames=1, motion=0.0))
            landed = flight.move_on(lambda: None)
            assert landed and landed.x.equal(rolled[:, :, frame : frame + 1])
            flight.remember(lambda: None)
            flight.past.commit()


def test_a_student_s_past_is_what_its_recipe_keeps(pairs):
    memory = Student(recipe=RECIPE).memory(
        grid_of(make_network(), torch.zeros(1, 4, 3, 4, 4)), 3, 1, ()
    )
    reference, first, second, third = memory.views
    assert (reference.past, first.past, second.past) == ((), (0,), (0, 1))
    assert third.past == (0, 2)  # a window of one, and the reference that never leaves


def test_one_pass_of_training_is_what_a_stream_renders_where_the_last_step_is_committed(pairs):
    """Then nothing in a chunk's past hangs on what came out of it: there is nothing to drift on."""
    recipe = RECIPE.override(timesteps=(1000,), commit="last step")
    network = woken(make_network())
    stage = FlowStage(network, pairs, make_result(), Student(recipe=recipe))
    for by_reference in (0.0, 1.0):
        batch = pairs.batch(turn("student"), by_reference)
        with torch.no_grad():
            trained = stage.predicted(network, turn("student"), batch, torch.ones(4, FRAMES))
            grid = grid_of(network, batch.target)
            noise = SameNoise(turn("student").like(batch.target).split(1, dim=2))
            rolled = rolled_out(network, recipe, batch, grid, 0, noise)
        torch.testing.assert_close(rolled, trained, rtol=1e-4, atol=1e-5)


def test_of_mixed_partitions_each_step_has_one_with_a_level_for_each_chunk(pairs):
    way, rng = Student(recipe=RECIPE, partitions=(1, 3)), np.random.default_rng(0)
    drawn = [way.drawn(rng) for _ in range(20)]
    assert {one.recipe.chunk for one in drawn} == {1, 3}
    whole = next(one for one in drawn if one.recipe.chunk == 3)
    assert all(len(set(whole.levels(FRAMES, rng))) == 1 for _ in range(20))
    (view,) = whole.memory(grid_of(make_network(), torch.zeros(1, 4, 3, 4, 4)), 3, 0, ()).views
    assert view.count == 3 and view.past == ()


def test_a_student_learns_the_end_of_its_teachers_flow(pairs):
    """What it is asked lies on the flow from the noise; what it shall say does not hang on the
    pairs' targets."""
    student, teacher = woken(make_network(0), 0), woken(make_network(1), 1)
    stage = OdeStage(student, teacher, pairs, make_result(), Student(recipe=RECIPE), steps=8)
    batch, noise = stage.batch(turn("student")), turn("student").like
    batch = batch._replace(target=torch.zeros_like(batch.target))
    states, end = stage.followed(batch, noise(batch.target))
    assert set(states) == set(RECIPE.sigmas)
    assert states[1.0].equal(turn("student").like(batch.target))
    sigma = torch.tensor([[1.0, 0.5, 0.0]] * 4)
    noisy, wanted = stage.asked(turn("student"), batch, sigma)
    torch.testing.assert_close(wanted, end)
    for frame, clean in enumerate((states[1.0], states[0.5], end)):
        torch.testing.assert_close(noisy[:, :, frame], clean[:, :, frame])
    fresh = OdeStage(student, make_network(1), pairs, make_result(), Student(recipe=RECIPE), 8)
    states, end = fresh.followed(batch, states[1.0])
    torch.testing.assert_close(
        states[0.5], 0.5 * states[1.0]
    )  # it says zero, so its flow is a straight line
    torch.testing.assert_close(end, torch.zeros_like(end), atol=1e-6, rtol=0)
    first, last = falls(stage, "student")
    assert last < 0.5 * first
    assert all(p.grad is None for p in teacher.parameters())


class SameNoise:
    """Noise that was drawn before, one piece after the other."""

    def __init__(self, pieces):
        self.pieces = iter(pieces)

    def like(self, x):
        return next(self.pieces)


def test_a_style_is_learned_by_prompt_and_by_reference(pairs):
    """Targets are sources with a sign that only the style tells."""
    stage = FlowStage(deepcopy(make_network()), pairs, make_result(), Teacher())
    optimizer = torch.optim.Adam(stage.network.parameters(), 3e-3)
    for step in range(150):
        moment = turn("teacher", step, rows=16)
        loss, _ = stage.loss(moment, stage.batch(moment))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for by_reference in (0.0, 1.0):
        moment = turn("teacher", 999, rows=16)
        batch = pairs.batch(moment, by_reference)
        with torch.no_grad():
            sigma = torch.ones(16, FRAMES)
            clean = stage.predicted(stage.network, moment, batch, sigma)
        right = (clean - batch.target).square().mean((1, 2, 3, 4))
        wrong = (clean + batch.target).square().mean((1, 2, 3, 4))
        assert (right < wrong).float().mean() > 0.9, f"of {STYLES}"
