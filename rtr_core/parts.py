"""The networks of a stylizer: what sessions borrow and never change."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from .errors import StyleError
from .frames import covering, to_pixels
from .loras import LoraFile
from .model.depth import Depth
from .model.fp8 import FACTOR_BYTES
from .model.kv_banks import KVBanks
from .model.kv_cache import KVCache
from .model.lora import Lora, Strengths, under_loras
from .model.segments import MemoryConfig
from .model.text import PromptCut, PromptEncoder, Remembered, fingerprint, padded
from .model.transformer import Transformer
from .recipes import Recipe
from .settings import Settings
from .shapes import Geometry, as_size
from .style import EncodedStyle, Style
from .transaction import plain_tensors
from .vae.stream import Vae, encode_picture

TWINS = 4  # transformers under LoRAs that are kept: one of 300 layers takes some ms to make


@dataclass(frozen=True, kw_only=True, eq=False)
class Placed:
    """What a host that moves weights about, and patches them, knows better than their tensors."""

    like: Tensor  # has the device and dtype that it computes with
    fingerprint: str  # of the weights, patches included


class Shelf(Protocol):
    """Reads the LoRAs that styles name, each once."""

    def read(self, file: LoraFile, like: Tensor) -> Lora: ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Parts:
    """A transformer, an autoencoder and a text encoder that belong together."""

    transformer: Transformer
    vae: Vae
    text: PromptEncoder | None
    recipe: Recipe | None  # None: the file brings none, and its family's is taken
    name: str
    placed: Placed | None = None  # None: all weights are where they compute
    loras: Strengths = field(default_factory=dict)  # those that `transformer` is under already
    shelf: Shelf | None = None  # of the LoRAs of styles
    _twins: dict[Any, Transformer] = field(default_factory=dict, init=False, repr=False)
    depth: Depth | None = None  # tells a structure projection how near things are

    # ---- styles ----

    @plain_tensors
    def encode(self, style: Style, geometry: Geometry, guided: bool = False) -> EncodedStyle:
        """Make a style ready for sessions of one size, without touching any of them.

        `guided` ones know what to keep away from as well.
        """
        rows = self._embedding(style.prompt, style.embedding)[None].to(self.latents_like)
        nothing = torch.zeros_like(rows[0, :1])  # what an empty prompt is, where none can be read
        avoid = None
        if guided:
            empty = nothing if self.text is None and not style.avoid else None
            avoid = self._embedding(style.avoid, empty)[None].to(rows)
        latent = self._latent(style, geometry)
        loras = {self.lora(file): strength for file, strength in style.loras.items() if strength}
        encoded = EncodedStyle(style, rows, latent, style.strength, avoid, loras)
        if (mix := style.mix) is None:
            return encoded
        between = encoded.toward(self.encode(mix.other, geometry, guided), mix.weight, mix.way)
        return replace(between, style=style)

    def restored(self, style: Style, state: dict[str, Tensor]) -> EncodedStyle:
        """An encoded style from its snapshot, under the very LoRAs that it had."""
        return EncodedStyle.restored(style, state, self.lora)

    def lora(self, file: LoraFile) -> Lora:
        if self.shelf is None:
            raise StyleError(f"{file.name} cannot be read: {self.name} takes no LoRAs of styles.")
        return self.shelf.read(file, self.latents_like)

    def transformer_under(self, encoded: EncodedStyle) -> Transformer:
        """The transformer as the style's LoRAs make it; those of the last styles are kept."""
        acting = tuple((lora, strength) for lora, strength in encoded.loras.items() if strength)
        if not acting:
            return self.transformer
        if acting not in self._twins:
            if len(self._twins) >= TWINS:
                self._twins.pop(next(iter(self._twins)), None)
            self._twins[acting] = under_loras(self.transformer, dict(acting))
        return self._twins[acting]

    @plain_tensors
    def take_up(self, encoded: EncodedStyle, memory: KVCache | KVBanks) -> None:
        """Re-initialize the cross-attention of a memory, and anchor the reference if there is one,
        run through the transformer in a memory of its own.

        Without an adapter the reference is a frame like others, restyled: it stands before the
        stream's first, and what comes goes on from it.
        """
        transformer = self.transformer_under(encoded)
        memory.reset_context(transformer.encode_context(encoded.rows))
        anchor = None
        if encoded.latent is not None:
            anchor = KVCache(memory.grid, MemoryConfig(), memory.context, memory.in_fp8)
            if transformer.config.adapter_dim:
                transformer.remember_reference(encoded.latent, anchor)
            else:
                transformer.remember(transformer.alone(encoded.latent), anchor)
        memory.replace_anchor(anchor)

    def _embedding(self, prompt: str | None, embedding: Tensor | None = None) -> Tensor:
        """The prompt as rows of the width and number that the transformer was trained with."""
        config = self.transformer.config
        if embedding is not None:
            rows = embedding
        elif self.text is None:
            raise StyleError(
                f"{self.name} came without a text encoder, so it cannot read the prompt "
                f"{prompt!r}. Load a umT5 file beside it, or pass Style(embedding=...)."
            )
        else:
            rows = self.text.encode(prompt or "")
        if rows.shape[1] != config.text_dim:
            raise StyleError(
                f"The encoded prompt is {rows.shape[1]} wide, {self.name} reads {config.text_dim}: "
                f"it comes from another family's text encoder."
            )
        if len(rows) > config.text_rows:
            warnings.warn(
                f"The encoded prompt has {len(rows)} rows; the first {config.text_rows} are used.",
                PromptCut,
                stacklevel=4,
            )
        return padded(rows[: config.text_rows], config.text_rows)

    def _latent(self, style: Style, geometry: Geometry) -> Tensor | None:
        """The reference, covering the picture, encoded in a stream of its own."""
        if style.reference is None:
            return None
        config = self.transformer.config
        if config.takes_source and not config.adapter_dim:
            raise StyleError(
                f"{self.name} takes a source and has no reference adapter, so it follows prompts "
                f"only. Use an RTR checkpoint with an adapter for references."
            )
        still = covering(style.reference, geometry.size)
        pixels = to_pixels(still[None], geometry, self.pixels_like)
        return encode_picture(self.vae, pixels[:, :, 0]).to(self.latents_like)

    # ---- facts ----

    def geometry(self, size: Sequence[int]) -> Geometry:
        return Geometry(as_size(size), self.vae.stride, self.transformer.config.patch)

    @property
    def device(self) -> torch.device:
        return self.latents_like.device

    @property
    def latents_like(self) -> Tensor:
        """A tensor with the device and dtype that latents have."""
        return self.placed.like if self.placed else self.transformer.head.modulation

    @property
    def pixels_like(self) -> Tensor:
        """A tensor with the device and dtype that pixels have."""
        return next(iter(self.vae.parameters()), self.latents_like)

    @cached_property
    def fingerprint(self) -> str:
        """Changes with the weights; a saved session goes on only under the ones it began with."""
        if self.placed is not None:
            return self.placed.fingerprint
        depth = () if self.depth is None else self.depth.parameters()
        weights = enumerate([*self.transformer.parameters(), *self.vae.parameters(), *depth])
        facts = str(self.transformer.config), repr(self.vae), *self._told_loras()
        return fingerprint({f"{n:06}": tensor for n, tensor in weights}, *facts)[:16]

    def _told_loras(self) -> list[str]:
        return sorted(f"{lora.digest} {strength}" for lora, strength in self.loras.items())

    def session_bytes(self, settings: Settings) -> int:
        """What a session of these settings takes at least: KV cache, history, pixels of a chunk."""
        chunk = settings.recipe.chunk * self.vae.stride.time
        pixels = 2 * 3 * self.geometry(settings.size).padded.area * chunk
        cache = self.cache_bytes(settings)
        return cache * (1 + settings.history) + pixels * self.pixels_like.element_size()

    def cache_bytes(self, settings: Settings) -> int:
        """The keys and values of full windows, and what is in flight."""
        config, recipe = self.transformer.config, settings.recipe
        frames = max(recipe.anchor, 1) + (recipe.window or 0) + recipe.at_once
        tokens = self.geometry(settings.size).grid.area * frames * recipe.caches
        of_head = config.head_dim * self.latents_like.element_size()
        if settings.in_fp8:
            of_head = config.head_dim + FACTOR_BYTES
        return 2 * config.layers * config.heads * of_head * tokens

    @property
    def beside_bytes(self) -> int:
        """What LoRAs and a depth model take on their device, beside the networks."""
        depth = () if self.depth is None else self.depth.parameters()
        return sum(each.nbytes for each in (*depth, *self.loras))

    @property
    def text_bytes(self) -> int:
        """What the text encoder takes, beside the device."""
        encoder = self.text.encoder if isinstance(self.text, Remembered) else self.text
        if not isinstance(encoder, nn.Module):
            return 0
        return sum(w.nbytes for w in (*encoder.parameters(), *encoder.buffers()))
