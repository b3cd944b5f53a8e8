"""A clip is read as it is: every frame once, upright, in its color and at its time."""

import math
import os
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from rtr_core.errors import ClipError
from rtr_core.media.color import Color
from rtr_core.media.pictures import to_picture
from rtr_core.media.promised import PACKET, missing_bytes
from rtr_core.media.seek import find_entry
from rtr_core.media.source import Clock, fingerprint, open_source
from rtr_core.shapes import Size
from tests.media.clips import FULL, make_clip, moving_gradients, to_frame

B_FRAMES = {"preset": "medium", "bf": "3", "g": "8"}
QUIET_X265 = {"x265-params": "log-level=none:keyint=8"}
COLORS = [
    *[(255, 255, 255), (0, 0, 0), (128, 128, 128), (255, 0, 0), (0, 255, 0), (0, 0, 255)],
    *[(200, 30, 90), (17, 133, 201), (250, 240, 10)],
]


def read(path, first: int = 0):
    with open_source(path) as source:
        return source, list(source.frames(first))


def levels(frames) -> np.ndarray:
    """Pixels of frames `[t h w 3]` in 0..255."""
    pixels = torch.stack([frame.pixels for frame in frames])
    return (pixels * 255 if pixels.is_floating_point() else pixels).double().numpy()


def open_files() -> set[str]:
    return {str(file) for file in Path("/proc/self/fd").glob("*")}  # none where it is not Linux


def damaged(path: Path, name: str, change) -> Path:
    content = bytearray(path.read_bytes())
    other = path.with_name(name)
    other.write_bytes(change(content))
    return other


# Frames and times


@pytest.mark.parametrize("count", [1, 2, 25])
@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt", "options"),
    [
        ("h264.mp4", "libx264", "yuv420p", B_FRAMES),
        ("h264.mkv", "libx264", "yuv420p", {}),
        ("h264.ts", "libx264", "yuv420p", B_FRAMES),
        ("h264.h264", "libx264", "yuv420p", {}),
        ("hevc.mp4", "libx265", "yuv420p10le", QUIET_X265),
        ("vp9.webm", "libvpx-vp9", "yuv420p", {}),
        ("prores.mov", "prores_ks", "yuv422p10le", {}),
        ("mpeg4.avi", "mpeg4", "yuv420p", {"bf": "2"}),
        ("moving.gif", "gif", "rgb8", {}),
    ],
)
def test_as_many_frames_come_as_are_in_the_file(tmp_path, name, codec, pix_fmt, options, count):
    if name.endswith("gif") and count == 1:
        pytest.skip("that is a still image")
    path = tmp_path / name
    pictures = make_clip(path, count, codec=codec, pix_fmt=pix_fmt, options=options)
    source, frames = read(path)
    assert [frame.index for frame in frames] == list(range(count)) and source.damage is None
    assert all(a.time < b.time for a, b in pairwise(frames))
    nearest = [np.abs(pictures - frame).mean((1, 2, 3)).argmin() for frame in levels(frames)]
    assert nearest == list(range(count))


def test_uneven_times_and_a_late_beginning_are_kept(tmp_path):
    times = [5000, 5040, 5200, 5210, 5900, 5901, 7000]
    make_clip(tmp_path / "a.mp4", 7, times=times, options=B_FRAMES)
    source, frames = read(tmp_path / "a.mp4")
    assert [frame.time * source.info.time_base for frame in frames] == [
        Fraction(time, 1000) for time in times
    ]
    durations = [frame.duration for frame in frames]
    assert durations[:-1] == [b.time - a.time for a, b in pairwise(frames)]


def test_what_is_known_of_a_clip(tmp_path):
    make_clip(tmp_path / "a.mp4", 24, (48, 64), rate=Fraction(24000, 1001), audio=2)
    info = open_source(tmp_path / "a.mp4").info
    assert info.path == tmp_path / "a.mp4" and info.size == Size(48, 64)
    assert (info.rate, info.frames, info.duration) == (
        Fraction(24000, 1001),
        24,
        Fraction(1001, 1000),
    )
    assert (info.aspect, info.rotation, info.depth, info.audio) == (1, 0, 8, 2)


def test_a_clip_without_duration_is_read_to_its_end(tmp_path):
    make_clip(tmp_path / "a.mkv", 12, container_options={"live": "1"})
    source, frames = read(tmp_path / "a.mkv")
    assert (source.info.duration, source.info.frames) == (None, None)
    assert len(frames) == 12 and source.damage is None


def test_what_an_edit_list_cuts_off_is_not_shown(tmp_path):
    make_clip(tmp_path / "a.mp4", 30, options=B_FRAMES)
    _, whole = read(tmp_path / "a.mp4")

    def begin_later(content: bytearray) -> bytearray:
        at = content.index(b"elst") + 16  # media time of the only edit, in version 0
        start = int.from_bytes(content[at : at + 4], "big") + 5 * whole[0].duration
        content[at : at + 4] = start.to_bytes(4, "big")
        return content

    cut = damaged(tmp_path / "a.mp4", "cut.mp4", begin_later)
    source, frames = read(cut)
    assert source.damage is None and frames[0].time == 0
    for first in (0, 1, 4, 12):
        _, rest = read(cut, first)
        assert len(rest) == 25 - first
        assert all(
            torch.equal(a.pixels, b.pixels) for a, b in zip(rest, whole[5 + first :], strict=True)
        )


def test_a_cover_picture_is_no_video(tmp_path):
    make_clip(tmp_path / "a.mp4", 5, cover=True)
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert len(container.streams.video) == 2
    assert len(read(tmp_path / "a.mp4")[1]) == 5


def test_times_that_are_missing_repeated_or_leap_back_are_repaired(tmp_path):
    make_clip(tmp_path / "a.avi", 2, rate=10, codec="mpeg4")
    clock = Clock(open_source(tmp_path / "a.avi").info)  # one tick a frame
    times = [3, None, 5, 5, 6, 6, 9, 1000, 0, 1, 2]
    frames = [av.VideoFrame(16, 16) for _ in times]
    for frame, time in zip(frames, times, strict=True):
        frame.pts = time
    assert [clock.stamp(frame) for frame in frames] == [3, 4, 5, 6, 7, 8, 9, 1000, 1001, 1002, 1003]


def test_two_recordings_joined_in_one_file_follow_on(tmp_path):
    make_clip(tmp_path / "a.ts", 40)
    twice = tmp_path / "twice.ts"
    twice.write_bytes((tmp_path / "a.ts").read_bytes() * 2)
    _, frames = read(twice)
    assert len(frames) == 80
    assert {b.time - a.time for a, b in pairwise(frames)} == {3750}


# Pictures


@pytest.mark.parametrize("color_range", [1, FULL])
@pytest.mark.parametrize("matrix", [1, 6, 9])
@pytest.mark.parametrize(
    "pix_fmt", ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv444p12le", "yuv422p16le"]
)
def test_known_colors_come_back_within_two_levels(tmp_path, pix_fmt, matrix, color_range):
    pictures = np.stack([np.full((32, 48, 3), color, np.uint8) for color in COLORS])
    make_clip(
        tmp_path / "a.mkv",
        pictures,
        codec="ffv1",
        pix_fmt=pix_fmt,
        matrix=matrix,
        color_range=color_range,
    )
    source, frames = read(tmp_path / "a.mkv")
    assert (source.info.color.matrix, source.info.color.range) == (matrix, color_range)
    assert np.abs(levels(frames) - pictures).max() <= (2 if source.info.depth == 8 else 0.5)


@pytest.mark.parametrize(("size", "matrix"), [((576, 720), 6), ((720, 1280), 1), ((546, 1280), 1)])
def test_without_a_tag_the_matrix_is_guessed_by_size(tmp_path, size, matrix):
    picture = np.full((1, *size, 3), (200, 30, 90), np.uint8)
    make_clip(tmp_path / "tagged.mkv", picture, codec="ffv1", pix_fmt="yuv444p", matrix=matrix)
    color = open_source(tmp_path / "tagged.mkv").info.color
    untagged = Color(range=0, matrix=2, primaries=2, transfer=2)
    assert color.settled(Size(*size)) == untagged.settled(Size(*size))


@pytest.mark.parametrize("size", [(47, 63), (1, 1), (33, 130)])
@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv422p10le", "yuv444p", "yuva420p", "bgr0"])
def test_odd_sizes_are_read_to_the_last_pixel(tmp_path, size, pix_fmt):
    pictures = make_clip(tmp_path / "a.mkv", 3, size, codec="ffv1", pix_fmt=pix_fmt)
    _, frames = read(tmp_path / "a.mkv")
    off = np.abs(levels(frames) - pictures)
    assert off.shape == (3, *size, 3)
    assert off.mean() < 2 or min(size) < 4  # of so few pixels, chroma is one color


@pytest.mark.parametrize(
    ("packed_as", "same_as"),
    [
        *[("nv12", "yuv420p"), ("yuyv422", "yuv422p"), ("uyvy422", "yuv422p")],
        *[("p010le", "yuv420p10le"), ("yuv420p10be", "yuv420p10le")],
        *[("rgb48be", "gbrp10le"), ("bgra", "gbrp")],
    ],
)
def test_packed_formats_are_the_same_pictures(packed_as, same_as):
    color = Color(range=1, matrix=6, primaries=2, transfer=2)
    planar = to_frame(moving_gradients(1, (48, 64))[0], same_as, 6, 1)
    packed = planar.reformat(format=packed_as)
    came, expected = (
        to_picture(frame, color, Size(48, 64), 8).double() for frame in (packed, planar)
    )
    assert (came - expected).abs().max() <= 1


def test_gray_is_gray():
    frame = to_frame(np.full((8, 8, 3), 200, np.uint8), "gray", 2, 0)
    color = Color(range=1, matrix=6, primaries=2, transfer=2)
    assert (to_picture(frame, color, Size(8, 8), 8) == 200).all()


def test_more_than_eight_bits_are_floats_with_all_their_levels(tmp_path):
    ramp = np.broadcast_to(np.arange(64, dtype=np.uint8)[None, None, :, None], (1, 8, 64, 3))
    make_clip(tmp_path / "a.mkv", np.ascontiguousarray(ramp), codec="ffv1", pix_fmt="gbrp10le")
    source, frames = read(tmp_path / "a.mkv")
    assert source.info.depth == 10 and frames[0].pixels.dtype == torch.float32
    assert np.abs(levels(frames) - ramp).max() < 0.13


@pytest.mark.parametrize(
    ("rotation", "turned"),
    [
        (90, lambda x: np.rot90(x, -1, (1, 2))),
        (180, lambda x: np.rot90(x, 2, (1, 2))),
        (270, lambda x: np.rot90(x, 1, (1, 2))),
        ("mirror", lambda x: x[:, :, ::-1]),
    ],
)
def test_a_turned_clip_is_shown_upright(tmp_path, rotation, turned):
    pictures = make_clip(tmp_path / "a.mp4", 3, rotation=rotation, aspect=Fraction(4, 3))
    source, frames = read(tmp_path / "a.mp4")
    expected, info = turned(pictures), source.info
    assert info.size == expected.shape[1:3] and frames[0].pixels.is_contiguous()
    assert info.rotation == (0 if rotation == "mirror" else rotation)
    assert info.aspect == (Fraction(3, 4) if rotation in (90, 270) else Fraction(4, 3))
    assert np.abs(levels(frames) - expected).mean() < 1.5


def test_a_size_that_changes_on_the_way_is_scaled_to_the_first(tmp_path):
    first = make_clip(tmp_path / "a.h264", 10, (48, 64))
    make_clip(tmp_path / "b.h264", moving_gradients(10, (96, 128)))
    both = tmp_path / "both.h264"
    both.write_bytes((tmp_path / "a.h264").read_bytes() + (tmp_path / "b.h264").read_bytes())
    _, frames = read(both)
    off = np.abs(levels(frames) - np.concatenate([first, first]))
    assert len(frames) == 20 and off.mean() < 2


# Resuming


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt", "options", "seeks"),
    [
        ("closed.mp4", "libx264", "yuv420p", B_FRAMES, True),
        ("open.mp4", "libx264", "yuv420p", B_FRAMES | {"x264-params": "open-gop=1"}, True),
        ("refresh.mp4", "libx264", "yuv420p", {"g": "8", "x264-params": "intra-refresh=1"}, None),
        ("hevc.mp4", "libx265", "yuv420p", QUIET_X265, True),
        ("prores.mov", "prores_ks", "yuv422p10le", {}, True),
        ("vp8.webm", "libvpx", "yuv420p", {"g": "8", "auto-alt-ref": "1"}, False),
        ("broadcast.ts", "libx264", "yuv420p", B_FRAMES, False),
    ],
)
def test_frames_from_any_number_are_those_of_a_whole_reading(
    tmp_path, name, codec, pix_fmt, options, seeks
):
    path = tmp_path / name
    times = np.cumsum(np.random.default_rng(0).integers(10, 90, 30)).tolist()
    make_clip(path, 30, codec=codec, pix_fmt=pix_fmt, options=options, times=times)
    _, whole = read(path)
    for first in (1, 7, 8, 9, 20, 29, 30, 31):
        source, rest = read(path, first)
        assert source.damage is None
        assert [frame[:3] for frame in rest] == [frame[:3] for frame in whole[first:]]
        assert all(
            torch.equal(a.pixels, b.pixels) for a, b in zip(rest, whole[first:], strict=True)
        )
    assert seeks is None or (find_entry(path, 29) is not None) == seeks


def test_a_clip_can_be_read_again_and_left_at_any_time(tmp_path):
    make_clip(tmp_path / "a.mp4", 10)
    before = open_files()
    with open_source(tmp_path / "a.mp4") as source:
        assert next(source.frames()).index == 0
        assert [frame.index for frame in source.frames()] == list(range(10))
        left = source.frames()
        next(left)
    assert open_files() == before
    with pytest.raises(ClipError, match="no frame -1"):
        source.frames(-1)


# Damage


def test_a_clip_cut_off_gives_what_is_there_and_says_where_it_ends(tmp_path):
    for name in ("a.mkv", "a.mp4", "a.avi"):
        path = tmp_path / name
        codec = "mpeg4" if name.endswith("avi") else "libx264"
        fast = {"movflags": "faststart"} if name.endswith("mp4") else None
        make_clip(path, 60, (96, 128), codec=codec, container_options=fast)
        _, whole = read(path)
        source, frames = read(
            damaged(path, f"cut_{name}", lambda content: content[: -len(content) // 2])
        )
        assert 0 < len(frames) < 60
        assert all(torch.equal(a.pixels, b.pixels) for a, b in zip(frames, whole, strict=False))
        assert f"cut_{name} is damaged after frame {len(frames) - 1}" in (source.damage or "")


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_a_clip_broken_in_the_middle_gives_only_frames_that_are_whole(tmp_path, codec):
    options = QUIET_X265 if codec == "libx265" else {"preset": "medium", "bf": "3", "g": "12"}
    make_clip(tmp_path / "a.mp4", 60, (96, 128), codec=codec, options=options)
    _, whole = read(tmp_path / "a.mp4")

    def invert_a_piece(content: bytearray) -> bytearray:
        middle = len(content) // 2
        content[middle : middle + 400] = bytes(
            255 - value for value in content[middle : middle + 400]
        )
        return content

    source, frames = read(damaged(tmp_path / "a.mp4", "bad.mp4", invert_a_piece))
    assert 8 < len(frames) < 60
    off = [
        index
        for index, (a, b) in enumerate(zip(frames, whole, strict=False))
        if not torch.equal(a.pixels, b.pixels)
    ]
    assert not off or off[0] >= len(frames) - 2  # a decoder may miss it in the very frame
    assert f"after frame {len(frames) - 1} (" in (source.damage or "")
    assert "ffmpeg" in (source.damage or "")


def test_a_broken_first_picture_is_told_though_the_rest_is_read(tmp_path):
    make_clip(tmp_path / "a.mp4", 36, (96, 128), options=B_FRAMES | {"g": "12"})

    def spoil(content: bytearray) -> bytearray:
        start = content.index(b"mdat") + 4
        content[start : start + 600] = bytes(600)
        return content

    source, frames = read(damaged(tmp_path / "a.mp4", "bad.mp4", spoil))
    assert len(frames) == 24 and "before frame 0" in (source.damage or "")


def test_a_broadcast_may_begin_amid_a_group_of_pictures(tmp_path):
    make_clip(tmp_path / "a.ts", 40, (96, 128), options={"g": "10"})
    cut = damaged(tmp_path / "a.ts", "cut.ts", lambda content: content[188 * 40 :])
    source, frames = read(cut)
    assert 10 < len(frames) < 40 and source.damage is None
    assert frames[0].index == 0


# Refusals


def test_an_image_is_refused_with_what_to_do(tmp_path):
    image = Image.fromarray(moving_gradients(1, (16, 16))[0])
    for name in ("a.png", "a.jpg", "a.webp", "a.gif", "a.bmp", "a.tiff"):
        image.save(tmp_path / name)
        (tmp_path / name).rename(tmp_path / f"{name}.mp4")  # by content, not by name
        with pytest.raises(ClipError, match=f"{name}.mp4 is an image.*--reference"):
            open_source(tmp_path / f"{name}.mp4")


@pytest.mark.parametrize(
    "name",
    [
        *["http://example.com/a.mp4", "rtsp://camera/1", "concat:a.mp4|b.mp4", "pipe:0", "lavfi:x"],
        *["file:a.mp4", "data:video/mp4;base64,AAAA", "subfile,,start,0,end,0,,:a.mp4"],
    ],
)
def test_addresses_and_protocols_are_refused(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    make_clip(tmp_path / "a.mp4", 2)
    with pytest.raises(ClipError, match=r"address|no file"):
        open_source(name)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.m3u8", "#EXTM3U\n#EXTINF:1,\na.ts\n#EXT-X-ENDLIST\n"),
        ("disguised.mp4", "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\na.ts\n"),
        ("disguised.mkv", "ffconcat version 1.0\nfile a.ts\n"),
        ("a.sdp", "v=0\no=- 0 0 IN IP4 127.0.0.1\n"),
        ("a.mpd", '<?xml version="1.0"?><MPD></MPD>'),
    ],
)
def test_playlists_are_refused(tmp_path, name, content):
    make_clip(tmp_path / "a.ts", 2)
    (tmp_path / name).write_text(content)
    with pytest.raises(ClipError, match=f"{name} is a playlist"):
        open_source(tmp_path / name)


def test_what_is_no_clip_is_named(tmp_path):
    with av.open(str(tmp_path / "sound.m4a"), "w") as container:
        stream = container.add_stream("aac", rate=48000)
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), "fltp", "stereo")
        frame.sample_rate = 48000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    (tmp_path / "text.txt").write_text("not a film\n" * 100)
    os.mkfifo(tmp_path / "pipe")
    reasons = {
        "sound.m4a": "no video, only audio",
        "empty.mp4": "is empty",
        "nowhere.mp4": "no file",
        "noise.mp4": "not a video",
        "text.txt": "not a video",
        ".": "folder",
        "pipe": "device",
    }
    for name, reason in reasons.items():
        with pytest.raises(ClipError, match=reason) as refused:
            open_source(tmp_path / name)
        assert str(tmp_path) in str(refused.value)
    with pytest.raises(ClipError, match=r"cannot be looked at|no file"):
        open_source("a\0b.mp4")


def test_a_header_that_claims_too_much_is_refused(tmp_path):
    make_clip(tmp_path / "a.mkv", 1, (260, 300), codec="ffv1", pix_fmt="yuv420p")
    width, height = b"\xb0\x82\x01\x2c", b"\xba\x82\x01\x04"

    def claim(content: bytearray) -> bytes:
        assert width in content and height in content
        return (
            bytes(content).replace(width, b"\xb0\x82\xff\xff").replace(height, b"\xba\x82\xff\xff")
        )

    with pytest.raises(ClipError, match=r"bomb.mkv .*(million pixels)"):
        open_source(damaged(tmp_path / "a.mkv", "bomb.mkv", claim))


def test_what_is_really_too_large_is_refused_with_what_to_do(tmp_path):
    with av.open(str(tmp_path / "8k.mp4"), "w") as container:
        stream = container.add_stream("mjpeg", rate=1)
        stream.width, stream.height, stream.pix_fmt = 7680, 4320, "yuvj420p"
        frame = av.VideoFrame(7680, 4320, "yuvj420p")
        frame.pts = 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(ClipError, match=r"8k.mp4 .*million pixels.*scale=3840"):
        open_source(tmp_path / "8k.mp4")


def test_frames_that_cannot_be_decoded_at_all_are_a_clip_error(tmp_path):
    make_clip(tmp_path / "a.mkv", 1, codec="ffv1", pix_fmt="yuv420p")
    with av.open(str(tmp_path / "a.mkv")) as container:
        packet = bytes(next(container.demux(video=0)))
    path = damaged(
        tmp_path / "a.mkv", "bad.mkv", lambda c: bytes(c).replace(packet, bytes(len(packet)))
    )
    with pytest.raises(ClipError, match="No frame of"):
        open_source(path)


def test_any_mutation_of_a_file_gives_frames_or_a_clip_error(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a.mp4", "a.mkv", "a.ts"):
        make_clip(tmp_path / name, 6, options=B_FRAMES)
        content = np.frombuffer((tmp_path / name).read_bytes(), np.uint8)
        for _ in range(20):
            mutated = content.copy()
            mutated[rng.integers(0, len(content), 30)] = rng.integers(0, 256, 30)
            (tmp_path / "mutated").write_bytes(mutated.tobytes())
            try:
                source, frames = read(tmp_path / "mutated")
            except ClipError:
                continue
            assert all(frame.pixels.shape == (*source.info.size, 3) for frame in frames)
            assert math.isfinite(source.info.rate)


# Fingerprints


def test_a_fingerprint_knows_a_changed_file(tmp_path):
    path = tmp_path / "a.bin"
    for size in (10, 5 << 20, 40 << 20):
        path.write_bytes(bytes(size))
        before = fingerprint(path)
        assert before == fingerprint(str(path))
        for at in (0, size - 1):
            with path.open("r+b") as file:
                file.seek(at)
                file.write(b"x")
            assert fingerprint(path) != before
            before = fingerprint(path)
        path.write_bytes(bytes(size + 1))
        assert fingerprint(path) != before
    with pytest.raises(ClipError, match="no file"):
        fingerprint(tmp_path / "b.bin")


@pytest.mark.parametrize("suffix", [".mkv", ".webm"])
@pytest.mark.parametrize("audio", [0, 1])
@pytest.mark.parametrize("lost", [0.01, 0.05, 0.3])
def test_a_matroska_file_that_is_cut_off_by_however_little_is_told(tmp_path, suffix, audio, lost):
    path = tmp_path / f"clip{suffix}"
    codec = {".mkv": "libx264", ".webm": "libvpx-vp9"}[suffix]
    make_clip(path, frames=24, codec=codec, audio=audio if suffix == ".mkv" else 0)
    with open_source(path) as source:
        assert len(list(source.frames())) == 24 and source.damage is None
    whole = path.read_bytes()
    path.write_bytes(whole[: round(len(whole) * (1 - lost))])
    with open_source(path) as source:
        assert 0 < len(list(source.frames())) <= 24
        assert source.damage and "cut off" in source.damage


@pytest.mark.parametrize(
    ("name", "codec", "bf"),
    [
        ("a.ts", "libx264", "0"),
        ("a.ts", "libx264", "2"),
        ("a.flv", "libx264", "0"),
        ("a.avi", "mpeg4", "0"),
        ("a.mpg", "mpeg2video", "0"),
    ],
)
def test_a_cut_through_any_part_of_a_file_is_told_and_what_is_given_is_whole(
    tmp_path, name, codec, bf
):
    path = tmp_path / name
    make_clip(path, 30, codec=codec, audio=name != "a.mpg", options={"bf": bf})
    source, whole = read(path)
    assert len(whole) == 30 and source.damage is None
    content = path.read_bytes()
    middle = np.random.default_rng(0).integers(len(content) // 2, len(content), 7).tolist()
    for end in (*middle, len(content) - 1):
        if end % PACKET == 0 and path.suffix == ".ts":
            continue  # nothing tells this one from a recording that was stopped
        source, frames = read(damaged(path, f"cut_{name}", lambda whole, end=end: whole[:end]))
        assert f"damaged after frame {len(frames) - 1} " in (source.damage or "")
        assert all(torch.equal(a.pixels, b.pixels) for a, b in zip(frames, whole, strict=False))


def test_a_broadcast_with_a_clock_before_each_packet_ends_where_it_should(tmp_path):
    make_clip(tmp_path / "a.ts", 12)
    content = (tmp_path / "a.ts").read_bytes()
    packets = [content[n : n + PACKET] for n in range(0, len(content), PACKET)]
    (tmp_path / "a.m2ts").write_bytes(b"".join(b"\1\2\3\4" + packet for packet in packets))
    assert missing_bytes(tmp_path / "a.ts") == missing_bytes(tmp_path / "a.m2ts") == 0
    for name in ("a.ts", "a.m2ts"):
        cut = damaged(tmp_path / name, f"cut_{name}", lambda whole: whole[:-5])
        assert missing_bytes(cut) == 5


@pytest.mark.parametrize("length", [0, 0xFFFFFFFF])
def test_an_avi_whose_writer_was_killed_promises_no_length(tmp_path, length):
    make_clip(tmp_path / "a.avi", 6, codec="mpeg4")
    stopped = damaged(
        tmp_path / "a.avi", "b.avi", lambda c: c[:4] + length.to_bytes(4, "little") + c[8:]
    )
    assert missing_bytes(stopped) == 0


def test_a_live_recording_promises_no_length(tmp_path):
    path = tmp_path / "clip.mkv"
    make_clip(path, frames=24, container_options={"live": "1"})
    with open_source(path) as source:
        assert len(list(source.frames())) == 24 and source.damage is None
