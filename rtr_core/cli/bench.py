"""`rtr bench`: where the time of a stream goes here, and what the machine could do at best."""

import argparse
from pathlib import Path

import torch

from ..errors import ClipError
from ..recipes import told_fields
from ..stylizer import checked_device
from .clips import as_picture_size
from .weights import DTYPES


def add_bench(commands) -> None:
    command = commands.add_parser(
        "bench",
        help="measure this machine on a model: time of each stage, memory, share of the roofline",
        epilog="What the figures mean is in docs/bench.md.",
    )
    model = command.add_argument_group("model")
    model.add_argument(
        "--model",
        default="tiny",
        metavar="MODEL",
        help="a weights file, tiny (the built-in one, the default), or with random weights 1.3b, "
        "5b, 14b",
    )
    model.add_argument("--vae", metavar="VAE", help="wan or tiny, of random weights, or a file")
    model.add_argument("--device", help="cpu, cuda, cuda:1; CUDA where there is one")
    model.add_argument("--dtype", choices=DTYPES, help="default: bf16 on CUDA, else fp32")
    model.add_argument("--compile", action="store_true", help="the transformer, by torch.compile")
    work = command.add_argument_group("work")
    work.add_argument("--size", metavar="WxH", help="default: 256x256 of tiny, else 832x480")
    work.add_argument("--steps", type=int, help="denoise steps, evenly from the recipe's first one")
    work.add_argument("--window", type=int, metavar="LATENTS", help="past latent frames in sight")
    work.add_argument("--recipe", metavar="FIELD=VALUE", nargs="+", default=[], help="overrides")
    work.add_argument("--chunks", type=int, help="how many are timed; default: 24, or 12 s")
    work.add_argument(
        "--against",
        choices=("diffusers", "slow"),
        help="on the same work, beside it: diffusers' transformer without a cache, or beside each "
        "fast path its slow twin",
    )
    out = command.add_argument_group("what becomes of it")
    out.add_argument("--json", metavar="FILE", type=Path, help="write the report there too")
    out.add_argument(
        "--compare",
        metavar="JSON",
        nargs=2,
        type=Path,
        help="measure nothing: two reports, the second as ratios to the first",
    )
    command.set_defaults(run=_bench)


def _bench(chosen: argparse.Namespace) -> int:
    from ..evaluate.bench_report import Bench, compared

    if chosen.compare:
        print("\n".join(compared(*map(Bench.read, chosen.compare))))
        return 0
    from ..evaluate.bench import Options, measured
    from ..evaluate.sizes import SIZES, Wanted

    if chosen.json is not None and not chosen.json.parent.is_dir():
        raise ClipError(f"There is no folder {chosen.json.parent} to write {chosen.json.name} to.")
    device = checked_device(chosen.device)
    usual = torch.bfloat16 if device.type == "cuda" else torch.float32
    wanted = Wanted(
        model=chosen.model,
        vae=chosen.vae,
        size=as_picture_size(chosen.size),
        steps=chosen.steps,
        window=chosen.window,
        recipe=told_fields(" ".join(chosen.recipe)),
        device=device,
        dtype=DTYPES.get(chosen.dtype, usual),
        beside=chosen.against is not None,
    )
    options = Options(
        chunks=chosen.chunks,
        compile=chosen.compile,
        against=chosen.against == "diffusers",
        twins=chosen.against == "slow",
        weights="random weights" if chosen.model in SIZES else "its own weights",
    )
    bench = measured(wanted.opened(), wanted.picture, options)
    if chosen.json is not None:
        chosen.json.write_text(bench.to_json(), encoding="utf-8")
    print(bench)
    return 0
