"""What is trained together to stylize: a transformer and, where it is small, its text encoder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import WeightsError
from ..flow import add_noise
from ..model.attention import Memory
from ..model.config import TransformerConfig
from ..model.transformer import Transformer
from ..model.words import WordEncoder, WordEncoderConfig
from ..parts import Parts
from ..recipes import Recipe
from ..sampling import denoiser
from ..stylizer import file_of
from ..vae.stream import Vae
from ..vae.tiny import TinyVae
from ..weights.bundle import About, write_bundle
from ..weights.layouts import Role
from ..weights.load import load_parts
from .pairs import Batch
from .vae import energy

TINY = TransformerConfig(
    dim=256,
    ffn_dim=640,
    heads=4,
    layers=6,
    in_channels=64,
    out_channels=32,
    text_dim=128,
    text_rows=24,
    freq_dim=128,
    adapter_dim=128,
    predicts="clean",
)
TINY_TEXT = WordEncoderConfig(rows=24, dim=128)
TINY_RECIPE = Recipe(name="rtr-tiny", timesteps=(1000,), chunk=1, window=2, commit="last step")


class Network(nn.Module):
    """A transformer and the text encoder that learns along with it."""

    def __init__(self, transformer: Transformer, text: WordEncoder):
        super().__init__()
        self.transformer, self.text = transformer, text

    def encode(self, prompts: Sequence[str]) -> Any:
        """Keys and values of prompts, for a memory."""
        return self.transformer.encode_context(self.text(prompts))

    def clean(self, noisy: Tensor, sigma: Tensor, batch: Batch, memory: Memory) -> Tensor:
        """Clean latents predicted of noisy ones at `sigma [b t]`, the batch's style in mind."""
        denoise = denoiser(self.transformer, memory, batch.source, batch.reference)
        return denoise(noisy, sigma)


def begun(config: TransformerConfig, text: WordEncoderConfig, seed: int = 0) -> Network:
    """A network before its first step: blocks that pass on what they get, a head that says zero."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        transformer, words = Transformer(config), WordEncoder(text)
        for name, parameter in transformer.named_parameters():
            with torch.no_grad():
                if name.endswith("modulation"):
                    parameter.normal_(0, config.dim**-0.5)
                elif name.endswith("bias") or "head.head" in name or "adapter.down" in name:
                    parameter.zero_()
                elif parameter.ndim > 1:
                    nn.init.xavier_uniform_(parameter.flatten(1))
    return Network(transformer, words)


def opened(path: Path) -> tuple[Network, Parts]:
    """A network from a bundle that an earlier stage wrote, or the built-in one by its name, and all
    that came with it."""
    parts = load_parts([file_of(path)])
    if not isinstance(parts.text, WordEncoder) or not isinstance(parts.vae, TinyVae):
        raise WeightsError(
            f"{path} has no word encoder or no tiny autoencoder, which are trained and measured "
            f"along with a small model. Give a file that `rtr train` wrote."
        )
    parts.vae.float()  # a released file is bf16, whose steps are too coarse to learn in
    network = Network(parts.transformer, parts.text).float()
    return network.requires_grad_(True).train(), parts


@dataclass(frozen=True, kw_only=True, eq=False)
class Result:
    """What a stage writes: a bundle that `rtr stylize` runs as it is."""

    vae: TinyVae
    recipe: Recipe
    styles: tuple[str, ...]
    card: Mapping[str, Any]

    def write(self, path: Path, network: Network, dtype: torch.dtype = torch.float32) -> None:
        parts: dict[Role, nn.Module] = {
            "transformer": network.transformer,
            "vae": self.vae,
            "text": network.text,
        }
        tensors: dict[Role, dict[str, Tensor]] = {
            role: {name: t.to("cpu", dtype) for name, t in part.state_dict().items()}
            for role, part in parts.items()
        }
        about = About(
            transformer=network.transformer.config,
            vae=self.vae.config,
            text=network.text.config,
            recipe=self.recipe,
            styles=self.styles,
            card=self.card,
        )
        write_bundle(path, tensors, about)

    def of(self, vae: TinyVae) -> "Result":
        """With another autoencoder."""
        return replace(self, vae=vae)

    def told(self, **facts: Any) -> "Result":
        """With more facts on its card."""
        return replace(self, card=dict(self.card) | facts)


def weights_of(vae: Vae) -> Tensor:
    """How much an error of each latent channel counts, `[1 c 1 1 1]`.

    By the square root of what it does to pixels: by all of it, fine texture would not count; by
    none of it, noise would count as much as shapes.
    """
    if isinstance(vae, TinyVae) and vae.config.shortcut:
        root = energy(vae).sqrt()
    else:
        root = torch.ones(vae.channels)
    return (root / root.mean())[None, :, None, None, None]


def noised(batch: Batch, noise: Tensor, sigma: Tensor) -> Tensor:
    """The batch's targets at the noise levels `[b t]`."""
    return add_noise(batch.target, noise, sigma[:, None, :, None, None])
