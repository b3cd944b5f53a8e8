"""`rtr inspect`, `rtr convert`, `rtr verify`: weights files, and what is computed with them."""

import argparse
import json
from pathlib import Path

import torch

from ..families import FAMILIES
from ..loras import LoraFile, read_strength, strengths_of, told_once
from ..stylizer import BUILT_IN, file_of
from ..verify import TOLERANCE, verify
from ..weights.bundle import read_about
from ..weights.convert import convert
from ..weights.inspect import inspect
from ..weights.read import open_weights

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
FAILED = 1


def add_inspect(commands) -> None:
    command = commands.add_parser("inspect", help="print what a weights file is")
    command.add_argument("files", nargs="+", metavar="FILE", type=Path)
    command.add_argument("--values", action="store_true", help="read all of it and look for NaN")
    _add_ema(command)
    command.set_defaults(run=_inspect)


def _inspect(chosen: argparse.Namespace) -> int:
    reports = [inspect(file, ema=chosen.ema, values=chosen.values) for file in chosen.files]
    print("\n\n".join(map(str, reports)))
    return 0 if all(report.is_sound for report in reports) else FAILED


def add_styles(commands) -> None:
    command = commands.add_parser("styles", help="list the prompts that a model has learned")
    command.add_argument("model", nargs="?", metavar="FILE", default=BUILT_IN)
    command.set_defaults(run=_styles)


def _styles(chosen: argparse.Namespace) -> int:
    file = open_weights(file_of(chosen.model))
    about = read_about(file)
    if about is None or not about.styles:
        print(f"{file.path} names no styles: it follows whatever its text encoder understands.")
        return FAILED
    print("\n".join(about.styles))
    return 0


def add_recipes(commands) -> None:
    command = commands.add_parser("recipes", help="list how each family of checkpoints is run")
    command.set_defaults(run=_recipes)


def _recipes(_: argparse.Namespace) -> int:
    for family in FAMILIES:
        told = " ".join(f"{name}={json.dumps(value)}" for name, value in family.recipe.told.items())
        print(f"{family.name}: {told}\n    {family.cites}.")
    return 0


def add_convert(commands) -> None:
    command = commands.add_parser("convert", help="write one clean safetensors file")
    command.add_argument("sources", nargs="+", metavar="IN", type=Path)
    command.add_argument("target", metavar="OUT", type=Path)
    command.add_argument("--dtype", choices=DTYPES, help="cast the weights (default: as they are)")
    command.add_argument(
        "--part",
        dest="parts",
        action="append",
        choices=("transformer", "vae", "text"),
        help="write this part only; may be given again",
    )
    command.add_argument("--force", action="store_true", help="replace OUT where it exists")
    add_loras(command, "merge a LoRA into the transformer; may be given again")
    _add_ema(command)
    command.set_defaults(run=_convert)


def _convert(chosen: argparse.Namespace) -> int:
    report = convert(
        chosen.sources,
        chosen.target,
        parts=chosen.parts,
        dtype=DTYPES.get(chosen.dtype),
        ema=chosen.ema,
        force=chosen.force,
        loras=loras_of(chosen),
    )
    print(report)
    return 0


def add_verify(commands) -> None:
    command = commands.add_parser(
        "verify", help="compare this machine's numbers with recorded ones of the public models"
    )
    command.add_argument("files", nargs="+", metavar="FILE", type=Path)
    command.add_argument("--device", default="cpu")
    command.add_argument(
        "--dtype",
        choices=[name for name, dtype in DTYPES.items() if dtype in TOLERANCE],
        help="one of them (default: both)",
    )
    command.set_defaults(run=_verify)


def _verify(chosen: argparse.Namespace) -> int:
    dtypes = [DTYPES[chosen.dtype]] if chosen.dtype else list(TOLERANCE)
    failed = 0
    for file in chosen.files:
        for dtype in dtypes:
            for result in verify(file, dtype, chosen.device):
                print(result)
                failed += not result.passed
    print(f"{failed} failed" if failed else "all equal to the public models")
    return FAILED if failed else 0


def add_loras(group, what: str) -> None:
    group.add_argument(
        "--lora", dest="loras", metavar="FILE[:STRENGTH]", action="append", default=[], help=what
    )


def loras_of(chosen: argparse.Namespace) -> dict[LoraFile, float]:
    """What --lora names."""
    return strengths_of(told_once(map(read_strength, chosen.loras)))


def _add_ema(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--ema",
        action=argparse.BooleanOptionalAction,
        help="take the averaged model of a training checkpoint that holds two",
    )
