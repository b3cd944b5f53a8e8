"""The decoder, once more: it learns to show what a student paints.

    rtr train decoder CORPUS RUN --student STUDENT

Painted latents are less exact than encoded ones, and wrong in ways that a decoder can learn to
smooth over: tokens that do not meet, texture out of place. The encoder stays as it is, and so do
all pairs that were made with it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..shapes import frames_of
from ..style import REFERENCE_PROMPT
from ..vae.stream import DecoderStream, EncoderStream
from ..vae.tiny import TinyVae
from .data import DataConfig, Sample, samples
from .flow_stage import LOOKED_AT, grid_of
from .loop import Dice, Turn
from .makers import Procedural
from .material import Material, to_batch
from .network import Network, Result
from .pairs import Batch
from .rollout import rolled_out
from .strips import write_strip
from .vae import VaeTraining, psnr, seen


@dataclass(frozen=True, kw_only=True)
class DecoderTraining:
    by_reference: float = 0.4  # share of steps whose style is told by a picture
    painted: float = 0.5  # share of latents that the student paints; the others are encoded
    data: DataConfig = field(default_factory=lambda: DataConfig(styles=1))
    shown: VaeTraining = field(default_factory=VaeTraining)


class Windows(NamedTuple):
    """Pixels `[b 3 t h w]`."""

    source: Tensor
    target: Tensor
    prompts: list[str]
    reference: Tensor | None  # of one frame


class DecoderStage:
    """Trains the decoder alone, on encoded latents and on those of a student that is frozen."""

    name = "decoder"
    averaged = ("vae",)

    def __init__(
        self,
        student: Network,
        vae: TinyVae,
        material: Material,
        result: Result,
        training: DecoderTraining,
    ):
        self.student, self.vae, self.material = student.eval().requires_grad_(False), vae, material
        self.result, self.training = result, training
        self.players: Mapping[str, nn.Module] = {"vae": learning(vae)}

    @property
    def config(self) -> Mapping[str, Any]:
        return {"vae": asdict(self.vae.config), "training": asdict(self.training)}

    def rate(self, player: str) -> float:
        return 1.0

    def turns(self, step: int) -> Sequence[str]:
        return ("vae",)

    def batch(self, turn: Turn) -> Windows:
        by_reference = turn.together.rng.random() < self.training.by_reference
        return self._windows([dice.rng for dice in turn.each], by_reference)

    def loss(self, turn: Turn, batch: Windows) -> tuple[Tensor, Mapping[str, Tensor]]:
        with torch.no_grad():
            exact, painted = self._latents(turn, batch)
        is_painted = [dice.rng.random() < self.training.painted for dice in turn.each]
        shaken = exact + self.training.shown.jitter * turn.like(exact)
        chosen = torch.where(torch.tensor(is_painted)[:, None, None, None, None], painted, shaken)
        error = DecoderStream(self.vae).push(chosen) - batch.target
        kinds = {"painted": is_painted, "encoded": [not one for one in is_painted]}
        facts = {f"psnr {kind}": psnr(error[rows]) for kind, rows in kinds.items() if any(rows)}
        return seen(error, self.training.shown), facts

    def write(self, folder: Path, step: int, averages: Mapping[str, nn.Module]) -> None:
        vae = averages["vae"]
        assert isinstance(vae, TinyVae)
        self.result.told(decoder_steps=step).of(vae).write(
            folder / "model.safetensors", self.student
        )
        for kind, by_reference in (("prompt", False), ("reference", True)):
            dice = [Dice(1, number) for number in range(LOOKED_AT)]
            batch = self._windows([die.rng for die in dice], by_reference)
            with torch.no_grad():
                latents = self._latents(Turn("look", Dice(1), dice), batch)
                back = [DecoderStream(vae).push(some).clamp(-1, 1) for some in latents]
            rows = [clip[:, :, -1] for clip in (batch.source, back[1], back[0], batch.target)]
            if batch.reference is not None:
                rows.append(batch.reference[:, :, -1])
            write_strip(folder / f"strip-{step:06}-{kind}.png", rows)

    def _latents(self, turn: Turn, batch: Windows) -> tuple[Tensor, Tensor]:
        """Of the target: as the encoder has them, and as the student paints them."""
        source, target = (encoded(self.vae, side) for side in (batch.source, batch.target))
        reference = None if batch.reference is None else encoded(self.vae, batch.reference)
        asked = Batch(source, target, batch.prompts, reference, [])
        recipe, grid = self.result.recipe, grid_of(self.student, target)
        last = len(recipe.sigmas) - 1
        return target, rolled_out(self.student, recipe, asked, grid, last, turn)

    def _windows(self, rngs: Sequence[np.random.Generator], by_reference: bool) -> Windows:
        maker, data = Procedural(canonical=float(not by_reference)), self.training.data
        frames = frames_of(data.latents, self.vae.stride)
        made: list[Sample] = [
            sample
            for rng in rngs
            for sample in samples(self.material, maker, data, frames, (int(rng.integers(2**62)),))
        ]
        return Windows(
            source=to_batch(np.stack([sample.pair.source for sample in made])),
            target=to_batch(np.stack([sample.pair.target for sample in made])),
            prompts=[sample.pair.prompt or REFERENCE_PROMPT for sample in made],
            reference=to_batch(np.stack([sample.reference[None] for sample in made]))
            if by_reference
            else None,
        )


def learning(vae: TinyVae) -> TinyVae:
    """The autoencoder with only its decoder open to change."""
    for name, parameter in vae.requires_grad_(False).named_parameters():
        parameter.requires_grad_(name.startswith("decoder"))
    return vae


def encoded(vae: TinyVae, pixels: Tensor) -> Tensor:
    latents = EncoderStream(vae).push(pixels)
    assert latents is not None, "a window is a whole number of groups"
    return latents.float()
