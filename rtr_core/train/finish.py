"""The finish: student and decoder learn together, by what is seen.

    rtr train finish CORPUS RUN --student STUDENT

Painted latents are less exact than encoded ones, and wrong in ways that show: tokens that do not
meet, walls that shimmer. Here the error is that of pixels, of their edges and of their changes,
and it goes through the decoder into a rollout of the student. The encoder stays as it is, and so
do all pairs that were made with it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..placing import moved
from ..sampling import beside
from ..shapes import frames_of
from ..structure import outlines
from ..style import REFERENCE_PROMPT
from ..vae.stream import DecoderStream, EncoderStream
from ..vae.tiny import TinyVae
from .data import DataConfig, Sample, samples
from .flow_stage import LOOKED_AT, grid_of
from .loop import Dice, Turn
from .makers import Procedural
from .material import Material, to_batch
from .network import Network, Result, weights_of
from .pairs import Batch
from .rollout import rolled_out
from .seen import Shown, psnr, seen
from .strips import write_strip


@dataclass(frozen=True, kw_only=True)
class Finish:
    by_reference: float = 0.5  # share of steps whose style is told by a picture
    painted: float = 2 / 3  # share of latents that the student paints; the others are encoded,
    # of targets and of sources in turn: a decoder that forgets what is filmed blurs what is drawn
    latent: float = 0.25  # weight of the error of latents, beside that of pixels
    data: DataConfig = field(default_factory=lambda: DataConfig(styles=1, own=0.0))
    jitter: float = 0.05  # noise on encoded latents
    shown: Shown = field(
        default_factory=lambda: Shown(
            change=1.0, seams=0.5, faint=0.3, flicker=0.1, texture=0.5, palette=2.0
        )
    )


class Windows(NamedTuple):
    """Pixels `[b 3 t h w]`."""

    source: Tensor
    target: Tensor
    prompts: list[str]
    reference: Tensor | None  # of one frame

    def half_as_filmed(self, first: int) -> "Windows":
        """From the window `first` on, every second is to be shown as it is, in no style."""
        target = self.target.clone()
        target[first::2] = self.source[first::2]
        return self._replace(target=target)

    def style(self, painted: int) -> Tensor:
        """Frames that show the style: to whoever paints, the reference."""
        last = self.target[:, :, -1:]
        shown = last if self.reference is None else self.reference
        return torch.cat([shown[:painted], last[painted:]])


class Together(nn.Module):
    """A student and the autoencoder that shows what it paints, of which the decoder learns."""

    def __init__(self, student: Network, vae: TinyVae):
        super().__init__()
        self.student, self.vae = student, vae
        for name, parameter in vae.named_parameters():
            parameter.requires_grad_(name.startswith("decoder"))


class FinishStage:
    """The last stage: one player, who paints and shows."""

    name = "finish"
    averaged = ("finish",)

    def __init__(self, student: Network, material: Material, result: Result, training: Finish):
        assert isinstance(result.vae, TinyVae), "another one's decoder does not learn"
        self.both = Together(student, result.vae)
        self.material, self.result, self.training = material, result, training
        self.players: Mapping[str, nn.Module] = {"finish": self.both}
        self.weights = weights_of(result.vae)

    @property
    def config(self) -> Mapping[str, Any]:
        model, vae = self.both.student.transformer.config, self.both.vae.config
        return {"model": asdict(model), "vae": asdict(vae), "training": asdict(self.training)}

    @property
    def frozen(self) -> Sequence[nn.Module]:
        return ()

    def rate(self, player: str) -> float:
        return 1.0

    def turns(self, step: int) -> Sequence[str]:
        return ("finish",)

    def batch(self, turn: Turn) -> Windows:
        by_reference = turn.together.rng.random() < self.training.by_reference
        return self.windows([dice.rng for dice in turn.each], by_reference)

    def loss(self, turn: Turn, batch: Windows) -> tuple[Tensor, Mapping[str, Tensor]]:
        training, count = self.training, round(self.training.painted * len(batch.target))
        batch = batch.half_as_filmed(count)
        asked = self.encoded(batch)
        exact = asked.target + training.jitter * turn.like(asked.target)
        painted = self.painted(self.both, asked, turn, count)
        latents = torch.cat([painted, exact[count:].to(painted)])
        back = DecoderStream(self.both.vae).push(latents)
        error = back.detach() - batch.target
        apart = (painted - asked.target[:count]).square()
        missed = (apart * self.weights.to(apart.device)).mean()
        facts = {"error": missed.detach(), "psnr painted": psnr(error[:count])}
        if count < len(error):
            facts["psnr encoded"] = psnr(error[count:])
        stride, noise = self.both.vae.stride, turn.together.noise
        visible = seen(back, batch.target, training.shown, stride, noise, batch.style(count))
        return visible + training.latent * missed, facts

    def write(self, folder: Path, step: int, averages: Mapping[str, nn.Module]) -> None:
        both = averages["finish"]
        assert isinstance(both, Together)
        result = self.result.of(both.vae).told(stage=self.name, steps=step)
        result.write(folder / "model.safetensors", both.student)
        for kind, by_reference in (("prompt", False), ("reference", True)):
            dice = [Dice(1, number) for number in range(LOOKED_AT)]
            made = self.windows([die.rng for die in dice], by_reference)
            batch = moved(made, next(both.parameters()).device)
            with torch.no_grad():
                asked = self.encoded(batch)
                painted = self.painted(both, asked, Turn("look", Dice(1), dice), LOOKED_AT)
                back = DecoderStream(both.vae).push(painted).clamp(-1, 1)
            rows = [clip[:, :, -1] for clip in (batch.source, back, batch.target)]
            if batch.reference is not None:
                rows.append(batch.reference[:, :, -1])
            write_strip(folder / f"strip-{step:06}-{kind}.png", rows)

    @torch.no_grad()
    def encoded(self, batch: Windows) -> Batch:
        """Their latents, as pairs would have them."""
        sides = (batch.source, batch.target, batch.reference)
        source, target, reference = (
            None if side is None else EncoderStream(self.both.vae).push(side) for side in sides
        )
        assert source is not None and target is not None, "a window is a whole number of groups"
        if self.both.student.transformer.config.structure:
            told = EncoderStream(self.both.vae).push(outlines(batch.source))
            source = beside(source, told)
        shown = None if reference is None else reference.float()
        return Batch(source.float(), target.float(), batch.prompts, shown, [])

    def painted(self, both: Together, asked: Batch, turn: Turn, count: int) -> Tensor:
        """What a stream of the student makes of the first `count` of them."""
        some = Batch(
            source=asked.source[:count],
            target=asked.target[:count],
            prompts=asked.prompts[:count],
            reference=None if asked.reference is None else asked.reference[:count],
            styles=[],
        )
        recipe, grid = self.result.recipe, grid_of(both.student, some.target)
        noise = turn._replace(each=turn.each[:count])
        return rolled_out(both.student, recipe, some, grid, len(recipe.sigmas) - 1, noise)

    def windows(self, rngs: Sequence[np.random.Generator], by_reference: bool) -> Windows:
        maker, data = Procedural(canonical=float(not by_reference)), self.training.data
        frames = frames_of(data.latents, self.both.vae.stride)
        made: list[Sample] = [
            sample
            for rng in rngs
            for sample in samples(self.material, maker, data, frames, (int(rng.integers(2**62)),))
        ]
        sides = ("source", "target")
        source, target = (
            to_batch(np.stack([getattr(sample.pair, side) for sample in made])) for side in sides
        )
        prompts = [sample.pair.prompt or REFERENCE_PROMPT for sample in made]
        shown = to_batch(np.stack([sample.reference[None] for sample in made]))
        return Windows(source, target, prompts, shown if by_reference else None)
