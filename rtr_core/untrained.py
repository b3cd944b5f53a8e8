"""A small stylizer with random weights: it moves every part and shows nothing but noise.

It stands in for `rtr-tiny` until that has been trained, and is what most tests run on.
"""

import math
from typing import TypeVar

import torch
from torch import nn

from .families import RTR
from .model.config import TransformerConfig
from .model.transformer import Transformer
from .model.words import WordEncoder, WordEncoderConfig
from .parts import Parts
from .recipes import Recipe
from .vae.tiny import TinyVae
from .vae.tiny_config import TinyVaeConfig

M = TypeVar("M", bound=nn.Module)

TRANSFORMER = TransformerConfig(
    dim=128,
    ffn_dim=256,
    heads=2,
    layers=2,
    in_channels=16,
    out_channels=8,
    text_dim=64,
    text_rows=16,
    freq_dim=64,
    adapter_dim=64,
)
VAE = TinyVaeConfig(
    channels=8,
    encoder_widths=(16, 16, 16, 16),
    decoder_widths=(16, 16, 16, 16),
    encoder_time=(2, 2, 1),
    decoder_time=(1, 2, 2),
    depth=1,
)
TEXT = WordEncoderConfig(rows=16, dim=64, buckets=512, ffn_dim=128)
RECIPE = RTR.override(name="untrained", chunk=2, window=4)


def parts(
    seed: int = 0,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    transformer: TransformerConfig = TRANSFORMER,
    recipe: Recipe = RECIPE,
) -> Parts:
    """The same random weights for the same seed, on every device."""
    rng = torch.Generator().manual_seed(seed)
    return Parts(
        transformer=randomized(Transformer(transformer), rng).to(device, dtype),
        vae=randomized(TinyVae(VAE), rng).to(device, dtype),
        text=randomized(WordEncoder(TEXT), rng),
        recipe=recipe,
        name="untrained",
    )


def randomized(module: M, rng: torch.Generator) -> M:
    """Give every parameter a value under which activations neither vanish nor explode."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.ndim > 1:
                fan_in = math.prod(parameter.shape[1:])
                parameter.normal_(0, fan_in**-0.5, generator=rng)
            else:
                parameter.fill_(1.0 if "norm" in name and name.endswith("weight") else 0.0)
    return module
