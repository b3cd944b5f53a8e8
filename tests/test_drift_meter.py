"""The drift meter: each kind of drift is told by the figure meant for it, whatever breaks a session
off, and it costs next to nothing."""

import time

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from rtr_core import Style, Stylizer
from rtr_core.appearance import mean_color, sharpness
from rtr_core.drift import Drift, DriftMeter
from rtr_core.shapes import Size
from tests.sample import sample

SIZE = (64, 96)
INK, OIL = Style(prompt="ink wash painting"), Style(prompt="impressionist oil")


@pytest.fixture(scope="module")
def tiny() -> Stylizer:
    return Stylizer.load("rtr-tiny", device="cpu")


def floats(frames: np.ndarray) -> Tensor:
    return torch.from_numpy(frames.astype(np.float32) / 255)


def metered(first: Tensor, *later: Tensor) -> DriftMeter:
    meter = DriftMeter()
    for frames in (first, *later):
        meter.push(frames)
    return meter


def told(session, frames) -> list[Drift | None]:
    """By every chunk of them."""
    return [session.drift.now for _ in session.push(frames)]


# ---- what it tells ----


@pytest.fixture(scope="module")
def clip() -> Tensor:
    return floats(sample(8, 240, 416))


def test_the_same_again_has_no_drift(clip):
    assert metered(clip, clip).now == Drift()


def test_darker_is_told_as_colour_and_as_little_else(clip):
    drift = metered(clip, 0.7 * clip).now
    light = float(np.linalg.norm(mean_color(clip[-1:].numpy())))
    assert drift.color == pytest.approx(0.3 * light, rel=0.25)  # and saturation on top
    assert drift.color > 0.05 and drift.sharpness == pytest.approx(-0.3, abs=0.01)


def test_paler_is_told_as_colour_though_its_mean_stays(clip):
    vivid = 0.25 + 0.5 * clip.new_tensor([[1, 0, 0], [0, 1, 0], [0, 0, 1]])
    vivid = vivid.repeat(80, 1).repeat(8, 240, 1, 1)  # stripes
    pale = vivid.mean(-1, keepdim=True).expand_as(vivid)
    assert mean_color(pale.numpy()) == pytest.approx(mean_color(vivid.numpy()), abs=1e-3)
    assert metered(vivid, pale).now.color == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("sigma", [0.7, 2.0])
def test_softer_is_told_as_sharpness_and_not_as_colour(clip, sigma):
    soft = floats(
        np.stack([cv2.GaussianBlur(f, (0, 0), sigma) for f in (clip * 255).byte().numpy()])
    )
    drift = metered(clip, soft).now
    assert drift.sharpness < -0.1 and drift.color < 0.01


def test_sharpness_of_samples_is_that_of_the_whole_picture(clip):
    noisy = clip + 0.05 * torch.randn(clip.shape, generator=torch.Generator().manual_seed(0))
    before, after = (sharpness(frames[-1:].numpy()) for frames in (clip, noisy))
    assert metered(clip, noisy).now.sharpness == pytest.approx(after / before - 1, rel=0.15)


def test_another_style_is_told_as_style(tiny):
    frames = sample(21, *SIZE)
    ink, oil = ([*tiny.session(style, SIZE).push(frames)] for style in (INK, OIL))
    within = max(d.style for d in (metered(ink[0], chunk).now for chunk in ink[1:]))
    across = metered(ink[0], oil[0]).now.style
    assert across > 2 * within and across > 0.5


def test_a_style_that_fades_is_told_more_and_more(tiny):
    frames = sample(1, *SIZE).repeat(41, 0)
    ink, oil = (torch.cat([*tiny.session(style, SIZE).push(frames)])[-1:] for style in (INK, OIL))
    meter, seen = DriftMeter(), []
    for share in (0, 0.2, 0.5, 1):
        meter.push(torch.lerp(ink, oil, share))
        seen.append(meter.now.style)
    assert seen == sorted(seen) and seen[1] > 0.05


def test_the_largest_of_each_figure_is_remembered_by_how_far_it_is_from_none(clip):
    meter = metered(clip, 0.5 * clip, clip)
    assert meter.now == Drift() and meter.largest.sharpness == pytest.approx(-0.5, abs=1e-3)


def test_pictures_smaller_than_its_samples_are_measured_too():
    for size in ((8, 9), (31, 31), (8, 1000), (1, 40), (1, 1)):
        frames = torch.rand(2, *size, 3, generator=torch.Generator().manual_seed(0))
        assert metered(frames, 0.5 * frames).now.color > 0.1


# ---- in a session ----


def test_a_standing_clip_does_not_drift(tiny):
    still = sample(1, *SIZE).repeat(61, 0)
    drifts = told(tiny.session(INK, SIZE), still)[4:]
    assert all(d.color < 0.02 and abs(d.sharpness) < 0.1 for d in drifts), drifts


def test_no_split_of_pushes_changes_what_it_says(stylizer):
    frames = sample(45, *SIZE)
    whole, parts = (stylizer.session(INK, SIZE) for _ in range(2))
    expected = told(whole, frames)
    came = [drift for part in np.split(frames, [1, 4, 20, 21]) for drift in told(parts, part)]
    assert came == expected and parts.drift.largest == whole.drift.largest


def test_a_switch_begins_a_new_first_chunk_at_the_end_of_its_fade(stylizer):
    session, frames = stylizer.session(INK, SIZE), sample(93, *SIZE)
    assert told(session, frames[:21])[-1] != Drift()
    session.switch(OIL)
    drifts = told(session, frames[21:41])
    assert drifts[0] == Drift() and drifts[1] != Drift()
    session.switch(INK, fade=24)
    drifts = told(session, frames[41:])
    faded = drifts.index(Drift())
    assert faded > 0 and set(drifts[:faded]) == {None} and None not in drifts[faded:]


@pytest.mark.parametrize("buffer", [2, 4])
def test_chunks_that_were_in_flight_at_a_switch_are_not_the_first(stylizer, buffer):
    recipe = stylizer.recipe.override(
        buffer=buffer, timesteps=tuple(1000 - 1000 * n // buffer for n in range(buffer))
    )
    flying = Stylizer(parts=stylizer.parts, recipe=recipe)
    session, frames = flying.session(INK, SIZE), sample(93, *SIZE)
    told(session, frames[:41])
    in_flight = len(session.flight.chunks)
    assert in_flight == buffer - 1
    session.switch(OIL)
    drifts = told(session, frames[41:])
    assert drifts[:in_flight] == [None] * in_flight and drifts[in_flight] == Drift()


def test_a_new_clip_has_a_first_chunk_of_its_own_and_the_last_can_still_be_read(stylizer):
    session, frames = stylizer.session(INK, SIZE), sample(24, *SIZE)
    list(session.push(frames))
    list(session.flush())
    before = session.drift.now
    assert before not in (None, Drift()) and session.frames_out == 0
    drifts = told(session, frames[::-1].copy())
    assert drifts[0] == Drift() and session.drift.largest == drifts[0].largest(drifts[-1])


def test_saved_forked_rewound_and_undone_it_says_the_same(stylizer, tmp_path):
    frames = sample(61, *SIZE)
    session = stylizer.session(INK, SIZE, history=4)
    told(session, frames[:29])
    session.save(tmp_path / "a.safetensors")
    twins = [session.fork(), stylizer.load_session(tmp_path / "a.safetensors")]
    expected = told(session, frames[29:])
    assert len(expected) > 3 and all(told(twin, frames[29:]) == expected for twin in twins)
    session.rewind(3)
    again = [session.drift.now for _ in session.resume()]
    assert again == expected[-3:]


def test_a_chunk_that_failed_was_not_seen(stylizer, monkeypatch):
    session, frames = stylizer.session(INK, SIZE), sample(41, *SIZE)
    told(session, frames[:21])
    before = session.drift.now, session.drift.largest
    monkeypatch.setattr(session, "_take_switch", lambda frames: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        told(session, frames[21:])
    assert (session.drift.now, session.drift.largest) == before


def test_a_session_that_was_saved_before_there_was_a_meter_begins_one(stylizer):
    session, frames = stylizer.session(INK, SIZE), sample(41, *SIZE)
    told(session, frames[:21])
    snapshot = session.snapshot()
    for name in [name for name in snapshot.tensors if name.startswith("drift.")]:
        del snapshot.tensors[name]
    session.restore(snapshot)
    assert session.drift.now is None and told(session, frames[21:])[0] == Drift()


# ---- what it costs ----


def least(verb, repeats: int = 30) -> float:
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        verb()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def test_it_costs_less_than_a_hundredth_of_a_chunk(tiny):
    session, frames = tiny.session(INK, (256, 256)), sample(29, 256, 256)
    chunk = list(session.push(frames[:5]))[-1]
    costs, chunks, at = [], [], 5
    while at < len(frames):  # by turns, so that what else the machine does slows both alike
        costs.append(least(lambda: session.drift.push(chunk), 5))
        began = time.perf_counter()
        list(session.push(frames[at : at + 4]))
        chunks.append(time.perf_counter() - began)
        at += 4
    assert min(costs) < 0.01 * min(chunks)


def test_a_large_picture_costs_as_little_as_a_small_one():
    small, large = (torch.rand(4, *Size(*size), 3) for size in ((256, 256), (1080, 1920)))
    costs = [least(lambda frames=frames: DriftMeter().push(frames)) for frames in (small, large)]
    assert costs[1] < 3 * costs[0] and costs[1] < 0.01
