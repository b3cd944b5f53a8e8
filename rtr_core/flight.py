"""Chunks on their way from noise to clean: what lies between the two autoencoder streams.

flight.set_out(waiting, strength)           # a source under noise
landed = flight.move_on(watch)              # all come nearer; None while none is clean
...                                         # pixels leave first
flight.remember()                           # what has landed becomes past
flight.past.commit()
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from .intake import Waiting
from .parts import Parts
from .past import Past
from .recipes import Recipe
from .sampling import Chunk, Chunks, Noise, SeededNoise, moved_on, set_out
from .shapes import Size
from .vae.causal import prefixed, under

Watch = Callable[[], None]  # called before each pass; what it raises ends the verb that runs


def unwatched() -> None:
    """Nobody wants to stop a session or to know where it is."""


class Flight:
    """The chunks in flight of one stream, its noise, and what its model remembers."""

    def __init__(self, parts: Parts, recipe: Recipe, grid: Size, seed: int, in_fp8: bool = False):
        self.recipe = recipe
        self.past = Past(parts, recipe, grid, in_fp8)
        self.noise: Noise = SeededNoise(seed, parts.device)
        self.reset(self.noise)

    def reset(self, noise: Noise) -> None:
        """Begin a new clip."""
        self.past.clear()
        self.noise = noise
        self.chunks: Chunks = ()  # the oldest first
        self.landed: Chunk | None = None  # clean, and not past yet
        self.has_begun = False

    def set_out(self, waiting: Waiting, strength: float = 1.0, has_source: bool = True) -> None:
        """A chunk begins, from its source under noise: the less of it, the faster that moves."""
        strength *= 1 - self.recipe.motion * waiting.motion
        chunk = set_out(self.recipe, waiting.source, self.noise, strength, has_source)
        self.chunks = (*self.chunks, replace(chunk, structure=waiting.structure))

    def move_on(self, watch: Watch) -> Chunk | None:
        """All come one place nearer to clean. Gives the one that lands, if any.

        A first chunk of another length is a warm-up: it flies to its end alone.
        """

        def denoise(chunks: Chunks):
            watch()
            return self.past.denoise(chunks)

        chunks = moved_on(denoise, self.recipe, self.chunks, self.noise)
        landed = chunks[0] if chunks[0].is_clean else None
        self.chunks, self.landed = chunks[1:] if landed else chunks, landed
        self.past.land(landed.frames if landed else 0)
        if landed is None and self.recipe.first is not None and not self.has_begun:
            self.past.commit()
            return self.move_on(watch)
        self.has_begun = True
        return landed

    def remember(self, watch: Watch) -> None:
        """Have the keys and values of what has landed ready to be committed."""
        if self.landed is not None:
            if self.recipe.commit != "last step":
                watch()
            self.past.remember(self.landed)
            self.landed = None

    # ---- what a session needs to undo, save and move it ----

    def mark(self) -> tuple:
        noise = self.noise.snapshot()
        return self.chunks, self.landed, self.has_begun, self.noise, noise, self.past.mark()

    def go_back(self, mark: tuple) -> None:
        self.chunks, self.landed, self.has_begun, self.noise, noise, past = mark
        self.noise.restore(noise)
        self.past.go_back(past)

    def snapshot(self) -> dict[str, Tensor]:
        """All but what has landed: that is past by now."""
        state = {"count": torch.tensor([len(self.chunks), self.has_begun], dtype=torch.int64)}
        parts = {f"chunk.{n}.": chunk.snapshot() for n, chunk in enumerate(self.chunks)}
        parts |= {"past.": self.past.snapshot(), "noise.": self.noise.snapshot()}
        for name, part in parts.items():
            state |= prefixed(name, part)
        return state

    def restore(self, state: dict[str, Tensor]) -> None:
        count, has_begun = state["count"].tolist()
        self.chunks = tuple(Chunk.restored(under(f"chunk.{n}.", state)) for n in range(count))
        self.landed, self.has_begun = None, bool(has_begun)
        self.past.restore(under("past.", state))
        self.noise.restore(under("noise.", state))
