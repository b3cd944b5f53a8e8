"""Depth by a model on this machine, such as Depth Anything: how much of it an output keeps."""

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from .bars import Bar
from .clip_model import check_whole, loading, model_type
from .passages import Pair
from .vgg import MEAN, SPREAD

SIDE = 518  # pixels that the shorter side is brought to: what these models are trained on
FLAT = 1e-6


class DepthModel:
    """A folder as `transformers` saves a depth estimator."""

    def __init__(self, folder: Path, device: str = "cpu"):
        from transformers import AutoModelForDepthEstimation

        kind = model_type(folder)
        with loading(folder, "a depth estimator"):
            model, found = AutoModelForDepthEstimation.from_pretrained(
                folder, local_files_only=True, output_loading_info=True
            )
        check_whole(folder, found)
        self.model, self.device = model.float().to(device).eval().requires_grad_(False), device
        backbone = getattr(model.config, "backbone_config", None) or model.config
        self.patch = int(getattr(backbone, "patch_size", 14) or 14)
        self.side = min(SIDE, int(getattr(backbone, "image_size", SIDE) or SIDE))
        self.name = f"{kind} at {self.side}"

    @torch.no_grad()
    def depth(self, frame: Tensor) -> Tensor:
        """`[h w]` of a frame `[h w 3]`, in a measure of the model's own."""
        x = frame.to(self.device).permute(2, 0, 1)[None].float()
        x = x / 255 if frame.dtype == torch.uint8 else x
        scale = self.side / min(x.shape[-2:])
        whole = [max(1, round(n * scale / self.patch)) * self.patch for n in x.shape[-2:]]
        x = F.interpolate(x, whole, mode="bicubic", antialias=True).clamp(0, 1)
        mean, spread = (x.new_tensor(values).view(1, 3, 1, 1) for values in (MEAN, SPREAD))
        return self.model(pixel_values=(x - mean) / spread).predicted_depth[0].float().cpu()


def depth_error(output: Tensor, source: Tensor) -> float:
    """Mean squared error of depths, the source's from 0 to 1 and the output's fitted to it.

    Fitted by scale and shift, since these models tell neither. 0 for a copy.
    """
    low, high = source.min(), source.max()
    target = ((source - low) / (high - low).clamp_min(FLAT)).flatten().double()
    ours = output.flatten().double()
    ours = ours - ours.mean()
    scale = (ours * target).sum() / ours.square().sum().clamp_min(FLAT)
    return float((scale * ours + target.mean() - target).square().mean())


class DepthKept:
    """Of one clip, by every so manyth frame."""

    def __init__(self, model: DepthModel, every: int):
        self.model, self.every = model, every
        self._errors: list[float] = []

    def see(self, number: int, pair: Pair) -> None:
        if number % self.every:
            return
        source = self.model.depth(pair.source)
        output = self.model.depth(_as_large(pair.output, pair.source))
        self._errors.append(depth_error(output, source))

    def bars(self) -> dict[str, Bar]:
        value = sum(self._errors) / len(self._errors)
        claim = f"depth MSE, {self.model.name}, scale and shift fitted"
        return {"depth": Bar(claim=claim, value=value)}


def _as_large(frame: Tensor, other: Tensor) -> Tensor:
    if frame.shape == other.shape:
        return frame
    still = frame.float() / 255 if frame.dtype == torch.uint8 else frame
    size = tuple(other.shape[:2])
    scaled = F.interpolate(still.permute(2, 0, 1)[None], size, mode="bilinear", antialias=True)
    return scaled[0].permute(1, 2, 0)
