"""LoRA files as the programs write them that people have them from: one LoRA, many namings."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rtr_core.model.transformer import Transformer
from rtr_core.weights.layouts import DIFFUSERS_BLOCK, DIFFUSERS_OUTER

RANK, ALPHA = 4, 8.0
Halves = dict[str, tuple[Tensor, Tensor]]  # layer -> down, up


def random_halves(transformer: Transformer, seed: int = 1) -> Halves:
    """A LoRA on every linear layer, each change about as strong as the layer itself."""
    rng = torch.Generator().manual_seed(seed)
    halves = {}
    for name, layer in transformer.named_modules():
        if isinstance(layer, nn.Linear):
            down = torch.randn(RANK, layer.in_features, generator=rng) * layer.in_features**-0.5
            up = torch.randn(layer.out_features, RANK, generator=rng) * 0.3
            halves[name] = down, up
    return halves


def whole(halves: Halves) -> dict[str, Tensor]:
    """What the LoRA adds to each weight at a strength of 1."""
    return {f"{n}.weight": ALPHA / RANK * up @ down for n, (down, up) in halves.items()}


def merged_by_hand(transformer: Transformer, *deltas: tuple[dict[str, Tensor], float]):
    """The slow proof: a copy of the transformer with everything inside its weights."""
    state = {name: tensor.clone() for name, tensor in transformer.state_dict().items()}
    for delta, strength in deltas:
        for name, change in delta.items():
            state[name] += strength * change
    twin = Transformer(transformer.config)
    twin.load_state_dict(state)
    return twin.eval().requires_grad_(False)


def diffusers_name(layer: str) -> str:
    block = layer.split(".", 2)
    table = {ours: theirs for theirs, ours in (DIFFUSERS_BLOCK | DIFFUSERS_OUTER).items()}
    if block[0] == "blocks":
        return f"blocks.{block[1]}.{table[block[2]]}"
    return table[layer]


class Writer(NamedTuple):
    """How one program calls the pieces of a layer."""

    base: Callable[[str], str]
    down: str
    up: str
    has_alpha: bool

    def write(self, halves: Halves) -> dict[str, Tensor]:
        tensors = {}
        for layer, (down, up) in halves.items():
            name = self.base(layer)
            tensors[f"{name}.{self.down}"] = down.clone()
            tensors[f"{name}.{self.up}"] = up.clone() if self.has_alpha else up * ALPHA / RANK
            if self.has_alpha:
                tensors[f"{name}.alpha"] = torch.tensor(ALPHA)
        return tensors


def after(prefix: str) -> Callable[[str], str]:
    return lambda layer: prefix + layer


def flat(prefix: str) -> Callable[[str], str]:
    return lambda layer: prefix + layer.replace(".", "_")


AB = ("lora_A.weight", "lora_B.weight")
NAMED_AB = ("lora_A.default.weight", "lora_B.default.weight")
DOWN_UP = ("lora_down.weight", "lora_up.weight")

WRITERS = {
    "ComfyUI, A and B": Writer(after("diffusion_model."), *AB, False),
    "ComfyUI, down and up": Writer(after("diffusion_model."), *DOWN_UP, True),
    "ComfyUI, whole checkpoint": Writer(after("model.diffusion_model."), *DOWN_UP, True),
    "kohya and musubi": Writer(flat("lora_unet_"), *DOWN_UP, True),
    "kohya, diffusers' layers": Writer(
        lambda layer: flat("lora_unet_")(diffusers_name(layer)), *DOWN_UP, True
    ),
    "Wan-Fun": Writer(flat("lora_unet__"), *DOWN_UP, True),
    "LyCORIS": Writer(flat("lycoris_"), *DOWN_UP, True),
    "diffusers": Writer(lambda layer: f"transformer.{diffusers_name(layer)}", *AB, False),
    "diffusers, named adapter": Writer(
        lambda layer: f"transformer.{diffusers_name(layer)}", *NAMED_AB, False
    ),
    "diffusers, of old": Writer(
        lambda layer: f"transformer.{diffusers_name(layer)}",
        "lora.down.weight",
        "lora.up.weight",
        False,
    ),
    "diffusers' layers in ComfyUI": Writer(
        lambda layer: f"diffusion_model.{diffusers_name(layer)}", *AB, False
    ),
    "PEFT": Writer(after("base_model.model."), *AB, False),
    "PEFT, named adapter": Writer(after("base_model.model."), *NAMED_AB, False),
    "PEFT under FSDP": Writer(
        lambda layer: (
            "base_model.model." + layer.replace("self_attn", "_fsdp_wrapped_module.self_attn")
        ),
        *AB,
        False,
    ),
    "DiffSynth": Writer(after("pipe.dit."), *NAMED_AB, False),
    "bare": Writer(after(""), *AB, False),
}
