"""A fleet as a queue: it loses no work, serves nobody late, and says what it is bound by."""

import random
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from rtr_core import ClipError
from rtr_core.cli import budget as cli
from rtr_core.cli import main
from rtr_core.evaluate.bench_report import Bench
from rtr_core.scale.budget import SIZES, Budget, Terms
from rtr_core.scale.curves import at_speed
from rtr_core.scale.simulate import (
    VERBS,
    Linear,
    Service,
    delay,
    fitted,
    simulate,
    viewers_within,
)

DOCS = Path(__file__).parents[2] / "docs"
FREE = dict.fromkeys(VERBS, Linear(0.0))
RENDER = FREE | {"render": Linear(0.0, 0.1)}


@pytest.fixture
def budget() -> Budget:
    return Budget(Bench.read(DOCS / "fleet.json"), Terms())


def test_one_worker_takes_as_long_as_all_work():
    came = simulate([(10, 20), (30,)], [0.0], RENDER)
    assert came.seconds == pytest.approx(6.0) and came.busy == pytest.approx(1.0)


def test_units_of_a_clip_are_shared_and_the_longest_clip_is_first():
    assert simulate([(10,), (40,), (30,)], [0.0] * 2, RENDER).seconds == pytest.approx(4.0)
    assert simulate([(40,)], [0.0] * 4, RENDER).seconds == pytest.approx(4.0)
    assert simulate([(10,) * 4], [0.0] * 4, RENDER).seconds == pytest.approx(1.0)


def test_a_clip_is_looked_through_before_and_put_together_after_its_units():
    costs = dict(zip(VERBS, (Linear(1.0), Linear(2.0), Linear(4.0), Linear(8.0)), strict=True))
    assert simulate([(10,) * 3], [0.0] * 3, costs).seconds == pytest.approx(15.0)
    assert simulate([(10,) * 3], [0.0] * 2, costs).seconds == pytest.approx(19.0)


def test_the_first_call_of_a_worker_may_take_longer():
    costs = FREE | {"render": Linear(1.0, 0.0, first=4.0)}
    assert simulate([(10,) * 4], [0.0] * 2, costs).seconds == pytest.approx(6.0)


def test_nothing_begins_before_all_workers_are_there():
    assert simulate([(10,)], [0.0, 5.0], RENDER).seconds == pytest.approx(6.0)


def test_costs_are_found_again_in_what_calls_took():
    rng = random.Random(0)
    pairs = [(n, 0.5 + 0.02 * n + rng.gauss(0, 0.01)) for n in range(10, 200, 7)]
    once, a_frame, _ = fitted(pairs)
    assert once == pytest.approx(0.5, abs=0.02) and a_frame == pytest.approx(0.02, rel=0.02)
    assert fitted([(10, 1.0)]) == Linear(1.0, 0.0) and fitted([]) == Linear(0.0, 0.0)


def test_a_viewer_waits_for_a_chunk_to_fill_and_for_those_before_him():
    service = Service(frames=12, usual=0.1, worst=0.1)
    alone = delay(1, service, 24.0, random.Random(0))
    assert alone == pytest.approx(0.6)
    four = delay(4, service, 24.0, random.Random(0))
    assert 0.6 < four <= 0.9
    assert delay(6, service, 24.0, random.Random(0)) == float("inf")
    assert viewers_within(0.59, service, 24.0, 99) == 0
    assert viewers_within(0.9, service, 24.0, 99) >= 3
    assert viewers_within(9.0, service, 24.0, 99) == 4
    assert viewers_within(9.0, service, 24.0, 2) == 2


def test_the_bottleneck_moves_from_rendering_to_what_is_shared(budget):
    fast = at_speed(budget, 50)
    names = [fast.bottleneck(workers)[0] for workers in SIZES]
    assert names[0] == "rendering" and names[-1] == "bookkeeping"
    narrow = replace(fast, terms=replace(fast.terms, network=1.0))
    assert narrow.bottleneck(SIZES[-1])[0] == "network of the storage"
    slow_cores = replace(fast, terms=replace(fast.terms, cores=1))
    assert slow_cores.bottleneck(1)[0] == "decoding and encoding"
    hours = [fast.gpu_hours(workers) for workers in (1, SIZES[-1])]
    assert hours[1] > hours[0]


def test_viewers_are_bound_by_the_memory_of_a_gpu(budget):
    fast = at_speed(budget, 50)
    session = fast.bench.figures["all of the session, bytes"]
    small = fast.bench.figures["peak memory, bytes"] + 1.5 * session
    bound = replace(fast, terms=replace(fast.terms, memory=small))
    assert bound.viewers(3.0) == bound.room == 2 < fast.viewers(3.0)


def test_what_makes_no_sense_is_refused(tmp_path):
    with pytest.raises(ClipError, match="--hours is more than 0"):
        Terms(hours=0)
    (tmp_path / "no.json").write_text("{}")
    with pytest.raises(SystemExit):
        main(["plan", "--fleet", str(tmp_path / "no.json")])


def test_the_command_line_has_the_terms_of_a_budget():
    assert {name: getattr(Terms(), name) for name in cli.WHAT} == cli.USUAL


def test_the_page_has_the_curves_that_its_command_draws(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["plan", "--fleet", str(DOCS / "fleet.json"), "--curves", str(tmp_path)])
    assert not ended.value.code
    said = capsys.readouterr().out
    drawn = sorted(tmp_path.iterdir())
    assert len(drawn) == 3
    for path in drawn:
        assert path.read_text() == (DOCS / path.name).read_text()
        assert ElementTree.fromstring(path.read_text()).tag.endswith("svg")
    page = (DOCS / "fleet.md").read_text()
    for line in said.splitlines()[:8]:
        assert line in page
