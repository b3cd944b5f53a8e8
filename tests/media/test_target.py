import io
import os
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from rtr_core.errors import ClipError, NumericsError, ShapeError
from rtr_core.media.codecs import CODECS, pick_codec
from rtr_core.media.pipes import RawPipe, Y4mPipe
from rtr_core.media.planes import video_frame
from rtr_core.media.target import SegmentWriter, save_preview, side_by_side
from rtr_core.shapes import Size

from .written import (
    SIZE,
    UNTAGGED,
    decoded,
    info_of,
    packets,
    pictures,
    uneven_times,
    write_segment,
)

QUICK = {"h264": "ultrafast", "hevc": "ultrafast", "prores": "lt", "lossless": "ultrafast"}
BT709 = replace(UNTAGGED, range=1, matrix=1)


def codec(name: str):
    return pick_codec(Path("x.mov" if name == "prores" else "x.mp4"), name, preset=QUICK.get(name))


@pytest.mark.parametrize("name", CODECS)
def test_a_segment_keeps_every_time_exactly_and_begins_with_a_key_frame(name, tmp_path):
    times = uneven_times(6, start=-70_001)  # also times below zero
    path = write_segment(tmp_path / "s.mov", pictures(6), times, codec(name))
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        came = [p for p in container.demux(stream) if p.size]
        assert stream.time_base == Fraction(1, 90_000)
        assert [p.pts for p in came] == [p.dts for p in came] == [time for time, _ in times]
        assert came[0].is_keyframe
    assert len(decoded(path)) == 6


@pytest.mark.parametrize("name", CODECS)
def test_the_same_frames_give_the_same_bytes_on_a_busy_machine_too(name, tmp_path):
    frames, times = pictures(20), uneven_times(20)
    quiet = write_segment(tmp_path / "a.mov", frames, times, codec(name)).read_bytes()
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(3)]
    try:
        again = write_segment(tmp_path / "b.mov", frames, times, codec(name)).read_bytes()
    finally:
        for process in busy:
            process.kill()
            process.wait()
    assert again == quiet


@pytest.mark.parametrize("size", [Size(32, 32), Size(64, 48), Size(48, 128)], ids=str)
def test_the_same_frames_give_the_same_bytes_however_small_they_are(size, tmp_path):
    frames, times = pictures(40, size), uneven_times(40)
    made = {
        write_segment(tmp_path / "s.mov", frames, times, codec("h264")).read_bytes()
        for _ in range(12)
    }
    assert len(made) == 1


@pytest.mark.parametrize("name", CODECS)
def test_decoding_can_begin_with_every_key_frame(name, tmp_path):
    rng = torch.Generator().manual_seed(0)
    cuts = list(torch.rand(24, *SIZE, 3, generator=rng))  # where each frame is a shot
    path = write_segment(tmp_path / "s.mov", cuts, uneven_times(24), codec(name))
    whole = decoded(path)
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        keys = [n for n, packet in enumerate(packets) if packet.is_keyframe]
        for key in keys:
            context = av.CodecContext.create(packets[0].stream.codec_context.name, "r")
            context.extradata = packets[0].stream.codec_context.extradata
            context.width, context.height = SIZE.width, SIZE.height
            frames = [f for p in packets[key:] for f in context.decode(p)] + context.decode(None)
            assert np.array_equal(frames[0].to_ndarray(format="rgb24"), whole[key])
            assert len(frames) == 24 - key


def test_a_codec_that_is_not_the_same_twice_on_small_pictures_refuses_them(tmp_path):
    with pytest.raises(ClipError, match="hevc is for pictures of 96 pixels"):
        write_segment(
            tmp_path / "s.mov", pictures(2, Size(64, 128)), uneven_times(2), codec("hevc")
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("size", [Size(129, 251), Size(96, 128)], ids=str)
def test_size_aspect_and_color_come_back(name, size, tmp_path):
    frames, anamorphic = pictures(3, size), Fraction(4, 3)
    path = write_segment(
        tmp_path / "s.mov", frames, uneven_times(3), codec(name), aspect=anamorphic
    )
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.height, stream.width) == size
        assert stream.sample_aspect_ratio == anamorphic
        assert stream.codec_context.colorspace == (0 if name == "lossless" else 6)
    for frame, came in zip(frames, decoded(path), strict=True):
        assert np.abs(came / 255 - frame.numpy()).mean() < 5 / 255


def test_lossless_keeps_every_bit(tmp_path):
    rng = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, (3, 51, 77, 3), dtype=torch.uint8, generator=rng)
    path = write_segment(tmp_path / "s.mov", list(noise), uneven_times(3), codec("lossless"))
    assert np.array_equal(np.stack(decoded(path)), noise.numpy())


def test_ten_bits_are_ten_bits_and_not_eight_spread_out():
    ramp = torch.linspace(0, 1, 1024).expand(2, 1024)[..., None].expand(2, 1024, 3)
    frame = video_frame(ramp, "yuv422p10le", BT709)
    luma = np.frombuffer(frame.planes[0], "<u2").reshape(2, -1)[0, :1024]
    assert len(np.unique(luma)) == 1024 * 876 // 1024 + 1
    assert (luma[0], luma[-1]) == (64, 940)


@pytest.mark.parametrize(
    ("rgb", "expected"),
    [((1, 1, 1), (235, 128, 128)), ((0, 0, 0), (16, 128, 128)), ((1, 0, 0), (63, 102, 240))],
)
def test_levels_are_those_of_the_standard(rgb, expected):
    frame = video_frame(torch.tensor(rgb).float().expand(4, 6, 3), "yuv420p", BT709)
    levels = tuple(int(np.frombuffer(plane, np.uint8)[0]) for plane in frame.planes)
    assert levels == expected


def test_a_scaled_copy_keeps_the_shape_of_the_picture(tmp_path):
    path, info = tmp_path / "s.mov", info_of(Size(480, 720), aspect=Fraction(8, 9))
    with SegmentWriter(path, codec("h264"), info, SIZE) as segment:
        segment.write(pictures(1)[0], 0)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.sample_aspect_ratio * stream.width / stream.height == Fraction(4, 3)


def test_the_sources_own_matrix_and_range_are_kept(tmp_path):
    color = replace(UNTAGGED, range=2, matrix=9, primaries=9, transfer=16)
    path = write_segment(
        tmp_path / "s.mov", pictures(2), uneven_times(2), codec("vp9"), color=color
    )
    with av.open(str(path)) as container:
        came = container.streams.video[0].codec_context
        assert (came.color_range, came.colorspace) == (2, 9)
        assert (came.color_primaries, came.color_trc) == (9, 16)


@pytest.mark.parametrize(
    ("name", "out", "says"),
    [
        ("prores", "a.webm", ".mov or .mkv"),
        ("h264", "a.webm", "choose vp9"),
        ("h264", "a.gif", ".mp4"),
        ("divx", "a.mp4", "h264"),
    ],
)
def test_a_codec_that_does_not_fit_says_what_does(name, out, says):
    with pytest.raises(ClipError, match=says):
        pick_codec(Path(out), name)


@pytest.mark.parametrize(
    "wrong", [{"crf": 99}, {"crf": -1}, {"pix_fmt": "yuv410p"}, {"preset": "hasty"}]
)
def test_an_option_the_encoder_has_not_is_refused_before_any_work(wrong):
    with pytest.raises(ClipError):
        pick_codec(Path("a.mp4"), **wrong)


def test_crf_means_nothing_to_prores():
    with pytest.raises(ClipError, match="no crf"):
        pick_codec(Path("a.mov"), "prores", crf=20)


def test_an_error_in_the_middle_leaves_no_file(tmp_path):
    with (
        pytest.raises(KeyError),
        SegmentWriter(tmp_path / "s.mov", codec("h264"), info_of(), SIZE) as s,
    ):
        s.write(pictures(1)[0], 0)
        raise KeyError
    assert not list(tmp_path.iterdir())


def test_a_frame_that_cannot_be_written_is_refused(tmp_path):
    with SegmentWriter(tmp_path / "s.mov", codec("h264"), info_of(), SIZE) as segment:
        segment.write(pictures(1)[0], 10)
        with pytest.raises(ClipError, match="times must rise"):
            segment.write(pictures(1)[0], 10)
        with pytest.raises(ShapeError, match="128x96"):
            segment.write(torch.zeros(2, 2, 3), 11)
        with pytest.raises(NumericsError, match="NaN"):
            segment.write(torch.full((*SIZE, 3), torch.nan), 11)
    assert len(packets(tmp_path / "s.mov")) == 1


def test_a_segment_without_frames_is_refused(tmp_path):
    with (
        pytest.raises(ClipError, match="no frame"),
        SegmentWriter(tmp_path / "s.mov", codec("h264"), info_of(), SIZE),
    ):
        pass
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ClipError, match="gone"):
        write_segment(tmp_path / "gone" / "s.mov", pictures(1), uneven_times(1))


def test_a_folder_that_vanishes_is_named(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    with (
        pytest.raises(ClipError, match="folder"),
        SegmentWriter(folder / "s.mov", codec("h264"), info_of(), SIZE) as segment,
    ):
        segment.write(pictures(1)[0], 0)
        (folder / "s.mov.part").unlink()
        folder.rmdir()


def test_an_encoder_that_dies_leaves_no_file(tmp_path, monkeypatch):
    with (
        pytest.raises(ClipError, match=r"s\.mov"),
        SegmentWriter(tmp_path / "s.mov", codec("h264"), info_of(), SIZE) as segment,
    ):

        def dies(_):
            raise av.FFmpegError(-22, "encoder died")

        monkeypatch.setattr(segment, "_stream", type("Stream", (), {"encode": staticmethod(dies)}))
        segment.write(pictures(1)[0], 0)
    assert not list(tmp_path.iterdir())


FULL_DISK = """
import resource, signal, sys, torch
from pathlib import Path
from rtr_core.errors import ClipError
from tests.media.test_target import codec, info_of, SIZE, SegmentWriter
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    with SegmentWriter(Path(sys.argv[1]), codec("lossless"), info_of(), SIZE) as segment:
        for n in range(200):
            segment.write(torch.rand(*SIZE, 3), n)
except ClipError as error:
    print("told:", error)
"""


def test_a_full_disk_is_told_and_leaves_no_file(tmp_path):
    ran = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path / "s.mov")],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=Path(__file__).parents[2],
    )
    assert "told:" in ran.stdout and "s.mov" in ran.stdout, ran.stderr
    assert not list(tmp_path.iterdir())


def test_a_preview_is_a_small_whole_jpeg(tmp_path):
    path = tmp_path / "preview.jpg"
    save_preview(path, pictures(1, Size(600, 1200))[0])
    with Image.open(path) as image:
        assert (image.format, image.size) == ("JPEG", (512, 256))
    assert [p.name for p in tmp_path.iterdir()] == ["preview.jpg"]


def test_side_by_side_has_one_height_and_an_even_width():
    source, styled = torch.zeros(50, 31, 3, dtype=torch.uint8), torch.ones(100, 51, 3)
    both = side_by_side(source, styled)
    assert both.shape == (100, 62 + 51 + 1, 3)
    assert both[:, :62].max() == 0 and both[:, 62:].min() == 1


def test_raw_frames_are_the_bytes_of_their_pixels():
    frame, stream = torch.randint(0, 256, (5, 7, 3), dtype=torch.uint8), io.BytesIO()
    RawPipe(stream, info_of()).write(frame)
    assert stream.getvalue() == frame.numpy().tobytes()


def test_y4m_is_read_back_at_its_size_rate_and_aspect():
    size, stream = Size(51, 77), io.BytesIO()
    pipe = Y4mPipe(stream, info_of(aspect=Fraction(4, 3)), size)
    for frame in pictures(3, size):
        pipe.write(frame)
    stream.seek(0)
    with av.open(stream, format="yuv4mpegpipe") as container:
        video = container.streams.video[0]
        assert (video.height, video.width) == size
        assert video.average_rate == Fraction(30_000, 1001)
        assert video.sample_aspect_ratio == Fraction(4, 3)
        came = [frame.to_ndarray(format="rgb24") for frame in container.decode(video)]
    assert np.abs(np.stack(came) / 255 - torch.stack(pictures(3, size)).numpy()).mean() < 0.01


def test_a_pipe_whose_reader_is_gone_is_told():
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb", buffering=0) as stream, pytest.raises(ClipError, match="pipe"):
        RawPipe(stream, info_of()).write(torch.zeros(5, 7, 3))
