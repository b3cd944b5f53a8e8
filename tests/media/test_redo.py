"""A span done again, a pipe, a comparison, a folder: what else `rtr stylize` does."""

import hashlib
import io
import json
import sys
import threading
from dataclasses import replace
from pathlib import Path

import av
import pytest
import torch
from PIL import Image

from rtr_core import ClipError
from rtr_core.cli import main
from rtr_core.cues import CueSheet
from rtr_core.media.batch import each, table
from rtr_core.media.codecs import pick_codec
from rtr_core.media.compare import compare
from rtr_core.media.job import Done, Job
from rtr_core.media.manifest import Manifest
from rtr_core.media.pipes import RawPipe, Y4mPipe
from rtr_core.media.redo import redo
from rtr_core.media.shots import parse_shots
from rtr_core.media.source import open_source
from rtr_core.shapes import Size
from tests.media.clips import make_clip
from tests.media.test_job import SIZE, frames_of, run, task_of
from tests.media.written import packets

BESIDE = (".rtr", ".json")
OIL = CueSheet.parse("00:00 oil")


@pytest.fixture
def clip(tmp_path) -> Path:
    make_clip(tmp_path / "clip.mp4", frames=85, size=SIZE, audio=1)
    return tmp_path / "clip.mp4"


def again(stylizer, task, span, sheet=OIL):
    (cue,) = sheet.cues
    return redo(Job(task, stylizer, lambda styled: None), span, cue, sheet.styles()[cue])


def files(task) -> dict[str, str]:
    """The job's segments and sessions, by their content."""
    names = [n for s in Manifest.read(task.folder).segments for n in (s.name, s.session) if n]
    return {n: hashlib.sha256((task.folder / n).read_bytes()).hexdigest() for n in names}


@pytest.mark.parametrize("span", [range(40, 50), range(3), range(84, 85), range(7, 78), range(85)])
def test_the_frames_of_the_span_and_no_others_get_the_new_style(stylizer, clip, tmp_path, span):
    task = task_of(clip, tmp_path / "out.mp4")
    run(stylizer, task)
    before, (times, frames) = files(task), frames_of(task.out)
    done = again(stylizer, task, span)
    new_times, new = frames_of(task.out)
    assert new_times == times and done.frames == 85 and files(task) == before
    assert [n for n in range(85) if not torch.equal(frames[n], new[n])] == list(span)


def test_a_whole_clip_done_again_is_the_clip_in_that_style(stylizer, clip, tmp_path):
    run(stylizer, task_of(clip, tmp_path / "oil.mp4", str(OIL)))
    task = task_of(clip, tmp_path / "out.mp4")
    run(stylizer, task)
    again(stylizer, task, range(85))
    came, expected = (frames_of(tmp_path / name)[1] for name in ("out.mp4", "oil.mp4"))
    assert all(torch.equal(*pair) for pair in zip(came, expected, strict=True))


@pytest.mark.parametrize("name", ["h264", "vp9", "hevc"])
def test_only_what_follows_a_changed_frame_up_to_a_key_frame_is_encoded_again(
    stylizer, clip, tmp_path, name
):
    codec, size = pick_codec(Path("x.mp4"), name), Size(96, 96)
    task = task_of(clip, tmp_path / "out.mp4", codec=codec, size=size, segment_frames=32)
    run(stylizer, task)
    before = packets(task.out)
    again(stylizer, task, range(40, 50))
    after = packets(task.out)
    (border,) = (s.end for s in Manifest.read(task.folder).segments if 50 < s.end < 82)
    assert after[:40] == before[:40] and after[border:] == before[border:]
    assert [time for time, _ in after] == [time for time, _ in before]
    assert len(frames_of(task.out)[1]) == 85


def test_spans_done_again_stay_and_the_newest_wins_where_they_meet(stylizer, clip, tmp_path):
    task = task_of(clip, tmp_path / "out.mp4")
    run(stylizer, task)
    original, expected = task.out.read_bytes(), frames_of(task.out)[1]
    for n, span in enumerate(
        (range(40, 44), range(47, 50), range(42, 49), range(5), range(43, 85))
    ):
        sheet = CueSheet.parse(f"00:00 oil seed={n}")
        again(stylizer, task, span, sheet)
        came = frames_of(task.out)[1]
        changed = [n for n in range(85) if not torch.equal(came[n], expected[n])]
        assert changed == list(span)
        expected = came
    told = json.loads(task.sidecar.read_text())["redone"]
    assert len(told) == 5 and told[0] == "40:44 oil seed=0"
    run(stylizer, task, force=True)  # the command says what the film is
    assert task.out.read_bytes() == original
    assert json.loads(task.sidecar.read_text())["redone"] == []
    again(stylizer, task, range(5, 6))
    task.out.unlink()
    run(stylizer, task)
    assert task.out.read_bytes() == original
    assert not list(task.folder.glob("redone*"))


def test_a_span_that_is_broken_off_has_changed_nothing(stylizer, clip, tmp_path):
    task = task_of(clip, tmp_path / "out.mp4")
    run(stylizer, task)
    before, threads = (task.out.read_bytes(), files(task)), threading.active_count()

    def stop(styled) -> None:
        if styled.source.index == 33:
            raise KeyboardInterrupt

    (cue,) = OIL.cues
    with pytest.raises(KeyboardInterrupt):
        redo(Job(task, stylizer, stop), range(20, 50), cue, OIL.styles()[cue])
    assert threading.active_count() <= threads
    assert (task.out.read_bytes(), files(task)) == before
    again(stylizer, task, range(20, 50))
    assert task.out.read_bytes() != before[0]


def test_a_clip_with_listed_cuts_is_done_again_by_them(stylizer, clip, tmp_path):
    shots = parse_shots("f20\n00:01.5\n")
    assert parse_shots(str(shots)) == shots
    task = task_of(clip, tmp_path / "out.mp4", shots=shots)
    run(stylizer, task)
    again(stylizer, replace(task, shots=parse_shots(str(shots))), range(30, 60))


def test_a_span_outside_or_of_an_unfinished_clip_is_refused(stylizer, clip, tmp_path):
    task = task_of(clip, tmp_path / "out.mp4")
    with pytest.raises(ClipError, match="not finished"):
        again(stylizer, task, range(1, 2))
    run(stylizer, task)
    for span in (range(85, 90), range(80, 86), range(9, 9)):
        with pytest.raises(ClipError, match="frames 0:85"):
            again(stylizer, task, span)


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
    assert "10 of 85 frames done again" in capsys.readouterr().out
    told = json.loads((tmp_path / "out.mkv.json").read_text())
    assert told["redone"] == ["30:40 oil"] and told["facts"]["cues"].split() == ["00:00", "ink"]
    for words in (("--codec", "lossless"), ("--size", "64x64"), ("--crf", "3")):
        assert command("stylize", clip, out, "--frames", "1:2", "--style", "oil", *words) == 1
        assert f"leave out {words[0]}" in capsys.readouterr().err
    assert command("stylize", clip, out, "--style", "oil", "--force", "--codec", "lossless") == 0


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
    "error", [ClipError("gone"), av.FFmpegError(-22, "gone"), MemoryError("gone"), OSError("gone")]
)
def test_a_folder_goes_on_whatever_breaks_a_clip(tmp_path, error):
    (tmp_path / "styled").mkdir()

    def one(clip, out) -> Done:
        if clip.name == "a.mp4":
            raise error
        return Done(out=out, frames=7, resumed_at=0, damage=None, notes=())

    clips = [tmp_path / "a.mp4", tmp_path / "b.mp4"]
    said = table(list(each(clips, tmp_path / "styled", None, one)))
    assert "failed: " in said and "gone" in said and "b.mp4: 7 frames" in said


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


def test_a_preview_shows_the_first_frame_at_once_and_the_last_at_the_end(clip, tmp_path):
    make_clip(tmp_path / "short.mp4", frames=2, size=SIZE)
    words = ("--style", "ink", "--preview", tmp_path / "look.jpg")
    assert command("stylize", tmp_path / "short.mp4", tmp_path / "out.mp4", *words) == 0
    with Image.open(tmp_path / "look.jpg") as image:
        assert image.size == (SIZE.width, SIZE.height)


def test_a_preview_that_cannot_be_written_does_not_end_the_work(clip, tmp_path, capsys):
    words = ("--style", "ink", "--preview", tmp_path / "no folder" / "look.jpg")
    assert command("stylize", clip, tmp_path / "out.mp4", *words) == 0
    said = capsys.readouterr()
    assert said.err.count("no preview any more") == 1 and "85 frames" in said.out


def test_clips_of_one_folder_never_become_one_file(tmp_path, capsys):
    folder, styled = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for name in ("a.mkv", "a.mp4", "a.avi", "b.MOV"):
        codec = "mpeg4" if name == "a.avi" else "libx264"
        make_clip(folder / name, frames=3, size=SIZE, codec=codec)
    assert command("stylize", folder, styled, "--style", "ink") == 0
    films = {path.name for path in styled.iterdir() if path.suffix not in BESIDE}
    assert films == {"a.mkv", "a.mp4", "a.avi.mp4", "b.MOV"}
    assert command("stylize", folder, tmp_path / "p", "--style", "ink", "--codec", "prores") == 0
    films = {path.name for path in (tmp_path / "p").iterdir() if path.suffix not in BESIDE}
    assert films == {"a.mkv", "a.mp4.mov", "a.avi.mov", "b.MOV"}
    make_clip(folder / "a.mp4.mov", frames=3, size=SIZE)
    capsys.readouterr()
    assert command("stylize", folder, tmp_path / "p", "--style", "x", "--codec", "prores") == 1
    rows = [row for row in capsys.readouterr().out.splitlines() if row.startswith("a.mp4")]
    assert len(rows) == 2 and all("2 clips would become" in row for row in rows)


def test_clips_are_never_styled_into_their_own_folder(clip, tmp_path, capsys):
    before = sorted(tmp_path.iterdir())
    for source in (tmp_path, tmp_path / "*.mp4"):
        assert command("stylize", source, tmp_path, "--style", "ink", "--force") == 1
        assert "is where the clips are" in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before


def test_when_the_result_is_there_all_that_belongs_to_it_is(stylizer, clip, tmp_path, monkeypatch):
    task = task_of(clip, tmp_path / "out.mp4", compared=True)

    rename = Path.replace

    def replace_or_die(path, target):
        if target == task.out:
            raise KeyboardInterrupt
        rename(path, target)

    monkeypatch.setattr(Path, "replace", replace_or_die)
    with pytest.raises(KeyboardInterrupt):
        run(stylizer, task)
    assert not task.out.exists() and task.sidecar.exists() and task.beside.exists()
    monkeypatch.undo()
    run(stylizer, task)
    assert task.out.exists() and task.beside.exists()
