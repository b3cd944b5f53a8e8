"""From a weights file to a module: identified, renamed, widened, checked, then filled once.

Modules are built without memory and take the tensors as they come from the file, one at a time,
in the dtype and on the device asked for.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from ..arithmetic import has_bf16
from ..errors import WeightsError
from ..families import recipe_of
from ..loras import LoraFile
from ..model import fp8
from ..model.config import TransformerConfig
from ..model.depth import check_depth, load_depth
from ..model.lora import under_loras
from ..model.offload import offloaded
from ..model.text import PromptEncoder
from ..model.transformer import Transformer
from ..parts import Parts
from ..structure import check_structure
from ..vae.paired import paired
from ..vae.stream import Vae
from .bundle import read_about
from .configs import check_agreement, foreign_fields, infer_config, overridden
from .fit import check_fit, finite, module_on_meta, naming
from .identify import Part, identify
from .layouts import Role
from .lazy import LazyTensors
from .lora import LoraPlan, plan_lora
from .quantized import dequantized
from .quantized import in_fp8 as stored_in_fp8
from .read import WeightsFile, open_weights
from .signs import signs_of

Device = torch.device | str
Source = WeightsFile | Path | str
Narrow = Literal["fp8"] | None  # None: in the dtype that computes
NARROW = ("fp8",)
M = TypeVar("M", bound=nn.Module)

CHOICES = {
    "transformer": "a causal Wan text-to-video or RTR transformer",
    "vae": "Wan2.1_VAE, Wan2.2_VAE, taew2_1 or taew2_2",
    "text": "umt5_xxl",
}


def load_transformer(
    file: Source,
    *,
    dtype: torch.dtype = torch.float32,
    device: Device = "cpu",
    operations: Any = nn,
    matrices: torch.dtype | None = None,
    weights: Narrow = None,
    offload: bool = False,
    ema: bool | None = None,
    **config: Any,
) -> Transformer:
    """The transformer in a file of any layout. `config` overrides fields of what it says it is.

    `matrices` is the dtype to keep those in, nearly all of the weights, where `operations` widen
    them when they compute; `weights="fp8"` keeps those of the blocks so and widens them itself,
    see `model/fp8`. With `offload` the blocks stay in host memory, see `model/offload`.
    """
    file = open_weights(file)
    with naming(file.path):
        part = required_part(file, "transformer", ema)
        raw = canonical(file, part)
        tensors = dequantized(raw, dtype)
        stated = config_of(file, part, tensors, **config)
        module = Transformer(stated, operations, device="meta", dtype=dtype)
        place = "cpu" if offload else device
        if weights == "fp8":
            module = filled_in_fp8(module, raw, tensors, dtype, place)
        else:
            module = filled(module, tensors, dtype, place, matrices)
    return offloaded(module, torch.device(device)) if offload else module


def load_vae(file: Source, *, dtype: torch.dtype = torch.float32, device: Device = "cpu") -> Vae:
    """The autoencoder in a file: Wan's or a tiny one."""
    file = open_weights(file)
    with naming(file.path):
        part = required_part(file, "vae")
        tensors = dequantized(canonical(file, part), dtype)
        module: Any = module_on_meta(config_of(file, part, tensors))
        return filled(module, tensors, dtype, device)


def vae_of(tensors: Mapping[str, Tensor], name: str) -> Vae:
    """The autoencoder that a host has loaded, over these tensors of it and not over copies."""
    file = WeightsFile(Path(name), LazyTensors(tensors, tensors.__getitem__), {})
    with naming(file.path):
        part = required_part(file, "vae")
        own = {ours: tensors[theirs] for ours, theirs in part.layout.names.items()}
        shapes = {name: tuple(tensor.shape) for name, tensor in own.items()}
        module: Any = module_on_meta(infer_config("vae", part.layout.family, shapes))
        check_fit(own, module)
    module.load_state_dict(own, assign=True)
    return module.eval().requires_grad_(False)


def load_text(
    file: Source,
    *,
    tokenizer: Path | str | None = None,
    dtype: torch.dtype | None = None,
    device: Device = "cpu",
) -> PromptEncoder:
    """The text encoder in a file. umT5 needs a `tokenizer` where the file does not hold it.

    It runs once a prompt, so it stays off the GPU. Where nothing else is said umT5 computes in
    bf16, or in fp32 on a device that does not multiply in bf16.
    """
    file = open_weights(file)
    with naming(file.path):
        part = required_part(file, "text")
        tensors = canonical(file, part)
        module: Any = module_on_meta(config_of(file, part, tensors))
        if module is not None:
            return filled(module, tensors, dtype or torch.float32, device)
        from ..model import umt5  # it brings all of transformers along

        checked = tensors.derive(tensors, lambda these, name: finite(these[name], name))
        place = Path(tokenizer) if tokenizer else None
        wide = dtype or (torch.bfloat16 if has_bf16(torch.device(device)) else torch.float32)
        return umt5.load(checked, file.path, tokenizer=place, dtype=wide).to(device)


def load_parts(
    files: Sequence[Source],
    *,
    dtype: torch.dtype = torch.float32,
    device: Device = "cpu",
    ema: bool | None = None,
    tokenizer: Path | str | None = None,
    recipe: Mapping[str, Any] | None = None,
    loras: Mapping[LoraFile, float] | None = None,
    depth: Path | str | None = None,
    weights: Narrow = None,
    offload: bool = False,
    decoder: Source | None = None,
) -> Parts:
    """All that a stylizer needs, from one file or several.

    Fields of `recipe` come before those of the file or its family. What does not go with the model
    (a recipe, a LoRA, a depth model) is refused before any weights are read.
    """
    told: Mapping[str, Any] = {} if depth is None else _told_of_depth(Path(depth))
    found = find_parts(files, ema)
    _refuse_missing(found, files)
    file, part = found["transformer"]
    config = transformer_config(file, part)
    plans = {plan_lora(lora, config): strength for lora, strength in (loras or {}).items()}
    about = read_about(file)
    signs = signs_of(file, part, config, has_loras=bool(loras))
    own = recipe_of(signs, about.recipe if about else None, **{**told, **(recipe or {})})
    check_structure(config, own, depth is not None, file.path.stem)
    place: dict[str, Any] = {"dtype": dtype, "device": device}
    like = torch.empty(0, **place)
    transformer = load_transformer(file, ema=ema, weights=weights, offload=offload, **place)
    worn = {plan.read(like): strength for plan, strength in plans.items() if strength}
    return Parts(
        transformer=under_loras(transformer, worn),
        vae=_load_vaes(found["vae"][0], decoder, **place),
        text=load_text(found["text"][0], tokenizer=tokenizer) if "text" in found else None,
        recipe=own,
        name=file.path.stem,
        loras=worn,
        depth=None if depth is None else load_depth(Path(depth), device),
    )


def plan_loras(
    files: Sequence[Source], loras: Iterable[LoraFile], ema: bool | None = None
) -> list[LoraPlan]:
    """LoRAs held against the transformer in some files, of which nothing is loaded."""
    wanted = list(loras)
    found = find_parts(files, ema) if wanted else {}
    if "transformer" not in found:
        return []
    config = transformer_config(*found["transformer"])
    return [plan_lora(lora, config) for lora in wanted]


def transformer_config(file: WeightsFile, part: Part) -> TransformerConfig:
    """What a transformer is, from the header of its file."""
    with naming(file.path):
        return config_of(file, part, dequantized(canonical(file, part), torch.float32))


def _load_vaes(file: Source, decoder: Source | None, **place: Any) -> Vae:
    """An autoencoder, and perhaps another one to decode with."""
    vae = load_vae(file, **place)
    if decoder is None:
        return vae
    with naming(open_weights(decoder).path):
        return paired(vae, load_vae(decoder, **place))


def _told_of_depth(folder: Path) -> Mapping[str, Any]:
    """What a recipe says for a depth model, which must be in the folder."""
    check_depth(folder)
    return {"structure": "depth"}


def _refuse_missing(found: Mapping[Role, Any], files: Sequence[Source]) -> None:
    for role in ("transformer", "vae"):
        if role not in found:
            names = ", ".join(str(open_weights(file).path) for file in files)
            raise WeightsError(f"{names}: no {role} is in it. Add a file with {CHOICES[role]}.")


def find_parts(
    files: Sequence[Source], ema: bool | None = None
) -> dict[Role, tuple[WeightsFile, Part]]:
    """Which file holds which part, each part once and each file good for something."""
    found: dict[Role, tuple[WeightsFile, Part]] = {}
    for file in map(open_weights, files):
        with naming(file.path):
            kind = identify(file.tensors.meta, ema)
        if not kind.parts:
            raise WeightsError(f"{file.path} seems to be {kind}. It cannot be used here.")
        for part in kind.parts:
            if part.role in found:
                raise WeightsError(
                    f"Both {found[part.role][0].path} and {file.path} hold a {part.role}. "
                    f"Give one of them, or convert the other without it."
                )
            found[part.role] = file, part
    return found


def required_part(file: WeightsFile, role: Role, ema: bool | None = None) -> Part:
    """The part of this role in the file, an error that says what it holds instead."""
    kind = identify(file.tensors.meta, ema)
    part = kind.part(role)
    if part is None:
        raise WeightsError(
            f"There is no {role} of ours in it; it seems to be {kind}. Choose a file with "
            f"{CHOICES[role]}."
        )
    return part


def canonical(file: WeightsFile, part: Part) -> LazyTensors:
    """The part's tensors under canonical names, as the file stores them."""
    return file.tensors.renamed(part.layout.names)


def config_of(file: WeightsFile, part: Part, tensors: LazyTensors, **given: Any) -> Any:
    """What the part's tensors are, what the file says of them, and what the caller knows better."""
    role, shapes = part.role, tensors.shapes
    about = read_about(file)
    stated = getattr(about, role) if about and part.layout.prefix == f"{role}." else None
    known: dict[str, Any] = {}
    if role == "transformer":
        known = {"heads": stated.heads} if stated else foreign_fields(file.config) | given
    inferred = infer_config(role, part.layout.family, shapes, **known)
    if stated is None:
        return inferred
    check_agreement(stated, inferred, shapes)
    return overridden(stated, **given)


def filled(
    module: M,
    tensors: LazyTensors,
    dtype: torch.dtype,
    device: Device,
    matrices: torch.dtype | None = None,
) -> M:
    """The module with these tensors for weights, each read, cast and looked at in turn."""
    check_fit(tensors.meta, module)
    weights = {}
    for name in tensors:
        weight = finite(tensors[name].to(device=device, dtype=dtype, copy=True), name)
        weights[name] = weight.to(matrices) if matrices and weight.ndim == 2 else weight
    module.load_state_dict(weights, assign=True)
    return module.eval().requires_grad_(False)


def filled_in_fp8(
    module: Transformer, raw: LazyTensors, tensors: LazyTensors, dtype: torch.dtype, device: Device
) -> Transformer:
    """The same in layers that keep their matrices in fp8; `raw` has these as the file does."""
    check_fit(tensors.meta, module)
    narrow = {f"{layer}.weight": layer for layer in fp8.matrices(module)}
    weights = {}
    for name in tensors:
        if name in narrow:
            kept = dict(
                zip((name, f"{narrow[name]}.{fp8.FACTOR}"), stored_in_fp8(raw, name), strict=True)
            )
        else:
            kept = {name: tensors[name].to(dtype)}
        weights |= {n: finite(w.to(device=device, copy=True), n) for n, w in kept.items()}
    twin = fp8.in_fp8(module)
    twin.load_state_dict(weights, assign=True)
    return twin.eval().requires_grad_(False)
