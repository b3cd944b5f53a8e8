"""CLIP: the host's contract over a prompt encoder of ours."""

from types import SimpleNamespace
from typing import Any

import comfy.sd
import torch
from torch import Tensor, nn

from ..rtr_core.model.text import PromptEncoder, Remembered

KEY = "rtr"  # under which tokens go through the host; they are the prompt itself
CPU = torch.device("cpu")


class TextModel(nn.Module):
    """What the host calls a text encoder. It runs once a prompt, so it stays on the CPU."""

    def __init__(self, encoder: PromptEncoder):
        super().__init__()
        self.read = encoder.encode  # bound, so that weights are registered once, just below
        inner = encoder.encoder if isinstance(encoder, Remembered) else encoder
        if isinstance(inner, nn.Module):
            self.inner = inner
        self.dtypes = {torch.float32}

    def encode_token_weights(self, tokens: dict[str, Any]) -> tuple[Tensor, None]:
        return self.read(tokens[KEY])[None], None

    def set_clip_options(self, options: dict[str, Any]) -> None:
        """Layers to stop at are for other encoders."""

    def reset_clip_options(self) -> None:
        """See `set_clip_options`."""

    def load_sd(self, sd: dict[str, Tensor]) -> Any:
        return self.load_state_dict(sd, strict=False)


class PromptTokenizer:
    """Hands the prompt on: our encoders take it apart themselves."""

    def __init__(self, **_: Any):
        pass

    def tokenize_with_weights(self, text: str, *_: Any, **__: Any) -> dict[str, str]:
        return {KEY: text}

    def state_dict(self) -> dict[str, Tensor]:
        return {}


def clip_of(encoder: PromptEncoder) -> comfy.sd.CLIP:
    target = SimpleNamespace(
        params={}, clip=lambda **_: TextModel(encoder), tokenizer=PromptTokenizer
    )
    place = {"load_device": CPU, "offload_device": CPU, "initial_device": CPU}
    return comfy.sd.CLIP(target, model_options={**place, "dtype": torch.float32})
