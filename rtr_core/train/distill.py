"""Post-training: the causal student learns on its own rollouts what it gets wrong there.

    rtr train distill PAIRS RUN --student STUDENT --teacher TEACHER

Three players: the student, a critic that follows what it makes (DMD), and a discriminator on the
critic's features (the adversarial stage, from `adversarial_from` on). The teacher is frozen.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..flow import add_noise
from ..model.chunk_causal import bidirectional
from ..recipes import Recipe
from . import adversarial, dmd
from .adversarial import Discriminator, watched
from .flow_stage import grid_of, write_strips
from .loop import Turn
from .network import Network, Result, weights_of
from .pairs import Batch, Pairs
from .rollout import rolled_out


@dataclass(frozen=True, kw_only=True)
class Distillation:
    recipe: Recipe  # the student's: its steps, chunk, window, anchor
    by_reference: float = 0.5
    every: int = 3  # the critic learns in each step, the student in one of so many
    levels: tuple[float, float] = (0.05, 0.95)  # noise levels at which scores are compared
    guidance: float = 1.0  # of the teacher's score; 1 is none
    matching: float = 0.5  # weight of distribution matching
    targets: float = 1.0  # weight of the pairs' own targets, which clips of a real source have
    adversarial: float = 0.02  # weight of the discriminator's verdict
    adversarial_from: int = 0  # step at which it begins to count
    judged_at: tuple[int, ...] = (1, 3, 5)  # blocks of the critic that the discriminator sees
    penalty: float = 1.0  # of a verdict that hangs on a little noise
    shake: float = 0.1  # how much noise that is
    critic_rate: float = 1.0  # of learning, beside the student's
    discriminator_rate: float = 2.0


class DistillStage:
    """The student's turn comes after several of its critics'."""

    name = "distill"
    averaged = ("student",)

    def __init__(
        self,
        student: Network,
        teacher: Network,
        pairs: Pairs,
        result: Result,
        training: Distillation,
    ):
        self.student, self.pairs, self.result, self.training = student, pairs, result, training
        self.teacher = teacher.eval().requires_grad_(False)
        self.critic = deepcopy(teacher).requires_grad_(True)
        self.critic.text.requires_grad_(False)
        blocks = len(teacher.transformer.blocks)
        layers = [layer for layer in training.judged_at if layer < blocks]
        with torch.random.fork_rng():
            torch.manual_seed(0)  # so that all processes begin with the same
            self.discriminator = Discriminator(teacher.transformer.config.dim, layers)
        self.players: Mapping[str, nn.Module] = {
            "student": student,
            "critic": self.critic,
            "discriminator": self.discriminator,
        }
        self.weights = weights_of(result.vae)

    @property
    def config(self) -> Mapping[str, Any]:
        model = asdict(self.student.transformer.config)
        return {"model": model, "training": asdict(self.training), "vae": self.pairs.vae}

    @property
    def frozen(self) -> Sequence[nn.Module]:
        return self.teacher, *self.result.frozen

    def rate(self, player: str) -> float:
        training = self.training
        rates = {"critic": training.critic_rate, "discriminator": training.discriminator_rate}
        return rates.get(player, 1.0)

    def turns(self, step: int) -> Sequence[str]:
        judges = ["critic"] + (["discriminator"] if self._is_adversarial(step) else [])
        return (*judges, "student") if step % self.training.every == 0 else judges

    def batch(self, turn: Turn) -> Batch:
        return self.pairs.batch(turn, self.training.by_reference)

    def loss(self, turn: Turn, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        losses = {
            "student": self._student_loss,
            "critic": self._critic_loss,
            "discriminator": self._discriminator_loss,
        }
        return losses[turn.player](turn, batch)

    def write(self, folder: Path, step: int, averages: Mapping[str, nn.Module]) -> None:
        student, last = averages["student"], len(self.training.recipe.sigmas) - 1
        assert isinstance(student, Network)
        self.result.told(stage=self.name, steps=step).write(folder / "model.safetensors", student)
        write_strips(
            folder / f"strip-{step:06}",
            self.pairs,
            self.result.vae,
            lambda turn, batch: self._rolled_out(student, batch, last, turn),
        )

    # ---- the three losses ----

    def _student_loss(self, turn: Turn, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        training, made = self.training, self._made(turn, batch)
        noise, sigma = turn.like(made), self._sigmas(turn, made)
        matching = dmd.student_loss(
            made, noise, sigma, self._score(self.teacher, batch), self._score(self.critic, batch)
        )
        error = ((made - batch.target).square() * self.weights.to(made.device)).mean()
        loss = training.matching * matching + training.targets * error
        facts = {"matching": matching.detach(), "error": error.detach()}
        if training.adversarial:
            judge = self._judge(batch, noise, sigma)
            verdict = adversarial.student_loss(judge(batch.target).detach(), judge(made))
            loss = loss + training.adversarial * verdict
            facts["verdict"] = verdict.detach()
        return loss, facts

    def _critic_loss(self, turn: Turn, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        with torch.no_grad():
            made = self._made(turn, batch)
        noise, sigma = turn.like(made), self._sigmas(turn, made)
        return dmd.critic_loss(made, noise, sigma, self._score(self.critic, batch)), {}

    def _discriminator_loss(self, turn: Turn, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        with torch.no_grad():
            made = self._made(turn, batch)
        noise, sigma = turn.like(made), self._sigmas(turn, made)
        shaken = tuple(self.training.shake * turn.like(made) for _ in range(2))
        judge = self._judge(batch, noise, sigma)
        loss = adversarial.discriminator_loss(
            judge, batch.target, made, (shaken[0], shaken[1]), self.training.penalty
        )
        return loss, {}

    # ---- who sees what ----

    def _made(self, turn: Turn, batch: Batch) -> Tensor:
        """A rollout of the student that ends at a random step, the same for all its chunks."""
        steps = len(self.training.recipe.sigmas)
        exit_step = int(turn.together.rng.integers(steps))
        return self._rolled_out(self.student, batch, exit_step, turn)

    def _rolled_out(self, student: Network, batch: Batch, exit_step: int, turn: Turn) -> Tensor:
        grid = grid_of(student, batch.target)
        return rolled_out(student, self.training.recipe, batch, grid, exit_step, turn)

    def _score(self, network: Network, batch: Batch) -> dmd.Predict:
        """The clean latents that a bidirectional network sees in noisy ones."""
        context = network.encode(batch.prompts)
        references = 0 if batch.reference is None else batch.reference.shape[2]
        frames = references + batch.target.shape[2]
        memory = bidirectional(grid_of(network, batch.target), frames, context)
        return lambda noisy, sigma: network.clean(noisy, sigma, batch, memory)

    def _judge(self, batch: Batch, noise: Tensor, sigma: Tensor) -> adversarial.Judge:
        """Verdicts on latents under one noise, by the critic's features: its weights are not the
        discriminator's to change."""
        score, level = self._score(self.critic, batch), sigma[:, None, :, None, None]

        def judge(latents: Tensor) -> Tensor:
            with (
                torch.set_grad_enabled(latents.requires_grad),
                watched(self.critic.transformer, self.discriminator.layers) as seen,
            ):
                score(add_noise(latents, noise, level), sigma)
            return self.discriminator([tokens[:, -latents.shape[2] :] for tokens in seen])

        return judge

    def _sigmas(self, turn: Turn, latents: Tensor) -> Tensor:
        low, high = self.training.levels
        levels = [dice.rng.uniform(low, high) for dice in turn.each]
        sigma = torch.tensor(levels, dtype=torch.float32, device=latents.device)
        return sigma[:, None].expand(-1, latents.shape[2])

    def _is_adversarial(self, step: int) -> bool:
        return self.training.adversarial > 0 and step >= self.training.adversarial_from
