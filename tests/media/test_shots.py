"""Cuts are found at their frame, and nothing else is taken for one."""

import itertools
import time
from fractions import Fraction

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from rtr_core.errors import SessionError, ShapeError, StyleError
from rtr_core.media.shots import FLASH_FRAMES, CutDetector, cuts, difference, read_shots, thumbnail

HEIGHT, WIDTH = 108, 192
MARGIN = 200  # of a scene around what the camera sees


def scene(seed: int, palette: tuple[float, float, float] = (0.5, 0.5, 0.5)) -> Tensor:
    """A large picture `[3 h w]` of blobs and grain in colours around `palette`."""
    rng = torch.Generator().manual_seed(seed)
    size = HEIGHT + MARGIN, WIDTH + 2 * MARGIN
    picture = torch.tensor(palette)[:, None, None].expand(3, *size).clone()
    for cells, strength in ((8, 0.35), (30, 0.2), (90, 0.1)):
        blobs = torch.rand(1, 3, cells, cells * 2, generator=rng) - 0.5
        picture += strength * F.interpolate(blobs, size=size, mode="bicubic")[0] * 2
    return picture.clamp(0, 1)


def seen(picture: Tensor, left: float = 0, zoom: float = 1) -> Tensor:
    """What a camera sees of a scene, `[h w 3]`."""
    height, width = round(HEIGHT / zoom), round(WIDTH / zoom)
    top, left = (picture.shape[1] - height) // 2, round(left + (WIDTH - width) / 2)
    view = picture[None, :, top : top + height, left : left + width]
    view = F.interpolate(view, size=(HEIGHT, WIDTH), mode="bilinear", antialias=True)
    return view[0].permute(1, 2, 0)


def pan(seed: int, frames: int, speed: float = 2, **palette) -> list[Tensor]:
    picture = scene(seed, **palette)
    return [seen(picture, left=MARGIN / 2 + speed * n) for n in range(frames)]


def gray(value: float, frames: int) -> list[Tensor]:
    return [torch.full((HEIGHT, WIDTH, 3), float(value))] * frames


def uint8(frames: list[Tensor]) -> list[Tensor]:
    return [(frame.clamp(0, 1) * 255).round().byte() for frame in frames]


def with_noise(frames: list[Tensor], strength: float) -> list[Tensor]:
    rng = torch.Generator().manual_seed(3)
    return [frame + strength * torch.randn(frame.shape, generator=rng) for frame in frames]


def dissolved(old: list[Tensor], new: list[Tensor]) -> list[Tensor]:
    steps = torch.linspace(0, 1, len(old))
    return [a.lerp(b, float(w)) for a, b, w in zip(old, new, steps, strict=True)]


# ---- what is a cut ----


@pytest.mark.parametrize("seed", range(8))
def test_a_cut_between_scenes_is_found_at_its_frame(seed):
    clip = pan(seed, 7) + pan(seed + 100, 9, speed=-0.5) + pan(seed + 200, 5, speed=6)
    assert list(cuts(uint8(clip))) == [7, 16]


@pytest.mark.parametrize("seed", range(4))
def test_a_cut_between_scenes_of_the_same_colours_is_found(seed):
    red = {"palette": (0.7, 0.3, 0.2)}
    clip = pan(seed, 8, **red) + pan(seed + 50, 8, **red)
    assert list(cuts(uint8(clip))) == [8]


def test_a_cut_to_another_part_of_the_same_scene_is_found():
    picture = scene(5)
    clip = [seen(picture, left=n) for n in range(8)] + [
        seen(picture, left=300 + n) for n in range(8)
    ]
    assert list(cuts(uint8(clip))) == [8]


def test_a_cut_every_third_frame_is_found_each_time():
    clip = list(itertools.chain.from_iterable(pan(seed, 3) for seed in range(12)))
    assert list(cuts(uint8(clip))) == list(range(3, 36, 3))


def test_a_cut_to_black_and_the_one_back_are_found():
    clip = pan(1, 8) + gray(0, 5) + pan(1, 8)
    assert list(cuts(uint8(with_noise(clip, 0.004)))) == [8, 13]


def test_a_cut_between_two_plain_colours_is_found():
    red, blue = (
        torch.tensor(c).expand(HEIGHT, WIDTH, 3) for c in ((0.6, 0.1, 0.1), (0.1, 0.1, 0.6))
    )
    assert list(cuts([red] * 5 + [blue] * 5)) == [5]


def test_a_cut_in_a_noisy_dark_clip_is_found():
    clip = [frame * 0.25 for frame in pan(1, 9) + pan(2, 9)]
    assert list(cuts(uint8(with_noise(clip, 0.01)))) == [9]


def test_a_cut_in_the_middle_of_a_fast_pan_is_found():
    assert list(cuts(uint8(pan(1, 12, speed=14) + pan(2, 12, speed=14)))) == [12]


@pytest.mark.parametrize("bars", ["letterbox", "pillarbox"])
def test_bars_do_not_hide_a_cut(bars):
    clip = [frame.clone() for frame in pan(1, 8) + pan(2, 8)]
    for frame in clip:
        frame = frame if bars == "letterbox" else frame.transpose(0, 1)
        frame[: len(frame) // 5] = frame[-(len(frame) // 5) :] = 0.01
    assert list(cuts(uint8(clip))) == [8]


# ---- what is none ----

MOVING = {
    "still": lambda: pan(1, 12, speed=0),
    "slow pan": lambda: pan(1, 30, speed=1),
    "fast pan": lambda: pan(1, 14, speed=14),
    "zoom": lambda: [seen(scene(2), 100, zoom=1.04**n) for n in range(24)],
    "zoom out": lambda: [seen(scene(2), 100, zoom=1.04 ** (24 - n)) for n in range(24)],
    "noise": lambda: with_noise(pan(1, 20, speed=1), 0.06),
    "noise in black": lambda: with_noise(gray(0.02, 20), 0.02),
    "brightness ramp": lambda: [frame * (0.2 + 0.05 * n) for n, frame in enumerate(pan(3, 16))],
    "exposure step": lambda: pan(3, 8) + [frame * 0.6 for frame in pan(3, 8)],
    "fade from black": lambda: [frame * n / 24 for n, frame in enumerate(pan(4, 25))],
    "fade to black": lambda: [frame * (1 - n / 24) for n, frame in enumerate(pan(4, 25))],
    "fade to white": lambda: dissolved(pan(4, 25), gray(1, 25)),
    "dissolve": lambda: dissolved(pan(5, 24, speed=1), pan(6, 24, speed=1)),
    "one pixel frames": lambda: [frame[:1, :1] for frame in pan(1, 5)],
}


@pytest.mark.parametrize("motion", MOVING)
def test_what_goes_on_within_a_shot_is_no_cut(motion):
    assert list(cuts(uint8(MOVING[motion]()))) == []


def test_an_object_that_enters_quickly_is_no_cut():
    clip = [frame.clone() for frame in pan(1, 16, speed=1)]
    for number, frame in enumerate(clip[6:]):
        frame[20:90, : min(24 * (number + 1), 80)] = torch.tensor([0.9, 0.2, 0.1])
    assert list(cuts(uint8(clip))) == []


@pytest.mark.parametrize("frames", [1, 2, FLASH_FRAMES])
def test_a_white_flash_is_no_cut(frames):
    clip = pan(1, 8)
    lit = [(frame * 0.2 + 0.9).clamp(max=1) for frame in clip[-1:] * frames]
    assert list(cuts(uint8(clip + lit + pan(1, 8)))) == []


def test_a_flash_that_leaves_the_picture_visible_is_no_cut():
    clip = pan(1, 16)
    clip[8] = (clip[8] * 1.3 + 0.15).clamp(max=1)
    assert list(cuts(uint8(clip))) == []


def test_a_cut_under_a_flash_is_found_when_the_new_picture_shows():
    assert list(cuts(uint8(pan(1, 8) + gray(1, 2) + pan(2, 8)))) == [10]


def test_a_shot_that_opens_on_white_is_found_late():
    assert list(cuts(uint8(pan(1, 8) + gray(1, 20)))) == [8 + FLASH_FRAMES]


def test_a_single_odd_frame_is_one_cut_and_not_two():
    assert list(cuts(uint8(pan(1, 8) + pan(2, 1) + pan(1, 8)))) == [8]


# ---- the detector ----


def test_bytes_floats_and_other_sizes_are_seen_alike():
    clip = pan(1, 6) + pan(2, 6)
    larger = [frame.repeat_interleave(4, 0).repeat_interleave(4, 1) for frame in clip]
    assert list(cuts(clip)) == list(cuts(uint8(clip))) == list(cuts(uint8(larger))) == [6]
    torch.testing.assert_close(thumbnail(clip[0]), thumbnail(larger[0]), atol=0.05, rtol=0)


def test_difference_is_none_to_itself_and_does_not_depend_on_the_order():
    one, other = thumbnail(pan(1, 1)[0]), thumbnail(pan(2, 1)[0])
    assert difference(one, one) < 0.1 and 0.5 < difference(one, other) <= 1
    assert difference(one, other) == pytest.approx(difference(other, one))


@pytest.mark.parametrize("at", range(0, 24, 3))
def test_a_detector_goes_on_from_a_snapshot(at):
    clip = uint8(pan(1, 8) + gray(1, 3) + pan(2, 7) + pan(3, 6))
    whole, first, second = CutDetector(), CutDetector(), CutDetector()
    expected = [whole.push(frame) for frame in clip]
    came = [first.push(frame) for frame in clip[:at]]
    snapshot = first.snapshot()
    for frame in clip:
        first.push(frame)  # the snapshot is not shared with it
    second.restore(snapshot)
    assert came + [second.push(frame) for frame in clip[at:]] == expected
    assert sum(expected) == 2


def test_its_memory_is_flat():
    detector, sizes = CutDetector(), set()
    for frame in uint8(pan(1, 40)):
        detector.push(frame)
        sizes.add(sum(state.numel() for state in detector.snapshot().values()))
    assert len(sizes) == 2  # after one frame and after all others


def test_after_a_reset_a_clip_begins():
    detector = CutDetector()
    assert [detector.push(frame) for frame in pan(1, 3)] == [False] * 3
    detector.reset()
    assert not detector.push(pan(2, 1)[0])


def test_a_foreign_snapshot_is_refused():
    with pytest.raises(SessionError, match="unrest"):
        CutDetector().restore({"remembered": torch.zeros(0, 3, 36, 64)})


@pytest.mark.parametrize("shape", [(4, 4), (3, 8, 8), (2, 8, 8, 3), (0, 8, 3), (8, 8, 4)])
def test_what_is_no_frame_is_refused(shape):
    with pytest.raises(ShapeError, match=r"\[height, width, 3\]"):
        CutDetector().push(torch.zeros(shape))


def test_a_frame_takes_about_a_millisecond():
    frame = torch.randint(0, 256, (480, 854, 3), dtype=torch.uint8)
    detector, took = CutDetector(), []
    for _ in range(60):
        began = time.thread_time()
        detector.push(frame)
        took.append(time.thread_time() - began)
    assert sorted(took)[len(took) // 4] < 4e-3  # 1 ms where nothing else runs


# ---- lists of cuts ----


def test_a_list_of_cuts_is_read(tmp_path):
    path = tmp_path / "shots.txt"
    path.write_bytes(b"\xef\xbb\xbf# cuts\r\n120\r\nF7  # the door\r\n\r\n 00:02\r\n1.5\r\n120\r\n")
    shots = read_shots(path)
    assert shots.frames == {7, 120} and shots.times == (Fraction(3, 2), Fraction(2))
    times = [Fraction(n, 24) for n in range(-1, 130)]
    begun = [n for n in range(130) if shots.begins(n, times[n + 1], times[n])]
    assert begun == [7, 36, 48, 120]


def test_a_time_between_two_frames_means_the_later_one(tmp_path):
    path = tmp_path / "shots.txt"
    path.write_text("0.55")
    shots, times = read_shots(path), [Fraction(n, 10) for n in range(-1, 10)]
    assert [n for n in range(10) if shots.begins(n, times[n + 1], times[n])] == [6]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("12\n  here", r"shots.txt:2:3: expected mm:ss.* not 'here'"),
        ("00:75", r"shots.txt:1:1: .*Did you mean 01:15"),
        ("-3", r"shots.txt:1:1: '-3' is negative"),
        ("1 2", r"shots.txt:1:1: expected"),
    ],
)
def test_errors_in_a_list_of_cuts_point_at_their_place(tmp_path, text, message):
    path = tmp_path / "shots.txt"
    path.write_text(text)
    with pytest.raises(StyleError, match=message):
        read_shots(path)


def test_a_list_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(StyleError, match=r"none\.txt"):
        read_shots(tmp_path / "none.txt")
    (tmp_path / "wide.txt").write_bytes("120".encode("utf-16"))
    with pytest.raises(StyleError, match="UTF-8"):
        read_shots(tmp_path / "wide.txt")
