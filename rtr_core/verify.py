"""Golden tensors: is what this machine computes what the public causal Wan code computes?

A file of the format `rtr-golden-1` holds random weights, recorded noise and the clean latents that
the public code made of them. Each case is run through a session's flight, which is all that lies
between its autoencoder streams.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .errors import WeightsError
from .intake import Waiting
from .model.config import TransformerConfig
from .model.transformer import Transformer
from .parts import Parts
from .recipes import Recipe
from .session import Session
from .settings import Settings
from .shapes import Size, Stride
from .style import Style
from .transaction import plain_tensors
from .weights.read import open_weights

FORMAT = "rtr-golden-1"
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2}


@dataclass(frozen=True)
class Result:
    """How far the worst chunk of a case is from the recorded one, as relative L2."""

    case: str
    dtype: torch.dtype
    error: float

    @property
    def passed(self) -> bool:
        return self.error < TOLERANCE[self.dtype]

    def __str__(self) -> str:
        verdict = "ok  " if self.passed else "FAIL"
        dtype = str(self.dtype).removeprefix("torch.")
        limit = TOLERANCE[self.dtype]
        return f"{verdict} {self.case:<28} {dtype:<9} worst {self.error:.1e}  (limit {limit:.0e})"


class Latents:
    """An autoencoder for what is latent already: golden files hold no pictures."""

    stride = Stride(1, 1, 1)

    def __init__(self, channels: int):
        self.channels = channels

    def parameters(self) -> Iterable[Tensor]:
        return ()

    def encode_group(self, pixels: Tensor, trail: dict[str, Tensor]) -> Tensor:
        return pixels

    def decode_latent(self, latent: Tensor, trail: dict[str, Tensor]) -> Tensor:
        return latent


class Recorded:
    """Noise from a file instead of a generator, in the order it was drawn."""

    def __init__(self, noise: Tensor):
        self.waiting = iter(noise.flatten(0, 1))

    def like(self, x: Tensor) -> Tensor:
        return next(self.waiting).to(x)

    def snapshot(self) -> dict[str, Tensor]:
        return {}

    def restore(self, state: dict[str, Tensor], /) -> None: ...


@plain_tensors
def verify(
    path: str | os.PathLike, dtype: torch.dtype, device: str | torch.device = "cpu"
) -> list[Result]:
    """Run every case of a golden file, one result each."""
    tensors, model, cases = _read(path)
    weights = {n[2:]: t.to(device, dtype) for n, t in tensors.items() if n.startswith("w.")}
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    config = TransformerConfig.infer(shapes, heads=model["num_heads"], text_rows=model["text_len"])
    transformer = Transformer(config, device="meta")
    transformer.load_state_dict(weights, assign=True)
    transformer.requires_grad_(False)
    return [Result(case["name"], dtype, _worst(transformer, tensors, case)) for case in cases]


def recipe_of(case: Mapping[str, Any]) -> Recipe:
    """A golden case as a recipe. Its window counts the anchor and the chunk at hand."""
    chunk, visible, anchor = (case[f"{n}_frames"] for n in ("chunk", "window", "sink"))
    return Recipe(
        name=case["name"],
        timesteps=case["timesteps"],
        chunk=chunk,
        window=None if visible == -1 else visible - anchor - chunk,
        anchor=anchor,
        positions=case["rope"],
        commit="clean" if case["clean_pass"] else "last step",
    )


def _worst(transformer: Transformer, tensors: Mapping[str, Tensor], case: Mapping) -> float:
    vae, recipe = Latents(transformer.config.out_channels), recipe_of(case)
    parts = Parts(transformer=transformer, vae=vae, text=None, recipe=recipe, name=case["name"])
    noise = tensors[case["noise"]][: case["chunks"], : len(recipe.timesteps)]
    settings = Settings(size=Size(*noise.shape[-2:]), recipe=recipe, seed=0, history=0)
    session = Session(parts, settings)
    session.begin(Style(embedding=tensors["in.context"]))
    session.flight.noise = Recorded(noise)
    sources = tensors[case["source"]] if case["start"] == "source" else 0 * noise[:, 0]
    errors = []
    for chunk, source in enumerate(sources[: case["chunks"]].to(parts.latents_like)):
        session.flight.set_out(Waiting(source, frames=len(source), motion=0.0))
        landed = session.flight.move_on(session.watch)
        assert landed is not None, "a golden case has one chunk in flight"
        session.commit()
        errors.append(_distance(landed.x, tensors[f"{case['name']}.x0.c{chunk}"]))
    return max(errors)


def _distance(came: Tensor, expected: Tensor) -> float:
    came, expected = came.double().cpu(), expected.double()
    return float((came - expected).norm() / expected.norm())


def _read(path: str | os.PathLike) -> tuple[dict[str, Tensor], dict, list[dict]]:
    file = open_weights(Path(path))
    try:
        if file.metadata.get("format") != FORMAT:
            raise WeightsError(f"{path} holds no golden tensors of the format {FORMAT}.")
        return dict(file.tensors), *(json.loads(file.metadata[key]) for key in ("model", "cases"))
    except (KeyError, json.JSONDecodeError) as error:
        raise WeightsError(f"Golden file {path} does not say what it holds: {error}.") from error
