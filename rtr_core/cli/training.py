"""The steps of `rtr train` that train: each one function of `train.runs`, its arguments from here.

They import torch's heavier parts and OpenCV, so that is done when a step runs.
"""

import argparse
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..recipes import told_fields

Steps = Any  # what argparse calls a group of subcommands

# Those of `rtr-tiny`'s road; its card has the commands as they were given. It was not distilled.
VAE = {"steps": 700, "batch": 8, "rate": 6e-4}
TEACHER = {"steps": 1450, "batch": 12, "rate": 8e-4}
STUDENT = {"steps": 2700, "batch": 24, "rate": 1.5e-3}
DISTILL = {"steps": 300, "batch": 16, "rate": 1e-4}
FINISH = {"steps": 460, "batch": 12, "rate": 2.5e-4}


def add_data(steps: Steps) -> None:
    step = steps.add_parser("data", help="pairs of source and styled latents, in shards")
    step.add_argument("corpus", metavar="CORPUS", type=Path, help="a folder of clips and stills")
    step.add_argument("vae", metavar="VAE", type=Path, help="the autoencoder")
    step.add_argument("folder", metavar="PAIRS", type=Path)
    step.add_argument("--count", type=int, default=12288, help="how many pairs")
    step.add_argument("--seed", type=int, default=0)
    step.add_argument("--side", type=int, default=128, help="pixels of a square window")
    step.add_argument("--latents", type=int, default=3, help="latent frames of it")
    step.add_argument("--structure", action="store_true", help="also tell outlines of the sources")
    step.add_argument(
        "--maker",
        nargs="+",
        action="append",
        default=[],
        metavar=("KIND", "FIELD=VALUE"),
        help="procedural (looks drawn by rule, if nothing is said), neural references=PICTURES, "
        "command line='PROGRAM {source} {target}' style=NAME prompt='...', folder path=PAIRS; "
        "several take share=NUMBER",
    )
    step.add_argument(
        "--describe",
        type=Path,
        metavar="MODEL",
        help="folder of a vision-language model, which gives prompts to half of those without",
    )
    step.set_defaults(
        run=_telling(
            lambda runs, chosen: runs.make_data(
                chosen.corpus,
                chosen.vae,
                chosen.folder,
                chosen.count,
                seed=chosen.seed,
                config=_data(chosen),
                makers=chosen.maker,
                describe=chosen.describe,
            )
        )
    )


def add_vae(steps: Steps) -> None:
    step = steps.add_parser("vae", help="an autoencoder, from clips and stills")
    step.add_argument("corpus", metavar="CORPUS", type=Path, help="a folder of clips and stills")
    _add_schedule(step, VAE)
    step.add_argument("--begin", type=Path, metavar="VAE", help="this one learns on")
    step.add_argument(
        "--encoder", type=Path, metavar="VAE", help="keep this one's encoder, and so its pairs"
    )
    step.set_defaults(
        run=_telling(
            lambda runs, chosen: runs.train_vae(
                chosen.corpus,
                chosen.folder,
                _schedule(chosen),
                begin=chosen.begin,
                encoder=chosen.encoder,
                seed=chosen.seed,
            )
        )
    )


def add_codes(steps: Steps) -> None:
    step = steps.add_parser("codes", help="compare strides and channels of an autoencoder")
    step.add_argument("corpus", metavar="CORPUS", type=Path, help="a folder of clips and stills")
    step.add_argument("--seed", type=int, default=0)
    step.set_defaults(
        run=_telling(lambda runs, chosen: runs.compare_codes(chosen.corpus, seed=chosen.seed))
    )


def add_teacher(steps: Steps) -> None:
    step = steps.add_parser("teacher", help="a bidirectional teacher, from pairs")
    step.add_argument("pairs", metavar="PAIRS", type=Path)
    _add_schedule(step, TEACHER)
    _add_checkpointing(step)
    step.add_argument("--vae", type=Path, required=True, help="the one that made the pairs")
    _add_files(
        step, "begin", "a Wan's transformer and text encoder, to begin with; else a tiny one"
    )
    step.set_defaults(
        run=_telling(
            lambda runs, chosen: runs.train_teacher(
                chosen.pairs,
                chosen.folder,
                _schedule(chosen),
                vae_file=chosen.vae,
                begin=chosen.begin,
                tokenizer=chosen.tokenizer,
                seed=chosen.seed,
            )
        )
    )


def add_student(steps: Steps) -> None:
    step = steps.add_parser("student", help="a causal few-step student, from its teacher")
    step.add_argument("pairs", metavar="PAIRS", type=Path)
    _add_schedule(step, STUDENT)
    _add_checkpointing(step)
    _add_files(step, "teacher", "the weights to begin with", required=True)
    _add_recipe(step)
    step.add_argument(
        "--ode",
        type=int,
        default=0,
        metavar="STEPS",
        help="learn the ends of the teacher's flow in so many steps, not the pairs' targets",
    )
    step.add_argument(
        "--partitions",
        type=int,
        nargs="+",
        default=[],
        metavar="LATENTS",
        help="lengths of chunks, one drawn for each step (the recipe's alone)",
    )
    step.set_defaults(
        run=_telling(
            lambda runs, chosen: runs.train_student(
                chosen.pairs,
                chosen.folder,
                _schedule(chosen),
                teacher=chosen.teacher,
                tokenizer=chosen.tokenizer,
                ode=chosen.ode,
                partitions=chosen.partitions,
                **_recipe(chosen),
            )
        )
    )


def add_distill(steps: Steps) -> None:
    step = steps.add_parser("distill", help="post-training of a student on its own rollouts")
    step.add_argument("pairs", metavar="PAIRS", type=Path)
    _add_schedule(step, DISTILL)
    _add_checkpointing(step)
    _add_files(step, "student", "the weights to begin with", required=True)
    _add_files(step, "teacher", "whose score is matched", required=True, tokenizer=False)
    step.set_defaults(
        run=_telling(
            lambda runs, chosen: runs.distill(
                chosen.pairs,
                chosen.folder,
                _schedule(chosen),
                student=chosen.student,
                teacher=chosen.teacher,
                tokenizer=chosen.tokenizer,
            )
        )
    )


def add_reshape(steps: Steps) -> None:
    step = steps.add_parser("reshape", help="a model in another shape, to be trained on")
    step.add_argument("corpus", metavar="CORPUS", type=Path, help="a folder of clips and stills")
    step.add_argument("model", metavar="MODEL", type=Path)
    step.add_argument("out", metavar="OUT", type=Path)
    step.add_argument("--channels", type=int, help="of a latent: more than there are")
    step.add_argument("--patch", type=int, metavar="LATENTS", help="a token's side: fewer")
    step.add_argument("--adapter", type=int, metavar="UNITS", help="of the reference's: fewer")
    step.add_argument("--vae", type=Path, help="the reshaped model's, where that has learned on")
    step.add_argument("--seed", type=int, default=0)
    step.set_defaults(
        run=_telling(
            lambda runs, chosen: runs.reshape(
                chosen.corpus,
                chosen.model,
                chosen.out,
                channels=chosen.channels,
                patch=chosen.patch,
                adapter=chosen.adapter,
                vae_file=chosen.vae,
                seed=chosen.seed,
            )
        )
    )


def add_finish(steps: Steps) -> None:
    step = steps.add_parser("finish", help="student and decoder together, by what is seen")
    step.add_argument("corpus", metavar="CORPUS", type=Path, help="a folder of clips and stills")
    _add_schedule(step, FINISH)
    step.add_argument("--student", type=Path, required=True, help="who paints")
    step.add_argument("--vae", type=Path, help="another decoder to the same latents")
    step.set_defaults(
        run=_telling(
            lambda runs, chosen: runs.finish(
                chosen.corpus,
                chosen.folder,
                _schedule(chosen),
                student=chosen.student,
                vae_file=chosen.vae,
            )
        )
    )


def add_release(steps: Steps) -> None:
    step = steps.add_parser("release", help="a trained model in bf16, with its card")
    step.add_argument("model", metavar="MODEL", type=Path)
    step.add_argument("out", metavar="OUT", type=Path)
    step.add_argument("--card", type=Path, help="JSON: origin, licence, commands, what is known")
    step.add_argument(
        "--towards", type=Path, metavar="MODEL", help="another one, on the way to which it stops"
    )
    step.add_argument("--share", type=float, default=0.5, help="of that way")
    step.add_argument("--only-vae", action="store_true", help="the student does not go it")
    _add_recipe(step)
    step.set_defaults(
        run=_telling(
            lambda runs, chosen: runs.release(
                chosen.model,
                chosen.out,
                card=chosen.card,
                towards=chosen.towards,
                share=chosen.share,
                student=not chosen.only_vae,
                **_recipe(chosen),
            )
        )
    )


# in the order in which they are run
STEPS = (
    add_codes,
    add_vae,
    add_data,
    add_teacher,
    add_student,
    add_distill,
    add_reshape,
    add_finish,
    add_release,
)


def _add_schedule(step: argparse.ArgumentParser, defaults: dict[str, Any]) -> None:
    step.add_argument("folder", metavar="RUN", type=Path, help="goes on from its checkpoint")
    for name, default in defaults.items():
        step.add_argument(f"--{name}", type=type(default), default=default)
    step.add_argument("--seed", type=int, default=0)
    step.add_argument("--fp32", action="store_true", help="no bf16 anywhere")
    step.add_argument("--tensorboard", action="store_true", help="figures go there as well")
    step.add_argument("--device", help="cpu, cuda, cuda:1; CUDA where there is one")
    step.add_argument("--save-every", type=int, default=250, metavar="STEPS")
    step.set_defaults(checkpointing=False, shard=False)


def _add_files(
    step: argparse.ArgumentParser, name: str, what: str, *, tokenizer: bool = True, **more: Any
) -> None:
    """One file where all of a model is small; of a Wan also its autoencoder and text encoder."""
    step.add_argument(
        f"--{name}", type=Path, nargs="+", default=[], metavar="FILE", help=what, **more
    )
    if tokenizer:
        step.add_argument("--tokenizer", type=Path, help="umT5's, where its file has none")


def _add_checkpointing(step: argparse.ArgumentParser) -> None:
    step.add_argument(
        "--checkpointing",
        action="store_true",
        help="recompute each block in the backward pass: less memory, a third more arithmetic",
    )
    step.add_argument(
        "--shard",
        action="store_true",
        help="share weights, gradients and optimizer among the processes of torchrun (FSDP)",
    )


def _add_recipe(step: argparse.ArgumentParser) -> None:
    step.add_argument("--recipe", nargs="+", default=[], metavar="FIELD=VALUE")


def _schedule(chosen: argparse.Namespace) -> Any:
    from ..train.loop import Schedule

    return Schedule(
        steps=chosen.steps,
        batch=chosen.batch,
        rate=chosen.rate,
        seed=chosen.seed,
        bf16=not chosen.fp32,
        checkpointing=chosen.checkpointing,
        shard=chosen.shard,
        save_every=chosen.save_every,
        device=chosen.device,
        tensorboard=chosen.tensorboard,
    )


def _data(chosen: argparse.Namespace) -> Any:
    from ..train.data import DataConfig

    config = DataConfig(side=chosen.side, latents=chosen.latents, structure=chosen.structure)
    return config if config.side <= 128 else replace(config, rows=64)  # of some hundred MB


def _recipe(chosen: argparse.Namespace) -> dict[str, Any]:
    return told_fields(" ".join(chosen.recipe))


def _telling(make: Callable[[Any, argparse.Namespace], Iterator[str]]) -> Any:
    """A command that prints what a function of `train.runs` yields."""

    def run(chosen: argparse.Namespace) -> int:
        import cv2

        from ..train import runs

        cv2.setNumThreads(1)  # its threads and torch's would wait for one another
        # of RMSNorm under autocast: bf16 comes in and the weight learns in fp32, as it should
        warnings.filterwarnings("ignore", "Mismatch dtype between input and weight")
        for line in make(runs, chosen):
            print(line, flush=True)
        return 0

    return run
