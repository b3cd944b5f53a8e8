"""Ranks that something is wrong with: `python -m tests.scale.broken WHAT`."""

import os
import sys

import torch

from rtr_core import Style, Stylizer, ranks, untrained
from rtr_core.errors import RtrError
from rtr_core.model.config import TransformerConfig
from rtr_core.scale.follower import Follower
from rtr_core.scale.together import together
from tests.scale.streams import HEADS, SIZE, TRANSFORMER


class Dying(Follower):
    """It is killed in the midst of a stream."""

    verbs = 0

    def _do(self, *told) -> None:
        self.verbs += 1
        if self.verbs == 40:
            os._exit(9)
        super()._do(*told)


def work(stylizer: Stylizer) -> None:
    session = stylizer.session(Style(prompt="ink"), SIZE)
    for part in torch.rand(80, *SIZE, 3).split(8):
        list(session.push(part))
    if sys.argv[1] == "fails":
        raise ValueError("the disk is full")


def config() -> TransformerConfig:
    return untrained.TRANSFORMER if sys.argv[1] != "odd" else TRANSFORMER


if __name__ == "__main__":
    torch.set_num_threads(1)
    ranks.join()
    seed = ranks.number() if sys.argv[1] == "differs" else 0
    if sys.argv[1] == "dies":
        from rtr_core.scale import together as room

        room.Follower = Dying
    parts = untrained.parts(seed=seed, transformer=config(), recipe=HEADS)
    code = 0
    try:
        way = "stages" if sys.argv[1] == "odd" else "heads"
        together(Stylizer.of(parts), way, work)
    except RtrError as error:
        sys.stderr.write(str(error))
        code = 1
    finally:
        ranks.leave()
    ranks.end(code)
