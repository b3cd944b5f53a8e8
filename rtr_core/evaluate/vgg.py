"""Style by VGG16's Gram matrices, where a person names a file with its weights.

The file has torchvision's names: `features.0.weight` and so on.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..appearance import Frames, leveled
from ..errors import WeightsError
from ..weights.read import open_weights

KINDS = ("weight", "bias")
STAGES = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21))  # convolutions, halved in between
MEAN, SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's colours
GRAY, CONTRAST = 0.45, 0.22  # what leveled frames are brought to


class VggGram:
    """Products of the features of relu1_2, 2_2, 3_3 and 4_3, each matrix of length 1."""

    name = "VGG16 Gram"

    def __init__(self, path: Path):
        file = open_weights(path)
        names = [f"features.{n}.{kind}" for stage in STAGES for n in stage for kind in KINDS]
        if missing := [name for name in names if name not in file.tensors]:
            raise WeightsError(
                f"{path} is no VGG16 as torchvision names it: {missing[0]} is missing."
            )
        self.weights = {name: file.tensors[name].float() for name in names}

    def gray(self, frames: Frames) -> np.ndarray:
        light = np.clip(leveled(frames) * CONTRAST + GRAY, 0, 1)
        return self.color(np.repeat(light[..., None], 3, axis=-1))

    @torch.no_grad()
    def color(self, frames: Frames) -> np.ndarray:
        return np.mean([self._grams(torch.from_numpy(frame)) for frame in frames], axis=0)

    def _grams(self, frame: Tensor) -> np.ndarray:
        x = ((frame - torch.tensor(MEAN)) / torch.tensor(SPREAD)).float().permute(2, 0, 1)[None]
        grams = []
        for stage in STAGES:
            x = x if stage is STAGES[0] else F.max_pool2d(x, 2)
            for number in stage:
                weight, bias = (self.weights[f"features.{number}.{kind}"] for kind in KINDS)
                x = F.relu(F.conv2d(x, weight, bias, padding=1))
            values = x[0].flatten(1)
            gram = values @ values.T
            grams.append((gram / gram.norm().clamp_min(1e-8)).flatten())
        return torch.cat(grams).numpy()
