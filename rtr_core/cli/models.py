"""The options that say which model runs, on what, and in how much memory."""

import argparse
import re
import sys
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

import torch

from ..errors import ClipError, OutOfMemory
from ..fitting import Fitted, choose, described
from ..footprint import Model, Savings
from ..media.needs import queued
from ..recipes import told_fields
from ..shapes import Size
from ..style import Style
from ..stylizer import BUILT_IN, Stylizer, checked_device, file_of, memory_of
from ..weights.load import plan_loras
from ..weights.lora import LoraNotWhole
from .weights import DTYPES, add_loras, loras_of

UNITS = {"GB": 10**9, "GiB": 2**30, "MB": 10**6, "MiB": 2**20}


def add_model(group) -> None:
    group.add_argument("--model", metavar="FILE", nargs="+", default=[BUILT_IN])
    group.add_argument("--tokenizer", metavar="FOLDER", type=Path)
    group.add_argument("--depth", metavar="FOLDER", type=Path, help="of a local Depth-Anything")
    group.add_argument("--device")
    group.add_argument("--dtype", choices=DTYPES)
    add_loras(group, "a LoRA that acts in every style; may be given again")
    group.add_argument("--recipe", metavar="FIELD=VALUE", nargs="+", default=[], help="overrides")
    group.add_argument(
        "--memory",
        metavar="SIZE",
        help="such as 8GB, or auto for what the device has: switch on, of what follows, what it "
        "takes to fit; `rtr plan` tells beforehand",
    )
    group.add_argument("--weights", choices=("fp8",), help="a byte for each number of the blocks")
    group.add_argument("--cache", choices=("fp8",), help="the same for keys and values")
    group.add_argument("--tiled", action="store_true", help="encode and decode in tiles")
    group.add_argument("--decoder", metavar="FILE", type=Path, help="such as taew2_1, to decode")
    group.add_argument("--offload", action="store_true", help="blocks stay in RAM: slower")


def loaded(
    chosen: argparse.Namespace, size: Callable[[], Size], styles: Iterable[Style] = ()
) -> Stylizer:
    """The stylizer that the model's options name, made to fit pictures of a size if they say so;
    first a look at all LoRAs, the styles' too."""
    loras = loras_of(chosen)
    plans = plan_loras(
        [file_of(file) for file in chosen.model], {*loras, *(f for s in styles for f in s.loras)}
    )
    for plan in plans:
        print(f"rtr: {plan}", file=sys.stderr)
    warnings.simplefilter("ignore", LoraNotWhole)  # it has just been said
    savings = made_to_fit(chosen, size)
    stylizer = Stylizer.load(
        *chosen.model,
        device=chosen.device,
        dtype=savings.dtype,
        tokenizer=chosen.tokenizer,
        loras=loras,
        depth=chosen.depth,
        weights=savings.weights,
        cache=savings.cache,
        offload=savings.offload,
        decoder=chosen.decoder,
        **told_fields(" ".join(chosen.recipe)),
    )
    return stylizer.tiled() if savings.tiled else stylizer


def asked(chosen: argparse.Namespace, device: torch.device) -> Savings:
    """What the options switch on by themselves."""
    usual = torch.bfloat16 if device.type == "cuda" else torch.float32
    return Savings(
        dtype=DTYPES.get(chosen.dtype, usual),
        weights=chosen.weights,
        cache=chosen.cache,
        tiled=chosen.tiled,
        tiny="decodes" if chosen.decoder else None,
        offload=chosen.offload,
    )


def fitted(chosen: argparse.Namespace, size: Size) -> Fitted:
    """What --memory makes of them."""
    device = checked_device(chosen.device)
    model = model_of(chosen)
    there = memory_of(device) if chosen.memory == "auto" else as_bytes(chosen.memory)
    if there is None:
        raise ClipError(f"{device} does not tell how much memory it has: give --memory 8GB, say.")
    kept = ["tiny", *kept_as_asked(chosen, device)]
    queue = queued(size, model.recipe.chunk * model.vae.stride.time)
    return choose(model, size, there, asked(chosen, device), without=kept, beside=queue)


def kept_as_asked(chosen: argparse.Namespace, device: torch.device) -> list[str]:
    """What must not be switched on by itself: a dtype that was named, and on the CPU offloading,
    which would bring blocks to where they are."""
    kept = ["dtype"] if chosen.dtype else []
    return kept if device.type == "cuda" else [*kept, "offload"]


def model_of(chosen: argparse.Namespace) -> Model:
    """Of files only the headers are read."""
    recipe = told_fields(" ".join(chosen.recipe))
    return described([file_of(model) for model in chosen.model], chosen.decoder, **recipe)


def made_to_fit(chosen: argparse.Namespace, size: Callable[[], Size]) -> Savings:
    """The options, and where --memory is given what else is needed: said aloud."""
    if chosen.memory is None:
        return asked(chosen, checked_device(chosen.device))
    plan = fitted(chosen, size())
    if not plan.fits:
        raise OutOfMemory(str(plan))
    print(f"rtr: {plan.flags or 'nothing is'} switched on to fit {chosen.memory}", file=sys.stderr)
    return plan.savings


def as_bytes(text: str | None) -> int | None:
    """An amount of memory as people write it."""
    if text is None:
        return None
    told = re.fullmatch(rf"([\d.]*\d) ?({'|'.join(UNITS)})", text)
    if told is None:
        raise ClipError(f"--memory is an amount such as 80GB or 80GiB; not {text!r}.")
    return round(float(told[1]) * UNITS[told[2]])
