"""Pairs of source and styled latents in shards, as `rtr train data` writes them and training reads.

A shard is one safetensors file: `source` and `target` `[n c t h w]`, `reference` `[n c 1 h w]`, and
in its metadata what each row is. Where a model is to be told of the structure, that of the source
is behind it, on as many channels. A row with prompts can be learned by prompt or by reference, a
row without by reference alone.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..errors import WeightsError
from ..style import REFERENCE_PROMPT
from ..weights.read import WeightsFile, open_weights
from ..weights.write import write_safetensors
from .loop import Turn

KEY = "rtr-pairs"


@dataclass(frozen=True, kw_only=True)
class Shard:
    """Rows to be written."""

    tensors: Mapping[str, Tensor]  # source, target, reference
    styles: Sequence[str]  # of each row
    prompts: Sequence[Sequence[str]]  # of each row: phrasings that all ask for it, or none

    def write(self, path: Path, vae: str) -> None:
        """`vae` tells the autoencoder whose latents these are."""
        table = sorted({tuple(phrasings) for phrasings in self.prompts})
        about = {
            "vae": vae,
            "styles": list(self.styles),
            "phrasings": table,
            "prompts": [table.index(tuple(phrasings)) for phrasings in self.prompts],
        }
        write_safetensors(path, self.tensors, {"format": "pt", KEY: json.dumps(about)})


def rows_in(path: Path) -> int:
    """How many rows a shard has; none where it was cut off."""
    try:
        return len(json.loads(open_weights(path).metadata[KEY])["styles"])
    except (WeightsError, KeyError, ValueError):
        return 0


class Row(NamedTuple):
    shard: int
    number: int


class Batch(NamedTuple):
    """Rows side by side."""

    source: Tensor  # what is beside the noisy latent: the structure's behind it, where that is told
    target: Tensor
    prompts: list[str]
    reference: Tensor | None  # where the style is told by a picture
    styles: list[str]


class Pairs:
    """All rows of a folder of shards."""

    def __init__(self, folder: Path, vae: str | None = None):
        self.folder, self.refused = folder, []
        self.shards: list[tuple[WeightsFile, dict[str, Any]]] = []
        for path in sorted(folder.glob("*.safetensors")):
            try:
                file = open_weights(path)
                self.shards.append((file, json.loads(file.metadata[KEY])))
            except (WeightsError, KeyError, ValueError) as error:
                self.refused.append(f"{path.name}: {error}")
        if not self.shards:
            raise WeightsError(
                f"There are no pairs in {folder}. Make some: `rtr train data CORPUS VAE {folder}`."
            )
        made_with = {about["vae"] for _, about in self.shards}
        if len(made_with | {vae or self.vae}) > 1:
            raise WeightsError(
                f"The pairs in {folder} hold latents of {', '.join(sorted(made_with))}, but the "
                f"autoencoder is {vae or 'not one and the same'}. Make them again with `rtr train "
                f"data`."
            )

    @property
    def vae(self) -> str:
        """The fingerprint of the autoencoder that made the latents."""
        return self.shards[0][1]["vae"]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the latents of one row, `[c t h w]`."""
        return tuple(self.shards[0][0].tensors.shapes["target"][1:])

    @property
    def structure(self) -> bool:
        """Whether the structure of the sources is told."""
        return self.shards[0][0].tensors.shapes["source"][1] > self.shape[0]

    @cached_property
    def rows(self) -> list[Row]:
        return list(self._rows())

    @cached_property
    def prompted(self) -> list[Row]:
        """Rows that a prompt can ask for."""
        return [row for row in self.rows if self._phrasings(row)]

    @cached_property
    def styles(self) -> dict[str, str]:
        """Styles that a prompt can ask for, each with its shortest one."""
        found: dict[str, list[str]] = {}
        for row in self.prompted:
            style = self.shards[row.shard][1]["styles"][row.number]
            found.setdefault(style, []).extend(self._phrasings(row))
        return {style: min(phrasings, key=len) for style, phrasings in found.items()}

    def batch(self, turn: Turn, by_reference: float, unprompted: float = 0.0) -> Batch:
        """A random batch, told by references in a share of all steps; a share of prompts, or of
        references' prompts, is left out, as guidance needs it."""
        is_by_reference = not self.prompted or turn.together.rng.random() < by_reference
        among = self.rows if is_by_reference else self.prompted
        rows = [among[int(dice.rng.integers(len(among)))] for dice in turn.each]
        prompts = []
        for row, dice in zip(rows, turn.each, strict=True):
            phrasings = [REFERENCE_PROMPT] if is_by_reference else self._phrasings(row)
            chosen = phrasings[int(dice.rng.integers(len(phrasings)))]
            prompts.append("" if dice.rng.random() < unprompted else chosen)
        return Batch(
            source=self._tensor("source", rows),
            target=self._tensor("target", rows),
            prompts=prompts,
            reference=self._tensor("reference", rows) if is_by_reference else None,
            styles=[self.shards[row.shard][1]["styles"][row.number] for row in rows],
        )

    def _tensor(self, name: str, rows: Sequence[Row]) -> Tensor:
        return torch.stack([self._read(name, row) for row in rows]).float()

    def _read(self, name: str, row: Row) -> Tensor:
        return self._open[row.shard][name][row.number]

    @cached_property
    def _open(self) -> list[dict[str, Tensor]]:
        names = ("source", "target", "reference")
        return [{name: file.tensors[name] for name in names} for file, _ in self.shards]

    def _phrasings(self, row: Row) -> Sequence[str]:
        about = self.shards[row.shard][1]
        return about["phrasings"][about["prompts"][row.number]]

    def _rows(self) -> Iterator[Row]:
        for shard, (_, about) in enumerate(self.shards):
            yield from (Row(shard, number) for number in range(len(about["styles"])))
