"""A session between two chunks, as values: to fork it, rewind it, or keep it on disk."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from .errors import SessionError, WeightsError
from .recipes import Recipe
from .shapes import Size
from .style import Style
from .weights.read import open_weights
from .weights.write import write_safetensors

FORMAT = "rtr-session-1"
STYLES = ("style", "next_style")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What about a session never changes."""

    size: Size
    recipe: Recipe
    seed: int
    history: int  # chunks it can go back


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """What about a session does change, and what it was opened with."""

    settings: Settings
    weights: str  # fingerprint of those that made it; it means nothing under others
    tensors: dict[str, Tensor]
    counts: dict[str, int]
    style: Style
    next_style: Style | None  # switched to, and waiting for its chunk

    def write(self, path: str | os.PathLike) -> None:
        """Keep it as one safetensors file, whole or not at all."""
        tensors, about = dict(self.tensors), asdict(self.settings)
        about |= {"weights": self.weights, "counts": self.counts}
        for name in STYLES:
            style = getattr(self, name)
            if style is not None:
                about[name] = {"prompt": style.prompt, "strength": style.strength}
                parts = {"reference": style.reference, "embedding": style.embedding}
                tensors |= {f"{name}.{n}": t for n, t in parts.items() if t is not None}
        write_safetensors(Path(path), tensors, {"format": FORMAT, "session": json.dumps(about)})

    @classmethod
    def read(cls, path: str | os.PathLike) -> "Snapshot":
        try:
            file = open_weights(Path(path))
            if file.metadata.get("format") != FORMAT:
                raise SessionError(f"{path} is no saved session ({FORMAT}).")
            return _snapshot(dict(file.tensors), json.loads(file.metadata["session"]))
        except (WeightsError, json.JSONDecodeError, KeyError, TypeError) as error:
            raise SessionError(f"Saved session {path} cannot be read: {error}") from error


def _snapshot(tensors: dict[str, Tensor], about: dict[str, Any]) -> Snapshot:
    styles = {
        name: Style(
            **about[name],
            reference=tensors.pop(f"{name}.reference", None),
            embedding=tensors.pop(f"{name}.embedding", None),
        )
        for name in STYLES
        if name in about
    }
    return Snapshot(
        settings=Settings(
            size=Size(*about["size"]),
            recipe=Recipe.from_mapping(about["recipe"]),
            seed=about["seed"],
            history=about["history"],
        ),
        weights=about["weights"],
        tensors=tensors,
        counts=about["counts"],
        style=styles["style"],
        next_style=styles.get("next_style"),
    )
