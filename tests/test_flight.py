"""Chunks in flight: one sampler for all four papers, each way of it held against a plain loop."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from rtr_core import SessionError, Style, StyleError, Stylizer, untrained
from rtr_core.families import FAMILIES
from rtr_core.flight import Flight
from rtr_core.flow import add_noise, clean_from_velocity
from rtr_core.intake import Waiting
from rtr_core.model.attention import attend
from rtr_core.model.chunk_causal import bidirectional
from rtr_core.model.config import TransformerConfig
from rtr_core.model.kv_cache import KVCache
from rtr_core.model.segments import MemoryConfig, Segments
from rtr_core.model.sight import Sight
from rtr_core.recipes import Recipe
from rtr_core.sampling import SeededNoise, beside, denoiser, few_step, guided
from rtr_core.shapes import Size

SIZE = (32, 48)
INK = Style(prompt="ink wash painting")
FOUR = {"timesteps": (1000, 750, 500, 250), "shift": 5.0}
TEXT_TO_VIDEO = TransformerConfig(
    **{**vars(untrained.TRANSFORMER), "in_channels": 8, "adapter_dim": 0}
)
RECIPES = {
    "one by one": {},
    "last step": {"commit": "last step"},
    "buffer of two": {"buffer": 2},
    "buffer of four": {"buffer": 4, "chunk": 1},
    "buffer, nothing past": {"buffer": 4, "window": 0, "chunk": 1},
    "buffer, last step": {"buffer": 4, "commit": "last step"},
    "stream batch": {"buffer": 4, "flight": "apart", "commit": "last step", "chunk": 1},
    "two places": {"buffer": 2, "flight": "apart", "commit": "last step"},
    "warm-up": {"first": 4, "anchor": 4},
    "warm-up of a stream batch": {
        "first": 4,
        "anchor": 4,
        "buffer": 4,
        "flight": "apart",
        "commit": "last step",
        "chunk": 1,
    },
    "recompute": {"commit": "recompute"},
    "recompute, anchored": {"commit": "recompute", "anchor": 3},
    "recompute at a switch": {"switch": "recompute"},
    "light past": {"weight": 0.3},
    "panes": {"panes": (1, 2, 2)},
    "guidance": {"guidance": 3.0},
    "guidance of a stream batch": {
        "guidance": 3.0,
        "buffer": 4,
        "flight": "apart",
        "commit": "last step",
    },
    "motion": {"motion": 0.5, "offset": 100},
    "inject": {"inject": 0.3},
    "along the flow": {"between": "flow"},
}
KINDS = {"source beside": untrained.TRANSFORMER, "source under noise": TEXT_TO_VIDEO}


def recipe_of(name: str, kind: str) -> Recipe:
    start = {} if kind == "source beside" else {"strength": 0.7}
    return Recipe(**{"name": "mine", **FOUR, "chunk": 2, "window": 4} | start | RECIPES[name])


@pytest.fixture(scope="module")
def networks() -> dict:
    return {kind: untrained.parts(transformer=config) for kind, config in KINDS.items()}


@pytest.fixture
def stylizers(networks):
    return lambda name, kind="source beside": Stylizer(
        parts=networks[kind], recipe=recipe_of(name, kind)
    )


def clip(frames: int, seed: int = 1) -> Tensor:
    return torch.rand(frames, *SIZE, 3, generator=torch.Generator().manual_seed(seed))


def rendered(session, frames: Tensor) -> Tensor:
    return torch.cat([*session.push(frames), *session.flush()])


def sources(chunks: int, chunk: int) -> list[Tensor]:
    rng = torch.Generator().manual_seed(2)
    return [torch.randn(1, 8, chunk, 4, 6, generator=rng) for _ in range(chunks)]


def flown(parts, recipe: Recipe, given: list[Tensor]) -> list[Tensor]:
    """What lands of these sources, in an empty context."""
    flight, landed = Flight(parts, recipe, Size(2, 3), seed=0), []
    flight.past.memory.reset_context(parts.transformer.encode_context(torch.zeros(1, 16, 64)))
    waiting = [Waiting(source, frames=8, motion=0.0) for source in given]
    with torch.no_grad():
        while waiting or flight.chunks:
            if waiting:
                flight.set_out(waiting.pop(0))
            if chunk := flight.move_on(lambda: None):
                landed.append(chunk.x)
            flight.remember(lambda: None)
            flight.past.commit()
    return landed


# ---- against plain loops ----


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("commit", ["clean", "last step"])
def test_a_chunk_that_flies_alone_is_few_step_to_the_bit(networks, kind, commit):
    parts, recipe = networks[kind], recipe_of("one by one", kind).override(commit=commit)
    model, given = parts.transformer, sources(6, recipe.chunk)
    memory = KVCache(Size(2, 3), recipe.memory, model.encode_context(torch.zeros(1, 16, 64)))
    noise, expected = SeededNoise(0), []
    sigmas = [sigma * recipe.strength for sigma in recipe.sigmas]
    with torch.no_grad():
        for source in given:
            channels = source if model.config.takes_source else None
            x = add_noise(source, noise.like(source), sigmas[0])
            clean = few_step(denoiser(model, memory, channels), x, sigmas, noise)
            if commit == "clean":
                model.remember(beside(clean, channels), memory)
            memory.commit()
            expected.append(clean)
    assert all(map(torch.equal, flown(parts, recipe, given), expected))


def test_a_buffer_of_a_chunk_for_each_step_is_ten_lines(networks):
    """StreamDiT with K = 0, N = B, c = 1, s = 1, and no cache at all."""
    parts = networks["source beside"]
    recipe = recipe_of("buffer, nothing past", "source beside")
    model, given = parts.transformer, sources(7, 1)
    context = model.encode_context(torch.zeros(1, 16, 64))
    noise, buffer, expected = SeededNoise(0), [], []
    for source in [*given, None, None, None]:
        if source is not None:
            buffer.append([noise.like(source), source, 0])
        levels = torch.tensor([[recipe.sigmas[step] for _, _, step in buffer]]).double()
        x, beyond = (torch.cat([row[n] for row in buffer], dim=2) for n in (0, 1))
        memory = bidirectional(Size(2, 3), len(buffer), context)
        velocity = model(torch.cat([x, beyond], dim=1), levels.float(), memory)
        clean = clean_from_velocity(x, velocity, levels[:, None, :, None, None])
        for n, row in enumerate(buffer):
            row[0], row[2] = clean[:, :, n : n + 1], row[2] + 1
        expected += [buffer.pop(0)[0] for row in buffer[:1] if row[2] == 4]
        for row in buffer:
            row[0] = add_noise(row[0], noise.like(row[0]), recipe.sigmas[row[2]])
    landed = flown(parts, recipe, given)
    assert len(landed) == len(expected) == 7
    for came, plain in zip(landed, expected, strict=True):
        assert_close(came, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["stream batch", "two places", "warm-up of a stream batch"])
def test_a_stream_batch_is_each_place_by_itself_with_its_own_bank(networks, name):
    """Live2Diff: the same arithmetic, one chunk and one place at a time."""
    parts, recipe = networks["source beside"], recipe_of(name, "source beside")
    lengths = [recipe.chunk_after(n) for n in range(7)]
    given = [sources(7, length)[n] for n, length in enumerate(lengths)]
    model, steps = parts.transformer, 4 // recipe.buffer
    context = model.encode_context(torch.zeros(1, 16, 64))
    banks = [KVCache(Size(2, 3), recipe.memory, context) for _ in range(recipe.buffer)]
    noise, flying, expected, waiting = SeededNoise(0), [], [], list(given)
    while waiting or flying:
        if waiting:
            source = waiting.pop(0)
            flying.append([noise.like(source), source, 0])
        rounds = recipe.buffer if recipe.first and len(waiting) == 6 else 1
        for _ in range(rounds):
            for _ in range(steps):
                cleans = []
                for x, source, step in flying:
                    denoise = denoiser(model, banks[step // steps], source)
                    with torch.no_grad():
                        cleans.append(denoise(x, recipe.sigmas[step]))
                for row, clean in zip(flying, cleans, strict=True):
                    row[0], row[2] = clean, row[2] + 1
                    if row[2] < 4:
                        row[0] = add_noise(clean, noise.like(clean), recipe.sigmas[row[2]])
            for bank in banks:
                if bank.has_chunk:
                    bank.commit()
            expected += [flying.pop(0)[0] for row in flying[:1] if row[2] == 4]
    landed = flown(parts, recipe, given)
    assert len(landed) == len(expected) == 7
    for came, plain in zip(landed, expected, strict=True):
        assert_close(came, plain, rtol=1e-4, atol=1e-5)


def test_a_window_worked_out_anew_is_what_a_fresh_stream_would_remember(networks):
    parts, recipe = networks["source beside"], recipe_of("recompute", "source beside")
    flight = Flight(parts, recipe, Size(2, 3), seed=0)
    context = parts.transformer.encode_context(torch.zeros(1, 16, 64))
    flight.past.memory.reset_context(context)
    pairs = []
    with torch.no_grad():
        for source in sources(6, 2):
            flight.set_out(Waiting(source, frames=8, motion=0.0))
            landed = flight.move_on(lambda: None)
            assert landed is not None
            pairs.append((landed.x, source))
            flight.remember(lambda: None)
            flight.past.commit()
        fresh = KVCache(Size(2, 3), recipe.memory, context)
        for clean, source in pairs[-2:]:  # a window of four latent frames
            parts.transformer.remember(beside(clean, source), fresh)
            fresh.commit()
    ours, plain = flight.past.memory.snapshot(), fresh.snapshot()
    assert all(torch.equal(ours[name], plain[name]) for name in plain)


def test_guidance_is_two_passes_and_a_line(networks):
    parts, recipe = networks["source beside"], recipe_of("guidance", "source beside")
    session = Stylizer(parts=parts, recipe=recipe).session(
        Style(prompt="ink wash painting", avoid="neon edges"), SIZE
    )
    (source,) = sources(1, 2)
    session.flight.set_out(Waiting(source, frames=8, motion=0.0))
    chunk = session.flight.chunks[0]
    with torch.no_grad():
        (clean,) = session.flight.past.denoise((chunk,))
        each = []
        for prompt in ("ink wash painting", "neon edges"):
            rows = parts.encode(Style(prompt=prompt), session.geometry).rows
            context = parts.transformer.encode_context(rows)
            memory = KVCache(session.geometry.grid, recipe.memory, context)
            each.append(denoiser(parts.transformer, memory, source)(chunk.x, chunk.level))
    assert_close(clean, guided(each[0], each[1], 3.0))
    assert not torch.allclose(clean, each[0], rtol=1e-2)


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("panes", [(1, 2, 2), (2, 2, 3), (3, 4, 6), (1, 3, 4)])
@pytest.mark.parametrize("references", [0, 1])
def test_panes_and_weights_are_a_mask_over_full_attention(layer, panes, references):
    """The slow proof: every key is scored, and those of other panes are masked out, but for a
    reference's."""
    grid, frames, past = Size(4, 6), 3, 2 + references
    config = MemoryConfig(window=4, anchor=1, weight=0.4, panes=panes)
    segments = Segments(config=config).extend(2 + references).commit()[0]
    if references:
        segments = segments.replace_anchor(references)[0]
    segments = segments.extend(frames)
    rng = torch.Generator().manual_seed(1)
    q = torch.randn(1, frames * grid.area, 2, 8, generator=rng)
    k, v = torch.randn(2, 1, (past + frames) * grid.area, 2, 8, generator=rng)

    def pane_of(length: int, pane: int) -> Tensor:
        moved = pane // 2 if layer and 1 < pane < length else 0
        return (torch.arange(length) + (pane - moved) % pane) // pane

    time = torch.cat([torch.full((past,), -1), pane_of(frames, panes[0])])
    place = [pane_of(side, pane) for side, pane in zip(grid, panes[1:], strict=True)]
    where = torch.stack(torch.meshgrid(time, *place, indexing="ij"), dim=-1).flatten(0, 2)
    mine = where[past * grid.area :, None]
    seen = (mine[..., 1:] == where[None, :, 1:]).all(-1)
    seen &= (mine[..., 0] == where[None, :, 0]) | (where[None, :, 0] == -1)
    for slot in range(past - references, past):  # behind the rest of the past
        seen[:, slot * grid.area : (slot + 1) * grid.area] = True
    weights = torch.tensor(segments.weights).log().repeat_interleave(grid.area)
    scores = torch.einsum("bqnd,bknd->bnqk", q, k) / 8**0.5 + weights
    shares = scores.masked_fill(~seen, float("-inf")).softmax(-1)
    expected = torch.einsum("bnqk,bknd->bqnd", shares, v)
    sight = Sight.of(segments, grid, q.device)
    assert_close(sight.attend(layer, q, k, v), expected, rtol=1e-4, atol=1e-5)
    assert segments.weights == [0.4 if references else 1.0, 0.4, *[1.0] * (references + frames)]
    assert not torch.allclose(attend(q, k, v), expected, rtol=1e-2)


# ---- what every way promises ----


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", RECIPES)
def test_every_way_gives_each_frame_back_and_no_cut_changes_a_bit(stylizers, name, kind):
    stylizer = stylizers(name, kind)
    whole = rendered(stylizer.session(INK, SIZE), clip(37))
    assert whole.shape == (37, *SIZE, 3) and whole.isfinite().all()
    session = stylizer.session(INK, SIZE)
    outs = [out for part in clip(37).split([1, 2, 9, 4, 1, 20]) for out in session.push(part)]
    assert torch.equal(torch.cat([*outs, *session.flush()]), whole)
    assert torch.equal(rendered(session, clip(37)), whole)  # and the next clip begins alike


@pytest.mark.parametrize("name", RECIPES)
def test_every_way_is_saved_forked_and_switched_in_mid_flight(stylizers, name, tmp_path):
    stylizer = stylizers(name, "source under noise")
    new = Style(prompt="oil", reference=clip(1, seed=8)[0], strength=0.9)
    whole, cut = (stylizer.session(INK, SIZE) for _ in range(2))
    expected = list(whole.push(clip(33)))
    whole.switch(new, fade=12)
    expected += [*whole.push(clip(40)[33:]), *whole.flush()]
    outs = list(cut.push(clip(33)))
    cut.switch(new, fade=12)
    cut.save(tmp_path / "session.safetensors")
    loaded = stylizer.load_session(tmp_path / "session.safetensors")
    outs += loaded.push(clip(40)[33:36])
    twin = loaded.fork()
    outs += [*twin.push(clip(40)[36:]), *twin.flush()]
    assert torch.equal(torch.cat(outs), torch.cat(expected))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", RECIPES)
def test_every_way_streams_200_latent_frames_in_flat_memory(stylizers, name, kind):
    session = stylizers(name, kind).session(INK, (16, 16))
    rng, sizes, last = torch.Generator().manual_seed(3), [], torch.zeros(0)
    while session.frames_in < 200 * 4:
        for last in session.push(torch.rand(16, 16, 16, 3, generator=rng)):
            assert last.isfinite().all()
        session.commit()
        sizes.append(session.nbytes)
    assert sizes[-1] <= 1.02 * max(sizes[8:12]) and len(last)


def test_a_flight_lands_as_many_chunks_later_as_it_has_places(stylizers):
    def first_out(name: str) -> int:
        session = stylizers(name).session(INK, SIZE)
        return next(n for n in range(40) for _ in session.push(clip(1)))

    one = first_out("last step")
    assert first_out("two places") == one + 8 and first_out("buffer, last step") == one + 3 * 8
    assert first_out("warm-up of a stream batch") == 12  # it flies to its end alone


# ---- noise ----


def test_the_first_step_is_told_less_noise_than_there_is(networks):
    recipe = recipe_of("one by one", "source under noise").override(offset=100, strength=0.8)
    flight = Flight(networks["source under noise"], recipe, Size(2, 3), seed=0)
    (source,) = sources(1, 2)
    flight.set_out(Waiting(source, frames=8, motion=0.0))
    (chunk,) = flight.chunks
    assert chunk.levels == pytest.approx([0.7, *(0.8 * sigma for sigma in recipe.sigmas[1:])])
    assert_close(chunk.x, add_noise(source, SeededNoise(0).like(source), 0.8))


def test_what_moves_fast_is_given_less_noise(stylizers):
    stylizer = stylizers("motion", "source under noise")

    def level(frames: Tensor) -> float:
        session = stylizer.session(INK, SIZE)
        next(session.push(frames))
        return session.intake.motion

    still = clip(1).expand(13, -1, -1, -1)
    assert level(still) == 0 and level(clip(13)) > 0.85
    assert 0 < level(torch.cat([still[:4], still[4:] * 0.97])) < 0.5


def test_injection_keeps_more_of_the_source(networks):
    given = sources(3, 2)

    def away(inject: float) -> float:
        recipe = recipe_of("one by one", "source under noise").override(inject=inject)
        landed = flown(networks["source under noise"], recipe, given)
        return float((torch.cat(landed) - torch.cat(given)).norm())

    assert away(1.0) < away(0.4) < away(0.0)


@pytest.mark.parametrize("kind", KINDS)
def test_at_strength_zero_the_source_comes_back(stylizers, networks, kind):
    given = sources(3, 2)
    recipe = recipe_of("one by one", kind).override(strength=0)
    assert_close(torch.cat(flown(networks[kind], recipe, given)), torch.cat(given))


# ---- without a source, and after given frames ----


def test_frames_can_be_made_of_the_prompt_alone_and_prompts_change_on_the_way(stylizers):
    stylizer = stylizers("one by one", "source under noise")
    session = stylizer.session(INK, SIZE)
    out = torch.cat([*session.imagine(30), *session.flush()])
    assert out.shape == (30, *SIZE, 3)
    again = [*session.imagine(7), *session.imagine(23), *session.flush()]
    assert torch.equal(torch.cat(again), out)
    session.imagine(13)
    session.switch(Style(prompt="neon"))
    other = torch.cat([*session.imagine(17), *session.flush()])
    assert len(other) == 30 and not torch.allclose(other, out)


@pytest.mark.parametrize("given", [1, 5, 17])
def test_a_video_is_continued_from_given_frames(stylizers, given):
    """One frame is image to video; what is made depends on them, and begins after them."""
    stylizer = stylizers("one by one", "source under noise")
    outs = []
    for seed in (1, 2):
        session = stylizer.session(INK, SIZE)
        session.follow(clip(given, seed))
        assert session.frames_out == given
        outs.append(torch.cat([*session.imagine(16), *session.flush()]))
    assert outs[0].shape == (16, *SIZE, 3) and not torch.allclose(*outs, atol=1e-2)


def test_a_stream_can_be_begun_with_styled_frames_and_go_on_from_its_source(stylizers):
    session = stylizers("stream batch", "source under noise").session(INK, SIZE)
    session.follow(clip(9))
    out = torch.cat([*session.push(clip(20, seed=2)), *session.flush()])
    assert out.shape == (20, *SIZE, 3)


def test_a_restyled_first_frame_is_the_anchor_where_there_is_no_adapter(stylizers):
    stylizer = stylizers("one by one", "source under noise")
    styles = [Style(prompt="oil", reference=clip(1, seed)[0]) for seed in (5, 6)]
    outs = []
    for style in styles:
        session = stylizer.session(style, SIZE)
        outs.append(rendered(session, clip(9)))
        assert [frame.anchored for frame in session.memory.segments.slots] == [True]
    assert not torch.allclose(*outs, atol=1e-2)


def test_what_a_model_cannot_do_is_said(stylizers):
    with_source, without = (stylizers("one by one", kind).session(INK, SIZE) for kind in KINDS)
    with pytest.raises(SessionError, match="makes nothing without"):
        with_source.imagine(5)
    with pytest.raises(SessionError, match="follows no frames"):
        with_source.follow(clip(1))
    with pytest.raises(SessionError, match="give 5 of them"):
        without.follow(clip(7))
    list(without.push(clip(6)))
    with pytest.raises(SessionError, match="goes on without one only where"):
        without.imagine(5)
    with pytest.raises(SessionError, match="only where it begins"):
        without.follow(clip(1))


def test_a_start_that_would_lose_the_source_is_refused(networks):
    with pytest.raises(StyleError, match="source, which would be lost: choose a strength"):
        Stylizer.of(networks["source under noise"], strength=1)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_every_public_recipe_runs(networks, family):
    kind = "source beside" if family.name == "rtr" else "source under noise"
    session = Stylizer(parts=networks[kind], recipe=family.recipe).session(INK, SIZE)
    out = rendered(session, clip(50))
    assert out.shape == (50, *SIZE, 3) and out.isfinite().all()
