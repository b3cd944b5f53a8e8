"""`rtr plan`: what a clip will take here, said beforehand."""

import argparse
from pathlib import Path

from ..media.codecs import CODECS
from ..media.plan import Plan
from ..media.source import open_source
from .clips import add_model, add_picture, as_codec, as_picture_size, loaded
from .weights import FAILED


def add_plan(commands) -> None:
    command = commands.add_parser(
        "plan",
        help="say beforehand what a clip will take here: memory, time, disk",
        epilog="It renders some chunks of the clip, and keeps nothing of them.",
    )
    command.add_argument("source", metavar="IN", type=Path, help="a clip")
    add_picture(command.add_argument_group("picture"))
    add_model(command.add_argument_group("model"))
    command.set_defaults(run=_plan)


def _plan(chosen: argparse.Namespace) -> int:
    size = as_picture_size(chosen.size)
    suffix = CODECS[chosen.codec].suffixes[0] if chosen.codec else ".mp4"
    codec = as_codec(chosen, chosen.source.with_suffix(suffix))
    with open_source(chosen.source) as source:
        plan = Plan.of(source, loaded(chosen), size, codec)
    print(plan)
    return 0 if plan.fits else FAILED
