"""A model, an autoencoder and pairs small enough to train in a test."""

import torch

from rtr_core.model.config import TransformerConfig
from rtr_core.model.words import WordEncoderConfig
from rtr_core.recipes import Recipe
from rtr_core.train import network
from rtr_core.train.pairs import Pairs, Shard
from rtr_core.untrained import randomized
from rtr_core.vae.tiny import TinyVae
from rtr_core.vae.tiny_config import TinyVaeConfig

CHANNELS, FRAMES, SIDE = 4, 3, 4
STYLES = ("ink", "oil")
MODEL = TransformerConfig(
    dim=32,
    ffn_dim=48,
    heads=2,
    layers=2,
    in_channels=2 * CHANNELS,
    out_channels=CHANNELS,
    text_dim=32,
    text_rows=16,
    freq_dim=32,
    adapter_dim=16,
    predicts="clean",
)
TEXT = WordEncoderConfig(rows=16, dim=32, buckets=64, ffn_dim=32)
VAE = TinyVaeConfig(
    channels=CHANNELS,
    encoder_widths=(4, 4, 4),
    decoder_widths=(4, 4, 4),
    encoder_time=(2, 2),
    decoder_time=(2, 2),
    depth=1,
    patch=2,
    shortcut=True,
)
RECIPE = Recipe(name="toy", timesteps=(1000, 500), chunk=1, window=1)


def make_pairs(folder, rows=16, vae="toy", seed=0) -> Pairs:
    """Targets that follow from source and style, so that there is something to learn."""
    rng = torch.Generator().manual_seed(seed)
    source = torch.randn(rows, CHANNELS, FRAMES, SIDE, SIDE, generator=rng)
    styles = [STYLES[row % 2] for row in range(rows)]
    sign = torch.tensor([1.0 if style == "ink" else -1.0 for style in styles])
    target = source * sign[:, None, None, None, None]
    prompts = [
        (f"{style} painting", style) if row % 4 < 2 else () for row, style in enumerate(styles)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    Shard(
        tensors={
            "source": source.bfloat16(),
            "target": target.bfloat16(),
            "reference": target[:, :, :1].bfloat16(),
        },
        styles=styles,
        prompts=prompts,
    ).write(folder / "pairs-00000.safetensors", vae)
    return Pairs(folder)


def make_network(seed=0) -> network.Network:
    return network.begun(MODEL, TEXT, seed)


def make_result() -> network.Result:
    vae = randomized(TinyVae(VAE), torch.Generator().manual_seed(0)).requires_grad_(False)
    return network.Result(vae=vae, recipe=RECIPE, styles=("ink painting",), card={})


def woken(network, seed=0):
    """With a head that says something: a fresh one says zero, and then nothing else matters."""
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        head = network.transformer.head.head.weight
        head.copy_(0.2 * torch.randn(head.shape, generator=rng))
    return network
