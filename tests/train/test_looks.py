"""Looks: the same every time, local, still on a still scene, and told apart."""

from itertools import combinations
from time import process_time

import cv2
import numpy as np
import pytest

from rtr_core.errors import ShapeError, StyleError
from rtr_core.train import looks
from rtr_core.train.looks import tiles

from .scenes import scene

SEEDS = range(6)


def every_look(style: str) -> list[looks.Look]:
    varied = [looks.varied(style, np.random.default_rng(seed)) for seed in SEEDS]
    return [looks.canonical(style), *varied]


def distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(float) - b).mean())


def matched_gray(picture: np.ndarray) -> np.ndarray:
    """Without colour, mean and contrast: what is left is texture and line."""
    gray = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(float)
    return (gray - gray.mean()) / gray.std() * 50 + 128


def test_there_are_a_dozen_styles_and_more():
    assert len(set(looks.STYLES)) == len(looks.STYLES) >= 12


@pytest.mark.parametrize("style", looks.STYLES)
def test_a_look_is_the_same_every_time_and_alone_with_each_frame(style):
    frames = np.stack([scene(48, 64, seed) for seed in (1, 2)])
    for seed in SEEDS:
        one, two = (looks.varied(style, np.random.default_rng(seed)) for _ in range(2))
        assert one == two and one.style == style
        assert np.array_equal(one(frames), two(frames))
    look = looks.canonical(style)
    assert look == looks.canonical(style)
    assert np.array_equal(look(frames)[1:], look(frames[1:]))


@pytest.mark.parametrize("style", looks.STYLES)
@pytest.mark.parametrize("size", [(16, 16), (17, 31), (50, 23)])
def test_a_target_has_the_size_of_its_source_and_leaves_it_alone(style, size):
    frames = scene(*size)[None]
    before = frames.copy()
    for look in every_look(style):
        target = look(frames)
        assert target.shape == frames.shape and target.dtype == np.uint8
    assert np.array_equal(frames, before)


@pytest.mark.parametrize("style", looks.STYLES)
def test_a_pixel_depends_on_what_is_near_it(style):
    frames = scene(160, 160)[None]
    other = frames.copy()
    other[:, 64:96, 64:96] = 255 - other[:, 64:96, 64:96]
    rows, columns = np.mgrid[:160, :160]
    far = np.maximum(np.abs(rows - 79.5), np.abs(columns - 79.5)) > 16 + 40
    for look in every_look(style):
        assert np.array_equal(look(frames)[0][far], look(other)[0][far])
        assert not np.array_equal(look(frames)[0][~far], look(other)[0][~far])


@pytest.mark.parametrize("style", looks.STYLES)
def test_patterns_repeat_every_16_pixels_from_the_top_left(style):
    plain = np.full((1, 160, 160, 3), (120, 140, 100), np.uint8)
    for look in every_look(style):
        inner = look(plain)[0, 48:112, 48:112]
        assert np.array_equal(inner[16:], inner[:-16])
        assert np.array_equal(inner[:, 16:], inner[:, :-16])


@pytest.mark.parametrize("style", looks.STYLES)
@pytest.mark.parametrize("coarse", [0.0, 1.5], ids=["white", "coarse"])
def test_a_still_scene_stands_still_under_sensor_noise(style, coarse):
    rng = np.random.default_rng(3)
    noise = rng.normal(0, 2.5, (4, 96, 96, 3))
    if coarse:  # as compression leaves it: smooth in space, as strong as before
        noise = np.stack([cv2.GaussianBlur(n, (0, 0), coarse) for n in noise])
        noise *= 2.5 / noise.std()
    frames = np.clip(scene(96, 96) + noise, 0, 255).round().astype(np.uint8)
    source = distance(frames[1:], frames[:-1])
    for look in every_look(style):
        target = look(frames)
        assert distance(target[1:], target[:-1]) <= 2 * source


@pytest.mark.parametrize("style", looks.STYLES)
def test_varied_looks_differ_from_the_canonical_one_and_from_each_other(style):
    frames = scene(96, 96)[None]
    for one, two in combinations([look(frames) for look in every_look(style)], 2):
        assert distance(one, two) > 4


@pytest.mark.parametrize("style", looks.STYLES)
def test_varied_looks_come_in_many_hues_and_both_polarities(style):
    frames = np.stack([np.full((32, 32, 3), tone, np.uint8) for tone in (40, 215)])
    means = []
    for seed in range(40):
        means.append(looks.varied(style, np.random.default_rng(seed))(frames).mean((1, 2)))
    means = np.stack(means)
    leading = {int(np.argmax(mean)) for mean in means.mean(1) if np.ptp(mean) > 12}
    assert leading == {0, 1, 2}
    rises = means.mean(-1)[:, 1] - means.mean(-1)[:, 0]
    # edges and slopes have no tone of their own; chalk has two papers, and never a negative
    if style not in ("neon edges", "stone relief", "pastel chalk"):
        assert (rises > 10).any() and (rises < -10).any()


def test_chalk_leaves_dark_paper_in_shadows_or_light_paper_in_lights():
    lights = np.full((1, 32, 32, 3), 255, np.uint8)
    hands = [looks.varied("pastel chalk", np.random.default_rng(seed)).hand for seed in range(20)]
    assert {hand.on_light for hand in hands} == {True, False}
    for hand in hands:
        look = looks.Look("pastel chalk", hand)
        bare = look(lights if hand.on_light else 0 * lights)
        assert distance(bare, np.array(hand.paper)) < 30


def test_canonical_looks_are_told_apart_even_in_gray_of_one_contrast():
    picture = scene(128, 128)[None]
    targets = {style: looks.canonical(style)(picture)[0] for style in looks.STYLES}
    for (one, a), (two, b) in combinations(targets.items(), 2):
        assert distance(a, b) > 12, f"{one} looks like {two}"
        assert distance(matched_gray(a), matched_gray(b)) > 5, f"{one} is {two} in gray"


@pytest.mark.parametrize("style", looks.STYLES)
def test_a_look_is_quick(style):
    frames = np.stack([scene(128, 128)] * 4)
    look = looks.canonical(style)
    look(frames)
    times = []
    for _ in range(3):
        start = process_time()
        look(frames)
        times.append((process_time() - start) / len(frames))
    assert min(times) < 0.01  # of the processor; about 1 ms on a quiet machine


def test_thresholds_cover_as_much_as_the_tone_says():
    for tile in (tiles.dots(8, False), tiles.hatching(2, 2), tiles.bristles(1, -1)):
        for tone in (0.3, 0.5, 0.7):
            paper = np.full((32, 48), tone, np.float32)
            assert tiles.covered(paper, tile, 0.15).mean() == pytest.approx(tone, abs=0.04)


def test_bad_frames_and_unknown_styles_are_refused():
    look = looks.canonical("ink wash")
    with pytest.raises(ShapeError, match="uint8"):
        look(np.zeros((1, 32, 32, 3), np.float32))
    with pytest.raises(ShapeError, match="at least 16x16, not 1 of 15x32"):
        look(np.zeros((1, 15, 32, 3), np.uint8))
    with pytest.raises(StyleError, match=r"no style 'fresco'.*ink wash"):
        looks.canonical("fresco")


def test_a_look_does_not_touch_the_global_state_of_opencv():
    for threads in (1, 2):
        cv2.setNumThreads(threads)
        for style in looks.STYLES:
            looks.canonical(style)(scene(32, 32)[None])
        assert cv2.getNumThreads() == threads
