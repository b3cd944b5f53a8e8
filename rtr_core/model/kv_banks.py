"""A cache for each place on the way from noise to clean (Live2Diff, StreamDiffusion).

With several chunks in flight, one call takes all of them a place on: rows of a batch, each of which
sees only what passed its own place. So every chunk meets a past as noisy as it is itself.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .attention import Context
from .kv_cache import KVCache
from .segments import Segments


class KVBanks:
    """Has the verbs of a `KVCache`, and `select`, which says whose rows come next.

    Mostly there is a bank for every place; where processes share a flight, for those from `first`.
    """

    def __init__(self, banks: Sequence[KVCache], first: int = 0):
        self.banks, self.first = list(banks), first
        self.grid, self.in_fp8 = banks[0].grid, banks[0].in_fp8
        self.select(self.every)

    @property
    def every(self) -> range:
        """The places that have a bank here."""
        return range(self.first, self.first + len(self.banks))

    def select(self, places: Sequence[int]) -> None:
        """The batches that follow have a row for each of these places, in this order."""
        self.places = list(places)

    @property
    def context(self) -> Context:
        return self.banks[0].context

    @property
    def segments(self) -> Segments:
        """What the last place sees, the one that frames leave from."""
        return self.banks[-1].segments

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        rows = zip(*(x.split(1) for x in (q, k, v)), strict=True)
        each = [
            self._at(place).attend(layer, *row)
            for place, row in zip(self.places, rows, strict=True)
        ]
        return torch.cat(each)

    def extend(self, layer: int, k: Tensor, v: Tensor) -> None:
        for place, *row in zip(self.places, k.split(1), v.split(1), strict=True):
            self._at(place).extend(layer, *row)

    @property
    def has_chunk(self) -> bool:
        return any(bank.has_chunk for bank in self.banks)

    def commit(self, count: int | None = None) -> None:
        """Make the chunks at hand past; while the flight fills, not every place holds one."""
        for bank in self.banks:
            if bank.has_chunk:
                bank.commit(count)

    def truncate(self, keep: int) -> None:
        self._each(lambda bank: bank.truncate(keep))

    def replace_anchor(self, reference: KVCache | None) -> None:
        self._each(lambda bank: bank.replace_anchor(reference))

    def reset_context(self, context: Context) -> None:
        self._each(lambda bank: bank.reset_context(context))

    def clear(self) -> None:
        self._each(KVCache.clear)

    @property
    def nbytes(self) -> int:
        return sum(bank.nbytes for bank in self.banks)

    def mark(self) -> tuple:
        return tuple(bank.mark() for bank in self.banks)

    def go_back(self, mark: tuple) -> None:
        for bank, before in zip(self.banks, mark, strict=True):
            bank.go_back(before)

    def snapshot(self) -> dict[str, Tensor]:
        parts = ((place, self._at(place).snapshot()) for place in self.every)
        return {f"{place}.{name}": t for place, part in parts for name, t in part.items()}

    def restore(self, state: dict[str, Tensor]) -> None:
        for place in self.every:
            own = f"{place}."
            mine = {k.removeprefix(own): t for k, t in state.items() if k.startswith(own)}
            self._at(place).restore(mine)

    def _at(self, place: int) -> KVCache:
        return self.banks[place - self.first]

    def _each(self, verb: Callable[[KVCache], None]) -> None:
        for bank in self.banks:
            verb(bank)
