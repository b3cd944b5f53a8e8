"""The loop that every stage of training runs in. It knows of no loss and of no network.

A stage has players (networks with an optimizer each), says whose turn it is, and gives losses.
What is random in a step comes from its number alone, so a run that was killed anywhere goes on to
the same losses, and so do several processes that share one batch.
"""

import json
import math
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..arithmetic import has_bf16
from ..errors import NumericsError, StyleError
from ..flow import randn
from ..model.text import fingerprint
from ..placing import moved
from ..stylizer import checked_device
from . import ranks
from .checkpoint import FILE, Checkpoint, Player
from .muon import Muon
from .recompute import recomputed
from .sharding import blank, check_sharding, clip_gradients, filled, local, sharded


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long and how fast."""

    steps: int
    batch: int  # samples a step, over all processes
    rate: float = 4e-4  # of learning, at its highest
    warmup: int = 100  # steps until it is there
    floor: float = 0.05  # share of it that is left at the end, after a half cosine
    clip: float = 1.0  # largest norm of a gradient
    decay: float = 0.01  # of weights that are matrices
    momentum: tuple[float, float] = (0.9, 0.99)
    average: float = 0.995  # of the slow copy that is written out
    bf16: bool = True  # matrices and convolutions, where the device multiplies in it
    checkpointing: bool = False  # of gradients: blocks are recomputed, for less memory
    shard: bool = False  # processes share the weights, see sharding
    seed: int = 0
    save_every: int = 250
    tell_every: int = 25
    tensorboard: bool = False  # figures go there as well as into log.jsonl
    device: str | None = None  # CUDA where there is one, else the CPU

    def rate_at(self, step: int) -> float:
        done = min(1.0, step / self.steps)
        cosine = self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * done))
        return self.rate * min(1.0, (step + 1) / self.warmup) * cosine


INNER = re.compile(r"\.blocks\..*weight|\.conv\..*weight")  # not the first layers, nor the last


class Dice:
    """A source of randomness in numpy and in torch, the same for the same seed."""

    def __init__(self, *seed: int):
        self.rng = np.random.default_rng(seed)
        self.noise = torch.Generator().manual_seed(int(self.rng.integers(2**62)))


class Turn(NamedTuple):
    """One player's share of a step, and all that is random in it."""

    player: str
    together: Dice  # the same in all processes
    each: Sequence[Dice]  # one for each sample of this process

    def like(self, x: Tensor) -> Tensor:
        """Noise of the shape of `x`, to each sample its own, in whichever process it is."""
        return torch.stack([randn(x.shape[1:], dice.noise, x) for dice in self.each])


class Stage(Protocol):
    """One stage of training: who learns, when, and from what."""

    @property
    def name(self) -> str: ...

    @property
    def players(self) -> Mapping[str, nn.Module]: ...

    @property
    def averaged(self) -> Sequence[str]:
        """Players whose slow average is what the stage gives."""
        ...

    @property
    def config(self) -> Mapping[str, Any]:
        """What makes its runs comparable; a checkpoint of another config is refused."""
        ...

    @property
    def frozen(self) -> Sequence[nn.Module]:
        """What takes part and does not learn."""
        ...

    def rate(self, player: str) -> float:
        """Of learning, as a multiple of the schedule's."""
        ...

    def turns(self, step: int) -> Sequence[str]: ...

    def batch(self, turn: Turn) -> Any:
        """The samples of a turn. Called in a thread, ahead of time; touches no player."""
        ...

    def loss(self, turn: Turn, batch: Any) -> tuple[Tensor, Mapping[str, Tensor]]:
        """What to lower, and figures to tell."""
        ...

    def write(self, folder: Path, step: int, averages: Mapping[str, nn.Module]) -> None:
        """The result so far, and pictures to look at."""
        ...


class Trainer:
    """Runs a stage in a folder, from wherever the folder's checkpoint is."""

    def __init__(self, stage: Stage, schedule: Schedule, folder: Path):
        self.stage, self.schedule, self.folder = stage, schedule, folder
        self.device = checked_device(schedule.device)
        self.board = board(folder) if schedule.tensorboard and ranks.is_first() else None
        folder.mkdir(parents=True, exist_ok=True)
        for module in (*stage.players.values(), *stage.frozen):
            if any(tensor.device != self.device for tensor in module.state_dict().values()):
                module.to(self.device)
        found = Checkpoint.found(folder)
        self.step = found.step if found else 0
        self._agree()
        if schedule.shard:
            check_sharding(stage.players.values())
            for module in stage.frozen:
                sharded(module, self.device)
        self.players = {name: self._player(name, module) for name, module in stage.players.items()}
        if found is not None:
            found.restore(self._config, self.players)

    def run(self) -> Iterator[dict[str, float]]:
        """Train to the end; yields figures every now and then."""
        since, began = self.step, time.monotonic()
        facts: dict[str, list[float]] = {}
        with ThreadPoolExecutor(1) as ahead:
            for turn, batch, is_last in self._turns(ahead):
                with ranks.together(self.step):
                    news = self.update(turn, batch)
                for fact, value in news.items():
                    facts.setdefault(fact, []).append(value)
                if not is_last:
                    continue
                self.step += 1
                is_end = self.step == self.schedule.steps
                if self.step % self.schedule.tell_every == 0 or is_end:
                    seconds = (time.monotonic() - began) / (self.step - since)
                    means = {fact: float(np.mean(values)) for fact, values in facts.items()}
                    yield self._tell({"step": self.step, "seconds": seconds} | means)
                    since, began, facts = self.step, time.monotonic(), {}
                if self.step % self.schedule.save_every == 0 or is_end:
                    self.save()

    def _turns(self, ahead: ThreadPoolExecutor) -> Iterator[tuple[Turn, Any, bool]]:
        """Each turn with its batch, which was made during the turn before, and whether its step
        ends with it."""
        waiting: tuple[Turn, Future, bool] | None = None
        for step in range(self.step, self.schedule.steps):
            names = self.stage.turns(step)
            for place, name in enumerate(names):
                turn = self.turn(step, name)
                coming = turn, ahead.submit(self.stage.batch, turn), place == len(names) - 1
                if waiting is not None:
                    yield waiting[0], waiting[1].result(), waiting[2]
                waiting = coming
        if waiting is not None:
            yield waiting[0], waiting[1].result(), waiting[2]

    def turn(self, step: int, name: str) -> Turn:
        seed = self.schedule.seed, step, list(self.players).index(name)
        rows = ranks.rows(self.schedule.batch)
        return Turn(name, Dice(*seed), [Dice(*seed, row) for row in rows])

    def save(self) -> None:
        if not (self.schedule.shard or ranks.is_first()):
            return
        state = Checkpoint.of(self.stage.name, self._config, self.step, self.players)
        if self.schedule.shard:
            state.write_shared(self.folder)
        else:
            state.write(self.folder / FILE)
        averages = {n: self._whole(p) for n, p in self.players.items()}
        if ranks.is_first():
            self.stage.write(self.folder, self.step, averages)

    @property
    def dtype(self) -> torch.dtype:
        """Of products; losses and weights are in fp32 in any case."""
        narrow = self.schedule.bf16 and has_bf16(self.device)
        return torch.bfloat16 if narrow else torch.float32

    def _whole(self, player: Player) -> nn.Module:
        """What a player has become, on the first process."""
        module = player.average or player.module
        if player.empty is None:
            return module
        return filled(player.empty, module, self.device) or module

    def update(self, turn: Turn, batch: Any) -> dict[str, float]:
        """What a turn does to its player."""
        player, schedule = self.players[turn.player], self.schedule
        player.optimizer.zero_grad()
        batch = moved(batch, self.device)
        narrow = self.dtype == torch.bfloat16
        bf16 = torch.autocast(self.device.type, torch.bfloat16, enabled=narrow)
        with attention_for(self.device):  # backwards too: there blocks may be recomputed
            with bf16:
                loss, facts = self.stage.loss(turn, batch)
            loss.backward()
        ranks.average_gradients(player.module)
        norm = clip_gradients(player.module, schedule.clip)
        if not math.isfinite(norm):
            raise NumericsError(
                f"The loss of the {turn.player} became {float(loss.detach()):.3g} (gradient "
                f"{norm:.3g}) in step {self.step} of seed {schedule.seed}. The last checkpoint is "
                f"good: go on from it with a lower rate."
            )
        for group in player.optimizer.param_groups:
            group["lr"] = schedule.rate_at(self.step) * self.stage.rate(turn.player)
        player.optimizer.step()
        if player.average is not None:
            keep = min(schedule.average, self.step / (self.step + 20))
            _follow(player.average, player.module, keep)
        facts = {"loss": loss.detach(), **facts}
        return {f"{turn.player} {fact}": float(value.detach()) for fact, value in facts.items()}

    def _player(self, name: str, module: nn.Module) -> Player:
        if self.schedule.checkpointing:
            recomputed(module)
        average, empty = None, None
        if name in self.stage.averaged:
            average = deepcopy(module).requires_grad_(False)
        if self.schedule.shard:
            empty = blank(module)
            for each in filter(None, (module, average)):
                sharded(each, self.device)
        trained = {n: p for n, p in module.named_parameters() if p.requires_grad}
        inner = {n for n, p in trained.items() if p.ndim > 1 and INNER.search(f".{n}")}
        optimizer = Muon(
            [trained[name] for name in trained if name in inner],
            [trained[name] for name in trained if name not in inner],
            rate=self.schedule.rate,
            decay=self.schedule.decay,
            momentum=self.schedule.momentum,
            dtype=self.dtype,
        )
        return Player(module, optimizer, average, empty)

    def _agree(self) -> None:
        """That all processes begin with the same, and from the same checkpoint."""
        if ranks.count() == 1:
            return
        learners = (*self.stage.players.values(), *self.stage.frozen)
        weights = [fingerprint(module.state_dict())[:16] for module in learners]
        about = {"config": self._config, "step of the checkpoint": self.step, "weights": weights}
        ranks.agree(ranks.versions() | {"stage": self.stage.name} | about)

    def _tell(self, facts: dict[str, float]) -> dict[str, float]:
        facts = ranks.averaged(facts)
        if ranks.is_first():
            with (self.folder / "log.jsonl").open("a") as log:
                log.write(json.dumps(facts) + "\n")
            if self.board is not None:
                for fact, value in facts.items():
                    self.board.add_scalar(fact, value, self.step)
                self.board.flush()  # as they come; and a rank ends without tidying up
        return facts

    @property
    def _config(self) -> dict[str, Any]:
        # these may be changed while a run goes on
        free = ("steps", "save_every", "tell_every", "checkpointing", "device", "tensorboard")
        free += ("shard",)
        schedule = {k: v for k, v in asdict(self.schedule).items() if k not in free}
        # through JSON, as a checkpoint has been, so that tuples and lists are alike
        return json.loads(json.dumps({"schedule": schedule} | dict(self.stage.config)))


def board(folder: Path) -> Any:
    """Where tensorboard reads."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise StyleError(
            "tensorboard is not installed, and figures were to go there: pip install tensorboard, "
            "or leave --tensorboard out; log.jsonl has the same figures."
        ) from error
    return SummaryWriter(str(folder))


@contextmanager
def attention_for(device: torch.device) -> Iterator[None]:
    """On the CPU plain matrix products: torch's fused attention takes twice as long backwards."""
    if device.type != "cpu":
        yield
        return
    before = torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed()
    torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(True)  # of the CPU's, whatever its name
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(before)


@torch.no_grad()
def _follow(average: nn.Module, module: nn.Module, keep: float) -> None:
    for slow, fast in zip(average.parameters(), module.parameters(), strict=True):
        local(slow).lerp_(local(fast), 1 - keep)
