"""Loaded weights, shared and never changed: what every session of a model stands on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from . import untrained
from .errors import OutOfMemory, SessionError
from .model.text import remembered
from .parts import Parts
from .recipes import Recipe, recipe_for
from .session import Session
from .shapes import Size, as_size
from .snapshot import Settings, Snapshot
from .style import Style
from .vae.tiled import tiled
from .weights.load import load_parts

BUILT_IN = "rtr-tiny"


@dataclass(frozen=True, kw_only=True, eq=False)
class Stylizer:
    """Parts that belong together, and the recipe they are run by."""

    parts: Parts
    recipe: Recipe

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
            return cls.of(untrained.parts(device=device, dtype=dtype), **recipe)
        paths = [Path(file) for file in files]
        place = Path(tokenizer) if tokenizer else None
        parts = load_parts(paths, device=device, dtype=dtype, ema=ema, tokenizer=place)
        text = remembered(parts.text, prompt_folder()) if parts.text else None
        return cls.of(replace(parts, text=text), **recipe)

    @classmethod
    def of(cls, parts: Parts, **recipe: Any) -> Stylizer:
        """A stylizer of parts that are there already. From here on they must not change."""
        for part in (parts.transformer, parts.vae):
            if isinstance(part, nn.Module):
                part.eval().requires_grad_(False)
        own = parts.recipe or recipe_for(takes_source=parts.transformer.config.takes_source)
        return cls(parts=parts, recipe=own.override(**recipe))

    def tiled(self, side: int = 256, overlap: int = 64) -> Stylizer:
        """The same, encoding and decoding large pictures in tiles: slower, in less memory."""
        vae = tiled(self.parts.vae, Size(side, side), overlap)
        return replace(self, parts=replace(self.parts, vae=vae))

    def session(
        self,
        style: Style,
        size: Sequence[int],
        seed: int = 0,
        recipe: Recipe | None = None,
        history: int = 0,
    ) -> Session:
        """A new video of `size` (height, width), able to go back `history` chunks."""
        settings = Settings(
            size=as_size(size), recipe=recipe or self.recipe, seed=seed, history=history
        )
        self._refuse_too_large(settings)
        session = Session(self.parts, settings)
        session.begin(style)
        return session

    def load_session(self, path: str | os.PathLike) -> Session:
        """Go on with a session written by `Session.save`."""
        snapshot = Snapshot.read(path)
        if snapshot.weights != self.parts.fingerprint:
            raise SessionError(
                f"{path} was saved with other weights ({snapshot.weights}) than these "
                f"({self.parts.fingerprint}). Load the stylizer that it was saved with."
            )
        session = Session(self.parts, snapshot.settings)
        try:
            session.restore(snapshot)
        except (KeyError, RuntimeError) as error:
            raise SessionError(f"Saved session {path} is not whole: {error}.") from error
        return session

    def _refuse_too_large(self, settings: Settings) -> None:
        needed = self.parts.cache_bytes(settings.size, settings.recipe)
        there = memory_of(self.parts.device)
        if there is not None and needed > there:
            raise OutOfMemory(
                f"A session of {settings.size} needs {needed / 2**30:.1f} GiB for its KV cache; "
                f"{self.parts.device} has {there / 2**30:.1f} GiB. Choose a smaller size or window."
            )


def prompt_folder() -> Path:
    """Where encoded prompts are kept, so that each is encoded once."""
    places = (os.environ.get(name) for name in ("RTR_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"))
    return Path(next(filter(None, places), Path.home() / ".cache")) / "rtr" / "prompts"


def memory_of(device: torch.device) -> int | None:
    """All memory of a device in bytes, None where it cannot be asked."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    names = getattr(os, "sysconf_names", {})
    if device.type == "cpu" and {"SC_PHYS_PAGES", "SC_PAGE_SIZE"} <= set(names):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None
