"""What a stream remembers, shared by ranks: each has a share of it, and rank 0 leads.

    heads     every rank keeps the keys and values of its heads, and takes part in each pass
    stages    every rank keeps the caches of its places on the way from noise to clean

All that lies above a past, a session's noise, source and frames, is on rank 0 alone. Whatever it
asks of its past it tells the others first, and they do the same to their shares.
"""

import weakref
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

from torch import Tensor

from ..errors import RankError
from ..model.kv_banks import KVBanks
from ..model.kv_cache import KVCache
from ..model.transformer import Transformer
from ..parts import Parts
from ..past import Memory, Past, place_of
from ..ranks import count, is_first, number
from ..recipes import Recipe
from ..sampling import Chunk, Chunks
from ..shapes import Size
from ..style import EncodedStyle
from .heads import all_heads, of_keys, own_heads
from .telling import Line

Way = Literal["heads", "stages"]


class HeadsPast(Past):
    """A past under a transformer that is split `by_heads`: of keys and values, this rank's."""

    def snapshot(self) -> dict[str, Tensor]:
        """Of all heads, so that any number of ranks can go on from it."""
        return of_keys(super().snapshot(), all_heads)

    def restore(self, state: dict[str, Tensor]) -> None:
        super().restore(of_keys(state, own_heads))


class StagePast(Past):
    """A past whose chunks fly apart, with the caches of this rank's places only."""

    def __init__(self, line: Line, parts: Parts, recipe: Recipe, grid: Size, in_fp8: bool = False):
        super().__init__(parts, recipe, grid, in_fp8)
        self.line, self.places = line, places_of(number(), recipe)
        self.memories = [
            KVBanks(
                [KVCache(grid, recipe.memory, in_fp8=in_fp8) for _ in self.places], self.places[0]
            )
            for _ in self.memories
        ]

    def denoise(self, chunks: Chunks) -> Sequence[Tensor]:
        """All at once, each chunk on the rank that has its place. Rank 0 has all that come of it,
        the others theirs."""
        mine = tuple(chunk for chunk in chunks if place_of(chunk, self.recipe) in self.places)
        cleans = list(super().denoise(mine)) if mine else []
        if not is_first():
            if mine:
                self.line.report(cleans)
            return cleans
        owners = [place_of(c, self.recipe) // len(self.places) for c in chunks]
        made = {rank: self.line.heard_from(rank) for rank in sorted({*owners} - {0})}
        made[0] = cleans
        taken = {rank: iter(each) for rank, each in made.items()}
        return [next(taken[rank]) for rank in owners]

    def snapshot(self) -> dict[str, Tensor]:
        """Of all places, on rank 0."""
        state = super().snapshot()
        if not is_first():
            self.line.report(state)
            return state
        for rank in range(1, count()):
            theirs = self.line.heard_from(rank)
            state |= {name: t.to("cpu") for name, t in theirs.items() if name not in state}
        return state


def places_of(rank: int, recipe: Recipe) -> range:
    """Which places of a flight are a rank's."""
    each = recipe.buffer // count()
    return range(rank * each, (rank + 1) * each)


def check_stages(recipe: Recipe) -> None:
    if recipe.flight != "apart" or recipe.buffer % count():
        raise RankError(
            f"Ranks take the stages of a recipe whose chunks fly apart, in as many places as there "
            f"are ranks or a multiple: {recipe.name!r} has flight={recipe.flight!r} and "
            f"buffer={recipe.buffer}, and there are {count()} ranks. Override it, with --recipe "
            f'flight=apart buffer={count()} commit="last step", say.'
        )


def own_past(way: Way, line: Line, parts: Parts, recipe: Recipe, grid: Size, in_fp8: bool) -> Past:
    """This rank's share of an empty one."""
    if way == "heads":
        return HeadsPast(parts, recipe, grid, in_fp8)
    return StagePast(line, parts, recipe, grid, in_fp8)


class Mark:
    """Stands for a state that the other ranks keep, as long as somebody could go back to it."""

    def __init__(self, number: int, forget: Callable[[int], None]):
        self.number = number
        weakref.finalize(self, forget, number)


class Led:
    """Something of a session that all ranks have a share of, as rank 0 has it."""

    def __init__(self, line: Line, number: int):
        self.line, self.number = line, number
        self._marks, self._forgotten = 0, deque[int]()
        self._newest: Mark | None = None  # None: something was done since

    def _tell(self, verb: str, *values: Any) -> None:
        forgotten = [self._forgotten.popleft() for _ in range(len(self._forgotten))]
        self._newest = None
        self.line.tell(verb, self.number, forgotten, *values)

    def _mark(self) -> Mark:
        if self._newest is None:
            self._marks += 1
            mark = Mark(self._marks, self._forgotten.append)
            self._tell("mark", mark.number)
            self._newest = mark
        return self._newest

    def _go_back(self, mark: Mark) -> None:
        self._tell("go_back", mark.number)


class LedPast(Led):
    """Has the verbs of a `Past`."""

    def __init__(self, line: Line, number: int, own: Past):
        super().__init__(line, number)
        self.own, self.recipe = own, own.recipe
        self._is_settled = True  # nothing is at hand that a commit would make past, on any rank

    @property
    def transformer(self) -> Transformer:
        return self.own.transformer

    @property
    def memories(self) -> Sequence[Memory]:
        return self.own.memories

    @property
    def memory(self) -> Memory:
        return self.own.memory

    @property
    def nbytes(self) -> int:
        """Of this rank's share."""
        return self.own.nbytes

    def denoise(self, chunks: Chunks) -> Sequence[Tensor]:
        self._tell("denoise", chunks)
        self._is_settled = False
        return self.own.denoise(chunks)

    def land(self, frames: int) -> None:
        self._tell("land", frames)
        self.own.land(frames)

    def remember(self, chunk: Chunk) -> None:
        # of what the recipe makes no pass, the others need no tensor
        bare = self.recipe.commit == "last step" and not self.recipe.recomputes
        told = replace(chunk, x=chunk.x[:, :0], source=None, structure=None) if bare else chunk
        self._tell("remember", told)
        self._is_settled = False
        self.own.remember(chunk)

    def take_in(self, clean: Tensor, others: Tensor | None) -> None:
        self._tell("take_in", clean, others)
        self._is_settled = False
        self.own.take_in(clean, others)

    def commit(self) -> None:
        if not self._is_settled:
            self._tell("commit")
            self.own.commit()
            self._is_settled = True

    def wear(self, parts: Parts, encoded: EncodedStyle) -> None:
        self._tell("wear", encoded)
        self.own.wear(parts, encoded)

    def take_up(self, parts: Parts, encoded: EncodedStyle) -> None:
        self._tell("take_up", encoded)
        self.own.take_up(parts, encoded)

    def switch(self) -> None:
        self._tell("switch")
        self.own.switch()

    def truncate(self, keep: int) -> None:
        self._tell("truncate", keep)
        self.own.truncate(keep)

    def clear(self) -> None:
        self._tell("clear")
        self.own.clear()

    def mark(self) -> tuple:
        return self._mark(), self.own.mark()

    def go_back(self, mark: tuple) -> None:
        there, here = mark
        self._go_back(there)
        self._is_settled = False  # perhaps
        self.own.go_back(here)

    def snapshot(self) -> dict[str, Tensor]:
        self._tell("snapshot")
        return self.own.snapshot()

    def restore(self, state: dict[str, Tensor]) -> None:
        self._tell("restore", state)
        self.own.restore(state)
