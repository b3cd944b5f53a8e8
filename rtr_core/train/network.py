"""What is trained together to stylize: a transformer and, where it is small, its text encoder.

A large one, Wan's, has a text encoder and an autoencoder that are what they are: it brings them as
files of their own, here as everywhere, and a stage writes the transformer alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import WeightsError
from ..families import RTR
from ..flow import add_noise
from ..model.attention import Memory
from ..model.config import TransformerConfig
from ..model.text import PromptEncoder
from ..model.transformer import Transformer
from ..model.words import WordEncoder, WordEncoderConfig
from ..parts import Parts
from ..recipes import Recipe
from ..sampling import denoiser
from ..shapes import Stride
from ..stylizer import file_of
from ..vae.stream import Vae
from ..vae.tiny import TinyVae
from ..weights.bundle import About, write_bundle
from ..weights.layouts import Role
from ..weights.load import find_parts, load_parts, transformer_config
from .pairs import Batch
from .vae import energy

TINY = TransformerConfig(
    dim=256,
    ffn_dim=640,
    heads=4,
    layers=6,
    in_channels=96,
    out_channels=48,
    text_dim=128,
    text_rows=24,
    freq_dim=128,
    adapter_dim=64,
    patch=Stride(1, 1, 1),
    tile=2,
    predicts="clean",
)
TINY_TEXT = WordEncoderConfig(rows=24, dim=128)
TINY_RECIPE = Recipe(
    name="rtr-tiny", timesteps=(1000,), chunk=1, window=1, panes=(1, 8, 8), commit="last step"
)


class Remembered(nn.Module):
    """A text encoder that does not learn. It reads a prompt once, and has no weights to be moved,
    averaged or saved."""

    def __init__(self, encoder: PromptEncoder):
        super().__init__()
        self.read = {"by": encoder}  # in a dict torch does not take it for a part
        self.known: dict[str, Tensor] = {}

    def forward(self, prompts: Sequence[str]) -> Tensor:
        for prompt in prompts:
            if prompt not in self.known:
                self.known[prompt] = self.read["by"].encode(prompt).detach()
        return torch.stack([self.known[prompt] for prompt in prompts]).float()

    def __deepcopy__(self, memo: Any) -> "Remembered":
        return self  # an average of it is it


class Network(nn.Module):
    """A transformer and the text encoder that learns along with it, or does not."""

    def __init__(self, transformer: Transformer, text: WordEncoder | Remembered):
        super().__init__()
        self.transformer, self.text = transformer, text

    def encode(self, prompts: Sequence[str]) -> Any:
        """Keys and values of prompts, for a memory."""
        rows = self.text(prompts).to(self.transformer.patch_embedding.weight.device)
        return self.transformer.encode_context(rows)

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


def opened(files: Path | Sequence[Path], tokenizer: Path | None = None) -> tuple[Network, Parts]:
    """A network, and all that came with it, from a bundle that an earlier stage wrote, from the
    built-in one by its name, or from the files of a Wan: transformer, autoencoder, text encoder.

    A text-to-video model gets what it lacks, and computes what it did until that is trained.
    """
    paths = [file_of(path) for path in ([files] if isinstance(files, Path) else files)]
    config = transformer_config(*required(find_parts(paths), "transformer", paths))
    untold: dict[str, Any] = {} if config.takes_source else {"strength": 0.5}  # it runs no recipe
    parts = load_parts(paths, tokenizer=tokenizer, recipe=untold)
    if (text := parts.text) is None:
        raise WeightsError(
            f"{', '.join(map(str, paths))}: no text encoder. Give the file of one beside them; "
            f"training tells styles by prompts."
        )
    if not config.takes_source:
        parts = replace(parts, transformer=as_rtr(parts.transformer), recipe=RTR)
    if isinstance(parts.vae, nn.Module):
        parts.vae.float()  # a released file is bf16, whose steps are too coarse to learn in
    learns = text if isinstance(text, WordEncoder) else Remembered(text)
    network = Network(parts.transformer, learns).float()
    return network.requires_grad_(True).train(), parts


def required(found: Mapping[Role, Any], role: Role, files: Sequence[Path]) -> Any:
    if role not in found:
        raise WeightsError(f"There is no {role} in {', '.join(map(str, files))}.")
    return found[role]


def as_rtr(transformer: Transformer, seed: int = 0) -> Transformer:
    """A text-to-video transformer with channels for a source and an adapter for a reference.

    What it is given by the new channels counts for nothing at first; a reference is embedded like
    a frame of the video, and the rest of its adapter begins as nothing.
    """
    old = transformer.config
    config = rtr_config(old)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        told = Transformer(config, dtype=transformer.patch_embedding.weight.dtype)
    known = transformer.state_dict()
    narrow = known["patch_embedding.weight"]
    wide = narrow.new_zeros(told.patch_embedding.weight.shape)  # type: ignore
    wide[:, : old.in_channels] = narrow
    known["patch_embedding.weight"] = wide
    if old.adapter_dim == 0:
        adapter: Any = told.reference_adapter
        with torch.no_grad():
            adapter.patch_embedding.weight.copy_(narrow[:, : old.out_channels])
            adapter.patch_embedding.bias.copy_(known["patch_embedding.bias"])
            for layer in (adapter.gate, adapter.up, adapter.down):
                nn.init.xavier_uniform_(layer.weight)
                layer.bias.zero_()
            adapter.down.weight.zero_()
    told.load_state_dict(known, strict=False)
    return told


def rtr_config(config: TransformerConfig) -> TransformerConfig:
    """With the source channels and the reference adapter that a text-to-video model lacks."""
    return replace(
        config,
        in_channels=2 * config.out_channels,
        adapter_dim=config.adapter_dim or config.dim // 2,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Result:
    """What a stage writes: a bundle that `rtr stylize` runs, as it is where all of it is small, or
    together with Wan's autoencoder and text encoder."""

    vae: Vae
    recipe: Recipe
    styles: tuple[str, ...]
    card: Mapping[str, Any]

    def write(self, path: Path, network: Network, dtype: torch.dtype = torch.float32) -> None:
        parts: dict[Role, nn.Module] = {"transformer": network.transformer}
        small: dict[str, Any] = {}
        if isinstance(self.vae, TinyVae) and isinstance(network.text, WordEncoder):
            parts |= {"vae": self.vae, "text": network.text}
            small = {"vae": self.vae.config, "text": network.text.config}
        tensors: dict[Role, dict[str, Tensor]] = {
            role: {name: t.to("cpu", dtype) for name, t in part.state_dict().items()}
            for role, part in parts.items()
        }
        about = About(
            transformer=network.transformer.config,
            **small,
            recipe=self.recipe,
            styles=self.styles,
            card=self.card,
        )
        write_bundle(path, tensors, about)

    @property
    def frozen(self) -> tuple[nn.Module, ...]:
        """What takes part in a stage and does not learn."""
        return (self.vae,) if isinstance(self.vae, nn.Module) else ()

    def of(self, vae: Vae) -> "Result":
        """With another autoencoder."""
        return replace(self, vae=vae)

    def told(self, **facts: Any) -> "Result":
        """With more facts on its card."""
        return replace(self, card=dict(self.card) | facts)


@torch.no_grad()
def mix(pairs: Sequence[tuple[Any, Any]], share: float) -> None:
    """Move weights of the first ones a share of the way towards those of the others."""
    for one, other in pairs:
        mine, theirs = one.state_dict(), other.state_dict()
        if {n: t.shape for n, t in mine.items()} != {n: t.shape for n, t in theirs.items()}:
            raise WeightsError("Two models of different shapes have nothing in between.")
        for name, tensor in mine.items():
            tensor.lerp_(theirs[name].to(tensor), share)


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
