"""`rtr plan`: what a clip, a model or a step of training will take here, said beforehand."""

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from ..errors import ClipError
from ..fitting import KNOWN, choose, table
from ..media import cost
from ..media.codecs import CODECS
from ..media.plan import Plan
from ..media.source import open_source
from ..recipes import told_fields
from ..shapes import Size
from ..stylizer import BUILT_IN, memory_of
from .budget import add_fleet, plan_fleet
from .clips import add_picture, as_codec, as_picture_size, size_of_clips
from .models import add_model, as_bytes, asked, kept_as_asked, loaded, model_of
from .weights import FAILED

SIZE = Size(480, 832)
STAGES = ("teacher", "student", "distill")


def add_plan(commands) -> None:
    command = commands.add_parser(
        "plan",
        usage="rtr plan IN [options of a clip]\n"
        "       rtr plan --model FILE|NAME --memory SIZE [--size WxH] [options of a model]\n"
        "       rtr plan --table\n"
        "       rtr plan --train [MODEL] [options of training]\n"
        "       rtr plan --fleet JSON [options of a fleet]",
        help="say beforehand what a clip, a model or a step of training will take here",
        epilog="Of a clip it renders some chunks, and keeps nothing of them. Of a model it counts "
        "a chunk, and of training a step, on tensors that take no memory: any model can be asked "
        f"for, by name too: {', '.join(KNOWN)}. Of a clip, it is switched on what fits.",
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
    command.add_argument("--table", action="store_true", help="what fits 8, 12, 16 and 24 GB")
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
    add_fleet(command)
    command.set_defaults(run=_plan)


def _plan(chosen: argparse.Namespace) -> int:
    kinds = {
        "IN": (chosen.source, _clip),
        "--train [MODEL]": (chosen.train, _training),
        "--table": (chosen.table or None, _table),
        "--fleet JSON": (chosen.fleet, plan_fleet),
    }
    given = [plan for what, plan in kinds.values() if what is not None]
    if not given and (chosen.memory or chosen.model != [BUILT_IN]):
        given = [_model]
    if len(given) != 1:
        raise ClipError(f"Give one of {', '.join(kinds)}, or --model with --memory.")
    return given[0](chosen)


def _table(_: argparse.Namespace) -> int:
    print(table())
    return 0


def _model(chosen: argparse.Namespace) -> int:
    """Of a model by name, or of files, without a clip and without reading weights."""
    device = torch.device(chosen.device or "cuda")
    there = _memory_there(device) if chosen.memory == "auto" else as_bytes(chosen.memory)
    if there is None:
        raise ClipError("Say for how much memory: --memory 8GB, say.")
    (name, *more) = chosen.model
    model = KNOWN.get(f"wan-{name.removeprefix('wan-')}") if not more else None
    if model is None:
        model = model_of(chosen)
    elif chosen.recipe:
        recipe = model.recipe.override(**told_fields(" ".join(chosen.recipe)))
        model = replace(model, recipe=recipe)
    size = as_picture_size(chosen.size) or SIZE
    plan = choose(model, size, there, asked(chosen, device), without=kept_as_asked(chosen, device))
    print(plan)
    return 0 if plan.fits else FAILED


def _clip(chosen: argparse.Namespace) -> int:
    size = as_picture_size(chosen.size)
    suffix = CODECS[chosen.codec].suffixes[0] if chosen.codec else ".mp4"
    codec = as_codec(chosen, chosen.source.with_suffix(suffix))
    stylizer = loaded(chosen, partial(size_of_clips, chosen))
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


def _memory_there(device: torch.device) -> int | None:
    if device.type == "cuda" and not torch.cuda.is_available():
        return None
    return memory_of(device)
