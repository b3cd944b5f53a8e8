"""`rtr exam`: every bar that the embedded model has to take, measured on clips it has not seen."""

import argparse
from functools import partial
from pathlib import Path

from .weights import FAILED


def add_exam(commands) -> None:
    command = commands.add_parser(
        "exam",
        help="measure a trained model on clips and stills that it has not seen",
        epilog="It ends well if no bar that was measured was missed. Needs OpenCV.",
    )
    command.add_argument("model", metavar="MODEL", nargs="+", type=Path)
    command.add_argument(
        "--clips", metavar="FOLDER", type=Path, required=True, help="clips and stills held out"
    )
    command.add_argument(
        "--out", metavar="FOLDER", type=Path, required=True, help="for exam.json, exam.md, sheets"
    )
    command.add_argument("--teacher", metavar="FILE", type=Path, help="asked in many steps")
    command.add_argument("--causal", metavar="FILE", type=Path, help="without post-training")
    command.add_argument("--vgg", metavar="FILE", type=Path, help="VGG16, to tell styles by")
    command.add_argument("--quick", action="store_true", help="fewer clips and frames: a minute")
    command.set_defaults(run=_exam)


def _exam(chosen: argparse.Namespace) -> int:
    from ..evaluate.exam import sit  # needs OpenCV, which the other commands do without
    from ..evaluate.subject import FULL, QUICK
    from ..evaluate.vgg import VggGram

    report = sit(
        chosen.model,
        chosen.clips,
        chosen.out,
        QUICK if chosen.quick else FULL,
        teacher=chosen.teacher,
        causal=chosen.causal,
        descriptor=VggGram(chosen.vgg) if chosen.vgg else None,
        tell=partial(print, flush=True),
    )
    print(report.markdown().split("\n## ")[0].rstrip())
    print(f"{chosen.out}: exam.md, exam.json, tv2v.jpg, rv2v.jpg, autoencoder.jpg")
    return 0 if report.passed else FAILED
