"""A session between two chunks, as values: to fork it, rewind it, or keep it on disk."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from .errors import RtrError, SessionError, WeightsError
from .loras import LoraFile
from .recipes import Recipe
from .settings import Settings
from .shapes import Size
from .style import Mix, Style, Switch
from .weights.read import open_weights
from .weights.write import write_safetensors

FORMAT = "rtr-session-2"
BROKEN = (RtrError, KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError)
PICTURES = ("reference", "embedding")  # what of a style is a tensor


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """What about a session does change, and what it was opened with."""

    settings: Settings
    weights: str  # fingerprint of those that made it; it means nothing under others
    tensors: dict[str, Tensor]
    numbers: dict[str, int]
    style: Style
    switch: Switch | None  # waiting for its chunk

    def write(self, path: str | os.PathLike) -> None:
        """Keep it as one safetensors file, whole or not at all."""
        tensors, about = dict(self.tensors), asdict(self.settings)
        about |= {"weights": self.weights, "numbers": self.numbers}
        about["style"] = _told(self.style, "style", tensors)
        if self.switch is not None:
            told = _told(self.switch.style, "switch", tensors)
            about["switch"] = {"style": told, "fade": self.switch.fade, "seed": self.switch.seed}
        about["names"] = sorted(tensors)
        try:
            write_safetensors(Path(path), tensors, {"format": FORMAT, "session": json.dumps(about)})
        except WeightsError as error:
            raise SessionError(f"The session cannot be saved: {error}") from error

    @classmethod
    def read(cls, path: str | os.PathLike) -> "Snapshot":
        try:
            file = open_weights(Path(path))
            if file.metadata.get("format") != FORMAT:
                raise SessionError(f"{path} is no saved session ({FORMAT}).")
            about = json.loads(file.metadata["session"])
            if about["names"] != sorted(file.tensors):
                raise SessionError(f"Saved session {path} is not whole: tensors are missing.")
            return _snapshot(dict(file.tensors), about)
        except SessionError:
            raise
        except BROKEN as error:
            raise SessionError(f"Saved session {path} cannot be read: {error}") from error


def _told(style: Style, name: str, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """What of a style fits into JSON; its pictures go among the tensors."""
    pictures = {f"{name}.{key}": getattr(style, key) for key in PICTURES}
    tensors |= {key: tensor for key, tensor in pictures.items() if tensor is not None}
    told = {"prompt": style.prompt, "strength": style.strength, "avoid": style.avoid}
    told["loras"] = [[*file, strength] for file, strength in style.loras.items()]
    if (mix := style.mix) is not None:
        other = _told(mix.other, f"{name}.mix", tensors)
        told["mix"] = {"other": other, "weight": mix.weight, "way": mix.way}
    return told


def _heard(told: dict[str, Any], name: str, tensors: dict[str, Tensor]) -> Style:
    reference, embedding = (tensors.pop(f"{name}.{key}", None) for key in PICTURES)
    loras = {LoraFile(path, digest): s for path, digest, s in told.pop("loras", ())}
    mix = told.pop("mix", None)
    if mix is not None:
        mix = Mix(**mix | {"other": _heard(mix["other"], f"{name}.mix", tensors)})
    return Style(**told, loras=loras, reference=reference, embedding=embedding, mix=mix)


def _snapshot(tensors: dict[str, Tensor], about: dict[str, Any]) -> Snapshot:
    switch = about.get("switch")
    if switch is not None:
        switch = Switch(**switch | {"style": _heard(switch["style"], "switch", tensors)})
    return Snapshot(
        settings=Settings(
            size=Size(*about["size"]),
            recipe=Recipe.from_mapping(about["recipe"]),
            seed=about["seed"],
            history=about["history"],
            cache=about.get("cache"),  # sessions saved earlier do not say
        ),
        weights=about["weights"],
        style=_heard(about["style"], "style", tensors),
        switch=switch,
        numbers=about["numbers"],
        tensors=tensors,
    )
