"""What a session promises to the person who pushes frames into it."""

import itertools
import random

import pytest
import torch
from torch import Tensor

from rtr_core import Session, SessionError, Style, Stylizer, untrained
from rtr_core.intake import Waiting
from rtr_core.sampling import SeededNoise

SIZE = (48, 64)
INK = Style(prompt="ink wash painting")


def clip(frames: int, size=SIZE, seed: int = 1) -> Tensor:
    return torch.rand(frames, *size, 3, generator=torch.Generator().manual_seed(seed))


def pushed(session: Session, frames: Tensor, cuts=()) -> Tensor:
    """All that comes out of `frames`, pushed in pieces of these lengths, without a flush."""
    pieces = [len(piece) for piece in frames.split(list(cuts) or len(frames))]
    outs = [out for piece in frames.split(pieces) for out in session.push(piece)]
    return torch.cat(outs) if outs else frames[:0]


def rendered(session: Session, frames: Tensor, cuts=()) -> Tensor:
    return torch.cat([pushed(session, frames, cuts), *session.flush()])


def clean(session: Session, source: Tensor) -> Tensor:
    """The clean latents of a chunk of source latents."""
    session.flight.set_out(Waiting(source, frames=8, motion=0.0), session.encoded.strength)
    landed = session.flight.move_on(session.watch)
    assert landed is not None
    return landed.x


def random_cuts(frames: int, seed: int) -> list[int]:
    rng, cuts = random.Random(seed), []
    while sum(cuts) < frames:
        cuts.append(min(rng.randint(1, 9), frames - sum(cuts)))
    return cuts


@pytest.fixture
def reference() -> Style:
    return Style(reference=torch.rand(40, 30, 3, generator=torch.Generator().manual_seed(9)))


# ---- frames ----


@pytest.mark.parametrize("frames", range(1, 41))
def test_as_many_frames_come_out_as_went_in(stylizer, frames):
    out = rendered(stylizer.session(INK, (16, 16)), clip(frames, (16, 16)))
    assert out.shape == (frames, 16, 16, 3)


@pytest.mark.parametrize("size", [(130, 250), (17, 33), (8, 8), (1, 5), (50, 16)])
def test_any_size_goes_in_and_comes_out(stylizer, size):
    out = rendered(stylizer.session(INK, size), clip(6, size))
    assert out.shape == (6, *size, 3)
    assert out.min() >= 0 and out.max() <= 1 and out.dtype == torch.float32


def test_uint8_frames_and_arrays_are_the_same_as_floats(stylizer):
    bytes_ = (clip(9) * 255).round().to(torch.uint8)
    outs = [
        rendered(stylizer.session(INK, SIZE), frames) for frames in (bytes_, bytes_.float() / 255)
    ]
    session = stylizer.session(INK, SIZE)
    outs.append(torch.cat([*session.push(bytes_.numpy()), *session.flush()]))
    assert torch.equal(outs[0], outs[1]) and torch.equal(outs[0], outs[2])


def test_frames_of_another_size_are_resized_to_the_sessions(stylizer):
    assert rendered(stylizer.session(INK, SIZE), clip(5, (100, 200))).shape == (5, *SIZE, 3)


@pytest.mark.parametrize("seed", range(6))
def test_how_a_clip_is_cut_into_pushes_never_changes_a_bit(stylizer, seed):
    whole = rendered(stylizer.session(INK, SIZE), clip(33))
    cuts = [1] * 33 if seed == 0 else random_cuts(33, seed)
    assert torch.equal(rendered(stylizer.session(INK, SIZE), clip(33), cuts), whole)


def test_same_seed_same_frames_and_another_seed_others(stylizer):
    first, again = (rendered(stylizer.session(INK, SIZE, seed=5), clip(9)) for _ in range(2))
    other = rendered(stylizer.session(INK, SIZE, seed=6), clip(9))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_global_randomness_is_neither_used_nor_touched(stylizer):
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = rendered(stylizer.session(INK, SIZE), clip(9))
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(rendered(stylizer.session(INK, SIZE), clip(9)), first)


def test_interleaved_sessions_equal_separate_ones(stylizer, reference):
    clips, styles = (clip(24), clip(24, seed=2)), (INK, reference)
    alone = [rendered(stylizer.session(s, SIZE), c) for s, c in zip(styles, clips, strict=True)]
    sessions = [stylizer.session(style, SIZE) for style in styles]
    outs: list[list[Tensor]] = [[], []]
    for pieces in zip(*(c.split(3) for c in clips), strict=True):
        for out, session, piece in zip(outs, sessions, pieces, strict=True):
            out += session.push(piece)
    for out, session, expected in zip(outs, sessions, alone, strict=True):
        assert torch.equal(torch.cat([*out, *session.flush()]), expected)


def test_an_abandoned_iterator_loses_nothing(stylizer):
    whole = rendered(stylizer.session(INK, SIZE), clip(33))
    session = stylizer.session(INK, SIZE)
    first = next(session.push(clip(33)[:25]))  # two more chunks were ready
    rest = pushed(session, clip(33)[25:])
    assert torch.equal(torch.cat([first, rest, *session.flush()]), whole)


def test_after_a_flush_a_new_clip_begins_in_the_same_style(stylizer, reference):
    session = stylizer.session(INK, SIZE)
    first = rendered(session, clip(10))
    assert torch.equal(rendered(session, clip(10)), first)
    session.switch(reference)
    restyled = rendered(session, clip(10))
    assert torch.equal(restyled, rendered(session, clip(10)))
    assert torch.equal(restyled, rendered(stylizer.session(reference, SIZE), clip(10)))


@pytest.mark.parametrize("drawn", [0, 1, 2])
def test_an_abandoned_flush_is_gone_on_with_and_never_spoils_the_next_clip(stylizer, drawn):
    expected = rendered(stylizer.session(INK, SIZE), clip(15))
    session = stylizer.session(INK, SIZE)
    out = list(session.push(clip(15)[:5]))
    list(zip(session.push(clip(15)[5:]), range(1), strict=False))  # one of the chunks
    ending = session.flush()
    out = [*out, *(frames for frames, _ in zip(ending, range(drawn), strict=False))]
    ending.close()
    if session.intake.is_ending:
        with pytest.raises(SessionError, match="flush is under way"):
            session.push(clip(1))
    list(session.flush())
    assert torch.equal(rendered(session, clip(15)), expected)


def test_a_clip_is_over_with_its_last_frame_even_if_nobody_asks_for_more(stylizer):
    expected = rendered(stylizer.session(INK, SIZE), clip(15))
    session, count = stylizer.session(INK, SIZE), 0
    count += sum(len(out) for out in session.push(clip(15)))
    for out in session.flush():
        count += len(out)
        if count == 15:
            break
    assert torch.equal(rendered(session, clip(15)), expected)


def test_flushing_an_empty_session_gives_nothing(stylizer):
    assert list(stylizer.session(INK, SIZE).flush()) == []


@pytest.mark.parametrize("style", ["prompt", "reference"])
def test_sessions_work_inside_and_outside_a_hosts_inference_mode(stylizer, reference, style):
    style = INK if style == "prompt" else reference
    plain = rendered(stylizer.session(style, SIZE), clip(20))
    with torch.inference_mode():
        session = stylizer.session(style, SIZE)
        session.switch(style)
        session.switching = None
        first = pushed(session, clip(20)[:11])
    rest = pushed(session, clip(20)[11:])
    assert torch.equal(torch.cat([first, rest, *session.flush()]), plain)


def test_tiles_change_little_and_nothing_where_one_covers_the_picture(stylizer):
    whole = rendered(stylizer.session(INK, SIZE), clip(9))
    assert torch.equal(rendered(stylizer.tiled(64, 16).session(INK, SIZE), clip(9)), whole)
    tiles = rendered(stylizer.tiled(32, 16).session(INK, SIZE), clip(9))
    assert tiles.shape == whole.shape and not torch.equal(tiles, whole)


# ---- styles ----


def test_a_prompt_and_a_reference_each_change_the_picture(stylizer, reference):
    outs = [
        rendered(stylizer.session(style, SIZE), clip(9))
        for style in (INK, Style(prompt="neon city"), reference)
    ]
    for one, other in itertools.combinations(outs, 2):
        assert (one - other).abs().mean() > 1e-3


def test_a_switch_changes_nothing_before_its_chunk(stylizer, reference):
    plain, switched = stylizer.session(INK, SIZE), stylizer.session(INK, SIZE)
    before = [pushed(session, clip(40)[:13]) for session in (plain, switched)]
    switched.switch(reference)
    after = [rendered(session, clip(40)[13:]) for session in (plain, switched)]
    assert torch.equal(*before)
    assert (after[0] - after[1]).abs().flatten(1).mean(1).min() > 1e-4


@pytest.mark.parametrize("direction", ["text to reference", "reference to text"])
def test_after_a_switch_only_the_kept_latent_frame_tells_of_the_old_style(
    stylizer, reference, direction
):
    """Two sessions that differ only in their old style are equal once that frame is made equal."""
    new = reference if direction == "text to reference" else Style(prompt="oil")
    old = [INK, Style(prompt="neon")] if new is reference else [reference, INK]
    sessions = [stylizer.session(style, SIZE) for style in old]
    for session in sessions:
        pushed(session, clip(21))
        session.switch(new)
        session.fade = session._take_switch(frames=8)
    first, second = (session.memory for session in sessions)
    tokens = first.grid.area
    kept = next(n for n, frame in enumerate(first.segments.slots) if not frame.anchored)
    assert len(first.segments.slots) == (2 if new is reference else 1)
    source = sessions[0].intake.encoder.push(torch.zeros(1, 3, 4, *sessions[0].geometry.padded))
    apart = [clean(session, source.repeat(1, 1, 2, 1, 1)) for session in sessions]
    for mine, theirs in ((first._keys, second._keys), (first._values, second._values)):
        for layer in mine:
            one = slice(kept * tokens, (kept + 1) * tokens)
            theirs[layer][:, one] = mine[layer][:, one]
    for session in sessions:
        session.flight.noise = SeededNoise(3)
    together = [clean(session, source.repeat(1, 1, 2, 1, 1)) for session in sessions]
    assert not torch.equal(*apart) and torch.equal(*together)


def test_a_fade_goes_the_whole_way_in_its_frames_and_nowhere_jumps(stylizer, reference):
    plain, faded, cut = (stylizer.session(INK, SIZE) for _ in range(3))
    frames = clip(8, seed=2).repeat(8, 1, 1, 1)
    for session in (plain, faded, cut):
        pushed(session, frames[:13])
    faded.switch(reference, fade=24)
    cut.switch(reference)
    outs = [pushed(session, frames[13:61]) for session in (plain, faded, cut)]
    assert faded.fade is None and torch.equal(faded.encoded.latent, cut.encoded.latent)
    first = [(out[:8] - outs[0][:8]).abs().mean() for out in outs]
    assert 0 < first[1] < first[2]  # the fade begins at once, and gently


def test_a_fade_is_saved_in_mid_way(stylizer, reference, tmp_path):
    session = stylizer.session(INK, SIZE)
    pushed(session, clip(40)[:13])
    session.switch(reference, fade=20, seed=9)
    pushed(session, clip(40)[13:22])
    assert session.fade is not None
    session.save(tmp_path / "night.safetensors")
    loaded = stylizer.load_session(tmp_path / "night.safetensors")
    assert torch.equal(*(rendered(one, clip(40)[22:]) for one in (session, loaded)))


def test_a_switch_may_bring_its_own_noise(stylizer):
    outs = []
    for seed in (3, 3, 4, None):
        session = stylizer.session(INK, SIZE)
        pushed(session, clip(13))
        session.switch(INK, seed=seed)
        outs.append(pushed(session, clip(8)))
    assert torch.equal(outs[0], outs[1])
    assert not torch.equal(outs[0], outs[2]) and not torch.equal(outs[0], outs[3])


def test_it_says_how_many_frames_complete_the_next_chunk(stylizer):
    session = stylizer.session(INK, SIZE)
    for expected in (5, 8, 8):
        assert session.frames_to_chunk == expected
        assert len(pushed(session, clip(expected - 1))) == 0
        assert session.frames_to_chunk == 1
        assert len(pushed(session, clip(1))) == expected
        assert session.frames_in == session.frames_out


def test_the_last_of_several_switches_wins(stylizer):
    once, often = stylizer.session(INK, SIZE), stylizer.session(INK, SIZE)
    for session in (once, often):
        pushed(session, clip(9))
    often.switch(Style(prompt="neon"))
    for session in (once, often):
        session.switch(Style(prompt="oil"))
    assert torch.equal(*(rendered(session, clip(9, seed=3)) for session in (once, often)))


def test_less_strength_keeps_more_of_the_source(stylizer):
    source = torch.randn(1, 8, 2, 6, 8, generator=torch.Generator().manual_seed(1))

    def away(strength: float) -> float:
        session = stylizer.session(Style(prompt="oil", strength=strength), SIZE)
        return float((clean(session, source) - source).norm())

    assert away(0.02) < 0.2 * away(1) and away(0) == 0


# ---- time travel ----


def test_a_fork_goes_on_by_itself(stylizer, reference):
    whole = rendered(stylizer.session(INK, SIZE), clip(40))
    session = stylizer.session(INK, SIZE)
    first = pushed(session, clip(40)[:18])
    twin = session.fork()
    twin.switch(reference)
    other = rendered(twin, clip(40)[18:])
    rest = rendered(session, clip(40)[18:])
    assert torch.equal(torch.cat([first, rest]), whole)
    assert not torch.equal(other, rest)


@pytest.mark.parametrize("at", [0, 1, 2, 5, 17, 30])
def test_a_saved_session_goes_on_as_if_it_had_never_stopped(stylizer, reference, tmp_path, at):
    whole = rendered(stylizer.session(reference, SIZE, seed=4), clip(40))
    session = stylizer.session(reference, SIZE, seed=4)
    first = pushed(session, clip(40)[:at]) if at else clip(0)
    session.save(tmp_path / "night.safetensors")
    loaded = Stylizer.of(untrained.parts()).load_session(tmp_path / "night.safetensors")
    assert torch.equal(torch.cat([first, rendered(loaded, clip(40)[at:])]), whole)


def test_a_switch_that_waits_for_its_chunk_is_saved_too(stylizer, reference, tmp_path):
    session = stylizer.session(INK, SIZE)
    pushed(session, clip(40)[:18])
    session.switch(reference)
    session.save(tmp_path / "night.safetensors")
    loaded = stylizer.load_session(tmp_path / "night.safetensors")
    outs = [rendered(one, clip(40)[18:]) for one in (session, loaded)]
    assert torch.equal(*outs)


def test_a_session_rewinds_to_an_earlier_chunk(stylizer, reference):
    session = stylizer.session(INK, SIZE, history=3)
    first = pushed(session, clip(40)[:5])
    rest = pushed(session, clip(40)[5:37])
    assert session.chunks == 5
    session.rewind(3)
    assert session.chunks == 2
    redone = torch.cat(list(session.resume()))
    assert torch.equal(torch.cat([first, rest])[-len(redone) :], redone)
    session.rewind(1)
    session.switch(reference)
    assert not torch.equal(torch.cat(list(session.resume())), redone[-8:])


def test_rewinding_further_than_remembered_is_refused(stylizer):
    with pytest.raises(SessionError, match="history=N"):
        stylizer.session(INK, SIZE).rewind(1)


def test_a_rewind_does_not_cross_the_beginning_of_a_clip(stylizer):
    session = stylizer.session(INK, SIZE, history=4)
    rendered(session, clip(20))
    with pytest.raises(SessionError, match="0 are remembered"):
        session.rewind(1)


def test_a_session_is_refused_by_another_models_stylizer(stylizer, tmp_path):
    stylizer.session(INK, SIZE).save(tmp_path / "night.safetensors")
    other = Stylizer.of(untrained.parts(seed=1))
    with pytest.raises(SessionError, match="was saved with other weights"):
        other.load_session(tmp_path / "night.safetensors")


@pytest.mark.parametrize("damage", ["cut", "nothing", "another file"])
def test_a_damaged_saved_session_is_refused_by_name(stylizer, tmp_path, golden, damage):
    path = tmp_path / "night.safetensors"
    stylizer.session(INK, SIZE).save(path)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:2000])
    elif damage == "nothing":
        path.unlink()
    else:
        path.write_bytes((golden / "taew2_1.safetensors").read_bytes())
    with pytest.raises(SessionError, match=r"night\.safetensors"):
        stylizer.load_session(path)
