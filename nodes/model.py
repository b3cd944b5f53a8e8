"""MODEL: a real patcher of the host over our transformer, in the host's own layers.

So LoRA loaders, fp8 weights, offloading and low-memory modes are the host's, not ours.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import comfy.latent_formats
import comfy.model_base
import comfy.model_management as mm
import comfy.ops
import comfy.supported_models
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ..rtr_core import Recipe, WeightsError
from ..rtr_core.model.text import PromptEncoder, fingerprint
from ..rtr_core.model.transformer import Transformer

DTYPES = (torch.bfloat16, torch.float16, torch.float32)
FP8 = {
    "fp8_e4m3fn": torch.float8_e4m3fn,
    "fp8_e4m3fn_fast": torch.float8_e4m3fn,
    "fp8_e5m2": torch.float8_e5m2,
}
WEIGHT_DTYPES = ["default", *FP8]


@dataclass(frozen=True, kw_only=True, eq=False)
class Origin:
    """What a model brings along that the host has no place for."""

    name: str
    recipe: Recipe
    text: PromptEncoder | None  # its own, where it is small enough to be in the same file
    styles: tuple[str, ...] = ()  # prompts that it has learned


@dataclass(frozen=True)
class Precision:
    """How weights are kept and computed with on this host."""

    weights: torch.dtype
    compute: torch.dtype
    matrices: torch.dtype | None  # nearly all of the weights, where they are kept narrower
    operations: Any

    @classmethod
    def pick(cls, weight_dtype: str, parameters: int) -> "Precision":
        device, matrices = mm.get_torch_device(), FP8.get(weight_dtype)
        weights = mm.unet_dtype(
            device=device, model_params=parameters, supported_dtypes=list(DTYPES)
        )
        if weights not in DTYPES:  # the host was started with fp8 for all models
            weights, matrices = torch.bfloat16, weights
        cast = mm.unet_manual_cast(weights, device, list(DTYPES))
        compute = cast or weights
        operations = comfy.ops.pick_operations(
            matrices or weights, compute, device, fp8_optimizations=weight_dtype.endswith("fast")
        )
        return cls(weights, compute, matrices, operations)


class RtrModel(comfy.model_base.BaseModel):
    """The host's shell around the transformer, which it finds under `diffusion_model`."""

    def __init__(self, transformer: Transformer, origin: Origin, precision: Precision):
        config = transformer.config
        told = {"disable_unet_model_creation": True, "image_model": "rtr", "dim": config.dim}
        about = comfy.supported_models.WAN21_T2V(told)
        if config.out_channels == comfy.latent_formats.Wan22.latent_channels:
            about.latent_format = comfy.latent_formats.Wan22()
        cast = None if precision.compute == precision.weights else precision.compute
        about.set_inference_dtype(
            precision.weights, precision.compute if precision.matrices else cast
        )
        super().__init__(about, comfy.model_base.ModelType.FLOW, device=mm.unet_offload_device())
        self.diffusion_model = transformer
        self.origin, self.precision = origin, precision
        self.fingerprint = fingerprint(
            dict(transformer.named_parameters()), str(config), str(precision.matrices)
        )

    def get_dtype(self) -> torch.dtype:
        return self.precision.weights

    def apply_model(self, *_: Any, **__: Any) -> Tensor:
        raise WeightsError(
            f"{self.origin.name} is run by RTR's own nodes, not by a sampler: wire it into RTR "
            f"Stylize or RTR Stream."
        )


def housed(transformer: Transformer, precision: Precision) -> Transformer:
    """The same weights in the host's layers."""
    twin = Transformer(
        transformer.config, precision.operations, device="meta", dtype=precision.weights
    )
    own = transformer.state_dict().items()
    narrow = precision.matrices
    twin.load_state_dict(
        {k: w.to(narrow if narrow and w.ndim == 2 else precision.weights) for k, w in own},
        assign=True,
    )
    return twin.eval().requires_grad_(False)


def patcher(transformer: Transformer, origin: Origin, precision: Precision) -> ModelPatcher:
    return ModelPatcher(
        RtrModel(transformer, origin, precision),
        load_device=mm.get_torch_device(),
        offload_device=mm.unet_offload_device(),
    )


_patches_known: WeakKeyDictionary[ModelPatcher, tuple[Any, str]] = WeakKeyDictionary()


def fingerprint_of(model: ModelPatcher) -> str:
    """Changes with the weights and with what is patched onto them, such as a LoRA."""
    uuid, patches = _patches_known.get(model, (None, ""))
    if uuid != model.patches_uuid:  # as the host marks a patcher whose patches have changed
        patches = _patches(model.patches)
        _patches_known[model] = model.patches_uuid, patches
    return model.model.fingerprint[:12] + patches


def _patches(patches: Mapping[Any, Any]) -> str:
    """A short name for patches that is the same in every process; empty where there are none."""
    told: list[str] = []
    tensors: dict[str, Tensor] = {}
    for key in sorted(patches, key=str):
        for number, value in enumerate(_leaves(patches[key])):
            if isinstance(value, Tensor):
                tensors[f"{key} {number}"] = value
            else:
                told.append(f"{key} {number} {value}")
    return "+" + fingerprint(tensors, *told)[:12] if patches else ""


def _leaves(value: Any) -> Iterator[Any]:
    """Tensors, numbers and words in a patch, whatever the host has put them into."""
    if isinstance(value, (Tensor, int, float, str, type(None))):
        yield value
    elif isinstance(value, (tuple, list)):
        for inner in value:
            yield from _leaves(inner)
    elif hasattr(value, "weights"):
        yield type(value).__name__
        yield from _leaves(value.weights)
