"""MUSIQ (Ke et al. 2021): how good a picture looks, from its patches in three sizes.

Patches of each size become tokens by a small residual network, stand on one grid of ten by ten
places whatever the picture's shape, and a transformer gives one score, 0..100.
"""

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import WeightsError
from ..weights.read import open_weights

PATCH = 32  # pixels a side
LONGER_SIDES = (224, 384)  # of the two smaller copies; the picture itself comes last
LARGEST = 512  # longer side that VBench looks at, in its mode `longer`
HEAD = 64  # width of an attention head
GROUPS = 32
PREFIX = "params."  # around the names, in some files
ENCODER = "transformer_encoder."
EXPECTED = (
    *("conv_root.weight", "gn_root.weight", "block1.conv_proj.weight", "embedding.weight"),
    *(f"{ENCODER}cls", f"{ENCODER}posembed_input.position_emb", "head.weight"),
    *(f"{ENCODER}scaleembed_input.scale_emb", f"{ENCODER}encoder_norm.weight"),
)


class MusiqModel:
    """Reads the checkpoints that PyTorch users share, such as musiq_spaq_ckpt."""

    def __init__(self, path: Path, device: str = "cpu"):
        file = open_weights(path)
        names = {name.removeprefix(PREFIX): name for name in file.tensors}
        if missing := [name for name in EXPECTED if name not in names]:
            raise WeightsError(f"{path} is no MUSIQ checkpoint: {missing[0]} is missing.")
        scores = file.tensors[names["head.weight"]].shape[0]
        if scores != 1:
            raise WeightsError(
                f"{path} gives {scores} scores a picture. Expected is one, as of SPAQ or KonIQ."
            )
        self.weights = {name: file.tensors[names[name]].float().to(device) for name in names}
        inner = f"{ENCODER}transformer.encoderblock_"
        self.layers = len({n.split(".")[2] for n in names if n.startswith(inner)})
        self.width = self.weights["embedding.weight"].shape[0]
        self.grid = round(self.weights[f"{ENCODER}posembed_input.position_emb"].shape[1] ** 0.5)
        self.device = device
        self.name = f"MUSIQ {path.stem}, longer side at most {LARGEST}"

    def score(self, frame: Tensor) -> float:
        """Of a frame `[h w 3]`, as VBench brings it in: 0..100."""
        x = frame.to(self.device).permute(2, 0, 1)[None].float()
        x = x if frame.dtype == torch.uint8 else x * 255
        if max(x.shape[-2:]) > LARGEST:
            scale = LARGEST / max(x.shape[-2:])
            size = [int(scale * side) for side in x.shape[-2:]]
            x = F.interpolate(x, size, mode="bilinear").round()
        return float(self.of_pixels(x / 255))

    @torch.no_grad()
    def of_pixels(self, pixels: Tensor) -> Tensor:
        """A score of `[1 3 h w]`, 0..1."""
        longer = max(pixels.shape[-2:])
        copies = [
            F.interpolate(
                pixels, [round(n * side / longer) for n in pixels.shape[-2:]], mode="bicubic"
            )
            for side in LONGER_SIDES
        ]
        tokens = [self._tokens(copy * 2 - 1, n) for n, copy in enumerate([*copies, pixels])]
        x = torch.cat([self.weights[f"{ENCODER}cls"][0], *tokens])[None]
        for number in range(self.layers):
            block = f"{ENCODER}transformer.encoderblock_{number}"
            x = x + self._attend(self._norm(x, f"{block}.norm1"), f"{block}.attention")
            wide = F.gelu(self._linear(self._norm(x, f"{block}.norm2"), f"{block}.mlp.fc1"))
            x = x + self._linear(wide, f"{block}.mlp.fc2")
        return self._linear(self._norm(x[:, 0], f"{ENCODER}encoder_norm"), "head")[0, 0]

    def _tokens(self, pixels: Tensor, scale: int) -> Tensor:
        """`[patches width]` of one size."""
        pixels = same_padded(pixels, PATCH, PATCH)
        rows, columns = (side // PATCH for side in pixels.shape[-2:])
        patches = F.unfold(pixels, PATCH, stride=PATCH)[0].T.unflatten(1, (3, PATCH, PATCH))
        x = F.relu(self._group(self._conv(patches, "conv_root", 2), "gn_root", 1e-6))
        x = self._block(F.max_pool2d(same_padded(x, 3, 2), 3, 2))
        tokens = self._linear(x.permute(0, 2, 3, 1).flatten(1), "embedding")
        places = self.weights[f"{ENCODER}posembed_input.position_emb"][0]
        down, across = (
            torch.arange(count, device=x.device) * self.grid // count for count in (rows, columns)
        )
        places = places[(down[:, None] * self.grid + across).flatten()]
        return tokens + places + self.weights[f"{ENCODER}scaleembed_input.scale_emb"][scale]

    def _block(self, x: Tensor) -> Tensor:
        """A residual unit, narrow in its middle."""
        kept = self._group(self._conv(x, "block1.conv_proj"), "block1.gn_proj", 1e-4)
        for number in (1, 2, 3):
            x = self._group(self._conv(x, f"block1.conv{number}"), f"block1.gn{number}", 1e-4)
            x = F.relu(x if number < 3 else x + kept)
        return x

    def _conv(self, x: Tensor, name: str, stride: int = 1) -> Tensor:
        """By weights of mean 0 and deviation 1."""
        weight = self.weights[f"{name}.weight"]
        weight = weight - weight.mean((1, 2, 3), keepdim=True)
        weight = weight / (weight.std((1, 2, 3), keepdim=True) + 1e-5)
        return F.conv2d(same_padded(x, weight.shape[-1], stride), weight, stride=stride)

    def _attend(self, x: Tensor, name: str) -> Tensor:
        heads = max(1, self.width // HEAD)
        q, k, v = (
            self._linear(x, f"{name}.{kind}").unflatten(-1, (heads, -1)).transpose(1, 2)
            for kind in ("query", "key", "value")
        )
        out = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return self._linear(out, f"{name}.out")

    def _linear(self, x: Tensor, name: str) -> Tensor:
        return F.linear(x, self.weights[f"{name}.weight"], self.weights.get(f"{name}.bias"))

    def _norm(self, x: Tensor, name: str) -> Tensor:
        return F.layer_norm(
            x, (self.width,), self.weights[f"{name}.weight"], self.weights[f"{name}.bias"], 1e-6
        )

    def _group(self, x: Tensor, name: str, floor: float) -> Tensor:
        weight, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        return F.group_norm(x, GROUPS, weight, bias, floor)


def same_padded(x: Tensor, kernel: int, stride: int) -> Tensor:
    """With zeros around, so that windows begin at every so manyth pixel of what was there."""
    down, across = (max(0, (-(-n // stride) - 1) * stride + kernel - n) for n in x.shape[-2:])
    return F.pad(x, (across // 2, across - across // 2, down // 2, down - down // 2))
