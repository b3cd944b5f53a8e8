"""Drift along a film: nothing is lost by thinning, by a break, or at a cut."""

import json
from pathlib import Path

import pytest

from rtr_core import RtrError
from rtr_core.cues import CueSheet
from rtr_core.drift import Drift
from rtr_core.media.curves import TOLD, Point, largest, thinned, told
from rtr_core.media.job import Job
from rtr_core.media.redo import redo
from rtr_core.media.shots import Shots
from tests.media.clips import make_clip
from tests.media.test_in_flight import SHEET, WAYS
from tests.media.test_job import INK, SIZE, run, task_of


class Killed(RtrError):
    pass


@pytest.fixture
def clip(tmp_path) -> Path:
    make_clip(tmp_path / "clip.mp4", frames=53, size=SIZE)
    return tmp_path / "clip.mp4"


def sidecar(task) -> dict:
    return json.loads(task.sidecar.read_text())


def break_off(stylizer, task, moment: int) -> None:
    seen = []

    def until(styled) -> None:
        seen.append(styled)
        if len(seen) == moment:
            raise Killed

    with pytest.raises(Killed):
        Job(task, stylizer, until).run()


# ---- thinning ----


def curve(count: int, cue: int = 0) -> list[Point]:
    return [Point(cue, 4 * n, n / count, -((n - 40) ** 2) / 1e4, 0.1) for n in range(count)]


@pytest.mark.parametrize("count", [1, 2, 15, 16, 17, 900])
def test_a_thinned_curve_keeps_its_largest_and_its_last_point(count):
    whole = curve(count)
    thin = thinned(whole, 16)
    assert len(thin) == min(count, 16) and thin[-1] == whole[-1]
    assert largest(thin) == largest(whole)
    assert [point.frame for point in thin] == sorted({point.frame for point in thin})


def test_styles_are_thinned_each_by_itself():
    points = [*curve(40), *curve(3, cue=1)]
    assert [sum(p.cue == n for p in thinned(points, 16)) for n in (0, 1)] == [16, 3]


def test_a_sidecar_tells_first_and_last_chunk_the_largest_and_a_curve_of_a_hundred_points():
    cues = CueSheet.parse(INK + "\n00:30 oil\n01:00 neon city").cues
    ink, oil = told([*curve(900), *curve(5, cue=1)], cues)
    assert ink["style"] == "ink wash painting" and ink["chunks end at"] == [0, 4 * 899]
    assert {len(column) for column in ink["curve"].values()} == {TOLD}
    assert {len(column) for column in oil["curve"].values()} == {5}
    assert ink["largest"]["sharpness"] == largest(curve(900)).sharpness < 0
    assert ink["last"]["colour"] == ink["curve"]["colour"][-1] == 899 / 900


# ---- jobs ----


@pytest.mark.parametrize("way", [None, *WAYS])
@pytest.mark.parametrize("shots", ["off", "given"])
@pytest.mark.parametrize("moment", [9, 40, 52])
def test_a_job_that_was_broken_off_tells_the_same_drift(
    stylizer, clip, tmp_path, way, shots, moment
):
    if way is not None:
        stylizer = type(stylizer)(
            parts=stylizer.parts, recipe=stylizer.recipe.override(**WAYS[way])
        )
    changes = {"shots": Shots(frozenset([25]), ())} if shots == "given" else {}
    whole, broken = (
        task_of(clip, tmp_path / name / "out.mp4", SHEET, **changes) for name in ("a", "b")
    )
    for task in (whole, broken):
        task.out.parent.mkdir()
    run(stylizer, whole)
    break_off(stylizer, broken, moment)
    run(stylizer, broken)
    assert sidecar(broken)["drift"]
    assert broken.sidecar.read_bytes() == whole.sidecar.read_bytes()


def test_every_style_of_a_sheet_is_told_from_its_own_first_chunk(stylizer, clip, tmp_path):
    sheet = INK + "\nf13 neon city\nf21 oil fade=24"
    task = task_of(clip, tmp_path / "out.mp4", sheet)
    done, seen = run(stylizer, task)
    drift = sidecar(task)["drift"]
    assert [one["style"] for one in drift] == [cue.words for cue in task.sheet.cues]
    for one in drift:
        assert {one["curve"][name][0] for name in ("colour", "sharpness", "style")} == {0}
    faded = drift[-1]["chunks end at"][0]
    start = min(styled.source.index for styled in seen if styled.cue == task.sheet.cues[-1])
    assert faded >= start + 23  # frames of its fade are a change that was asked for
    assert done.drift == largest(point for s in seen if (point := s.drift) is not None)


def test_a_shot_is_told_from_its_own_first_chunk(stylizer, clip, tmp_path):
    task = task_of(clip, tmp_path / "out.mp4", INK, shots=Shots(frozenset([25]), ()))
    _, seen = run(stylizer, task)
    firsts = [s.source.index for s in seen if s.drift is not None and s.drift.drift == Drift()]
    assert len(firsts) == 2 and firsts[0] < 25 <= firsts[1]


def test_a_redone_span_leaves_the_drift_of_the_sheet_as_it_was_told(stylizer, clip, tmp_path):
    task = task_of(clip, tmp_path / "out.mp4", INK)
    run(stylizer, task)
    before = sidecar(task)["drift"]
    sheet = CueSheet.parse("00:00 oil")
    (cue,) = sheet.cues
    redo(Job(task, stylizer, lambda styled: None), range(9, 21), cue, sheet.styles()[cue])
    after = sidecar(task)
    assert after["redone"] == ["9:21 oil"] and after["drift"] == before
