"""CLIP from a folder on this machine: vectors of pictures and of texts, each of length 1."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import WeightsError

MEAN, SPREAD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
FAMILIES = {(24, 1024): "L", (12, 768): "B", (32, 1280): "H"}  # by layers and width


def vit_name(layers: int, width: int, patch: int, side: int) -> str:
    size = FAMILIES.get((layers, width), f"{layers}x{width}")
    return f"ViT-{size}/{patch} at {side}"


def squared(frame: Tensor, side: int, antialias: bool = True) -> Tensor:
    """A frame `[h w 3]` as `[1 3 side side]`: its shorter side brought to `side`, the middle of it,
    in levels of 255 as a picture of that size would have them."""
    x = frame.permute(2, 0, 1)[None].float()
    x = x if frame.dtype == torch.uint8 else x * 255
    height, width = x.shape[-2:]
    short = min(height, width)
    size = [side if length == short else int(side * length / short) for length in (height, width)]
    if size != [height, width]:
        x = F.interpolate(x, size, mode="bicubic", antialias=antialias)
    top, left = (round((length - side) / 2) for length in size)
    x = x.round().clamp(0, 255)[..., top : top + side, left : left + side] / 255
    return (x - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(SPREAD).view(1, 3, 1, 1)


class ClipModel:
    """Reads what `transformers` writes: config.json, weights, and the tokenizer's files."""

    def __init__(self, folder: Path, device: str = "cpu"):
        from transformers import AutoTokenizer, CLIPModel

        self.folder, self.device = folder, device
        stated = model_type(folder)
        if stated != "clip":
            raise WeightsError(f"{folder} holds a {stated} model. Expected is a folder of CLIP.")
        with loading(folder, "CLIP"):
            came: Any = CLIPModel.from_pretrained(
                folder, local_files_only=True, output_loading_info=True
            )
            self.model, found = came
            self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        check_whole(folder, found)
        self.model = self.model.float().to(device).eval().requires_grad_(False)
        vision = self.model.config.vision_config
        self.side = vision.image_size
        self.width = self.model.config.projection_dim
        self.name = vit_name(
            vision.num_hidden_layers, vision.hidden_size, vision.patch_size, self.side
        )

    @torch.no_grad()
    def image(self, frame: Tensor, antialias: bool = True) -> Tensor:
        """A vector `[width]` of a frame `[h w 3]`."""
        pixels = squared(frame.cpu(), self.side, antialias).to(self.device)
        seen = self.model.vision_model(pixel_values=pixels).pooler_output
        return _unit(self.model.visual_projection(seen))[0]

    @torch.no_grad()
    def text(self, prompt: str) -> Tensor:
        """A vector `[width]` of a prompt, cut off where CLIP's context ends."""
        rows = self._tokenizer(
            prompt,
            truncation=True,
            max_length=self.model.config.text_config.max_position_embeddings,
            return_tensors="pt",
        ).to(self.device)
        return _unit(self.model.text_projection(self.model.text_model(**rows).pooler_output))[0]


def model_type(folder: Path) -> str:
    """What a folder's config.json says it is."""
    path = folder / "config.json"
    if not path.is_file():
        raise WeightsError(
            f"{folder} has no config.json. Expected is a folder as `transformers` saves it: "
            f"config.json, model.safetensors and, for prompts, the tokenizer's files."
        )
    try:
        stated = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path} is damaged: {error}.") from error
    return str(stated.get("model_type")) if isinstance(stated, dict) else "nameless"


@contextmanager
def loading(folder: Path, what: str) -> Iterator[None]:
    """Quietly, and with one kind of error."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    except Exception as error:  # a foreign folder may fail in any way
        said = str(error).strip().splitlines()
        raise WeightsError(
            f"{folder} cannot be loaded as {what}: {said[0] if said else type(error).__name__}"
        ) from error
    finally:
        logging.set_verbosity(level)
        logging.enable_progress_bar()


def check_whole(folder: Path, found: dict[str, Any]) -> None:
    """Nothing may be left as random numbers."""
    lost = sorted(map(str, [*found["missing_keys"], *found.get("mismatched_keys", ())]))
    if lost:
        raise WeightsError(
            f"{folder} is not what its config.json says: {lost[0]} is missing or of another shape "
            f"({len(lost)} such tensors)."
        )


def _unit(vectors: Tensor) -> Tensor:
    return F.normalize(vectors, dim=-1)
