"""`rtr`: the command line. `python -m rtr_core` is the same."""

import argparse
import sys
import warnings
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from .. import demo, ranks
from ..errors import RtrError
from .bench import add_bench
from .clips import add_stylize
from .eval import add_eval
from .exam import add_exam
from .live import add_live
from .plan import add_plan
from .train import add_train
from .weights import FAILED, add_convert, add_inspect, add_recipes, add_styles, add_verify

INTERRUPTED = 130


def main(words: Sequence[str] | None = None) -> None:
    """Run one command; an error of ours is one line, not a traceback."""
    chosen = parser().parse_args(words)
    warnings.showwarning = lambda message, *_, **__: print(f"rtr: {message}", file=sys.stderr)
    try:
        code = chosen.run(chosen)
    except (RtrError, OSError) as error:
        print(f"rtr: {error}", file=sys.stderr)
        code = FAILED
    except KeyboardInterrupt:
        code = INTERRUPTED
    ranks.end(code)


def parser() -> argparse.ArgumentParser:
    whole = argparse.ArgumentParser(prog="rtr", description="RTR, the real-time rerenderer.")
    whole.add_argument("--version", action="version", version=f"rtr {_version()}")
    commands = whole.add_subparsers(title="commands", required=True, metavar="COMMAND")
    kinds = (
        add_stylize,
        add_live,
        add_plan,
        add_styles,
        add_recipes,
        add_inspect,
        add_convert,
        add_verify,
        add_train,
        add_exam,
        add_eval,
        add_bench,
        _add_demo,
    )
    for add in kinds:
        add(commands)
    return whole


def _add_demo(commands) -> None:
    command = commands.add_parser("demo", help="run everything once and write pictures of it")
    command.add_argument("folder", nargs="?", default="output", type=Path)
    command.set_defaults(run=_demo)


def _demo(chosen: argparse.Namespace) -> int:
    for line in demo.run(chosen.folder):
        print(line, flush=True)
    return 0


def _version() -> str:
    try:
        return version("realtime-rerenderer")
    except PackageNotFoundError:  # a ComfyUI folder that was never installed
        return "(not installed)"
