"""Flow matching on pairs: the one loss that teachers and students are trained by.

What differs between them is a `Way`: which frames see which, and how noisy each of them is.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from ..model.attention import Context
from ..model.chunk_causal import ChunkCausal
from ..placing import moved
from ..shapes import Size
from ..vae.stream import DecoderStream, Vae
from .loop import Dice, Turn
from .network import Network, Result, noised, weights_of
from .pairs import Batch, Pairs
from .strips import write_strip

LOOKED_AT = 10  # samples on a strip


class Way(Protocol):
    """How a window is looked at in training."""

    @property
    def name(self) -> str: ...

    @property
    def by_reference(self) -> float:
        """The share of steps told by a reference."""
        ...

    @property
    def unprompted(self) -> float:
        """The share of prompts left out, for guidance."""
        ...

    @property
    def balance(self) -> float:
        """Errors count as those of velocity do, down to this noise level."""
        ...

    def drawn(self, rng: np.random.Generator) -> "Way":
        """The way that one step goes, where a stage has several."""
        ...

    def levels(self, frames: int, rng: np.random.Generator) -> list[float]:
        """A noise level for each latent frame of one sample."""
        ...

    def memory(self, grid: Size, frames: int, references: int, context: Context) -> ChunkCausal: ...


class FlowStage:
    """Predict clean latents of noisy ones: source on channels, a reference before them."""

    def __init__(self, network: Network, pairs: Pairs, result: Result, way: Way):
        self.network, self.pairs, self.result, self.way = network, pairs, result, way
        self.name = way.name
        self.averaged = (way.name,)
        self.players: Mapping[str, nn.Module] = {way.name: network}
        self.weights = weights_of(result.vae)

    @property
    def config(self) -> Mapping[str, Any]:
        model = asdict(self.network.transformer.config)
        return {"model": model, "way": asdict(self.way), "vae": self.pairs.vae}  # type: ignore

    @property
    def frozen(self) -> Sequence[nn.Module]:
        return self.result.frozen

    def rate(self, player: str) -> float:
        return 1.0

    def turns(self, step: int) -> Sequence[str]:
        return (self.name,)

    def batch(self, turn: Turn) -> Batch:
        return self.pairs.batch(turn, self.way.by_reference, self.way.unprompted)

    def loss(self, turn: Turn, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        frames = batch.target.shape[2]
        way = self.way.drawn(turn.together.rng)
        levels = [way.levels(frames, dice.rng) for dice in turn.each]
        sigma = torch.tensor(levels, device=batch.target.device)
        noisy, wanted = self.asked(turn, batch, sigma)
        clean = self.answered(self.network, batch, noisy, sigma, way)
        error = ((clean - wanted).square() * self.weights.to(clean.device)).mean((1, 3, 4))
        kind = "by reference" if batch.reference is not None else "by prompt"
        told = error.detach().mean()
        return (error / sigma.clamp_min(way.balance) ** 2).mean(), {"error": told, kind: told}

    def asked(self, turn: Turn, batch: Batch, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Latents at the noise levels `sigma [b t]`, and the clean ones that they come from."""
        return noised(batch, turn.like(batch.target), sigma), batch.target

    def answered(
        self, network: Network, batch: Batch, noisy: Tensor, sigma: Tensor, way: Way
    ) -> Tensor:
        """What the network takes the clean ones for."""
        context = network.encode(batch.prompts)
        references = 0 if batch.reference is None else batch.reference.shape[2]
        memory = way.memory(grid_of(network, noisy), noisy.shape[2], references, context)
        return network.clean(noisy, sigma, batch, memory)

    def predicted(self, network: Network, turn: Turn, batch: Batch, sigma: Tensor) -> Tensor:
        """The same of a batch at the noise levels `sigma [b t]`."""
        return self.answered(network, batch, self.asked(turn, batch, sigma)[0], sigma, self.way)

    def write(self, folder: Path, step: int, averages: Mapping[str, nn.Module]) -> None:
        network = averages[self.name]
        assert isinstance(network, Network)
        self.result.told(stage=self.name, steps=step).write(folder / "model.safetensors", network)
        sigma = torch.ones(LOOKED_AT, self.pairs.shape[1])  # in one step, from pure noise
        write_strips(
            folder / f"strip-{step:06}",
            self.pairs,
            self.result.vae,
            lambda turn, batch: self.predicted(network, turn, batch, sigma.to(batch.target)),
        )


@torch.no_grad()
def write_strips(path: Path, pairs: Pairs, vae: Vae, make: Callable[[Turn, Batch], Tensor]) -> None:
    """Two pictures, by prompt and by reference: last frames of sources, of what is made of them
    and of what should be, and the references."""
    for kind, by_reference in (("prompt", 0.0), ("reference", 1.0)):
        turn = Turn("look", Dice(1), [Dice(1, number) for number in range(LOOKED_AT)])
        batch = moved(pairs.batch(turn, by_reference), next(iter(vae.parameters())).device)
        source = batch.source[:, : batch.target.shape[1]]
        rows = [source, make(turn, batch), batch.target]
        if batch.reference is not None:
            rows.append(batch.reference.expand(-1, -1, 2, -1, -1))
        pictures = [DecoderStream(vae).push(latents)[:, :, -1] for latents in rows]
        write_strip(path.with_name(f"{path.name}-{kind}.png"), pictures)


def grid_of(network: Network, latents: Tensor) -> Size:
    _, down, across = network.transformer.config.patch
    return Size(latents.shape[-2] // down, latents.shape[-1] // across)
