"""What the model of one stream remembers, and how it sees a flight of chunks by it.

Mostly a KV cache. Under guidance there is a second one, of the same frames under what the style
avoids; where chunks fly apart each place has its own (`KVBanks`); and where the recipe works the
window out anew, the clean latents that it was made of are kept too.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import torch
from torch import Tensor

from .model.kv_banks import KVBanks
from .model.kv_cache import KVCache
from .model.transformer import Transformer
from .parts import Parts
from .recipes import Recipe
from .sampling import Chunk, Chunks, beside, denoiser, guided
from .shapes import Size
from .style import EncodedStyle
from .vae.causal import prefixed, under

Memory = KVCache | KVBanks
Kept = tuple[Tensor, Tensor | None]  # clean latents of a chunk, and what was beside them


@dataclass(frozen=True)
class Lent:
    """The transformer at hand. It is no state: nobody counts or moves it, nor touches one that a
    host has let go of meanwhile."""

    transformer: Transformer


class Past:
    """The memories of one stream, and the verbs of a chunk and of a switch."""

    def __init__(self, parts: Parts, recipe: Recipe, grid: Size, in_fp8: bool = False):
        self.transformer, self.recipe = parts.transformer, recipe
        count = 1 if recipe.guidance == 1 else 2
        self.memories = [memory_of(recipe, grid, in_fp8) for _ in range(count)]
        self.kept: tuple[Kept, ...] = ()  # the oldest first
        self.landed: int | None = None  # frames at hand that are to be past; None: all

    @property
    def memory(self) -> Memory:
        """The one under the style itself."""
        return self.memories[0]

    # ---- the verbs of a chunk ----

    def denoise(self, chunks: Chunks) -> Sequence[Tensor]:
        """One pass over all chunks in flight: each as it would be clean."""
        is_apart = isinstance(self.memory, KVBanks)
        axis = 0 if is_apart else 2
        x, others = self._side_by_side(chunks, axis)
        sigma = chunks[0].level if len(chunks) == 1 else levels_of(chunks, axis, x.device)
        cleans = []
        for memory in self.memories:
            if isinstance(memory, KVBanks):
                memory.select([place_of(chunk, self.recipe) for chunk in chunks])
            cleans.append(denoiser(self.transformer, memory, others)(x, sigma))
        clean, *avoided = cleans
        if avoided:
            clean = guided(clean, avoided[0], self.recipe.guidance)
        return clean.split(1 if is_apart else [chunk.frames for chunk in chunks], dim=axis)

    def land(self, frames: int) -> None:
        """What stays at hand of the last pass: all places, or so many frames that came clean."""
        self.landed = None if isinstance(self.memory, KVBanks) else frames

    def remember(self, chunk: Chunk) -> None:
        """The keys and values of a clean chunk, ready to be committed, as the recipe has them."""
        if self.recipe.recomputes:
            self._keep(chunk.x, self._others(chunk))
        if self.recipe.commit == "recompute":
            self.recompute()
        elif self.recipe.commit == "clean":
            self.take_in(chunk.x, self._others(chunk))

    def take_in(self, clean: Tensor, others: Tensor | None) -> None:
        """A pass at sigma 0, whose keys and values are ready to be committed."""
        x = self.transformer.alone(clean) if others is None else beside(clean, others)
        for memory in self.memories:
            rows = x
            if isinstance(memory, KVBanks):
                memory.select(memory.every)
                rows = x.expand(len(memory.banks), -1, -1, -1, -1)
            self.transformer.remember(rows, memory)
        self.landed = None

    def commit(self) -> None:
        """Make what is at hand past. Doing it again is doing it once."""
        for memory in self.memories:
            if memory.has_chunk:
                memory.commit(self.landed)

    # ---- the verbs of a switch ----

    def wear(self, parts: Parts, encoded: EncodedStyle) -> None:
        """Go on under the LoRAs of a style whose past this is already."""
        self.transformer = parts.transformer_under(encoded)

    def take_up(self, parts: Parts, encoded: EncodedStyle) -> None:
        self.wear(parts, encoded)
        for memory, rows in zip(self.memories, (encoded.rows, encoded.avoid), strict=False):
            assert rows is not None, "a style under guidance is encoded with what it avoids"
            parts.take_up(replace(encoded, rows=rows), memory)

    def switch(self) -> None:
        """Let go of the old style: all but the newest latent frame, or the window done anew."""
        if self.recipe.switch == "recompute":
            self.recompute()
        else:
            self.truncate(keep=1)

    def truncate(self, keep: int) -> None:
        for memory in self.memories:
            memory.truncate(keep)
        newest = self.kept[-1:] if keep else ()
        self.kept = tuple(_newest(pair, keep) for pair in newest)

    def recompute(self) -> None:
        """The window anew, chunk by chunk, from its clean latents in the style at hand (Krea)."""
        for memory in self.memories:
            memory.clear()
        for pair in self.kept:
            self.take_in(*pair)
            self.commit()

    def clear(self) -> None:
        for memory in self.memories:
            memory.clear()
        self.kept = ()

    # ---- what a session needs ----

    @property
    def nbytes(self) -> int:
        return sum(memory.nbytes for memory in self.memories)

    def mark(self) -> tuple:
        marks = [memory.mark() for memory in self.memories]
        return marks, self.kept, self.landed, Lent(self.transformer)

    def go_back(self, mark: tuple) -> None:
        marks, self.kept, self.landed, lent = mark
        self.transformer = lent.transformer
        for memory, before in zip(self.memories, marks, strict=True):
            memory.go_back(before)

    def snapshot(self) -> dict[str, Tensor]:
        state = {}
        for n, memory in enumerate(self.memories):
            state |= prefixed(f"{n}.", memory.snapshot())
        for n, (clean, others) in enumerate(self.kept):
            state[f"clean.{n}"] = clean
            if others is not None:
                state[f"others.{n}"] = others
        return state

    def restore(self, state: dict[str, Tensor]) -> None:
        for n, memory in enumerate(self.memories):
            memory.restore(under(f"{n}.", state))
        count = sum(name.startswith("clean.") for name in state)
        self.kept = tuple((state[f"clean.{n}"], state.get(f"others.{n}")) for n in range(count))
        self.landed = None

    # ---- small pieces ----

    def _side_by_side(self, chunks: Chunks, axis: int) -> tuple[Tensor, Tensor | None]:
        """All chunks as one batch or one clip, and what the model takes beside them."""
        x = torch.cat([chunk.x for chunk in chunks], dim=axis)
        others = [each for each in map(self._others, chunks) if each is not None]
        return x, torch.cat(others, dim=axis) if others else None

    def _others(self, chunk: Chunk) -> Tensor | None:
        """What the model takes of a chunk beside its latents: the source's, the structure's."""
        config, taken = self.transformer.config, []
        if config.takes_source:
            assert chunk.source is not None, "nothing is imagined by a model that takes a source"
            taken.append(chunk.source)
        if config.structure:
            assert chunk.structure is not None, "an intake gives it to every chunk"
            taken.append(chunk.structure)
        return beside(*taken) if taken else None

    def _keep(self, clean: Tensor, others: Tensor | None) -> None:
        """Keep a chunk, and let go of those that a full window would not see."""
        assert self.recipe.window is not None, "recipes that work the window out anew bound it"
        kept = [*self.kept, (clean, others)]
        lengths = [pair[0].shape[2] for pair in kept]
        anchor = sum(so_far - length < self.recipe.anchor for so_far, length in _so_far(lengths))
        while len(kept) > anchor and sum(lengths[anchor + 1 :]) >= self.recipe.window:
            del kept[anchor], lengths[anchor]
        self.kept = tuple(kept)


def memory_of(recipe: Recipe, grid: Size, in_fp8: bool = False) -> Memory:
    """An empty one, as the recipe has it."""
    places = 1 if recipe.flight == "together" else recipe.buffer
    banks = [KVCache(grid, recipe.memory, in_fp8=in_fp8) for _ in range(places)]
    return banks[0] if places == 1 else KVBanks(banks)


def place_of(chunk: Chunk, recipe: Recipe) -> int:
    """How far it has come: the places of a buffer share the steps evenly."""
    return chunk.done * recipe.buffer // len(recipe.timesteps)


def levels_of(chunks: Chunks, axis: int, device: torch.device) -> Tensor:
    """The noise level of each latent frame, `[b t]`, in fp64 where there is one."""
    rows = [torch.full((1, chunk.frames), chunk.level, dtype=torch.float64) for chunk in chunks]
    levels = torch.cat(rows, dim=0 if axis == 0 else 1)
    return levels.to(device, torch.float32 if device.type == "mps" else None)


def _newest(pair: Kept, keep: int) -> Kept:
    clean, others = pair
    return clean[:, :, -keep:], None if others is None else others[:, :, -keep:]


def _so_far(lengths: list[int]) -> list[tuple[int, int]]:
    return list(zip(accumulate(lengths), lengths, strict=True))
