"""`rtr plan`: what a clip, or a step of training, will take here, said beforehand."""

import argparse
import re
from pathlib import Path

import torch

from ..errors import ClipError
from ..media import cost
from ..media.codecs import CODECS
from ..media.plan import Plan
from ..media.source import open_source
from ..stylizer import memory_of
from .clips import add_model, add_picture, as_codec, as_picture_size, loaded
from .weights import FAILED

UNITS = {"GB": 10**9, "GiB": 2**30, "MB": 10**6, "MiB": 2**20}
STAGES = ("teacher", "student", "distill")


def add_plan(commands) -> None:
    command = commands.add_parser(
        "plan",
        usage="rtr plan IN [options of a clip]\n"
        "       rtr plan --train [MODEL] [options of training]",
        help="say beforehand what a clip, or a step of training, will take here",
        epilog="Of a clip it renders some chunks, and keeps nothing of them. Of training it counts "
        "a step of the very stage, on tensors that take no memory: any model can be asked for.",
    )
    command.add_argument("source", metavar="IN", type=Path, nargs="?", help="a clip")
    command.add_argument(
        "--cost",
        metavar="TIMES",
        nargs="?",
        type=int,
        const=cost.REPEATS,
        help="also run all of the clip so many times, through the model alone and as a whole job, "
        f"and say what decoding and encoding add; default: {cost.REPEATS}",
    )
    add_picture(command.add_argument_group("picture, of a clip (--size: of training too)"))
    add_model(command.add_argument_group("model, of a clip (--device: of training too)"))
    training = command.add_argument_group("training")
    training.add_argument(
        "--train",
        metavar="MODEL",
        nargs="?",
        const="wan-1.3b",
        help="instead of a clip: a weights file, or tiny, wan-1.3b (the default), wan-5b, wan-14b",
    )
    training.add_argument("--stage", choices=STAGES, default="teacher", help="default: teacher")
    training.add_argument("--latents", type=int, default=21, help="latent frames of a sample")
    training.add_argument("--batch", type=int, default=1, help="samples a step, of one process")
    training.add_argument("--checkpointing", action="store_true", help="blocks are recomputed")
    training.add_argument("--fp32", action="store_true", help="no bf16 anywhere")
    training.add_argument("--memory", metavar="SIZE", help="such as 80GB; default: the device's")
    command.set_defaults(run=_plan)


def _plan(chosen: argparse.Namespace) -> int:
    if (chosen.source is None) == (chosen.train is None):
        raise ClipError("Give one of both: a clip, `rtr plan IN`, or `rtr plan --train [MODEL]`.")
    return _clip(chosen) if chosen.train is None else _training(chosen)


def _clip(chosen: argparse.Namespace) -> int:
    size = as_picture_size(chosen.size)
    suffix = CODECS[chosen.codec].suffixes[0] if chosen.codec else ".mp4"
    codec = as_codec(chosen, chosen.source.with_suffix(suffix))
    stylizer = loaded(chosen)
    with open_source(chosen.source) as source:
        plan = Plan.of(source, stylizer, size, codec)
    print(plan, flush=True)
    if plan.fits and chosen.cost is not None:
        for one in cost.costs(chosen.source, stylizer, size, codec, chosen.cost):
            print(one, flush=True)
    return 0 if plan.fits else FAILED


def _training(chosen: argparse.Namespace) -> int:
    from ..train import needs  # and with it all of training, OpenCV included

    device = torch.device(chosen.device or "cuda")
    training = needs.Training(
        learner=needs.Learner.of(chosen.train),
        stage=chosen.stage,
        size=as_picture_size(chosen.size) or needs.SIZE,
        latents=chosen.latents,
        batch=chosen.batch,
        checkpointing=chosen.checkpointing,
        bf16=not chosen.fp32,
        on_cpu=device.type == "cpu",
    )
    plan = needs.step_needs(training, as_bytes(chosen.memory) or _memory_there(device))
    print(plan)
    return 0 if plan.fits else FAILED


def as_bytes(text: str | None) -> int | None:
    """An amount of memory as people write it."""
    if text is None:
        return None
    told = re.fullmatch(rf"([\d.]*\d) ?({'|'.join(UNITS)})", text)
    if told is None:
        raise ClipError(f"--memory is an amount such as 80GB or 80GiB; not {text!r}.")
    return round(float(told[1]) * UNITS[told[2]])


def _memory_there(device: torch.device) -> int | None:
    if device.type == "cuda" and not torch.cuda.is_available():
        return None
    return memory_of(device)
