"""From file to file: every frame has its twin, and no moment to be killed at loses anything."""

import os
import random
import shutil
import signal
import threading
import time
import warnings
from fractions import Fraction
from pathlib import Path

import av
import pytest
import torch

from rtr_core import ClipError, RtrError, Stylizer
from rtr_core.cues import CueSheet
from rtr_core.media.codecs import pick_codec
from rtr_core.media.job import Job, Task
from rtr_core.media.lock import alone_in
from rtr_core.media.manifest import Manifest
from rtr_core.media.shots import Shots
from rtr_core.media.source import open_source
from rtr_core.media.target import SegmentWriter
from rtr_core.shapes import Size
from rtr_core.snapshot import Snapshot
from tests.media.clips import make_clip

SIZE = Size(64, 64)  # x264 is not the same twice on pictures much smaller
SEGMENT = 16
INK = "00:00 ink wash painting"


def task_of(source: Path, out: Path, cues: str = INK, **changes) -> Task:
    sheet = CueSheet.parse(cues)
    known = {"codec": pick_codec(out, "lossless"), "segment_frames": SEGMENT}
    return Task(source=source, out=out, sheet=sheet, styles=sheet.styles(), **(known | changes))


def run(stylizer: Stylizer, task: Task, **named):
    seen = []
    done = Job(task, stylizer, seen.append).run(**named)
    return done, seen


def frames_of(path: Path) -> tuple[list[Fraction], list[torch.Tensor]]:
    with open_source(path) as source:
        frames = list(source.frames())
        base = source.info.time_base
    return [frame.time * base for frame in frames], [frame.pixels for frame in frames]


@pytest.fixture
def clip(tmp_path) -> Path:
    path = tmp_path / "clip.mp4"
    make_clip(path, frames=53, size=SIZE, audio=2)
    return path


def test_every_frame_has_its_twin_at_its_own_time_and_sound_is_copied(stylizer, clip, tmp_path):
    done, seen = run(stylizer, task_of(clip, tmp_path / "out.mp4"))
    assert done.frames == 53 and len(seen) == 53 and done.damage is None
    assert frames_of(tmp_path / "out.mp4")[0] == frames_of(clip)[0]
    packets = []
    for path in (clip, tmp_path / "out.mp4"):
        with av.open(str(path)) as container:
            assert len(container.streams.audio) == 2
            packets.append([bytes(p) for p in container.demux(container.streams.audio) if p.size])
    assert sorted(packets[0]) == sorted(packets[1])
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"clip.mp4", "out.mp4", "out.mp4.json", "out.mp4.rtr"}


def test_the_frames_are_those_a_session_gives(stylizer, clip, tmp_path):
    run(stylizer, task_of(clip, tmp_path / "out.mp4"))
    session = stylizer.session(task_of(clip, clip).styles[CueSheet.parse(INK).cues[0]], SIZE)
    source = torch.stack(frames_of(clip)[1])
    expected = torch.cat([*session.push(source), *session.flush()])
    came = torch.stack(frames_of(tmp_path / "out.mp4")[1])
    assert torch.equal(came, (expected * 255).round().byte())


@pytest.mark.parametrize("frames", [1, 2, 5, 16, 17])
def test_short_clips_and_odd_borders(stylizer, tmp_path, frames):
    make_clip(tmp_path / "clip.mp4", frames=frames, size=SIZE)
    done, _ = run(stylizer, task_of(tmp_path / "clip.mp4", tmp_path / "out.mkv"))
    assert done.frames == frames == len(frames_of(tmp_path / "out.mkv")[0])


def test_variable_times_are_kept(stylizer, tmp_path):
    times = [0, 40, 60, 140, 141, 300, 330, 340, 600, 610, 700]
    make_clip(tmp_path / "clip.mp4", frames=len(times), size=SIZE, times=times)
    run(stylizer, task_of(tmp_path / "clip.mp4", tmp_path / "out.mov"))
    assert frames_of(tmp_path / "out.mov")[0] == frames_of(tmp_path / "clip.mp4")[0]


def test_cues_take_effect_at_the_first_chunk_that_begins_after_them(stylizer, clip, tmp_path):
    sheet = INK + "\nf20 neon city\nf31 oil fade=8 seed=3"
    _, seen = run(stylizer, task_of(clip, tmp_path / "out.mp4", sheet))
    starts = [n for n in range(1, 53) if seen[n].cue != seen[n - 1].cue]
    assert starts == [21, 37]  # chunks begin at 0, 5, 13, 21, 29, 37, ...
    run(stylizer, task_of(clip, tmp_path / "plain.mp4"))
    styled, plain = (frames_of(tmp_path / name)[1] for name in ("out.mp4", "plain.mp4"))
    assert all(torch.equal(*pair) for pair in zip(styled[:21], plain[:21], strict=True))
    assert not torch.equal(styled[21], plain[21])


def test_after_a_cut_a_shot_is_as_if_it_were_a_clip_of_its_own(stylizer, tmp_path):
    paths = [tmp_path / f"{n}.mkv" for n in range(2)]
    for n, path in enumerate(paths):
        make_clip(path, frames=19, size=SIZE, seed=n, codec="ffv1", pix_fmt="bgr0")
    both = tmp_path / "both.mkv"
    pieces = [torch.stack(frames_of(path)[1]) for path in paths]
    write_rgb(both, torch.cat(pieces))
    shots = Shots(frozenset([19]), ())
    run(stylizer, task_of(both, tmp_path / "cut.mkv", shots=shots))
    run(stylizer, task_of(both, tmp_path / "uncut.mkv"))
    run(stylizer, task_of(paths[1], tmp_path / "alone.mkv"))
    cut, uncut, alone = (
        frames_of(tmp_path / f"{name}.mkv")[1] for name in ("cut", "uncut", "alone")
    )
    assert all(torch.equal(*pair) for pair in zip(cut[19:], alone, strict=True))
    assert not torch.equal(uncut[19], alone[0])


def write_rgb(path: Path, frames: torch.Tensor) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=24)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "bgr0"
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(frame.numpy(), "rgb24").reformat(format="bgr0")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


def test_an_existing_result_is_never_replaced_unasked(stylizer, clip, tmp_path):
    (tmp_path / "out.mp4").write_text("mine")
    with pytest.raises(ClipError, match="exists"):
        run(stylizer, task_of(clip, tmp_path / "out.mp4"))
    assert (tmp_path / "out.mp4").read_text() == "mine"
    run(stylizer, task_of(clip, tmp_path / "out.mp4"), force=True)
    assert len(frames_of(tmp_path / "out.mp4")[0]) == 53


def test_changed_options_and_sources_are_refused_by_name(stylizer, clip, tmp_path):
    run(stylizer, task_of(clip, tmp_path / "out.mp4"))
    (tmp_path / "out.mp4").unlink()
    with pytest.raises(ClipError, match="seed was 0 and is 1"):
        run(stylizer, task_of(clip, tmp_path / "out.mp4", seed=1))
    make_clip(clip, frames=53, size=SIZE, seed=8, audio=2)
    with pytest.raises(ClipError, match="source was"):
        run(stylizer, task_of(clip, tmp_path / "out.mp4"))


def test_a_truncated_source_gives_its_good_part_and_says_so(stylizer, tmp_path):
    make_clip(tmp_path / "clip.mkv", frames=120, size=SIZE)
    whole = (tmp_path / "clip.mkv").read_bytes()
    (tmp_path / "clip.mkv").write_bytes(whole[: len(whole) // 2])
    done, _ = run(stylizer, task_of(tmp_path / "clip.mkv", tmp_path / "out.mkv"))
    assert 0 < done.frames < 90 and done.damage
    assert len(frames_of(tmp_path / "out.mkv")[0]) == done.frames


def test_an_encoder_that_dies_leaves_a_job_that_can_go_on(stylizer, clip, tmp_path, monkeypatch):
    run(stylizer, task_of(clip, tmp_path / "whole.mp4"))
    real, calls = SegmentWriter.write, []

    def dying(writer, *values):
        calls.append(1)
        if len(calls) == 30:
            raise ClipError("the encoder died")
        return real(writer, *values)

    monkeypatch.setattr(SegmentWriter, "write", dying)
    with pytest.raises(ClipError, match="encoder died"):
        run(stylizer, task_of(clip, tmp_path / "out.mp4"))
    assert not (tmp_path / "out.mp4").exists()
    done, seen = run(stylizer, task_of(clip, tmp_path / "out.mp4"))
    assert 0 < done.resumed_at < 53 and len(seen) == 53 - done.resumed_at
    assert (tmp_path / "out.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()


def test_a_job_folder_that_vanishes_in_mid_run_is_an_error_and_no_hang(stylizer, clip, tmp_path):
    task, threads = task_of(clip, tmp_path / "out.mp4"), threading.active_count()

    def meddle(styled) -> None:
        if styled.source.index == 20:
            shutil.rmtree(task.folder)

    with pytest.raises(RtrError, match=r"out\.mp4\.rtr"):
        Job(task, stylizer, meddle).run()
    assert not task.out.exists() and threading.active_count() <= threads
    run(stylizer, task)


@pytest.mark.parametrize("what", ["a segment", "a session", "the manifest"])
def test_a_full_disk_loses_nothing_that_was_done(stylizer, clip, tmp_path, monkeypatch, what):
    run(stylizer, task_of(clip, tmp_path / "whole.mp4"))
    task, calls = task_of(clip, tmp_path / "out.mp4"), []
    owner, name = {
        "a segment": (SegmentWriter, "_encode"),
        "a session": (Snapshot, "write"),
        "the manifest": (Manifest, "write"),
    }[what]
    verb = getattr(owner, name)

    def full(*values):
        calls.append(name)
        if len(calls) == (40 if what == "a segment" else 2):
            raise ClipError("No space left on device")
        return verb(*values)

    monkeypatch.setattr(owner, name, full)
    with pytest.raises(ClipError, match="No space left"):
        run(stylizer, task)
    assert not task.out.exists()
    monkeypatch.setattr(owner, name, verb)
    run(stylizer, task)
    assert task.out.read_bytes() == (tmp_path / "whole.mp4").read_bytes()


def test_two_processes_never_work_on_one_job(stylizer, clip, tmp_path):
    task = task_of(clip, tmp_path / "out.mp4")
    task.folder.mkdir()
    with alone_in(task.folder), pytest.raises(ClipError, match="Another process is at work"):
        run(stylizer, task)
    run(stylizer, task)


def test_the_source_is_never_its_own_result(stylizer, clip):
    before = clip.read_bytes()
    with pytest.raises(ClipError, match="the source itself"):
        run(stylizer, task_of(clip, clip), force=True)
    assert clip.read_bytes() == before


def test_what_is_too_small_for_the_codec_is_refused_before_any_work(
    stylizer, clip, tmp_path, monkeypatch
):
    monkeypatch.setattr(Job, "renderer", None)
    with pytest.raises(ClipError, match=r"96 pixels a side.*such as h264, or a larger size"):
        run(stylizer, task_of(clip, tmp_path / "out.mp4", codec=pick_codec(clip, "hevc")))


def test_a_source_that_changes_while_it_is_read_is_told(stylizer, clip, tmp_path):
    def meddle(styled) -> None:
        if styled.source.index == 20:
            with clip.open("ab") as file:
                file.write(b"more")

    with pytest.raises(ClipError, match="changed while it was read"):
        Job(task_of(clip, tmp_path / "out.mp4"), stylizer, meddle).run()
    assert not (tmp_path / "out.mp4").exists()


def test_a_folder_that_vanishes_is_an_error_and_no_hang(stylizer, clip, tmp_path):
    out = tmp_path / "there" / "out.mp4"
    with pytest.raises(ClipError, match="no folder"):
        run(stylizer, task_of(clip, out))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="killing children needs fork")
def test_killed_at_twenty_random_moments_the_result_has_the_same_bytes(stylizer, clip, tmp_path):
    cues = INK + "\nf18 neon city fade=16\nf30 oil"
    began = time.monotonic()
    run(stylizer, task_of(clip, tmp_path / "whole.mp4", cues, shots="auto"))
    whole_seconds = time.monotonic() - began
    rng = random.Random(20)
    task = task_of(clip, tmp_path / "out.mp4", cues, shots="auto")
    kills = finished = 0
    while kills < 20:
        child = fork_and_run(stylizer, task)
        # a short life, so that many end in mid-segment and some just behind a border
        time.sleep(rng.uniform(0.0, 0.7) * whole_seconds)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        if not task.out.exists():
            kills += 1
            assert_plays(task.partial)
            continue
        finished += 1
        assert task.out.read_bytes() == (tmp_path / "whole.mp4").read_bytes()
        task.out.unlink()
        shutil.rmtree(task.folder)
    run(stylizer, task)
    assert finished >= 1
    assert task.out.read_bytes() == (tmp_path / "whole.mp4").read_bytes()


def fork_and_run(stylizer: Stylizer, task: Task) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        child = os.fork()
    if child == 0:
        try:
            Job(task, stylizer, lambda styled: None).run()
        finally:
            os._exit(0)
    return child


def assert_plays(partial: Path) -> None:
    """What is there decodes, whenever its writer died."""
    if partial.exists() and partial.stat().st_size:
        with av.open(str(partial)) as container:
            assert sum(1 for _ in container.decode(video=0)) >= 1
