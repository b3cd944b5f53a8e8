"""`rtr convert`: one or several files of any layout into one clean RTR file."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ..errors import WeightsError
from ..families import recipe_of
from ..loras import LoraFile
from .bundle import About, read_about, write_bundle
from .configs import overridden
from .fit import check_fit, finite, module_on_meta, naming
from .identify import Part
from .inspect import Report, inspect
from .layouts import Role
from .lazy import LazyTensors
from .load import Source, canonical, config_of, find_parts
from .lora import merged, plan_lora
from .quantized import FP8, dequantized, is_scaled
from .read import SAFETENSORS, WeightsFile
from .signs import signs_of

Chosen = dict[Role, tuple[WeightsFile, Part]]
WIDE = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def convert(
    sources: Source | Sequence[Source],
    target: Path | str,
    *,
    parts: Sequence[Role] | None = None,
    dtype: torch.dtype | None = None,
    ema: bool | None = None,
    force: bool = False,
    loras: Mapping[LoraFile, float] | None = None,
    **told: Any,
) -> Report:
    """Write the parts that the sources hold, or only the `parts` named, to `target`.

    Without a `dtype` tensors keep theirs. `told` are fields of `About`, such as `recipe`, that are
    to be other than the transformer's file has them. `loras` are merged into the transformer.
    Returns what the new file is.
    """
    target = Path(target)
    _check_target(target, force)
    files = [sources] if isinstance(sources, (WeightsFile, Path, str)) else list(sources)
    found = find_parts(files, ema)
    chosen: Chosen = {role: found[role] for role in parts or found if role in found}
    lacking = [role for role in parts or () if role not in found]
    if lacking:
        raise WeightsError(f"{target} is to have a {' and a '.join(lacking)}: no source has one.")
    tensors: dict[Role, LazyTensors] = {}
    for role, (file, part) in chosen.items():
        tensors[role] = _ready(file, part, dtype)
    about = overridden(_about(chosen, tensors, has_loras=bool(loras)), **told)
    if loras:
        about = _merge(tensors, loras, about, target)
    write_bundle(target, tensors, about)
    return inspect(target)


def _check_target(target: Path, force: bool) -> None:
    if target.suffix.lower() not in SAFETENSORS:
        raise WeightsError(f"{target} must end in .safetensors: nothing else is written.")
    if target.exists() and not force:
        raise WeightsError(f"{target} exists. Choose another name, or force it to be replaced.")


def _ready(file: WeightsFile, part: Part, dtype: torch.dtype | None) -> LazyTensors:
    """A part's tensors as they will be written: widened, cast and checked while they pass."""
    with naming(file.path):
        tensors = canonical(file, part)
        if part.layout.family == "umt5" and is_scaled(tensors.meta):
            return tensors  # its encoder computes with fp8 as it is
        tensors = dequantized(tensors, dtype or torch.bfloat16)
        module = module_on_meta(config_of(file, part, tensors))
        if module is not None:
            check_fit(tensors.meta, module)

    def ready(these: Mapping[str, torch.Tensor], name: str) -> torch.Tensor:
        tensor = these[name]
        if dtype is not None and tensor.dtype in WIDE + FP8:
            tensor = tensor.to(dtype)
        with naming(file.path):
            return finite(tensor, name)

    return tensors.derive(tensors, ready)


def _merge(
    tensors: dict[Role, LazyTensors], loras: Mapping[LoraFile, float], about: About, target: Path
) -> About:
    """Put LoRAs into the transformer, and their names on the card."""
    if about.transformer is None:
        raise WeightsError(f"{target} has no transformer that a LoRA could be merged into.")
    plans = {plan_lora(file, about.transformer): strength for file, strength in loras.items()}
    like = torch.empty(0)
    read = {plan.read(like): strength for plan, strength in plans.items()}
    tensors["transformer"] = merged(tensors["transformer"], read)
    told = ", ".join(f"{plan} ({strength:g})" for plan, strength in plans.items())
    return replace(about, card={**about.card, "loras": told})


def _about(chosen: Chosen, tensors: Mapping[Role, LazyTensors], has_loras: bool = False) -> About:
    configs: dict[str, Any] = {}
    for role, (file, part) in chosen.items():
        with naming(file.path):
            configs[role] = config_of(file, part, tensors[role])
    if "transformer" not in chosen:
        return About(**configs)
    file, part = chosen["transformer"]
    told = read_about(file) or About()
    own = recipe_of(signs_of(file, part, configs["transformer"], has_loras), told.recipe)
    return About(**configs, recipe=own, styles=told.styles, card=told.card)
