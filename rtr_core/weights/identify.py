"""What a file is, from the names and shapes of its tensors alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..errors import WeightsError
from ..model.config import WAN_1_3B, WAN_5B, WAN_14B, TransformerConfig
from ..vae.tiny_config import TAEW2_1, TAEW2_2
from ..vae.wan_config import WAN_2_1, WAN_2_2
from .configs import infer_config
from .layouts import ROLES, Layout, Role, find_layout
from .lora_keys import is_lora

SIZES = {"1.3B": WAN_1_3B, "14B": WAN_14B, "5B": WAN_5B}
VAES = {
    "Wan 2.1 VAE": WAN_2_1,
    "Wan 2.2 VAE": WAN_2_2,
    "taew2_1": TAEW2_1,
    "taew2_2": TAEW2_2,
}
FOREIGN = {  # any tensor with such a name -> what the file seems to be; the first that fits
    "vace_patch_embedding.weight": "a Wan VACE transformer",
    "img_emb.proj.": "a Wan image-to-video transformer",
    "condition_embedder.image_embedder.": "a Wan image-to-video transformer",
    "casual_audio_encoder.": "a Wan speech-to-video transformer",
    "audio_proj.audio_proj_glob_1.": "a Wan transformer driven by sound",
    "face_adapter.fuser_blocks.": "a Wan Animate transformer",
    "control_adapter.conv.": "a Wan camera-control transformer",
    "conditioner.embedders.1.": "a Stable Diffusion XL checkpoint",
    "model.diffusion_model.input_blocks.": "a Stable Diffusion checkpoint",
    "input_blocks.0.0.weight": "a Stable Diffusion U-Net",
    "down_blocks.0.resnets.0.conv1.": "a Stable Diffusion U-Net or VAE of diffusers",
    "txt_in.individual_token_refiner.": "a HunyuanVideo transformer",
    "double_blocks.0.img_attn.": "a Flux transformer",
    "single_transformer_blocks.0.": "a Flux transformer of diffusers",
    "joint_blocks.0.": "a Stable Diffusion 3 transformer",
    "adaln_single.emb.timestep_embedder.": "an LTX-Video or PixArt transformer",
    "transformer_blocks.0.img_mlp.": "a Qwen-Image transformer",
    "blocks.0.mlp.layer1.": "a Cosmos transformer",
    "t5_yproj.": "a Mochi transformer",
    "cap_embedder.1.": "a Lumina transformer",
    "encoder.block.0.layer.0.SelfAttention.": "a T5 text encoder that is not umT5",
    "text_model.encoder.layers.": "a CLIP text encoder",
    "vision_model.encoder.layers.": "a CLIP image encoder",
    "model.layers.0.self_attn.": "a language model",
}


@dataclass(frozen=True)
class Part:
    """One of our networks in a file."""

    label: str  # such as `RTR transformer 1.3B with reference adapter`
    layout: Layout
    config: Any = None  # as its shapes tell it; None where they tell of no model of ours
    misfit: str = ""  # why it has no config

    @property
    def role(self) -> Role:
        return self.layout.role


@dataclass(frozen=True)
class Kind:
    """What a file is: some parts of ours, or something else."""

    parts: tuple[Part, ...] = ()
    foreign: str = ""  # what it seems to be instead
    is_bundle: bool = False

    def part(self, role: Role) -> Part | None:
        return next((part for part in self.parts if part.role == role), None)

    def __str__(self) -> str:
        if self.foreign:
            return self.foreign
        labels = " + ".join(part.label for part in self.parts) or "nothing that is known here"
        return f"RTR bundle: {labels}" if self.is_bundle else labels


def identify(meta: Mapping[str, Tensor], ema: bool | None = None) -> Kind:
    """What the tensors with these names, shapes and dtypes are."""
    if is_lora(meta):
        return Kind(foreign="a LoRA, which adds to a checkpoint and is none itself")
    layouts = [find_layout(role, meta, ema if role == "transformer" else None) for role in ROLES]
    parts = tuple(_part(layout, meta) for layout in layouts if layout)
    foreign = foreign_in(meta)
    if foreign and not any(part.role != "transformer" for part in parts):
        return Kind(foreign=foreign)
    is_bundle = bool(parts) and all(part.layout.prefix == f"{part.role}." for part in parts)
    return Kind(parts, is_bundle=is_bundle)


def foreign_in(meta: Mapping[str, Tensor]) -> str:
    """A model of others whose layers are named here; empty where there is none."""
    return next((what for mark, what in FOREIGN.items() if _has(meta, mark)), "")


def _has(meta: Mapping[str, Tensor], mark: str) -> bool:
    return any(name.startswith(mark) or f".{mark}" in name for name in meta)


def _part(layout: Layout, meta: Mapping[str, Tensor]) -> Part:
    shapes = {name: tuple(meta[file].shape) for name, file in layout.names.items()}
    try:
        config = infer_config(layout.role, layout.family, shapes)
    except WeightsError as error:
        return Part(f"{layout.family} {layout.role}", layout, misfit=str(error))
    return Part(_label(layout, config), layout, config)


def _label(layout: Layout, config: Any) -> str:
    if isinstance(config, TransformerConfig):
        return _transformer_label(config)
    if layout.role == "vae":
        known = (name for name, vae in VAES.items() if vae == config)
        return next(known, f"{layout.family} autoencoder of {config.channels} channels")
    return f"{layout.family} text encoder"


def _transformer_label(config: TransformerConfig) -> str:
    def size(of: TransformerConfig) -> Sequence[int]:
        return of.dim, of.ffn_dim, of.layers

    own = f"of {config.layers} layers, {config.dim} wide"
    name = next((name for name, known in SIZES.items() if size(known) == size(config)), own)
    kind = "RTR transformer" if config.takes_source else "Wan text-to-video transformer"
    adapter = ["reference adapter"] if config.adapter_dim else []
    further = " and ".join([*adapter, *(["structure projection"] if config.structure else [])])
    channels = f"{config.out_channels} latent channels" + (f" with {further}" if further else "")
    return f"{kind} {name}, {channels}"
