"""A host that numbers its results goes on with the job it had begun, and with no other."""

from dataclasses import replace

import pytest
import torch

from rtr_core import ClipError
from rtr_core.mask import Mask
from rtr_core.media.again import forget, numbered
from rtr_core.media.batch import Row, clips_in, each, table
from rtr_core.media.job import Done, folder_of
from rtr_core.media.manifest import Manifest
from tests.media.clips import make_clip
from tests.media.test_job import SIZE, frames_of, run, task_of

FACTS = {"seed": 1, "size": (64, 64)}


def begun(out, **facts) -> None:
    folder_of(out).mkdir(exist_ok=True)
    Manifest.open(folder_of(out), FACTS | facts)


def test_results_are_numbered_on_from_those_that_are_there(tmp_path):
    assert numbered(tmp_path / "new", "clip", ".mp4", FACTS).name == "clip_00001_.mp4"
    (tmp_path / "clip_00007_.mov").touch()
    (tmp_path / "clip_other_00009_.mp4").touch()
    assert numbered(tmp_path, "clip", ".mp4", FACTS).name == "clip_00008_.mp4"


def test_a_broken_job_with_the_same_facts_is_gone_on_with(tmp_path):
    begun(tmp_path / "clip_00002_.mp4", seed=9)
    begun(tmp_path / "clip_00003_.mp4")
    assert numbered(tmp_path, "clip", ".mp4", FACTS).name == "clip_00003_.mp4"
    assert numbered(tmp_path, "clip", ".mp4", FACTS | {"seed": 2}).name == "clip_00004_.mp4"
    assert numbered(tmp_path, "clip", ".mkv", FACTS).name == "clip_00004_.mkv"


def test_a_finished_job_is_done_anew_under_the_next_number(tmp_path):
    begun(tmp_path / "clip_00001_.mp4")
    (tmp_path / "clip_00001_.mp4").touch()
    assert numbered(tmp_path, "clip", ".mp4", FACTS).name == "clip_00002_.mp4"


def test_a_folder_that_cannot_be_read_is_nobodys_job(tmp_path):
    begun(tmp_path / "clip_00001_.mp4")
    (folder_of(tmp_path / "clip_00001_.mp4") / "manifest.json").write_text("{")
    assert numbered(tmp_path, "clip", ".mp4", FACTS).name == "clip_00002_.mp4"


def test_outside_the_mask_a_clip_is_its_source_and_another_mask_is_another_job(stylizer, tmp_path):
    clip, out = tmp_path / "clip.mp4", tmp_path / "out.mp4"
    make_clip(clip, frames=13, size=SIZE)
    half = torch.zeros(*SIZE)
    half[:, SIZE.width // 2 :] = 1
    task = replace(task_of(clip, out), mask=Mask(half))
    assert task.facts(stylizer) != task_of(clip, out).facts(stylizer)
    run(stylizer, task)
    for styled, source in zip(frames_of(out)[1], frames_of(clip)[1], strict=True):
        assert torch.equal(styled[:, : SIZE.width // 2], source[:, : SIZE.width // 2])
        assert not torch.equal(styled, source)
    forget(task)
    assert not folder_of(out).exists() and out.exists()


# ---- folders ----


def test_a_broken_clip_does_not_stop_the_others_and_finished_ones_are_left(tmp_path):
    clips = [tmp_path / name for name in ("a.mp4", "b.mp4", "c.mp4")]
    out = tmp_path / "out"
    out.mkdir()
    (out / "c.mp4").touch()

    def one(clip, target):
        if clip.name == "a.mp4":
            raise ClipError("broken")
        return Done(out=target, frames=5, resumed_at=0, damage="cut off", notes=())

    rows = list(each(clips, out, None, one))
    assert [row.said for row in rows] == [
        "failed: broken",
        "b.mp4: 5 frames (damaged)",
        "was there already",
    ]
    assert [row.failed for row in rows] == [True, False, False]


def test_a_folder_without_clips_is_refused(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ClipError, match="no clip"):
        clips_in(tmp_path)
    (tmp_path / "B.MOV").touch()
    assert [clip.name for clip in clips_in(tmp_path)] == ["B.MOV"]


def test_a_table_is_a_line_a_clip(tmp_path):
    rows = [Row(tmp_path / "a.mp4", "5 frames"), Row(tmp_path / "long.mp4", "failed: x")]
    assert table(rows) == "a.mp4     5 frames\nlong.mp4  failed: x"
