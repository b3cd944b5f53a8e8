"""What one training step takes of memory, said beforehand: `rtr plan --train`.

    print(step_needs(training, there=80 * 10**9))

Nothing is estimated: the trainer's own steps run, on tensors that have shapes and no numbers, and
a ledger counts what is there at each moment.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, NamedTuple, cast, get_args

import torch
from torch import Tensor, nn

from ..errors import WeightsError
from ..families import RTR
from ..ledger import AsOnGpus, Imagined, Ledger, bytes_of
from ..media.needs import amount
from ..model.config import WAN_1_3B, WAN_5B, WAN_14B, TransformerConfig
from ..model.transformer import Transformer
from ..model.words import WordEncoder, WordEncoderConfig
from ..recipes import Recipe
from ..shapes import Geometry, Size, Stride
from ..style import REFERENCE_PROMPT
from ..vae.tiny import TinyVae
from ..vae.wan_config import WAN_2_1, WAN_2_2
from ..weights.bundle import read_about
from ..weights.load import canonical, config_of, required_part
from ..weights.read import open_weights
from .distill import Distillation, DistillStage
from .flow_stage import FlowStage
from .loop import Schedule, Trainer, Turn
from .network import TINY, TINY_RECIPE, TINY_TEXT, Network, Result, rtr_config
from .pairs import Batch, Pairs
from .student import Student
from .teacher import Teacher
from .vae import TINY_VAE

HARMLESS = (
    "Accessing the data pointer of FakeTensor",  # torch itself, where it copies a module
    "Mismatch dtype between input and weight",  # as bf16 on the CPU has it
)
StageName = Literal["teacher", "student", "distill"]
SIZE = Size(480, 832)
STEP = "optimizer's step"
STAGES: tuple[StageName, ...] = get_args(StageName)


@dataclass(frozen=True, kw_only=True)
class Learner:
    """A model that could be trained."""

    name: str
    transformer: TransformerConfig
    text: WordEncoderConfig | None = None  # None: of a frozen encoder only the rows are needed
    recipe: Recipe = RTR
    stride: Stride = WAN_2_1.stride  # of its autoencoder

    @classmethod
    def of(cls, model: str) -> "Learner":
        """A known config, or what a weights file holds."""
        if model in KNOWN:
            return KNOWN[model]
        if not Path(model).exists():
            raise WeightsError(
                f"There is no file {model}. Models known by name are {', '.join(KNOWN)}."
            )
        file = open_weights(Path(model))
        part, about = required_part(file, "transformer"), read_about(file)
        config = rtr_config(config_of(file, part, canonical(file, part)))
        vae, text = (about.vae, about.text) if about else (None, None)
        by_channels = WAN_2_2.stride if config.out_channels == WAN_2_2.channels else cls.stride
        return cls(
            name=Path(model).stem,
            transformer=config,
            text=text if isinstance(text, WordEncoderConfig) else None,
            recipe=about.recipe if about and about.recipe else RTR,
            stride=getattr(vae, "stride", by_channels),
        )


KNOWN = {
    learner.name: learner
    for learner in (
        Learner(
            name="tiny",
            transformer=TINY,
            text=TINY_TEXT,
            recipe=TINY_RECIPE,
            stride=TINY_VAE.stride,
        ),
        Learner(name="wan-1.3b", transformer=rtr_config(WAN_1_3B)),
        Learner(name="wan-5b", transformer=rtr_config(WAN_5B), stride=WAN_2_2.stride),
        Learner(name="wan-14b", transformer=rtr_config(WAN_14B)),
    )
}


@dataclass(frozen=True, kw_only=True)
class Training:
    """A stage of training, and how large its steps are."""

    learner: Learner
    stage: StageName = "teacher"
    size: Size = SIZE
    latents: int = 21  # latent frames of a sample
    batch: int = 1  # samples a step, of one process
    checkpointing: bool = False
    bf16: bool = True
    on_cpu: bool = False

    @property
    def geometry(self) -> Geometry:
        return Geometry(self.size, self.learner.stride, self.learner.transformer.patch)

    @property
    def schedule(self) -> Schedule:
        return Schedule(
            steps=2,
            batch=self.batch,
            bf16=self.bf16,
            checkpointing=self.checkpointing,
            device="cpu",
        )


class Height(NamedTuple):
    """A turn at its height."""

    peak: int
    phase: str
    kept: int  # for the backward pass, when the loss is there, weights in bf16 included


@dataclass(frozen=True, kw_only=True)
class StepNeeds:
    """What a step takes of one device."""

    training: Training
    parameters: int
    staying: Mapping[str, int]  # bytes from step to step
    turns: Mapping[str, Height]
    there: int | None  # all the memory there is, if that is known

    @property
    def needed(self) -> int:
        return max(height.peak for height in self.turns.values())

    @property
    def fits(self) -> bool:
        return self.there is None or self.needed <= self.there

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def lines(self) -> Iterator[str]:
        training, recipe = self.training, self.training.learner.recipe
        tokens = training.latents * training.geometry.grid.area
        yield (
            f"{training.stage} of {training.learner.name}: {self.parameters / 1e6:.0f} million "
            f"parameters in all networks, {'bf16' if training.bf16 else 'fp32'}, "
            f"{'with' if training.checkpointing else 'without'} checkpointing, as on "
            f"{'the CPU' if training.on_cpu else 'a GPU'}"
        )
        yield (
            f"a sample: {training.latents} latent frames at {training.size}, {tokens} tokens, and "
            f"a reference; {training.batch} a step"
        )
        if training.stage != "teacher":
            window = "all" if recipe.window is None else recipe.window
            yield (
                f"recipe: {recipe.name}, {len(recipe.timesteps)} steps, {recipe.chunk} latent "
                f"frames a chunk, {window} behind them in sight"
            )
        yield from (f"turn of the {name}: {self._turn(turn)}" for name, turn in self.turns.items())
        of = f" of {amount(self.there)}" if self.there is not None else ""
        items = " + ".join(f"{name} {amount(n)}" for name, n in self.items.items() if n)
        yield f"memory, counted: {amount(self.needed)}{of} at most: {items}"
        yield "  a kernel's own scratch, the driver and fragments come on top, uncounted"
        if self.there is not None:
            yield "fits" if self.fits else "does not fit"

    @property
    def items(self) -> dict[str, int]:
        """Of the turn that takes most."""
        turn = max(self.turns.values())
        kept = 0 if turn.phase == STEP else turn.kept
        rest = turn.peak - sum(self.staying.values()) - kept
        passing = f"gradients and passing results in the {turn.phase}"
        return {**self.staying, "kept for the backward pass": kept, passing: rest}

    def _turn(self, turn: Height) -> str:
        return (
            f"{amount(turn.peak)} at most, in the {turn.phase}; {amount(turn.kept)} kept for the "
            f"backward pass"
        )


def step_needs(training: Training, there: int | None = None) -> StepNeeds:
    """Run steps of the stage on tensors without numbers, and count."""
    modes = (Imagined(), *(() if training.on_cpu else (AsOnGpus(),)))
    return counted(training, modes, there)


def counted(training: Training, modes: Sequence[Any], there: int | None = None) -> StepNeeds:
    """The same under any modes; under none of them the tensors are real, and so is the work."""
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        for message in HARMLESS:
            warnings.filterwarnings("ignore", message)
        folder = Path(stack.enter_context(TemporaryDirectory()))  # stays empty
        for mode in modes:
            stack.enter_context(mode)
        ledger = stack.enter_context(Ledger())
        stage = Counted(made_stage(training), training, ledger)
        trainer = Trainer(stage, training.schedule, folder)
        turns: dict[str, Height] = {}
        for step in range(2):  # the first one makes what stays: optimizers' states, gradients
            for name in stage.turns(0):
                turns[name] = _taken(trainer, trainer.turn(step, name), stage)
        staying = _staying(trainer, stage)
    return StepNeeds(
        training=training,
        parameters=sum(p.numel() for p in stage.parameters),
        staying=staying,
        turns=turns,
        there=there,
    )


class Counted:
    """A stage whose samples are imagined and whose passes are watched."""

    def __init__(self, stage: FlowStage | DistillStage, training: Training, ledger: Ledger):
        self.stage, self.training, self.ledger = stage, training, ledger
        self.name, self.players, self.averaged = stage.name, stage.players, stage.averaged
        self.config, self.rate, self.turns = stage.config, stage.rate, stage.turns
        self.write, self.frozen = stage.write, ()  # what there is is where it is
        self.kept = 0

    @property
    def parameters(self) -> list[nn.Parameter]:
        frozen = [self.stage.teacher] if isinstance(self.stage, DistillStage) else []
        return [p for module in (*self.players.values(), *frozen) for p in module.parameters()]

    def batch(self, turn: Turn) -> Batch:
        """Told by a reference, which stands before the sample and takes its room."""
        rows, channels = len(turn.each), self.training.learner.transformer.out_channels
        shape = rows, channels, self.training.latents, *self.training.geometry.latent
        beside = channels * (2 if self.training.learner.transformer.structure else 1)
        return Batch(
            source=torch.zeros(rows, beside, *shape[2:]),
            target=torch.zeros(shape),
            prompts=[REFERENCE_PROMPT] * rows,
            reference=torch.zeros(*shape[:2], 1, *shape[3:]),
            styles=[""] * rows,
        )

    def loss(self, turn: Turn, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        before = self.ledger.now
        self.ledger.begin("forward pass")
        loss, facts = self.stage.loss(turn, batch)
        self.kept = self.ledger.now - before
        self.ledger.begin("backward pass")
        return loss, facts


def _taken(trainer: Trainer, turn: Turn, stage: Counted) -> Height:
    ledger = stage.ledger
    optimizer = trainer.players[turn.player].optimizer
    hook = optimizer.register_step_pre_hook(lambda *_: ledger.begin(STEP))
    batch = stage.batch(turn)
    ledger.start_over()
    trainer.update(turn, batch)
    hook.remove()
    return Height(ledger.peak, ledger.peak_phase, stage.kept)


def _staying(trainer: Trainer, stage: Counted) -> dict[str, int]:
    players = trainer.players.values()
    averages = [p for player in players if player.average for p in player.average.parameters()]
    states = [t for player in players for s in player.optimizer.state.values() for t in s.values()]
    turn = trainer.turn(0, next(iter(trainer.players)))
    batch = [t for t in stage.batch(turn) if isinstance(t, Tensor)]
    return {
        "weights": bytes_of(stage.parameters),
        "slow averages": bytes_of(averages),
        "optimizers": bytes_of(states),
        "samples": bytes_of(batch),
    }


# ---- a stage without files ----


class Rows(nn.Module):
    """Stands for a frozen text encoder: training needs no more of it than its rows."""

    def __init__(self, rows: int, dim: int):
        super().__init__()
        self.shape = rows, dim

    def forward(self, prompts: Sequence[str]) -> Tensor:
        return torch.zeros(len(prompts), *self.shape)


class Channels(NamedTuple):
    """Stands for an autoencoder: training needs no more of it than its latents."""

    channels: int


def made_stage(training: Training) -> FlowStage | DistillStage:
    learner, config = training.learner, training.learner.transformer
    recipe = learner.recipe
    vae = cast(TinyVae, Channels(config.out_channels))
    result = Result(vae=vae, recipe=recipe, styles=(), card={})
    pairs = cast(Pairs, Unread())
    if training.stage == "distill":
        networks = made_network(learner), made_network(learner)
        return DistillStage(*networks, pairs, result, Distillation(recipe=recipe))
    way = Teacher() if training.stage == "teacher" else Student(recipe=recipe)
    return FlowStage(made_network(learner), pairs, result, way)


class Unread:
    """Stands for a folder of pairs; samples are imagined."""

    vae = ""


def made_network(learner: Learner) -> Network:
    config = learner.transformer
    text = WordEncoder(learner.text) if learner.text else Rows(config.text_rows, config.text_dim)
    return Network(Transformer(config), cast(WordEncoder, text))
