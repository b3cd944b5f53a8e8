"""A run of the toy model on ranks: `python -m tests.train.shards STAGE PAIRS RUN LOSSES [seed]`."""

import os
import sys
from itertools import islice
from pathlib import Path

import torch

from rtr_core import ranks
from rtr_core.errors import RtrError
from rtr_core.train.distill import Distillation, DistillStage
from rtr_core.train.flow_stage import FlowStage
from rtr_core.train.loop import Schedule, Stage, Trainer
from rtr_core.train.pairs import Pairs
from rtr_core.train.teacher import Teacher
from tests.train.toys import RECIPE, make_network, make_result, woken

SHORT = Schedule(
    steps=6, batch=4, rate=3e-3, warmup=2, bf16=False, save_every=3, tell_every=1, average=0.9
)


def stage(name: str, pairs: Pairs, seed: int = 0) -> Stage:
    if name == "teacher":
        return FlowStage(woken(make_network(seed)), pairs, make_result(), Teacher())
    networks = woken(make_network(seed)), woken(make_network(1))
    training = Distillation(recipe=RECIPE, every=2, judged_at=(0, 1))
    return DistillStage(*networks, pairs, make_result(), training)


def main(name: str, pairs: str, folder: str, losses: str, **changes: bool | int) -> None:
    seed = int(changes.pop("seed", 0))
    schedule = Schedule(**{**vars(SHORT), **changes})
    trainer = Trainer(stage(name, Pairs(Path(pairs)), seed), schedule, Path(folder))
    for _ in islice(trainer.run(), int(losses)):
        pass
    if trainer.step < schedule.steps:
        os._exit(0)  # as one that is killed: nothing is tidied up


if __name__ == "__main__":
    torch.set_num_threads(1)
    ranks.join()
    words = sys.argv[1:5]
    changes = {"seed": ranks.number()} if sys.argv[5:] == ["differing"] else {}
    try:
        main(*words, shard=True, checkpointing=True, **changes)
    except RtrError as error:
        sys.stderr.write(str(error))
        ranks.end(1)
    ranks.end(0)
