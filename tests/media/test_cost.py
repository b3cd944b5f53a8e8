"""What decoding, converting and encoding take from the model is little, and is measured."""

import sys
import threading
import time
from collections.abc import Callable
from itertools import chain, islice
from pathlib import Path

import pytest
import torch

from rtr_core import ClipError, Style, Stylizer
from rtr_core.cli import main
from rtr_core.media import cost
from rtr_core.media.codecs import H264
from rtr_core.media.color import Color
from rtr_core.media.pictures import Orientation, to_picture
from rtr_core.media.planes import video_frame
from rtr_core.media.scratch import Scratch
from rtr_core.media.source import open_source
from rtr_core.media.target import SegmentWriter
from rtr_core.shapes import Size
from tests.media.clips import make_clip

SAMPLE = Path(cost.__file__).parents[1] / "assets" / "sample.mp4"
FRAMES = 12
SIZE = Size(256, 448)  # more numbers than torch computes on one thread
SMALL = Size(48, 64)
COLOR = Color(range=1, matrix=6, primaries=2, transfer=2)


def test_the_model_alone_and_the_job_are_told_with_all_threads_and_one_less(
    stylizer, tmp_path, monkeypatch
):
    make_clip(tmp_path / "clip.mp4", frames=9, size=(64, 64))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    asked: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    before = set(tmp_path.iterdir())
    told = list(cost.costs(tmp_path / "clip.mp4", stylizer, repeats=1))
    assert [one.threads for one in told] == [2, 1] and asked == [2, 2, 1, 2]
    for one in told:
        assert one.frames == 9 and one.whole.wall > 0 < one.alone.processors
        assert f"({one.more_time:+.1%})" in str(one)
    assert set(tmp_path.iterdir()) == before


def test_the_least_of_each_is_taken_in_turns():
    order: list[str] = []

    def work(name: str, *seconds: float) -> Callable[[], None]:
        times = iter(seconds)

        def run() -> None:
            order.append(name)
            time.sleep(next(times))

        return run

    left, right = cost.least_of((work("a", 0.2, 0), work("b", 0, 0.2)), repeats=2, frames=1)
    assert order == ["a", "b", "a", "b"]
    assert left.wall < 0.1 and right.wall < 0.1


def test_a_clip_that_memory_cannot_hold_is_refused(tmp_path, monkeypatch):
    make_clip(tmp_path / "clip.mp4", frames=9, size=(64, 64))
    monkeypatch.setattr(cost, "LARGEST", 5 * 64 * 64 * 3)
    with pytest.raises(ClipError, match=r"clip\.mp4 is too long .* shorter clip"):
        cost.frames_of(tmp_path / "clip.mp4")


def test_a_cost_that_is_never_measured_is_refused(stylizer):
    with pytest.raises(ClipError, match="once or more often"):
        next(cost.costs(SAMPLE, stylizer, repeats=0))


def test_rtr_plan_tells_the_cost_where_it_is_asked(tmp_path, capsys):
    make_clip(tmp_path / "clip.mp4", frames=5, size=(64, 64))
    with pytest.raises(SystemExit) as ended:
        main(["plan", str(tmp_path / "clip.mp4"), "--cost", "1", "--device", "cpu"])
    said = capsys.readouterr().out
    assert ended.value.code == 0
    assert "cost, measured, 1 thread, 5 frames: the model alone takes" in said


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_conversions_stay_on_the_thread_they_are_called_in():
    picture, counts = torch.rand(*SIZE, 3), []

    def threads() -> int:
        return len(list(Path("/proc/self/task").iterdir()))

    def convert() -> None:
        counts.append(threads())
        frame = video_frame(picture, "yuv420p", COLOR)
        came = to_picture(frame, COLOR, SIZE, 8)
        Orientation(transposed=True, flipped_down=True).turn(came)
        counts.append(threads())
        picture.mul(2)  # as torch would do it
        counts.append(threads())

    torch.set_num_threads(2)
    try:
        stage = threading.Thread(target=convert)
        stage.start()
        stage.join()
    finally:
        torch.set_num_threads(1)
    before, after, with_torch = counts
    assert after == before < with_torch


def test_reading_and_writing_compute_little_beside_the_built_in_model(tmp_path):
    """The processors' time, on one thread: what else the machine does hardly changes the share."""
    stylizer = Stylizer.load("rtr-tiny", device="cpu")
    with open_source(SAMPLE) as source:
        info, frames = source.info, list(islice(source.frames(), FRAMES))
    pixels = torch.stack([frame.pixels for frame in frames])
    styled = pixels.float() / 255

    def model() -> None:
        session = stylizer.session(Style(prompt="ink wash painting"), info.size)
        list(chain(session.push(pixels), session.flush()))

    def stages() -> None:
        with (
            open_source(SAMPLE) as source,
            SegmentWriter(tmp_path / "out.mov", H264, info, info.size) as writer,
        ):
            for frame, picture in zip(islice(source.frames(), FRAMES), styled, strict=True):
                writer.write(picture, frame.time, frame.duration)

    alone, beside = cost.least_of((model, stages), repeats=2, frames=FRAMES)
    assert beside.processors < 0.1 * alone.processors


def test_memory_that_is_used_again_leaves_every_picture_as_it_is(rng):
    scratch = Scratch()
    formats = ("yuv420p", "yuv444p", "yuv420p", "yuv422p10le", "gbrp", "rgb24", "yuv420p")
    sizes = (SMALL, SMALL, Size(61, 107), SMALL, SMALL, SMALL, SMALL)
    given = [torch.rand(*size, 3, generator=rng) for size in sizes]
    again, fresh = [], []
    for pixels, pix_fmt, size in zip(given, formats, sizes, strict=True):
        for came, by in ((again, scratch), (fresh, None)):
            frame = video_frame(pixels, pix_fmt, COLOR, by)
            came.append(to_picture(frame, COLOR, size, 8, by))
    assert all(torch.equal(*pair) for pair in zip(again, fresh, strict=True))
