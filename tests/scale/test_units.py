"""Units of a clip, made apart and in any order, are the segments that one process makes."""

import random
import shutil
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
import torch

from rtr_core import ClipError, Stylizer
from rtr_core.cues import CueSheet
from rtr_core.media.codecs import pick_codec
from rtr_core.media.count import CountedSession
from rtr_core.media.job import Job, Task, begun
from rtr_core.media.lock import alone_in
from rtr_core.media.manifest import Manifest
from rtr_core.media.shots import Shots
from rtr_core.media.units import Unit, make, survey
from rtr_core.shapes import Size
from rtr_core.style import Style
from tests.media.clips import make_clip, moving_gradients

SIZE = Size(64, 64)
LENGTHS = (20, 31, 9, 33, 24)  # frames of the shots
CUTS = (20, 51, 60, 93)
CUES = """
00:00  ink wash painting
f12    neon city fade=12
f30    oil seed=5
f90    klimt fade=20
f106   pixar
"""


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("shots") / "clip.mkv"
    shots = [moving_gradients(n, SIZE, seed) // (1 + seed % 2) for seed, n in enumerate(LENGTHS)]
    make_clip(path, torch.cat([torch.from_numpy(shot) for shot in shots]).numpy())
    return path


def task_of(source: Path, out: Path, cues: str = CUES, **changes) -> Task:
    sheet = CueSheet.parse(cues)
    given = Shots(frozenset(CUTS[:-1]), (Fraction("3.87"),))
    known = {"codec": pick_codec(out, "lossless"), "segment_frames": 16, "shots": given}
    return Task(source=source, out=out, sheet=sheet, styles=sheet.styles(), **(known | changes))


def job_of(task: Task, stylizer: Stylizer) -> Job:
    return Job(task, stylizer, lambda styled: None)


def units_of(task: Task, stylizer: Stylizer, manifest: Manifest) -> list[Unit]:
    found = survey(task, stylizer.recipe, stylizer.parts.vae.stride)
    return list(found.units(manifest))


def in_parts(task: Task, stylizer: Stylizer, order: random.Random) -> list[Unit]:
    """Every unit, in some order, then the film."""
    facts = task.facts(stylizer)
    with begun(task, facts) as manifest:
        units = units_of(task, stylizer, manifest)
        for unit in order.sample(units, len(units)):
            make(job_of(task, stylizer), unit, facts)
        job_of(task, stylizer).end(manifest.with_parts(), 0)
    return units


def files_of(task: Task) -> dict[tuple[int, str], bytes]:
    """All that a job keeps, by the frame that it begins with, whatever its name is."""
    manifest, found = Manifest.read(task.folder), {}
    for segment in manifest.segments:
        for kind in ("name", "session", "cuts"):
            if name := getattr(segment, kind):
                found[segment.first, kind] = manifest.path(name).read_bytes()
    return found


@pytest.mark.parametrize("shots", ["listed", "found"])
@pytest.mark.parametrize("recipe", [{}, {"buffer": 2}, {"first": 1}], ids=str)
def test_every_file_of_a_job_is_the_same_byte_for_byte(stylizer, clip, tmp_path, shots, recipe):
    stylizer = replace(stylizer, recipe=stylizer.recipe.override(**recipe))
    changes = {} if shots == "listed" else {"shots": "auto"}
    whole, parts = (task_of(clip, tmp_path / f"{n}.mkv", **changes) for n in ("whole", "parts"))
    job_of(whole, stylizer).run()
    units = in_parts(parts, stylizer, random.Random(3))
    assert [unit.first for unit in units] == [0, 51, 60, 93] or recipe or shots == "found"
    assert len(units) >= 2
    assert parts.out.read_bytes() == whole.out.read_bytes()
    assert files_of(parts) == files_of(whole)


def test_no_unit_begins_where_a_style_is_fading_over_a_cut(stylizer, clip, tmp_path):
    task = task_of(clip, tmp_path / "out.mkv")
    task.folder.mkdir()
    fading = survey(task, stylizer.recipe, stylizer.parts.vae.stride)
    assert [shot.first for shot in fading.shots] == [51, 60, 93]  # not 20
    plain = task_of(clip, tmp_path / "plain.mkv", cues="00:00 ink wash painting")
    plain.folder.mkdir()
    found = survey(plain, stylizer.recipe, stylizer.parts.vae.stride)
    assert [shot.first for shot in found.shots] == [20, 51, 60, 93]


@pytest.mark.parametrize("done", range(1, 4))
def test_a_job_moves_from_one_machine_to_many_and_back(stylizer, clip, tmp_path, done):
    whole, task = (task_of(clip, tmp_path / f"{n}.mkv", shots="auto") for n in ("whole", "out"))
    job_of(whole, stylizer).run()
    stop_after(task, stylizer, frames=20 * done)  # one machine, killed
    facts, seen = task.facts(stylizer), []
    with begun(task, facts) as manifest:  # then many, of which all but one unit is made
        units = units_of(task, stylizer, manifest)
        for unit in units[:done] + units[done + 1 :]:
            make(job_of(task, stylizer), unit, facts)
    Job(task, stylizer, lambda styled: seen.append(styled.source.index)).run()  # and one again
    assert task.out.read_bytes() == whole.out.read_bytes()
    missing = units[done : done + 1]
    assert seen == [n for unit in missing for n in range(unit.first, unit.end or sum(LENGTHS))]


def stop_after(task: Task, stylizer: Stylizer, frames: int) -> None:
    class Killed(Exception):
        pass

    def kill(styled) -> None:
        if styled.source.index == frames:
            raise Killed

    with pytest.raises(Killed):
        Job(task, stylizer, kill).run()


def test_a_unit_that_is_killed_loses_the_segment_it_was_in(stylizer, clip, tmp_path):
    task = task_of(clip, tmp_path / "out.mkv")
    facts, seen = task.facts(stylizer), []
    with begun(task, facts) as manifest:
        unit = units_of(task, stylizer, manifest)[2]

        def kill(styled) -> None:
            if styled.source.index == 85:
                raise InterruptedError

        with pytest.raises(InterruptedError):
            make(Job(task, stylizer, kill), unit, facts)
        make(Job(task, stylizer, lambda styled: seen.append(styled.source.index)), unit, facts)
    assert unit.first == 60 and seen[0] == Manifest.read(manifest.part(60)).segments[1].first
    assert 60 < seen[0] <= 85 and seen[-1] == 92


def test_a_unit_is_made_by_one_process_at_a_time(stylizer, clip, tmp_path):
    task = task_of(clip, tmp_path / "out.mkv")
    with begun(task, task.facts(stylizer)) as manifest:
        unit = units_of(task, stylizer, manifest)[1]
        folder = manifest.part(unit.first)
        folder.mkdir()
        with alone_in(folder), pytest.raises(ClipError, match="Another process is at work"):
            make(job_of(task, stylizer), unit, manifest.facts)


def test_parts_of_another_job_are_never_taken_over(stylizer, clip, tmp_path):
    task = task_of(clip, tmp_path / "out.mkv")
    in_parts(task, stylizer, random.Random(0))
    task.out.unlink()
    other = replace(task, seed=7)
    Job(other, stylizer, lambda styled: None).run(force=True)
    assert not [path for path in task.folder.iterdir() if path.is_dir()]
    task.out.unlink()
    shutil.rmtree(task.folder)
    job_of(other, stylizer).run()


@pytest.mark.parametrize("recipe", [{}, {"buffer": 2}, {"first": 1}, {"chunk": 3}], ids=str)
def test_counting_is_what_a_session_does(stylizer, recipe):
    recipe = stylizer.recipe.override(**recipe)
    stylizer = replace(stylizer, recipe=recipe)
    style, rng = Style(prompt="ink wash painting"), random.Random(4)
    real = stylizer.session(style, SIZE, seed=3)
    counted = CountedSession(recipe, stylizer.parts.vae.stride, seed=3)
    for _ in range(60):
        frames = torch.zeros(rng.randint(1, 3), *SIZE, 3, dtype=torch.uint8)
        fade, seed = rng.choice([0, 9, 20]), rng.choice([None, 8])
        if rng.random() < 0.2 and real.intake.is_between_chunks:
            for session in (real, counted):
                session.switch(style, fade, seed)
        verb = rng.choice(["push"] * 8 + ["flush"])
        verbs = [getattr(session, verb) for session in (real, counted)]
        came = [verb(frames) if verb.__name__ == "push" else verb() for verb in verbs]
        outs = [sum(map(len, each)) for each in came]
        assert outs[0] == outs[1] and counted.frames_in == real.frames_in
        assert counted.intake.is_between_chunks == real.intake.is_between_chunks
        assert counted.seed == real.seed
        assert counted.fade_left == (real.fade.frames - real.fade.done if real.fade else 0)
