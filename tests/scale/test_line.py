"""What a fleet does next, and what it does when something breaks; without Ray, in one process."""

import random
import subprocess
import sys
from functools import partial

import pytest

from rtr_core import ClipError, OutOfMemory, Stylizer
from rtr_core.cli import main
from rtr_core.media.job import Job, Task
from rtr_core.media.lock import Occupied
from rtr_core.media.source import open_source
from rtr_core.scale.host import Host, answer, check_alike, check_room, shared, this_host
from rtr_core.scale.line import DEADLY, Film, Line, Work
from rtr_core.scale.stylist import Post, Stylist
from rtr_core.shapes import Size
from tests.media.clips import make_clip
from tests.scale.test_units import CUES, SIZE, job_of, task_of
from tests.scale.test_units import clip as clip


def film_of(task: Task) -> Film:
    with open_source(task.source) as source:
        return Film(task, source.info.frames or 100, source.info.size.area)


def stylist_of(stylizer: Stylizer) -> Stylist:
    return Stylist(Post(open_stylizer=lambda: stylizer, threads=1, share=1.0))


def call(worker: Stylist, work: Work):
    given = {
        "render": (work.unit, work.film.facts),
        "finish": (work.film.resumed_at,),
    }
    return getattr(worker, work.verb)(work.film.task, *given.get(work.verb, ()))


def work_off(line: Line, worker: Stylist, rng: random.Random, dies=lambda work: False) -> list:
    """As many as three pieces at once, coming back in any order."""
    rows, running = [], []
    while not line.is_done:
        while len(running) < 3 and (work := line.next()) is not None:
            running.append(work)
        work = running.pop(rng.randrange(len(running)))
        if dies(work):
            line.lost(work)
        else:
            line.back(work, call(worker, work))
        rows += line.rows()
    return rows


@pytest.fixture
def worker(stylizer, tmp_path) -> Stylist:
    stylist = stylist_of(stylizer)
    with shared(tmp_path) as proof:
        host, said = stylist.introduce(proof)
        assert said == proof.read_text()
    assert host.alike["threads"] == "1"
    return stylist


def test_units_that_come_back_in_any_order_make_the_same_bytes(worker, stylizer, clip, tmp_path):
    make_clip(tmp_path / "short.mkv", frames=20, size=SIZE)
    tasks = [
        task_of(source, tmp_path / f"{source.stem}-out.mkv")
        for source in (tmp_path / "short.mkv", clip)
    ]
    line = Line([film_of(task) for task in tasks])
    rows = work_off(line, worker, random.Random(1))
    assert [row.clip for row in rows] and not any(row.failed for row in rows)
    for task in tasks:
        whole = task_of(task.source, tmp_path / f"{task.source.stem}-whole.mkv")
        job_of(whole, stylizer).run()
        assert task.out.read_bytes() == whole.out.read_bytes()
        assert not task.partial.exists()


def test_long_clips_come_first_and_units_in_the_order_of_time(worker, clip, tmp_path):
    films = [Film(task_of(clip, tmp_path / f"{n}.mkv"), n) for n in (3, 90, 40)]
    line = Line(films)
    opened = [line.next() for _ in range(3)]
    assert [work.film.frames for work in opened] == [90, 40, 3]
    assert line.next() is None
    line.back(opened[0], call(worker, opened[0]))
    survey = line.next()
    line.back(survey, call(worker, survey))
    units = [line.next().unit.first for _ in range(4)]
    assert units == [0, 51, 60, 93] and line.next() is None
    line.close()


def test_a_clip_that_takes_workers_with_it_is_given_up_and_others_go_on(worker, clip, tmp_path):
    make_clip(tmp_path / "good.mkv", frames=20, size=SIZE)
    tasks = [task_of(s, tmp_path / f"{s.stem}-out.mkv") for s in (clip, tmp_path / "good.mkv")]
    line, deaths = Line([film_of(task) for task in tasks]), []

    def dies(work: Work) -> bool:
        is_deadly = work.unit is not None and work.unit.first == 60
        deaths.extend([work] * is_deadly)
        return is_deadly

    rows = {row.clip: row for row in work_off(line, worker, random.Random(2), dies)}
    assert len(deaths) == DEADLY
    assert rows[clip].failed and "3 workers died of clip.mkv frames 60:93" in rows[clip].said
    assert not rows[tmp_path / "good.mkv"].failed
    job_of(tasks[0], worker.stylizer).run()  # what was made is not lost
    assert tasks[0].out.exists()


def test_a_folder_that_a_dead_worker_still_holds_is_waited_for(clip, tmp_path):
    line = Line([film_of(task_of(clip, tmp_path / "out.mkv"))])
    work = line.next()
    line.failed(work, Occupied("busy"))
    assert line.next() == work and not list(line.rows())
    line.failed(work, ClipError("broken"))
    (row,) = line.rows()
    assert row.failed and "broken" in row.said and line.is_done


def test_workers_that_differ_are_named(stylizer):
    one = this_host(stylizer)
    other = Host(name="far", pid=1, alike={**one.alike, "torch": "2.5.0"})
    check_alike([one, one])
    with pytest.raises(ClipError, match=r"differ in torch: .* on far.*Nothing was begun"):
        check_alike([one, other])


def test_a_storage_that_is_not_shared_is_told_before_a_model_is_loaded(tmp_path):
    def never():
        raise AssertionError

    stylist = Stylist(Post(open_stylizer=never, threads=1, share=1.0))
    with pytest.raises(ClipError, match=r"is not shared: .* cannot read and write"):
        stylist.introduce(tmp_path / "elsewhere" / "proof")
    with shared(tmp_path) as proof:
        assert answer(proof) == proof.read_text()
    assert not list(tmp_path.iterdir())


def test_a_worker_without_the_weights_names_them(tmp_path):
    post = Post(open_stylizer=partial(Stylizer.load, tmp_path / "gone.pt"), threads=1, share=1.0)
    with shared(tmp_path) as proof, pytest.raises(Exception, match=r"gone\.pt"):
        Stylist(post).introduce(proof)


def test_a_share_that_is_too_small_for_a_clip_is_refused(stylizer, clip):
    with open_source(clip) as source:
        check_room(stylizer, source.info, SIZE, share=1.0)
        with pytest.raises(OutOfMemory, match=r"needs .*; this worker's share of it is"):
            check_room(stylizer, source.info, Size(4096, 4096), share=1e-4)


def test_a_source_that_is_another_file_on_the_worker_is_refused(worker, clip, tmp_path):
    task = task_of(clip, tmp_path / "out.mkv")
    line = Line([film_of(task)])
    work = line.next()
    line.back(work, {**call(worker, work), "source": "another"})
    (row,) = line.rows()
    assert row.failed and "storage is not shared" in row.said
    with pytest.raises(ClipError, match="not the file that the job was begun with"):
        worker.render(task, None, {"source": "another"})


def test_without_ray_the_way_to_it_is_told(clip, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("rtr_core.cli.fleet.find_spec", lambda name: None)
    with pytest.raises(SystemExit) as ended:
        main(["stylize", str(clip), str(tmp_path / "o.mkv"), "--style", "ink", "--ray"])
    assert ended.value.code and "realtime-rerenderer[ray]" in capsys.readouterr().err


def test_a_second_run_does_nothing_and_needs_no_ray_nor_does_one_machine(clip, tmp_path):
    (tmp_path / clip.name).write_text("done")
    words = ["stylize", str(clip.parent), str(tmp_path), "--style", "ink"]
    code = (
        "import sys\nfrom rtr_core.cli import main\n"
        f"try: main({[*words, '--ray']})\n"
        "finally: print('ray' in sys.modules, 'rtr_core.scale.fleet' in sys.modules)"
    )
    came = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert came.returncode == 0, came.stderr
    assert "was there already" in came.stdout and came.stdout.endswith("False False\n")
    code = "import sys, rtr_core.cli as c; c.parser(); print('rtr_core.scale' in sys.modules)"
    came = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert came.stdout == "False\n"
    assert (tmp_path / clip.name).read_text() == "done"


def test_a_job_of_a_fleet_is_finished_by_one_machine(worker, stylizer, clip, tmp_path):
    """A head node that is lost: no manifest was written since, all parts are there."""
    task, whole = (task_of(clip, tmp_path / f"{name}.mkv", CUES) for name in ("out", "whole"))
    line = Line([film_of(task)])
    for _ in range(2):
        work = line.next()
        line.back(work, call(worker, work))
    for work in [line.next() for _ in range(3)][1:]:
        call(worker, work)  # made, and nobody told
    line.close()
    seen = []
    Job(task, stylizer, lambda styled: seen.append(styled.source.index)).run()
    job_of(whole, stylizer).run()
    assert task.out.read_bytes() == whole.out.read_bytes()
    assert not set(range(51, 93)) & set(seen)
