"""Metrics: a copy is perfect, and each fault is caught by the metric that is meant for it."""

import cv2
import numpy as np
import pytest

from rtr_core import appearance
from rtr_core.errors import ShapeError
from rtr_core.evaluate import metrics
from rtr_core.evaluate.metrics import floats
from rtr_core.evaluate.motion import flows_of, warp_error, warped
from rtr_core.train import looks
from tests.sample import sample

FRAMES = 9


@pytest.fixture(scope="module")
def source() -> np.ndarray:
    """A real clip, in small."""
    return sample(FRAMES)


@pytest.fixture(scope="module")
def target(source) -> np.ndarray:
    return floats(looks.canonical("cel cartoon")(source))


def flickering(frames: np.ndarray) -> np.ndarray:
    signs = np.where(np.arange(len(frames)) % 2, 1, -1)[:, None, None, None]
    return np.clip(frames + 0.04 * signs, 0, 1).astype(np.float32)


def blurred(frames: np.ndarray) -> np.ndarray:
    return np.stack([cv2.GaussianBlur(frame, (0, 0), 1.5) for frame in frames])


def frozen(frames: np.ndarray) -> np.ndarray:
    return np.repeat(frames[:1], len(frames), axis=0)


def ghosted(frames: np.ndarray, past: float = 0.6) -> np.ndarray:
    shown = [frames[0]]
    for frame in frames[1:]:
        shown.append(past * shown[-1] + (1 - past) * frame)
    return np.stack(shown)


def test_a_copy_is_perfect(source, target):
    flows = flows_of(floats(source))
    assert metrics.psnr(target, target) == pytest.approx(100)
    assert metrics.edge_correlation(target, target) == pytest.approx(1, abs=1e-5)
    assert metrics.ghosting(target, target) == pytest.approx(0, abs=1e-9)
    assert warp_error(target, flows) / warp_error(target.copy(), flows) == 1
    assert metrics.distances([target], [target])[0, 0] == pytest.approx(0, abs=1e-7)


def test_added_flicker_is_caught_by_the_warp_error(source, target):
    flows = flows_of(floats(source))
    assert warp_error(flickering(target), flows) > 1.5 * warp_error(target, flows)


def test_flicker_of_a_standing_scene_is_what_it_is_in_levels(target):
    standing = frozen(target)
    assert metrics.flicker(standing) == 0
    inside = standing * 0.8 + 0.1
    assert metrics.flicker(flickering(inside)) == pytest.approx(0.08, rel=1e-3)


def test_blur_is_caught_by_sharpness_and_is_no_ghost(target):
    soft = blurred(target)
    assert appearance.sharpness(soft) < 0.7 * appearance.sharpness(target)
    assert abs(metrics.ghosting(soft, target)) < 0.1


def test_frozen_frames_have_less_warp_error_or_motion_and_are_caught_by_the_guards(target):
    assert metrics.motion_energy(frozen(target)) == 0
    assert metrics.ghosting(frozen(target), target) > 0.4


def test_ghosted_frames_flicker_less_and_are_caught_as_ghosts(source, target):
    flows, ghosts = flows_of(floats(source)), ghosted(target)
    assert warp_error(ghosts, flows) < warp_error(target, flows)
    assert metrics.ghosting(ghosts, target) > 0.3
    assert metrics.motion_energy(ghosts) < metrics.motion_energy(target)


def test_a_picture_that_shines_through_is_told_by_its_share_and_blur_is_none(target):
    rng = np.random.default_rng(0)
    cells = rng.random((1, 6, 8, 3), dtype=np.float32)
    height, width = target.shape[1:3]
    picture = cells.repeat(height // 6 + 1, 1).repeat(width // 8 + 1, 2)[:, :height, :width]
    over = target + 0.3 * picture

    def share(frames: np.ndarray) -> float:
        return metrics.shining_through(frames, target, picture)

    assert share(over) == pytest.approx(0.3, abs=0.01)
    assert share(target) == 0 and abs(share(blurred(target))) < 0.02
    assert abs(metrics.shining_through(over, target, picture[:, ::-1, ::-1])) < 0.15
    assert metrics.shining_through(over, target, np.ones_like(picture)) == 0


def test_noise_is_not_taken_for_motion(target):
    rng = np.random.default_rng(0)
    noisy = frozen(target) + 0.02 * rng.standard_normal(target.shape).astype(np.float32)
    assert metrics.flicker(noisy) > 2 * metrics.motion_energy(noisy)


def test_swapped_styles_are_caught_in_colour_and_in_gray(source):
    targets = [floats(looks.canonical(style)(source)) for style in looks.STYLES[:4]]
    outputs = [targets[1], targets[0], *targets[2:]]
    for side in (lambda clip: clip, appearance.leveled):
        nearest = metrics.distances([*map(side, outputs)], [*map(side, targets)]).argmin(1)
        assert nearest.tolist() == [1, 0, 2, 3]


def test_distances_by_products_equal_those_by_differences(source):
    clips = [floats(looks.canonical(style)(source)) for style in looks.STYLES[:3]]
    plain = [[np.square(a - b).mean() for b in clips[1:]] for a in clips]
    np.testing.assert_allclose(metrics.distances(clips, clips[1:]), plain, rtol=1e-3, atol=1e-6)


def test_leveled_frames_know_neither_colour_nor_contrast(target):
    other = 0.3 + 0.4 * np.repeat(appearance.gray(target)[..., None], 3, axis=-1)
    np.testing.assert_allclose(appearance.leveled(other), appearance.leveled(target), atol=1e-3)


def test_another_clip_has_its_edges_elsewhere(target):
    assert metrics.edge_correlation(target[:, ::-1], target) < 0.4


def test_a_grid_shows_as_blockiness_and_its_offset_does_not(source):
    real = floats(source)
    lines = np.zeros(real.shape, np.float32)
    lines[:, :, ::16] = lines[:, ::16] = 0.1
    gridded = np.clip(real + lines, 0, 1)
    assert metrics.blockiness(gridded, 16) > 1.4 * metrics.blockiness(real, 16)
    assert metrics.blockiness(np.roll(gridded, 5, (1, 2)), 16) < metrics.blockiness(gridded, 16)


def test_the_flow_leads_a_moved_picture_home():
    rng = np.random.default_rng(1)
    small = rng.random((16, 16, 3)).astype(np.float32)
    wide = cv2.resize(small, (140, 128), interpolation=cv2.INTER_CUBIC)
    clip = np.clip(np.stack([wide[:, 3 * n : 3 * n + 128] for n in range(3)]), 0, 1)
    flows = flows_of(clip)
    middle = flows.forward[0][30:-30, 30:-30]
    assert np.median(middle[..., 0]) == pytest.approx(-3, abs=0.2)
    home = warped(clip[1], flows.forward[0])
    assert np.abs(home - clip[0])[30:-30, 30:-30].mean() < 0.01
    assert not flows.seen[0][:, :2].any(), "what has left the picture cannot be compared"


def test_a_dark_or_gray_clip_is_darker_and_less_saturated(target):
    assert appearance.brightness(0.5 * target) == pytest.approx(0.5 * appearance.brightness(target))
    as_gray = np.repeat(appearance.gray(target)[..., None], 3, axis=-1)
    assert appearance.saturation(as_gray) == 0 < appearance.saturation(target)


def test_what_cannot_be_compared_is_refused(target):
    with pytest.raises(ShapeError, match="measured against"):
        metrics.psnr(target, target[1:])
    with pytest.raises(ShapeError, match=r"\[t h w 3\]"):
        floats(target[0])
