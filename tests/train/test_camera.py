"""A camera over a still: smooth, inside the picture, the same for two pictures."""

from dataclasses import replace
from math import cos, sin

import numpy as np
import pytest

from rtr_core.errors import ShapeError
from rtr_core.train.camera import Move, Pose, moved

from .scenes import scene


@pytest.mark.parametrize("still", [(384, 576), (64, 64), (40, 90)])
def test_frames_have_the_side_asked_for_whatever_the_still(still):
    frames = moved(scene(*still), 5, np.random.default_rng(1), side=64)
    assert frames.shape == (5, 64, 64, 3) and frames.dtype == np.uint8


def test_a_camera_that_stands_on_every_pixel_gives_the_still():
    picture = scene(48, 64)
    pose = Pose(32, 24, 1.0, 0.0)
    frames = Move(pose, pose, 3, (48, 64), (48, 64)).film(picture)
    assert np.array_equal(frames, np.stack([picture] * 3))


def test_a_shift_by_whole_pixels_is_one():
    picture = scene(64, 96)
    move = Move(Pose(32, 32, 1.0, 0.0), Pose(36, 32, 1.0, 0.0), 3, (64, 96), (64, 64))
    frames = move.film(picture)
    assert np.array_equal(frames[0], picture[:, :64])
    assert np.array_equal(frames[1], picture[:, 2:66])


def test_what_is_seen_smaller_is_averaged_first():
    checked = np.zeros((96, 96, 3), np.uint8)
    checked[::2, ::2] = checked[1::2, 1::2] = 255
    pose = Pose(48, 48, 2.0, 0.0)
    frame = Move(pose, pose, 1, (96, 96), (40, 40)).film(checked)[0]
    assert np.abs(frame.astype(int) - 128).max() <= 1


def test_a_camera_never_looks_outside_the_still():
    still = np.zeros((124, 164, 3), np.uint8)
    corners = np.array([(x, y) for x in (-40, 40) for y in (-32, 32)])  # of a frame of 80x64
    for seed in range(60):
        move = Move.random(still, 12, (64, 80), np.random.default_rng(seed))
        for pose in map(move.pose, range(12)):
            turned = np.array([[cos(pose.turn), sin(pose.turn)], [-sin(pose.turn), cos(pose.turn)]])
            seen = (pose.x, pose.y) + pose.scale * corners @ turned
            assert seen.min() > -1e-6 and seen[:, 0].max() < 164 + 1e-6
            assert seen[:, 1].max() < 124 + 1e-6


def test_moves_are_smooth_random_and_repeatable():
    still = scene(384, 576)
    moves = [Move.random(still, 24, (128, 128), np.random.default_rng(n)) for n in range(80)]
    assert moves[3] == Move.random(still, 24, (128, 128), np.random.default_rng(3))
    standing = sum(move.first == move.last for move in moves)
    assert 1 <= standing <= 20
    for move in moves:
        poses = [move.pose(frame) for frame in range(24)]
        steps = np.diff([(pose.x, pose.y) for pose in poses], axis=0)
        assert np.abs(steps).max() < 8  # pixels of the still in a frame
        assert np.abs(np.diff(steps, axis=0)).max() < 2
    scales = [move.first.scale for move in moves]
    assert min(scales) < 0.9 and max(scales) > 1.4


def test_a_move_films_two_pictures_alike_and_refuses_one_of_another_size():
    still = scene(96, 96)
    move = Move.random(still, 6, (64, 64), np.random.default_rng(4))
    move = replace(move, sway=1.0)
    source, target = move.film(still), move.film(255 - still)
    assert np.abs(255 - source.astype(int) - target).max() <= 1
    with pytest.raises(ShapeError, match="made for a still of uint8"):
        move.film(scene(96, 97))
