"""Jobs with chunks in flight: frames come out later than they go in, and nothing else changes."""

import pytest
import torch

from rtr_core import RtrError, Stylizer
from rtr_core.cues import CueSheet
from rtr_core.media.job import Job
from rtr_core.media.redo import redo
from rtr_core.media.shots import Shots
from tests.media.clips import make_clip
from tests.media.test_job import INK, SIZE, frames_of, run, task_of

WAYS = {
    "buffer": {"buffer": 2},
    "stream batch": {"buffer": 2, "flight": "apart", "commit": "last step"},
}
SHEET = INK + "\nf20 neon city\nf31 oil fade=8 seed=3"


class Killed(RtrError):
    pass


@pytest.fixture(params=WAYS)
def flying(request, stylizer) -> Stylizer:
    recipe = stylizer.recipe.override(**WAYS[request.param])
    return Stylizer(parts=stylizer.parts, recipe=recipe)


@pytest.fixture
def clip(tmp_path):
    make_clip(tmp_path / "clip.mp4", frames=53, size=SIZE)
    return tmp_path / "clip.mp4"


def test_cues_take_effect_at_the_chunk_that_sets_out_after_them(flying, clip, tmp_path):
    _, seen = run(flying, task_of(clip, tmp_path / "out.mp4", SHEET))
    assert [styled.source.index for styled in seen] == list(range(53))
    starts = [n for n in range(1, 53) if seen[n].cue != seen[n - 1].cue]
    assert starts == [21, 37]


@pytest.mark.parametrize("moment", [9, 18, 27, 40, 52])
@pytest.mark.parametrize("shots", ["off", "given"])
def test_a_job_that_was_broken_off_goes_on_to_the_same_bytes(flying, clip, tmp_path, moment, shots):
    changes = {"shots": Shots(frozenset([25]), ())} if shots == "given" else {}
    whole = task_of(clip, tmp_path / "whole.mp4", SHEET, **changes)
    run(flying, whole)
    broken, seen = task_of(clip, tmp_path / "broken.mp4", SHEET, **changes), []

    def until(styled) -> None:
        seen.append(styled)
        if len(seen) == moment:
            raise Killed

    with pytest.raises(Killed):
        Job(broken, flying, until).run()
    done, _ = run(flying, broken)
    assert done.frames == 53
    assert broken.out.read_bytes() == whole.out.read_bytes()
    assert done.resumed_at > 0 or moment < 24


def test_a_redo_changes_its_span_and_nothing_else(flying, clip, tmp_path):
    task, neon = task_of(clip, tmp_path / "out.mp4"), CueSheet.parse("00:00 neon city")
    run(flying, task)
    before, cue = frames_of(task.out)[1], neon.cues[0]
    redo(Job(task, flying, lambda styled: None), range(30, 38), cue, neon.styles()[cue])
    after = frames_of(task.out)[1]
    changed = [n for n in range(53) if not torch.equal(before[n], after[n])]
    assert changed and set(changed) <= set(range(30, 38)) and changed[0] == 30
