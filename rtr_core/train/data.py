"""Pairs for training: windows of the material, restyled by a maker, as latents in shards.

    rtr train data CORPUS VAE PAIRS

A shard that is there is not made again, so a run that was stopped goes on.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..arithmetic import has_bf16
from ..shapes import frames_of
from ..structure import outlines
from ..vae.stream import EncoderStream, Vae
from .makers import Maker, Pair
from .material import Material, to_batch
from .pairs import Shard, rows_in
from .prompts import phrases
from .strips import write_strip

ENCODED_AT_ONCE = 32 * 128**2  # pixels of a frame, over windows
SHOWN = 12  # pairs on a contact sheet


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    side: int = 128  # pixels of a square window
    latents: int = 3  # latent frames of it
    stills: float = 0.5  # share of windows made of stills
    styles: int = 4  # pairs made of each window
    own: float = 0.25  # share of references that are a frame of the target itself, as in the paper;
    # the others show another scene in the same style, so that only the style can be taken
    rows: int = 512  # of a shard
    structure: bool = False  # with the outlines of sources, for a model that is told of them


class Sample(NamedTuple):
    pair: Pair
    reference: np.ndarray  # [h w 3]


def make_shards(
    material: Material,
    vae: Vae,
    maker: Maker,
    config: DataConfig,
    place: tuple[Path, str],
    count: int,
    seed: int = 0,
) -> Iterator[str]:
    """Write shards until there are `count` pairs in the folder; `place` is that folder and the
    fingerprint of the autoencoder."""
    folder, vae_name = place
    folder.mkdir(parents=True, exist_ok=True)
    total = -(-count // config.rows)
    make = partial(samples, material, maker, config, frames_of(config.latents, vae.stride))
    with ThreadPoolExecutor() as pool:
        for number in range(total):
            path = folder / f"pairs-{number:05}.safetensors"
            wanted = min(config.rows, count - number * config.rows)
            if path.exists() and rows_in(path) >= wanted:
                continue
            seeds = [(seed, number, n) for n in range(-(-wanted // config.styles))]
            made = pool.map(make, seeds)
            rows = [sample for some in made for sample in some][:wanted]
            _sheet(folder / f"pairs-{number:05}.jpg", rows)
            _encoded(rows, vae, config.structure).write(path, vae_name)
            yield f"shard {number + 1} of {total}: {len(rows)} pairs"


def samples(
    material: Material, maker: Maker, config: DataConfig, frames: int, seed: tuple[int, ...]
) -> list[Sample]:
    """One window in several styles, each with a reference."""
    rng = np.random.default_rng(seed)
    window = material.window(frames, config.side, rng, config.stills)
    made = []
    for _ in range(config.styles):
        pair = maker.make(window, rng)
        if pair.look is None or rng.random() < config.own:
            reference = pair.target[rng.integers(frames)]
        else:
            other = material.window(1, config.side, rng, config.stills)
            reference = pair.look(other)[0]
        made.append(Sample(pair, reference))
    return made


def _encoded(rows: list[Sample], vae: Vae, structure: bool) -> Shard:
    sources = [row.pair.source for row in rows]
    given = [_latents(sources, vae), *([_latents(sources, vae, outlines)] if structure else [])]
    tensors = {
        "source": torch.cat(given, dim=1),
        "target": _latents([row.pair.target for row in rows], vae),
        "reference": _latents([row.reference[None] for row in rows], vae),
    }
    prompts = [phrases(row.pair.prompt) for row in rows]
    return Shard(tensors=tensors, styles=[row.pair.style for row in rows], prompts=prompts)


@torch.no_grad()
def _latents(
    windows: list[np.ndarray], vae: Vae, seen_as: Callable[[Tensor], Tensor] = Tensor.clone
) -> Tensor:
    """Of each window; one that comes several times, as sources do, is encoded once."""
    different = list({id(window): window for window in windows}.values())
    some, place = [], next(iter(vae.parameters())).device
    most = max(1, ENCODED_AT_ONCE // different[0][0, ..., 0].size)
    for first in range(0, len(different), most):
        pixels = to_batch(np.stack(different[first : first + most])).to(place)
        with torch.autocast(place.type, torch.bfloat16, enabled=has_bf16(place)):
            latents = EncoderStream(vae).push(seen_as(pixels))
        assert latents is not None, "a window is a whole number of groups"
        some.append(latents.bfloat16().cpu())
    rows = {id(window): row for row, window in enumerate(different)}
    return torch.cat(some)[[rows[id(window)] for window in windows]]


def _sheet(path: Path, rows: list[Sample]) -> None:
    shown = rows[:: max(1, len(rows) // SHOWN)][:SHOWN]
    kinds = ("source", "target", "reference")
    pictures = [(row.pair.source[-1], row.pair.target[-1], row.reference) for row in shown]
    write_strip(
        path,
        [to_batch(np.stack([p[n] for p in pictures])[:, None])[:, :, 0] for n in range(len(kinds))],
    )
