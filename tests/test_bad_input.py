"""What goes wrong says what was expected, what came and what to do, and undoes nothing."""

import time
import warnings
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import rtr_core
from rtr_core import (
    NumericsError,
    OutOfMemory,
    Recipe,
    SessionError,
    ShapeError,
    Style,
    StyleError,
    Stylizer,
    WeightsError,
    untrained,
)
from rtr_core.flight import Flight
from rtr_core.intake import Intake
from rtr_core.model.kv_cache import KVCache
from rtr_core.model.text import PromptCut
from rtr_core.past import Past
from rtr_core.vae.tiny import TinyVae

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
        pytest.raises(OutOfMemory, match=r"at frame (13|21) of"),
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
        pytest.raises(OutOfMemory, match="frame 13 of 14"),
    ):
        session.push(clip(34)[14:])
    assert session.frames_in == 14
    assert torch.equal(rendered(session, clip(34)[14:]), expected)


WEAK_SPOTS = {
    "decoding": (TinyVae, "decode_latent"),
    "the frames on their way out": (rtr_core.session, "to_frames"),
    "the flight": (Flight, "move_on"),
    "noise": (rtr_core.sampling.SeededNoise, "like"),
    "a switch's cut": (KVCache, "truncate"),
    "a switch's anchor": (KVCache, "replace_anchor"),
    "a switch's text": (KVCache, "reset_context"),
    "the clean pass": (Past, "remember"),
    "the commit": (KVCache, "commit"),
    "new source latents": (Intake, "_wait_for"),
    "encoding": (TinyVae, "encode_group"),
}


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("after", [False, True], ids=["before it", "after it"])
@pytest.mark.parametrize("spot", WEAK_SPOTS)
def test_whatever_fails_wherever_the_session_goes_on_as_if_it_had_not(stylizer, spot, after, error):
    """From a reference to a prompt in the middle of a clip, with one failure on the way."""
    reference = Style(reference=clip(1)[0])
    whole, broken = (stylizer.session(reference, SIZE) for _ in range(2))
    for session in (whole, broken):
        list(session.push(clip(34)[:14]))
        session.switch(INK)
    expected = rendered(whole, clip(34)[14:])
    owner, name = WEAK_SPOTS[spot]
    verb, calls, outs = getattr(owner, name), [], []

    def failing(*values, **named):
        calls.append(name)
        if len(calls) > 1:
            return verb(*values, **named)
        if after:
            verb(*values, **named)
        raise error

    with patch.object(owner, name, failing), pytest.raises((error, OutOfMemory)):
        for out in broken.push(clip(34)[14:]):
            outs.append(out)
    assert calls
    if broken.frames_in == 14:  # nothing was taken in: the caller still has the frames
        outs += broken.push(clip(34)[14:])
    assert torch.equal(torch.cat([*outs, *broken.resume(), *broken.flush()]), expected)


def test_a_model_that_makes_nan_names_the_frame_and_a_switch_helps(stylizer):
    session = stylizer.session(INK, SIZE)
    frames = [*session.push(clip(34)[:14])]
    poisoned = Style(embedding=torch.full((16, 64), 1e38))
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
    with pytest.raises(OutOfMemory, match=r"needs \d+\.\d GiB at least; cpu has"):
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


def test_a_reference_with_nan_or_beyond_its_range_is_refused():
    still = torch.rand(40, 40, 3)
    still[0, 0, 0] = float("nan")
    for broken in (still, torch.full((40, 40, 3), 200.0)):
        with pytest.raises(StyleError, match="reference"):
            Style(reference=broken)


def test_sixteen_bits_of_gray_are_not_white(tmp_path):
    Image.fromarray(np.full((20, 20), 32768, dtype=np.uint16)).save(tmp_path / "gray.png")
    assert Style(reference=tmp_path / "gray.png").reference.unique().tolist() == [128]


def test_a_picture_cut_off_in_the_middle_is_refused_by_name(tmp_path):
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (64, 64, 3), np.uint8)).save(
        tmp_path / "cut.png"
    )
    whole = (tmp_path / "cut.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StyleError, match=r"cut\.png"):
        Style(reference=tmp_path / "cut.png")


def test_arrays_may_be_flipped_read_only_or_foreign(stylizer):
    frames = (clip(9) * 255).byte().numpy()
    plain = rendered(stylizer.session(INK, SIZE), frames)
    flipped = np.ascontiguousarray(frames[..., ::-1])[..., ::-1]
    frozen = frames.copy()
    frozen.flags.writeable = False
    for array in (flipped, frozen):
        assert torch.equal(rendered(stylizer.session(INK, SIZE), array), plain)
    floats = frames.astype(np.float64) / 255
    swapped = floats.astype(floats.dtype.newbyteorder())
    outs = [rendered(stylizer.session(INK, SIZE), array) for array in (floats, swapped)]
    assert torch.equal(*outs)


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({"seed": 2**64}, "seed"),
        ({"seed": 1.5}, "seed is a whole number"),
        ({"seed": None}, "seed is a whole number"),
        ({"history": -1}, "history"),
    ],
)
def test_a_session_that_cannot_be_is_refused(stylizer, wish, message):
    with pytest.raises(SessionError, match=message):
        stylizer.session(INK, SIZE, **wish)


@pytest.mark.parametrize(
    "embedding",
    [torch.zeros(2, 16, 64), torch.zeros(()), torch.zeros(16), torch.zeros(16, 64).int()],
)
def test_an_encoded_prompt_that_is_none_is_refused(embedding):
    with pytest.raises(StyleError, match="encoded prompt"):
        Style(embedding=embedding)


def test_an_autoencoder_of_another_family_is_refused(stylizer):
    other = TinyVae(replace(untrained.VAE, channels=16))
    with pytest.raises(WeightsError, match="16 channels, the transformer takes 8"):
        Stylizer.of(replace(stylizer.parts, vae=other))


@pytest.mark.parametrize(
    ("files", "device", "message"),
    [
        ((), "cpu", "Name a weights file"),
        (("rtr_tiny",), "cpu", "The built-in model is 'rtr-tiny'"),
        (("rtr-tiny",), "gpu", "cannot run on 'gpu'"),
    ],
)
def test_what_cannot_be_loaded_says_what_could(files, device, message):
    with pytest.raises(WeightsError, match=message):
        Stylizer.load(*files, device=device)


def test_a_reference_of_8000x8000_works(stylizer):
    huge = Style(reference=np.zeros((8000, 8000, 3), dtype=np.uint8))
    assert len(rendered(stylizer.session(huge, SIZE), clip(3))) == 3


def test_a_file_that_is_no_picture_is_refused_by_name(tmp_path):
    path = tmp_path / "klimt.png"
    path.write_text("<html>not found</html>")
    with pytest.raises(StyleError, match=r"klimt\.png"):
        Style(reference=path)


@pytest.mark.parametrize("style", [{}, {"prompt": "  "}, {"prompt": "x", "strength": -0.1}])
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
        ("window", -1),
        ("anchor", -1),
        ("shift", 0),
        ("strength", -0.1),
        ("strength", 1.5),
        ("motion", 2),
        ("weight", 0),
        ("offset", 1000),
        ("buffer", 3),
        ("buffer", 0),
        ("flight", "apart"),
        ("panes", (2, 1, 1)),
        ("panes", (1, 1)),
        ("span", 8),
        ("first", 0),
        ("shift", float("nan")),
        ("chunk", 2.5),
        ("window", "6"),
        ("timesteps", 1000),
        ("commit", "never"),
        ("positions", "rotary"),
    ],
)
def test_a_recipe_that_cannot_be_run_names_its_field(field, value):
    told = "commit" if field == "flight" else field  # chunks that fly apart commit the last step
    with pytest.raises(StyleError, match=f"{told} must be"):
        Recipe(**{"name": "mine", "timesteps": (1000, 500), field: value})


def test_an_unknown_field_of_a_recipe_is_refused(stylizer):
    with pytest.raises(StyleError, match="no field 'windw'"):
        Stylizer.load("rtr-tiny", device="cpu", windw=3)
