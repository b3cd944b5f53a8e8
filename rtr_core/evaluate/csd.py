"""CSD: style as the vision half of CLIP was trained to see it, in OpenAI's layout of weights."""

import re
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import WeightsError
from ..weights.read import open_weights
from .clip_model import squared, vit_name

HEAD = 64  # width of an attention head in every CLIP
TRUNK, STYLE = "backbone.", "last_layer_style"
PREFIX = re.compile(r"^(model_state_dict\.|state_dict\.|module\.)+")
BLOCK = re.compile(rf"{re.escape(TRUNK)}transformer\.resblocks\.(\d+)\.")


class CsdModel:
    """Reads the checkpoint of CSD: a ViT under `backbone.` and a matrix `last_layer_style`."""

    def __init__(self, path: Path, device: str = "cpu"):
        file = open_weights(path)
        names = {PREFIX.sub("", name): name for name in file.tensors}
        numbers = [int(found[1]) for name in names if (found := BLOCK.match(name))]
        self.layers = 1 + max(numbers, default=-1)
        if missing := [name for name in _expected(self.layers) if name not in names]:
            raise WeightsError(
                f"{path} is no CSD checkpoint: {missing[0]} is missing. Expected is CLIP's vision "
                f"transformer under {TRUNK}* and {STYLE}."
            )
        kept = [*_expected(self.layers)]
        self.device = device
        self.weights = {name: file.tensors[names[name]].float().to(device) for name in kept}
        width, _, self.patch, _ = self._of("conv1.weight").shape
        self.heads = max(1, width // HEAD)
        rows = len(self._of("positional_embedding"))
        self.side = self.patch * round((rows - 1) ** 0.5)
        self.name = vit_name(self.layers, width, self.patch, self.side)

    @torch.no_grad()
    def style(self, frame: Tensor) -> Tensor:
        """The style of a frame `[h w 3]`, as a vector of length 1."""
        return self.of_pixels(squared(frame.cpu(), self.side).to(self.device))[0]

    @torch.no_grad()
    def of_pixels(self, pixels: Tensor) -> Tensor:
        """`[n 3 side side]` -> `[n width]`."""
        tokens = F.conv2d(pixels, self._of("conv1.weight"), stride=self.patch).flatten(2).mT
        first = self._of("class_embedding").expand(len(tokens), 1, -1)
        x = torch.cat([first, tokens], dim=1) + self._of("positional_embedding")
        x = self._norm(x, "ln_pre")
        for number in range(self.layers):
            block = f"transformer.resblocks.{number}"
            x = x + self._attend(self._norm(x, f"{block}.ln_1"), f"{block}.attn")
            wide = self._linear(self._norm(x, f"{block}.ln_2"), f"{block}.mlp.c_fc")
            x = x + self._linear(wide * torch.sigmoid(1.702 * wide), f"{block}.mlp.c_proj")
        return F.normalize(self._norm(x[:, 0], "ln_post") @ self.weights[STYLE], dim=-1)

    def _attend(self, x: Tensor, name: str) -> Tensor:
        mixed = F.linear(x, self._of(f"{name}.in_proj_weight"), self._of(f"{name}.in_proj_bias"))
        q, k, v = mixed.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        out = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return self._linear(out, f"{name}.out_proj")

    def _linear(self, x: Tensor, name: str) -> Tensor:
        return F.linear(x, self._of(f"{name}.weight"), self._of(f"{name}.bias"))

    def _norm(self, x: Tensor, name: str) -> Tensor:
        weight, bias = self._of(f"{name}.weight"), self._of(f"{name}.bias")
        return F.layer_norm(x, weight.shape, weight, bias)

    def _of(self, name: str) -> Tensor:
        return self.weights[TRUNK + name]


def _expected(layers: int) -> list[str]:
    ends = [f"{name}.{kind}" for name in ("ln_pre", "ln_post") for kind in ("weight", "bias")]
    inner = ("ln_1", "ln_2", "attn.out_proj", "mlp.c_fc", "mlp.c_proj")
    blocks = [
        f"transformer.resblocks.{n}.{part}"
        for n in range(max(layers, 1))
        for part in (
            *(f"{name}.{kind}" for name in inner for kind in ("weight", "bias")),
            *("attn.in_proj_weight", "attn.in_proj_bias"),
        )
    ]
    trunk = ["conv1.weight", "class_embedding", "positional_embedding", *ends, *blocks]
    return [*(TRUNK + name for name in trunk), STYLE]
