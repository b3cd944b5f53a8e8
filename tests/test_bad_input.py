"""What goes wrong says what was expected, what came and what to do, and undoes nothing."""

import time
import warnings
from unittest.mock import patch

import numpy as np
import pytest
import torch
from torch import Tensor

from rtr_core import (
    NumericsError,
    OutOfMemory,
    Recipe,
    ShapeError,
    Style,
    StyleError,
    Stylizer,
    untrained,
)
from rtr_core.model.kv_cache import KVCache
from rtr_core.model.text import PromptCut

SIZE = (32, 48)
INK = Style(prompt="ink wash painting")


def clip(frames: int) -> Tensor:
    return torch.rand(frames, *SIZE, 3, generator=torch.Generator().manual_seed(1))


def rendered(session, frames: Tensor) -> Tensor:
    return torch.cat([*session.push(frames), *session.flush()])


@pytest.fixture
def half_way(stylizer):
    """A session that has rendered 13 frames and holds one more, and what comes of 20 more."""
    session = stylizer.session(INK, SIZE)
    list(session.push(clip(34)[:14]))
    expected = rendered(session.fork(), clip(34)[14:])
    return session, expected


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (torch.zeros(0, *SIZE, 3), "There is no frame"),
        (torch.zeros(*SIZE, 3), r"must be \[frames, height, width, 3\]"),
        (torch.zeros(2, *SIZE, 4), "drop an alpha channel"),
        (torch.zeros(2, 0, 48, 3), "There is no frame"),
        (torch.full((2, *SIZE, 3), 200.0), "go from 0 to 1"),
        (torch.zeros(2, *SIZE, 3, dtype=torch.int64), "uint8, or float"),
        ([[0.0]], "not list"),
    ],
)
def test_frames_of_a_wrong_kind_are_refused_and_the_session_works_on(half_way, frames, message):
    session, expected = half_way
    with pytest.raises(ShapeError, match=message):
        session.push(frames)
    assert torch.equal(rendered(session, clip(34)[14:]), expected)


def test_nan_is_refused_by_frame_number_before_anything_changes(half_way):
    session, expected = half_way
    bad = clip(34)[14:].clone()
    bad[7, 3, 3, 1] = float("nan")
    with pytest.raises(NumericsError, match="Frame 21 holds NaN"):
        session.push(bad)
    assert torch.equal(rendered(session, clip(34)[14:]), expected)


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("call", [1, 2, 3], ids=["first step", "second step", "commit"])
def test_out_of_memory_in_mid_chunk_leaves_the_session_at_its_last_chunk(half_way, call, layer):
    session, expected = half_way
    extend, calls = KVCache.extend, []

    def full(memory: KVCache, at: int, k: Tensor, v: Tensor):
        if at == layer:
            calls.append(at)
            if len(calls) == call:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return extend(memory, at, k, v)

    outs = []
    with (
        patch.object(KVCache, "extend", full),
        pytest.raises(OutOfMemory, match=r"at frame (13|21)\."),
    ):
        for out in session.push(clip(34)[14:]):
            outs.append(out)
    outs += session.resume()
    assert torch.equal(torch.cat([*outs, *session.flush()]), expected)


def test_a_fade_goes_on_from_where_a_failed_chunk_left_it(stylizer):
    whole, broken = (stylizer.session(INK, SIZE) for _ in range(2))
    for session in (whole, broken):
        list(session.push(clip(34)[:13]))
        session.switch(Style(prompt="neon"), fade=16, seed=5)
    expected = rendered(whole, clip(34)[13:])
    decoder = type(stylizer.parts.vae)
    with (
        patch.object(decoder, "decode_latent", side_effect=MemoryError),
        pytest.raises(OutOfMemory),
    ):
        list(broken.push(clip(34)[13:]))
    assert torch.equal(torch.cat([*broken.resume(), *broken.flush()]), expected)


def test_out_of_memory_while_frames_are_taken_in_takes_none(half_way):
    session, expected = half_way
    with (
        patch.object(type(session.parts.vae), "encode_group", side_effect=MemoryError("full")),
        pytest.raises(OutOfMemory, match="frame 14"),
    ):
        session.push(clip(34)[14:])
    assert session.frames_in == 14
    assert torch.equal(rendered(session, clip(34)[14:]), expected)


def test_an_interrupt_leaves_a_session_that_works_on(half_way):
    session, expected = half_way
    with (
        patch.object(type(session.parts.vae), "decode_latent", side_effect=KeyboardInterrupt),
        pytest.raises(KeyboardInterrupt),
    ):
        list(session.push(clip(34)[14:]))
    assert torch.equal(torch.cat([*session.resume(), *session.flush()]), expected)


def test_a_model_that_makes_nan_names_the_frame_and_a_switch_helps(stylizer):
    session = stylizer.session(INK, SIZE)
    frames = [*session.push(clip(34)[:14])]
    poisoned = Style(embedding=torch.full((16, 64), float("inf")))
    session.switch(poisoned)
    with pytest.raises(NumericsError, match="begins at frame 13"):
        list(session.push(clip(34)[14:]))
    session.switch(INK)
    frames += [*session.resume(), *session.flush()]
    out = torch.cat(frames)
    assert len(out) == 34 and out.isfinite().all()


@pytest.mark.parametrize("size", [(0, 64), (64, 0), (-8, 64), (64, 100_000), (64,), (64.5, 64)])
def test_a_size_that_is_none_is_refused(stylizer, size):
    with pytest.raises(ShapeError, match=r"size|picture"):
        stylizer.session(INK, size)


def test_a_size_beyond_memory_is_refused_before_it_is_tried(stylizer):
    endless = stylizer.recipe.override(window=100_000)
    with pytest.raises(OutOfMemory, match=r"needs \d+\.\d GiB for its KV cache; cpu has"):
        stylizer.session(INK, (16000, 16000), recipe=endless)


def test_a_prompt_of_ten_thousand_words_is_cut_with_a_warning(stylizer):
    began = time.perf_counter()
    with pytest.warns(PromptCut, match="10000 tokens"):
        session = stylizer.session(Style(prompt="ink " * 10_000), SIZE)
    assert len(rendered(session, clip(3))) == 3
    assert time.perf_counter() - began < 5


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        (torch.rand(1, 1, 3), "1x1 cannot carry a style"),
        (torch.rand(40, 40), r"one image \[h, w, 3\]"),
        (torch.rand(2, 40, 40, 3), r"one image \[h, w, 3\]"),
        ("nowhere/klimt.png", "'nowhere/klimt.png' cannot be read"),
        (42, "A reference is an image"),
    ],
)
def test_a_reference_that_is_none_is_refused(reference, message):
    with pytest.raises(StyleError, match=message):
        Style(reference=reference)


def test_a_reference_with_nan_is_refused():
    still = torch.rand(40, 40, 3)
    still[0, 0, 0] = float("nan")
    with pytest.raises(NumericsError, match="NaN"):
        Style(reference=still)


def test_a_reference_of_8000x8000_works(stylizer):
    huge = Style(reference=np.zeros((8000, 8000, 3), dtype=np.uint8))
    assert len(rendered(stylizer.session(huge, SIZE), clip(3))) == 3


def test_a_file_that_is_no_picture_is_refused_by_name(tmp_path):
    path = tmp_path / "klimt.png"
    path.write_text("<html>not found</html>")
    with pytest.raises(StyleError, match=r"klimt\.png"):
        Style(reference=path)


@pytest.mark.parametrize("style", [{}, {"prompt": "  "}, {"prompt": "x", "strength": 0}])
def test_a_style_that_asks_for_nothing_is_refused(style):
    with pytest.raises(StyleError):
        Style(**style)


def test_a_failed_switch_changes_nothing(half_way):
    session, expected = half_way
    with pytest.raises(StyleError, match="7 wide"):
        session.switch(Style(embedding=torch.zeros(4, 7)))
    assert torch.equal(rendered(session, clip(34)[14:]), expected)


def test_a_model_without_an_adapter_says_that_it_follows_prompts_only():
    config = untrained.TRANSFORMER.__class__(**{**vars(untrained.TRANSFORMER), "adapter_dim": 0})
    plain = Stylizer.of(untrained.parts(transformer=config))
    with pytest.raises(StyleError, match="no reference adapter"):
        plain.session(Style(reference=torch.rand(20, 20, 3)), SIZE)


def test_an_embedding_with_too_many_rows_is_cut_with_a_warning(stylizer):
    rows = torch.randn(20, 64, generator=torch.Generator().manual_seed(1))
    with pytest.warns(PromptCut, match="20 rows; the first 16"):
        long = rendered(stylizer.session(Style(embedding=rows), SIZE), clip(3))
    with warnings.catch_warnings():
        short = rendered(stylizer.session(Style(embedding=rows[:16]), SIZE), clip(3))
    assert torch.equal(long, short)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("timesteps", ()),
        ("timesteps", (500, 1000)),
        ("timesteps", (1200,)),
        ("timesteps", (500, 0)),
        ("chunk", 0),
        ("window", 0),
        ("anchor", -1),
        ("shift", 0),
        ("start", "source"),
        ("commit", "never"),
        ("positions", "rotary"),
    ],
)
def test_a_recipe_that_cannot_be_run_names_its_field(field, value):
    with pytest.raises(StyleError, match=f"{field} must be"):
        Recipe(**{"name": "mine", "timesteps": (1000, 500), field: value})


def test_an_unknown_field_of_a_recipe_is_refused(stylizer):
    with pytest.raises(StyleError, match="no field 'windw'"):
        Stylizer.load("rtr-tiny", device="cpu", windw=3)
