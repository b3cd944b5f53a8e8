"""Loaded weights, shared and never changed: what every session of a model stands on."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .errors import OutOfMemory, SessionError, WeightsError
from .families import Signs, recipe_of
from .flight import Watch, unwatched
from .loras import strengths_of
from .model.text import remembered
from .parts import Parts
from .recipes import Recipe
from .session import Session
from .settings import Cache, Settings
from .shapes import Size, as_size
from .snapshot import BROKEN, Snapshot
from .structure import check_structure
from .style import Style
from .vae.tiled import tiled
from .weights.load import NARROW, Narrow, load_parts
from .weights.lora import Shelf

ASSETS = Path(__file__).parent / "assets"
BUILT_IN = "rtr-tiny"


@dataclass(frozen=True, kw_only=True, eq=False)
class Stylizer:
    """Parts that belong together, and the recipe they are run by."""

    parts: Parts
    recipe: Recipe
    cache: Cache | None = None  # how its sessions keep keys and values
    watch: Watch = unwatched  # its sessions call it before each pass

    @classmethod
    def load(
        cls,
        *files: str | os.PathLike,
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
        tokenizer: str | os.PathLike | None = None,
        ema: bool | None = None,
        loras: Mapping[Any, float] | None = None,
        depth: str | os.PathLike | None = None,
        weights: Narrow = None,
        cache: Cache | None = None,
        offload: bool = False,
        decoder: str | os.PathLike | None = None,
        **recipe: Any,
    ) -> Stylizer:
        """Weights from one file or several (transformer, autoencoder, text), or "rtr-tiny".

        Where nothing is said it runs on CUDA in bf16, else on the CPU in fp32. `tokenizer` is for
        umT5 files without one, `ema` chooses in training checkpoints that hold two models. `loras`
        act in every style, as those that make a model fast do: `{"few-step.safetensors": 1.0}`.
        `depth` is the local folder of a Depth-Anything, for models that are told of the structure.
        Further keywords override fields of the recipe, as in `window=9`. Prompts are encoded once
        and kept in the user's cache folder, or in RTR_CACHE.

        Less memory, see `fitting`: `weights="fp8"`, `cache="fp8"` (keys and values), `offload=True`
        (blocks stay in host memory), `decoder`, the file of a tiny autoencoder to decode with.
        """
        device = checked_device(device)
        dtype = dtype or (torch.bfloat16 if device.type == "cuda" else torch.float32)
        _refuse_no_file(paths := [file_of(file) for file in files])
        _refuse_unknown(weights)
        places = {"tokenizer": tokenizer, "depth": depth, "decoder": decoder}
        options: dict[str, Any] = {name: Path(place) for name, place in places.items() if place}
        options |= {"weights": weights, "offload": offload, "recipe": recipe}
        try:
            worn = strengths_of(loras or {})
            parts = load_parts(paths, device=device, dtype=dtype, ema=ema, loras=worn, **options)
        except torch.OutOfMemoryError as error:
            raise OutOfMemory(
                f"The weights alone do not fit on {device}: choose a smaller model, bf16, fp8 "
                f"weights, offloading, or another device. ({error})"
            ) from error
        text = remembered(parts.text, prompt_folder()) if parts.text else None
        return replace(cls.of(replace(parts, text=text)), cache=cache)

    @classmethod
    def of(cls, parts: Parts, **recipe: Any) -> Stylizer:
        """A stylizer of parts that are there already. From here on they must not change."""
        for part in (parts.transformer, parts.vae):
            if isinstance(part, nn.Module):
                part.eval().requires_grad_(False)
        gives, takes = parts.vae.channels, parts.transformer.config.out_channels
        if gives != takes:
            raise WeightsError(
                f"{parts.name}: the autoencoder's latents have {gives} channels, the transformer "
                f"takes {takes}. Wan 2.1 and its children go with 16 channels, Wan 2.2 5B with 48."
            )
        signs = Signs(config=parts.transformer.config, name=parts.name, has_loras=bool(parts.loras))
        shelf = parts.shelf or Shelf(parts.transformer.config)
        own = recipe_of(signs, parts.recipe, **recipe)
        return cls(parts=replace(parts, shelf=shelf), recipe=own)

    def tiled(self, side: int = 448, overlap: int = 64) -> Stylizer:
        """The same, encoding and decoding large pictures in tiles: slower, in less memory.

        A stream remembers what its tiles share twice, so small tiles take more of it, not less.
        """
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
            size=as_size(size),
            recipe=recipe or self.recipe,
            seed=seed,
            history=history,
            cache=self.cache,
        )
        session = self._open(settings)
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
        session = self._open(snapshot.settings)
        try:
            session.restore(snapshot)
        except BROKEN as error:
            raise SessionError(f"Saved session {path} is not whole: {error}.") from error
        return session

    def lend(self, session: Session) -> None:
        """Let a session go on that was opened under another loading of these same weights."""
        if session.parts.fingerprint != self.parts.fingerprint:
            raise SessionError(
                f"The session was begun with other weights ({session.parts.fingerprint}) than "
                f"these ({self.parts.fingerprint}): put the old ones back, or begin a new one."
            )
        session.borrow(self.parts, self.watch)

    def _open(self, settings: Settings) -> Session:
        parts, recipe = self.parts, settings.recipe
        check_structure(parts.transformer.config, recipe, parts.depth is not None, parts.name)
        needed, there = self.parts.session_bytes(settings), memory_of(self.parts.device)
        if there is not None and needed > there:
            raise OutOfMemory(
                f"A session of {settings.size} needs {needed / 2**30:.1f} GiB at least; "
                f"{self.parts.device} has {there / 2**30:.1f} GiB. Choose a smaller size, window "
                f"or history."
            )
        return self._opened(settings)

    def _opened(self, settings: Settings) -> Session:
        return Session(self.parts, settings, self.watch)


def checked_device(device: str | torch.device | None) -> torch.device:
    """The device asked for, or CUDA where there is one."""
    try:
        chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise WeightsError(f"torch cannot run on {device!r} here: {error}") from error
    return chosen


def file_of(model: str | os.PathLike) -> Path:
    """Where a model's weights are: a path, or the name of the one that is built in."""
    return ASSETS / f"{BUILT_IN}.safetensors" if os.fspath(model) == BUILT_IN else Path(model)


def _refuse_no_file(paths: Sequence[Path]) -> None:
    if not paths:
        raise WeightsError(f'Name a weights file or several, or "{BUILT_IN}".')
    for path in paths:
        if not path.exists() and get_close_matches(str(path), [BUILT_IN]):
            raise WeightsError(f"There is no file {path}. The built-in model is {BUILT_IN!r}.")


def _refuse_unknown(weights: Any) -> None:
    if weights not in (None, *NARROW):
        raise WeightsError(
            f"Weights are kept in {', '.join(NARROW)}, or None to keep them in the dtype that "
            f"computes; not {weights!r}."
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
