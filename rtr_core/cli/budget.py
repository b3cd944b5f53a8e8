"""`rtr plan --fleet`: what a fleet costs, whom it serves, and where it stops growing."""

import argparse
from pathlib import Path

from ..errors import ClipError
from .models import as_bytes

WHAT = {
    "hours": "of video",
    "rate": "its frames a second",
    "price": "of a GPU hour",
    "latency": "seconds, at most, of a live viewer",
    "cores": "of the CPU beside each GPU",
    "decoding": "frames a second of a core; rtr plan IN measures it",
    "encoding": "frames a second of a core",
    "bitrate": "Mbit/s, read and written together",
    "network": "Gbit/s of the storage that all share",
    "unit": "frames of a unit",
}
# As in `budget.Terms`, which is not imported before it is asked for; a test holds them together.
USUAL = {
    "hours": 1000.0,
    "rate": 24.0,
    "price": 2.5,
    "latency": 2.0,
    "cores": 8,
    "decoding": 300.0,
    "encoding": 60.0,
    "bitrate": 12.0,
    "network": 25.0,
    "unit": 240,
}


def add_fleet(command) -> None:
    group = command.add_argument_group("a fleet (--memory: of a GPU)")
    group.add_argument(
        "--fleet", metavar="JSON", type=Path, help="by a report of rtr bench --json on one GPU"
    )
    for name, what in WHAT.items():
        usual = USUAL[name]
        group.add_argument(
            f"--{name}", type=type(usual), default=usual, help=f"{what}; default: {usual:g}"
        )
    group.add_argument("--curves", metavar="DIR", type=Path, help="draw them here, as SVG")


def plan_fleet(chosen: argparse.Namespace) -> int:
    from ..evaluate.bench_report import Bench
    from ..scale.budget import Budget, Terms
    from ..scale.curves import draw

    memory = None if chosen.memory in (None, "auto") else as_bytes(chosen.memory)
    terms = Terms(memory=memory, **{name: getattr(chosen, name) for name in WHAT})
    budget = Budget(Bench.read(chosen.fleet), terms)
    for line in budget.lines():
        print(line, flush=True)
    if chosen.curves is not None:
        if not chosen.curves.is_dir():
            raise ClipError(f"There is no folder {chosen.curves} to draw in.")
        for path in draw(budget, chosen.curves):
            print(f"{path} drawn")
    return 0
