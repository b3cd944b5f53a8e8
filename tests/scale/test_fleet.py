"""A folder through two workers of Ray on the cores of this machine, and one of them killed.

It takes about a minute, mostly to start processes: RTR_RAY=1 pytest tests/scale/test_fleet.py
"""

import os
import random
import signal
import warnings
from functools import partial
from pathlib import Path

import pytest
import torch

from rtr_core import Stylizer
from rtr_core.media.job import Job
from rtr_core.media.manifest import Manifest
from tests.media.clips import make_clip
from tests.scale.test_line import film_of
from tests.scale.test_units import SIZE, task_of
from tests.scale.test_units import clip as clip

pytest.importorskip("ray", reason="Ray is not installed: pip install 'realtime-rerenderer[ray]'")
THREADS = 1  # of a worker: two of them share two cores
ASKED = "RTR_RAY" in os.environ
pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # of Ray's own
    pytest.mark.skipif(not ASKED, reason="takes a minute: RTR_RAY=1 pytest tests/scale"),
]


@pytest.fixture(scope="module")
def tiny() -> Stylizer:
    return Stylizer.load("rtr-tiny", device="cpu")


@pytest.fixture(scope="module", autouse=True)
def cluster():
    import ray

    from rtr_core.scale.fleet import connect

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        connect("local", cores=2)
        yield
        ray.shutdown()


@pytest.fixture(scope="module")
def expected(tiny, clip, tmp_path_factory) -> dict[str, bytes]:
    """What one process makes of a folder, with as many threads as a worker has: more of them may
    add up in another order, and differ in last bits."""
    folder, found = tmp_path_factory.mktemp("whole"), {}
    make_clip(clip.parent / "short.mkv", frames=20, size=SIZE)
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    for source in (clip, clip.parent / "short.mkv"):
        task = task_of(source, folder / source.name)
        Job(task, tiny, lambda styled: None).run()
        found[source.name] = task.out.read_bytes()
    torch.set_num_threads(before)
    return found


def fleet_of(tasks, on_tick):
    from rtr_core.scale.fleet import Fleet, Muster
    from rtr_core.scale.line import Line
    from rtr_core.scale.stylist import Post

    opened = partial(Stylizer.load, "rtr-tiny", device="cpu")
    post = Post(open_stylizer=opened, threads=THREADS, share=0.5)
    muster = Muster(workers=2, cores=THREADS, per_gpu=1, on_gpu=False)
    return Fleet(Line([film_of(task) for task in tasks]), post, muster, on_tick)


@pytest.mark.parametrize("kills", [0, 1], ids=["no one dies", "one is killed"])
def test_two_workers_make_the_bytes_of_one_process(clip, expected, tmp_path, kills):
    tasks = [task_of(clip.parent / name, tmp_path / name) for name in expected]
    rng, victims, busiest = random.Random(), [], 0
    moment = rng.randint(10, 60)  # frames

    def watch(fleet) -> None:
        nonlocal busiest
        busy = [w for w in fleet.workers if w.work and w.work.unit]
        busiest = max(busiest, len(busy))
        if busy and len(victims) < kills and fleet.frames >= moment:
            victim = rng.choice(busy)
            victims.append(victim.host.pid)
            os.kill(victim.host.pid, signal.SIGKILL)

    rows = list(fleet_of(tasks, watch).run(tmp_path))
    assert len(rows) == 2 and not any(row.failed for row in rows), rows
    assert len(victims) == kills
    assert {task.out.name: task.out.read_bytes() for task in tasks} == expected
    assert not list(tmp_path.glob(".rtr-fleet-*"))
    parts = {Path(s.name).parent for s in Manifest.read(tasks[0].folder).segments}
    assert len(parts) >= 2 and busiest >= 1  # units, each made by itself
