"""A span done again, a pipe, a comparison, a folder: what else `rtr stylize` does."""

import hashlib
import io
import json
import sys
from pathlib import Path

import pytest
import torch

from rtr_core import ClipError
from rtr_core.cli import main
from rtr_core.cues import CueSheet
from rtr_core.media.compare import compare
from rtr_core.media.job import Job
from rtr_core.media.manifest import Manifest
from rtr_core.media.pipes import RawPipe, Y4mPipe
from rtr_core.media.redo import redo
from rtr_core.media.source import open_source
from tests.media.clips import make_clip
from tests.media.test_job import SIZE, frames_of, run, task_of

OIL = CueSheet.parse("00:00 oil")


@pytest.fixture
def clip(tmp_path) -> Path:
    make_clip(tmp_path / "clip.mp4", frames=85, size=SIZE, audio=1)
    return tmp_path / "clip.mp4"


def again(stylizer, task, span):
    (cue,) = OIL.cues
    return redo(Job(task, stylizer, lambda styled: None), span, cue, OIL.styles()[cue])


def hashes(task) -> list[str]:
    manifest = Manifest.read(task.folder)
    paths = [manifest.path(segment.name) for segment in manifest.segments]
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]


def test_a_span_is_done_again_and_every_other_segment_keeps_its_bytes(stylizer, clip, tmp_path):
    task = task_of(clip, tmp_path / "out.mp4")
    run(stylizer, task)
    before, times, frames = hashes(task), *frames_of(task.out)
    done = again(stylizer, task, range(40, 50))
    after = hashes(task)
    ends = [segment.end for segment in Manifest.read(task.folder).segments]
    touched = [n for n, end in enumerate(ends) if end > 40 and end - 16 < 50]
    assert [n for n in range(len(ends)) if before[n] != after[n]] == touched == [2]
    new_times, new = frames_of(task.out)
    assert new_times == times and done.frames == 85
    same = [n for n in range(85) if torch.equal(frames[n], new[n])]
    first = min(set(range(85)) - set(same))
    assert 40 <= first < 48  # from the first chunk that begins in the span


def test_it_can_be_done_again_and_again_and_undone(stylizer, clip, tmp_path):
    task = task_of(clip, tmp_path / "out.mp4")
    run(stylizer, task)
    original = task.out.read_bytes()
    (ink,) = task.sheet.cues
    for span in (range(10, 60), range(5), range(80, 85)):
        again(stylizer, task, span)
        assert len(frames_of(task.out)[0]) == 85
        redo(Job(task, stylizer, lambda styled: None), range(85), ink, task.styles[ink])
        assert task.out.read_bytes() == original


def test_a_span_outside_or_of_an_unfinished_clip_is_refused(stylizer, clip, tmp_path):
    task = task_of(clip, tmp_path / "out.mp4")
    with pytest.raises(ClipError, match="not finished"):
        again(stylizer, task, range(1, 2))
    run(stylizer, task)
    with pytest.raises(ClipError, match="frames 0 to 85"):
        again(stylizer, task, range(85, 90))


def test_a_pipe_gets_every_frame(stylizer, clip, tmp_path):
    run(stylizer, task_of(clip, tmp_path / "out.mp4"))
    expected = torch.stack(frames_of(tmp_path / "out.mp4")[1])
    with open_source(clip) as source:
        info = source.info
    raw, y4m = io.BytesIO(), io.BytesIO()
    job = Job(task_of(clip, tmp_path / "-.mp4"), stylizer, lambda styled: None)
    assert job.stream(RawPipe(raw, info)) == 85
    assert job.stream(Y4mPipe(y4m, info, SIZE)) == 85
    came = torch.frombuffer(bytearray(raw.getvalue()), dtype=torch.uint8)
    assert torch.equal(came.reshape(85, *SIZE, 3), expected)
    assert y4m.getvalue().count(b"FRAME\n") == 85
    assert not list(tmp_path.glob("-*"))


def test_source_and_result_stand_side_by_side(stylizer, clip, tmp_path):
    task = task_of(clip, tmp_path / "out.mp4")
    run(stylizer, task)
    assert compare(clip, task.out, tmp_path / "both.mp4", task.codec) == 85
    times, both = frames_of(tmp_path / "both.mp4")
    source, styled = frames_of(clip), frames_of(task.out)
    assert times == source[0]
    assert torch.equal(both[30], torch.cat([source[1][30], styled[1][30]], dim=1))
    assert not list(tmp_path.glob("*.segment.mov"))


def command(*words: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in words])
    return int(stop.value.code or 0)


def test_the_command_line_does_all_of_it(clip, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["rtr", "stylize"])
    out = tmp_path / "out.mkv"
    assert command("stylize", clip, out, "--style", "ink", "--compare", "--size", "32x16") == 0
    assert "85 frames" in capsys.readouterr().out
    assert json.loads((tmp_path / "out.mkv.json").read_text())["facts"]["size"] == [16, 32]
    assert (tmp_path / "out.compare.mkv").exists()
    assert command("stylize", clip, out, "--style", "ink") == 1
    assert "exists" in capsys.readouterr().err
    assert command("stylize", clip, out, "--frames", "30:40", "--style", "oil") == 0
    assert "85 of 85 frames done again" in capsys.readouterr().out  # one segment holds them all


def test_a_folder_goes_on_past_a_broken_clip_and_does_only_what_is_missing(clip, tmp_path, capsys):
    (tmp_path / "clips").mkdir()
    for name in ("a.mp4", "c.mp4"):
        (tmp_path / "clips" / name).write_bytes(clip.read_bytes())
    (tmp_path / "clips" / "b.mp4").write_bytes(b"not a clip at all")
    words = ("stylize", tmp_path / "clips", tmp_path / "styled", "--style", "ink")
    assert command(*words) == 1
    rows = {row.split()[0]: row for row in capsys.readouterr().out.splitlines()[-3:]}
    assert "85 frames" in rows["a.mp4"] and "85 frames" in rows["c.mp4"]
    assert "failed" in rows["b.mp4"]
    assert command(*words) == 1
    assert capsys.readouterr().out.count("was there already") == 2
    assert command("stylize", tmp_path / "clips" / "[ac].mp4", tmp_path / "styled", *words[3:]) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "Say what it should look like"),
        (["--style", "x", "--size", "big"], "--size is a width and a height"),
        (["--style", "x", "--cues", "cues.txt"], "not both"),
        (["--style", "x", "--recipe", "window"], "FIELD=VALUE"),
        (["--style", "x", "--recipe", "window=[1]"], "window must be"),
        (["--style", "x", "--frames", "9:3"], "480:620"),
        (["--cues", "nowhere.txt"], "nowhere.txt"),
    ],
)
def test_words_that_cannot_be_meant_are_refused(clip, tmp_path, capsys, words, message):
    assert command("stylize", clip, tmp_path / "out.mp4", *words) == 1
    said = capsys.readouterr().err
    assert message in said and "Traceback" not in said
