"""How near each pixel is, by a Depth-Anything that lies in a local folder.

The folder is as transformers keeps it: `config.json` and weights as safetensors. transformers is
imported only when such a model is loaded, and nothing is ever downloaded or executed.
"""

import json
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import WeightsError

KIND = "depth_anything"  # as its config calls it
SIDE = 518  # pixels of the shorter side that it was trained with
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of the pictures it was
NEAREST = 0.1  # metres, where it tells distances
EXPECTED = (
    "name the folder of a Depth-Anything, with config.json and model.safetensors in it; nothing "
    "is downloaded."
)


class Depth(nn.Module):
    """Picture `[3 h w]` in 0..1 -> nearness `[h w]`, larger where nearer, in a size of its own."""

    def __init__(self, network: nn.Module, patch: int, is_metric: bool):
        super().__init__()
        self.network, self.patch, self.is_metric = network, patch, is_metric

    def forward(self, picture: Tensor) -> Tensor:
        height, width = picture.shape[-2:]
        scale = min(1.0, SIDE / min(height, width))  # there is no more to see in a larger one
        size = [math.ceil(side * scale / self.patch) * self.patch for side in (height, width)]
        x = F.interpolate(
            picture[None].float(), size, mode="bicubic", antialias=True, align_corners=False
        )
        mean, deviation = (x.new_tensor(each)[:, None, None] for each in (MEAN, DEVIATION))
        depth = self.network(pixel_values=(x - mean) / deviation).predicted_depth[0]
        return 1 / depth.clamp_min(NEAREST) if self.is_metric else depth


def check_depth(folder: Path) -> dict[str, Any]:
    """The config of the depth model in a folder, of which nothing else is read."""
    if not folder.is_dir():
        raise WeightsError(f"There is no depth model at {folder}: {EXPECTED}")
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        kind = config.get("model_type")
    except (OSError, ValueError, AttributeError, RecursionError):
        raise WeightsError(f"{folder} has no config.json that can be read: {EXPECTED}") from None
    if kind != KIND:
        raise WeightsError(f"{folder} holds a model of the kind {kind!r}: {EXPECTED}")
    if not any(folder.glob("*.safetensors")):
        raise WeightsError(f"{folder} holds a config and no weights: {EXPECTED}")
    return config


def load_depth(folder: Path, device: torch.device | str = "cpu") -> Depth:
    """The depth model in a folder. It computes in fp32: in bf16 its picture would have steps."""
    config = check_depth(folder)
    from transformers import AutoModelForDepthEstimation  # heavy, and only needed here

    try:
        network, found = AutoModelForDepthEstimation.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except Exception as error:  # the library raises its own kinds and plain ones
        raise WeightsError(f"{folder} cannot be loaded: {error}") from error
    lost = [*found["missing_keys"], *found["mismatched_keys"]]
    if lost or not all(weight.isfinite().all() for weight in network.parameters()):
        what = f"lacks {len(lost)} tensors, such as {lost[0]!r}" if lost else "holds NaN"
        raise WeightsError(f"The depth model in {folder} {what}. Download it again.")
    is_metric = config.get("depth_estimation_type") == "metric"
    depth = Depth(network.float().to(device), network.config.patch_size, is_metric)
    return depth.eval().requires_grad_(False)
