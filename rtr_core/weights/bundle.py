"""RTR's own file: transformer, autoencoder and text encoder in one, and what there is to know.

Tensors are named `transformer.*`, `vae.*` and `text.*`, each part optional, under canonical names.
The metadata key `rtr` holds configs, recipe, styles and card as JSON.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import RtrError, WeightsError
from ..model.config import TransformerConfig
from ..recipes import Recipe
from .configs import FAMILIES, Config, family_of, from_json
from .layouts import ROLES, Role
from .lazy import LazyTensors, meta_of
from .read import WeightsFile
from .write import write_safetensors

KEY = "rtr"
FORMAT = "rtr-1"


@dataclass(frozen=True, kw_only=True)
class About:
    """What an RTR file says of itself. A config of None is inferred from shapes when loading."""

    transformer: TransformerConfig | None = None
    vae: Config | None = None
    text: Config | None = None
    recipe: Recipe | None = None
    styles: tuple[str, ...] = ()  # prompts the model has learned
    card: Mapping[str, Any] = field(default_factory=dict)  # origin, licence, training


def write_bundle(
    path: Path | str, parts: Mapping[Role, Mapping[str, Tensor]], about: About
) -> None:
    """Write some parts, a tensor at a time. An existing file is replaced once all is written."""
    strange = set(parts) - set(ROLES)
    if strange or not parts:
        raise WeightsError(f"{path}: a bundle has the parts {', '.join(ROLES)}, not {set(parts)}.")
    meta, source = {}, {}
    for role, tensors in parts.items():
        for name, tensor in meta_of(tensors).items():
            meta[f"{role}.{name}"] = tensor
            source[f"{role}.{name}"] = tensors, name
    tensors = LazyTensors(meta, lambda full: source[full][0][source[full][1]])
    write_safetensors(path, tensors, {"format": "pt", KEY: about_to_json(about)})


def read_about(file: WeightsFile) -> About | None:
    """What an RTR file says of itself, None where it is no RTR file."""
    if KEY not in file.metadata:
        return None
    try:
        return about_from_json(file.metadata[KEY])
    except RtrError as error:
        raise WeightsError(f"{file.path}: {error}") from error


def about_to_json(about: About) -> str:
    values: dict[str, Any] = {"format": FORMAT}
    for role in ROLES:
        config = getattr(about, role)
        if config is not None:
            values[role] = {"family": family_of(config)} | asdict(config)
    if about.recipe is not None:
        values["recipe"] = asdict(about.recipe)
    return json.dumps(values | {"styles": about.styles, "card": dict(about.card)})


def about_from_json(text: str) -> About:
    try:
        values = json.loads(text)
        if values.pop("format") != FORMAT:
            raise WeightsError(f"Its format is not {FORMAT!r}. Update RTR to read it.")
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError):
        raise WeightsError(f"What it says under {KEY!r} in its metadata is broken.") from None
    unknown = sorted(set(values) - {field.name for field in fields(About)})
    if unknown:
        raise WeightsError(f"Its metadata has unknown entries: {', '.join(unknown)}. Update RTR.")
    configs = {role: _config(role, values[role]) for role in ROLES if role in values}
    recipe = from_json(Recipe, values["recipe"]) if "recipe" in values else None
    styles, card = values.get("styles", []), values.get("card", {})
    if not (isinstance(card, dict) and isinstance(styles, list)):
        raise WeightsError("In its metadata, styles must be a list and card an object.")
    if not all(isinstance(style, str) for style in styles):
        raise WeightsError("In its metadata, each of the styles must be a text.")
    return About(**configs, recipe=recipe, styles=tuple(styles), card=card)


def _config(role: Role, values: Any) -> Any:
    """The config of a part. The family says which kind; for a transformer there is one only."""
    if not isinstance(values, dict):
        raise WeightsError(f"What its metadata says of its {role} is no object.")
    family = str(values.get("family", "wan"))
    if (role, family) not in FAMILIES:
        known = ", ".join(name for kind, name in FAMILIES if kind == role)
        raise WeightsError(f"It has a {role} of family {family!r}. Known are {known}. Update RTR.")
    fields_of_it = {name: value for name, value in values.items() if name != "family"}
    return from_json(FAMILIES[role, family].config, fields_of_it)
