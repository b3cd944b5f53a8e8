"""Loaded weights, shared and never changed: what every session of a model stands on."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from . import saved, untrained
from .errors import OutOfMemory, StyleError
from .frames import covering, to_pixels
from .model.kv_cache import KVCache
from .model.text import PromptCut, PromptEncoder, fingerprint, padded, remembered
from .model.transformer import Transformer
from .parts import Parts
from .recipes import Recipe, recipe_for
from .session import Session
from .shapes import Geometry, Size, as_size
from .style import EncodedStyle, Style
from .transaction import plain_tensors
from .vae.stream import Vae, encode_picture
from .vae.tiled import tiled
from .weights.load import load_parts

BUILT_IN = "rtr-tiny"


@dataclass(frozen=True, kw_only=True, eq=False)
class Stylizer:
    """A transformer, an autoencoder and a text encoder that belong together."""

    transformer: Transformer
    vae: Vae
    text: PromptEncoder | None
    recipe: Recipe
    name: str = "stylizer"

    @classmethod
    def load(
        cls,
        *files: str | os.PathLike,
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
        tokenizer: str | os.PathLike | None = None,
        ema: bool | None = None,
        **recipe: Any,
    ) -> Stylizer:
        """Weights from one file or several (transformer, autoencoder, text), or "rtr-tiny".

        Where nothing is said it runs on CUDA in bf16, else on the CPU in fp32. `tokenizer` is for
        umT5 files without one, `ema` chooses in training checkpoints that hold two models. Further
        keywords override fields of the recipe, as in `window=9`. Prompts are encoded once and kept
        in the user's cache folder, or in RTR_CACHE.
        """
        device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        dtype = dtype or (torch.bfloat16 if device.type == "cuda" else torch.float32)
        if [os.fspath(file) for file in files] == [BUILT_IN]:
            parts = untrained.parts(device=device, dtype=dtype)
        else:
            paths = [Path(file) for file in files]
            place = Path(tokenizer) if tokenizer else None
            parts = load_parts(paths, device=device, dtype=dtype, ema=ema, tokenizer=place)
            parts = replace(parts, text=parts.text and remembered(parts.text, prompt_folder()))
        return cls.of(parts, **recipe)

    @classmethod
    def of(cls, parts: Parts, **recipe: Any) -> Stylizer:
        """A stylizer of parts that are there already. From here on they must not change."""
        for part in (parts.transformer, parts.vae):
            if isinstance(part, nn.Module):
                part.eval().requires_grad_(False)
        own = parts.recipe or recipe_for(takes_source=parts.transformer.config.takes_source)
        return cls(
            transformer=parts.transformer,
            vae=parts.vae,
            text=parts.text,
            recipe=own.override(**recipe),
            name=parts.name,
        )

    def tiled(self, side: int = 256, overlap: int = 64) -> Stylizer:
        """The same, encoding and decoding large pictures in tiles: slower, in less memory."""
        return replace(self, vae=tiled(self.vae, Size(side, side), overlap))

    # ---- sessions ----

    def session(
        self,
        style: Style,
        size: Sequence[int],
        seed: int = 0,
        recipe: Recipe | None = None,
        history: int = 0,
    ) -> Session:
        """A new video of `size` (height, width), able to go back `history` chunks."""
        recipe = recipe or self.recipe
        geometry = Geometry(as_size(size), self.vae.stride, self.transformer.config.patch)
        self._refuse_too_large(geometry, recipe)
        encoded = self.encode(style, geometry)
        return Session(self, encoded, geometry, recipe, seed=seed, history=history)

    def load_session(self, path: str | os.PathLike) -> Session:
        """Go on with a session written by `Session.save`."""
        return saved.load(self, path)

    # ---- styles ----

    @plain_tensors
    def encode(self, style: Style, geometry: Geometry) -> EncodedStyle:
        """Make a style ready for sessions of one size, without touching any of them."""
        text = self._embedding(style)[None].to(self.latents_like)
        context = self.transformer.encode_context(text)
        return EncodedStyle(style, context, self._anchor(style, geometry, context))

    def _embedding(self, style: Style) -> Tensor:
        """The prompt as rows of the width and number that the transformer was trained with."""
        config = self.transformer.config
        if style.embedding is not None:
            rows = style.embedding.reshape(-1, style.embedding.shape[-1])
        elif self.text is None:
            raise StyleError(
                f"{self.name} came without a text encoder, so it cannot read the prompt "
                f"{style.prompt!r}. Load a umT5 file beside it, or pass Style(embedding=...)."
            )
        else:
            rows = self.text.encode(style.prompt or "")
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

    def _anchor(self, style: Style, geometry: Geometry, context) -> KVCache | None:
        """The reference run through the transformer in a memory of its own."""
        if style.reference is None:
            return None
        if not self.transformer.config.adapter_dim:
            raise StyleError(
                f"{self.name} has no reference adapter, so it follows prompts only. Use an RTR "
                f"checkpoint for references."
            )
        still = covering(style.reference, geometry.size)
        pixels = to_pixels(still[None], geometry, self.pixels_like)
        latent = encode_picture(self.vae, pixels[:, :, 0]).to(self.latents_like)
        memory = KVCache(geometry.grid, self.recipe.memory, context)
        self.transformer.remember_reference(latent, memory)
        return memory

    # ---- facts ----

    @property
    def device(self) -> torch.device:
        return self.latents_like.device

    @property
    def latents_like(self) -> Tensor:
        """A tensor with the device and dtype that latents have."""
        return self.transformer.head.modulation

    @property
    def pixels_like(self) -> Tensor:
        """A tensor with the device and dtype that pixels have."""
        return next(iter(self.vae.parameters()), self.latents_like)

    @cached_property
    def fingerprint(self) -> str:
        """Changes with the weights; a saved session goes on only under the ones it began with."""
        weights = enumerate([*self.transformer.parameters(), *self.vae.parameters()])
        facts = str(self.transformer.config), type(self.vae).__name__
        return fingerprint({f"{n:06}": tensor for n, tensor in weights}, *facts)[:16]

    def cache_bytes(self, size: Size, recipe: Recipe) -> int:
        """What the KV cache of one session grows to, its window being bounded."""
        geometry = Geometry(size, self.vae.stride, self.transformer.config.patch)
        config, memory = self.transformer.config, recipe.memory
        frames = max(recipe.anchor, 1) + (memory.window or 0) + recipe.chunk
        values = 2 * config.layers * config.dim * geometry.grid.area * frames
        return values * self.latents_like.element_size()

    def _refuse_too_large(self, geometry: Geometry, recipe: Recipe) -> None:
        needed, there = self.cache_bytes(geometry.size, recipe), _memory_of(self.device)
        if there is not None and needed > there:
            raise OutOfMemory(
                f"A session of {geometry.size} needs {needed / 2**30:.1f} GiB for its KV cache; "
                f"{self.device} has {there / 2**30:.1f} GiB. Choose a smaller size or window."
            )


def prompt_folder() -> Path:
    """Where encoded prompts are kept, so that each is encoded once."""
    places = (os.environ.get(name) for name in ("RTR_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"))
    return Path(next(filter(None, places), Path.home() / ".cache")) / "rtr" / "prompts"


def _memory_of(device: torch.device) -> int | None:
    """All memory of a device in bytes, None where it cannot be asked."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    names = getattr(os, "sysconf_names", {})
    if device.type == "cpu" and {"SC_PHYS_PAGES", "SC_PAGE_SIZE"} <= set(names):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None
