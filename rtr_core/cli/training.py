"""The steps of `rtr train` that train: each one function of `train.runs`, its arguments from here.

They import torch's heavier parts and OpenCV, so that is done when a step runs.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..recipes import told_fields

Steps = Any  # what argparse calls a group of subcommands

# Defaults are those that `rtr-tiny` is trained with.
VAE = {"steps": 700, "batch": 8, "rate": 6e-4}
TEACHER = {"steps": 5000, "batch": 16, "rate": 6e-4}
STUDENT = {"steps": 3000, "batch": 16, "rate": 3e-4}
DISTILL = {"steps": 300, "batch": 16, "rate": 1e-4}
DECODER = {"steps": 1000, "batch": 8, "rate": 1e-3}


def add_data(steps: Steps) -> None:
    step = steps.add_parser("data", help="pairs of source and styled latents, in shards")
    step.add_argument("corpus", metavar="CORPUS", type=Path, help="a folder of clips and stills")
    step.add_argument("vae", metavar="VAE", type=Path, help="the autoencoder")
    step.add_argument("folder", metavar="PAIRS", type=Path)
    step.add_argument("--count", type=int, default=14336, help="how many pairs")
    step.add_argument("--seed", type=int, default=0)
    step.set_defaults(run=lambda chosen: _told(_data(chosen)))


def add_vae(steps: Steps) -> None:
    step = steps.add_parser("vae", help="an autoencoder, from clips and stills")
    step.add_argument("corpus", metavar="CORPUS", type=Path, help="a folder of clips and stills")
    _add_schedule(step, VAE)
    step.set_defaults(run=lambda chosen: _told(_vae(chosen)))


def add_teacher(steps: Steps) -> None:
    step = steps.add_parser("teacher", help="a bidirectional teacher, from pairs")
    step.add_argument("pairs", metavar="PAIRS", type=Path)
    _add_schedule(step, TEACHER)
    _add_checkpointing(step)
    step.add_argument("--vae", type=Path, required=True, help="the one that made the pairs")
    step.set_defaults(run=lambda chosen: _told(_teacher(chosen)))


def add_student(steps: Steps) -> None:
    step = steps.add_parser("student", help="a causal few-step student, from its teacher")
    step.add_argument("pairs", metavar="PAIRS", type=Path)
    _add_schedule(step, STUDENT)
    _add_checkpointing(step)
    step.add_argument("--teacher", type=Path, required=True, help="the weights to begin with")
    _add_recipe(step)
    step.set_defaults(run=lambda chosen: _told(_student(chosen)))


def add_distill(steps: Steps) -> None:
    step = steps.add_parser("distill", help="post-training of a student on its own rollouts")
    step.add_argument("pairs", metavar="PAIRS", type=Path)
    _add_schedule(step, DISTILL)
    _add_checkpointing(step)
    step.add_argument("--student", type=Path, required=True, help="the weights to begin with")
    step.add_argument("--teacher", type=Path, required=True, help="whose score is matched")
    step.set_defaults(run=lambda chosen: _told(_distill(chosen)))


def add_decoder(steps: Steps) -> None:
    step = steps.add_parser("decoder", help="the decoder again, on what a student paints")
    step.add_argument("corpus", metavar="CORPUS", type=Path, help="a folder of clips and stills")
    _add_schedule(step, DECODER)
    step.add_argument("--student", type=Path, required=True, help="who paints")
    step.set_defaults(run=lambda chosen: _told(_decoder(chosen)))


def add_release(steps: Steps) -> None:
    step = steps.add_parser("release", help="a trained model in bf16, with its card")
    step.add_argument("model", metavar="MODEL", type=Path)
    step.add_argument("out", metavar="OUT", type=Path)
    step.add_argument("--card", type=Path, help="JSON: origin, licence, commands, what is known")
    _add_recipe(step)
    step.set_defaults(run=lambda chosen: _told(_release(chosen)))


def _add_schedule(step: argparse.ArgumentParser, defaults: dict[str, Any]) -> None:
    step.add_argument("folder", metavar="RUN", type=Path, help="goes on from its checkpoint")
    for name, default in defaults.items():
        step.add_argument(f"--{name}", type=type(default), default=default)
    step.add_argument("--seed", type=int, default=0)
    step.add_argument("--fp32", action="store_true", help="no bf16 anywhere")
    step.add_argument("--save-every", type=int, default=250, metavar="STEPS")
    step.set_defaults(checkpointing=False)


def _add_checkpointing(step: argparse.ArgumentParser) -> None:
    step.add_argument(
        "--checkpointing",
        action="store_true",
        help="recompute each block in the backward pass: less memory, a third more time",
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
        save_every=chosen.save_every,
    )


def _data(chosen: argparse.Namespace) -> Iterator[str]:
    from ..train import runs

    return runs.make_data(chosen.corpus, chosen.vae, chosen.folder, chosen.count, seed=chosen.seed)


def _vae(chosen: argparse.Namespace) -> Iterator[str]:
    from ..train import runs

    return runs.train_vae(chosen.corpus, chosen.folder, _schedule(chosen), seed=chosen.seed)


def _teacher(chosen: argparse.Namespace) -> Iterator[str]:
    from ..train import runs

    return runs.train_teacher(
        chosen.pairs, chosen.folder, _schedule(chosen), vae_file=chosen.vae, seed=chosen.seed
    )


def _student(chosen: argparse.Namespace) -> Iterator[str]:
    from ..train import runs

    return runs.train_student(
        chosen.pairs, chosen.folder, _schedule(chosen), teacher=chosen.teacher, **_recipe(chosen)
    )


def _distill(chosen: argparse.Namespace) -> Iterator[str]:
    from ..train import runs

    return runs.distill(
        chosen.pairs,
        chosen.folder,
        _schedule(chosen),
        student=chosen.student,
        teacher=chosen.teacher,
    )


def _decoder(chosen: argparse.Namespace) -> Iterator[str]:
    from ..train import runs

    return runs.train_decoder(
        chosen.corpus, chosen.folder, _schedule(chosen), student=chosen.student
    )


def _release(chosen: argparse.Namespace) -> Iterator[str]:
    from ..train import runs

    return runs.release(chosen.model, chosen.out, card=chosen.card, **_recipe(chosen))


def _recipe(chosen: argparse.Namespace) -> dict[str, Any]:
    return told_fields(" ".join(chosen.recipe))


def _told(lines: Iterator[str]) -> int:
    import cv2

    cv2.setNumThreads(1)  # its threads and torch's would wait for one another
    for line in lines:
        print(line, flush=True)
    return 0
