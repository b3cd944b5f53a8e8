"""What every rank but the first does: as it is told, to its shares of rank 0's sessions."""

from typing import Any

from ..parts import Parts
from ..past import Past
from ..ranks import count, number
from ..recipes import Recipe
from ..shapes import Size
from ..transaction import plain_tensors
from .decoding import Decoding
from .shared import Way, own_past
from .telling import Line

OF_PASTS = ("denoise", "land", "remember", "take_in", "commit", "switch", "truncate", "clear")
OF_PASTS += ("snapshot", "restore")
WITH_PARTS = ("wear", "take_up")


class Follower:
    """The shares, by the numbers that rank 0 has given them."""

    def __init__(self, way: Way, parts: Parts, line: Line):
        self.way: Way = way
        self.parts, self.line = parts, line
        self.shares: dict[int, Past | Decoding | None] = {}  # None: no share of this
        self.marks: dict[tuple[int, int], Any] = {}

    @plain_tensors
    def follow(self) -> str | None:
        """Until rank 0 says that it is done; why, where it was in the midst of something."""
        while True:
            verb, values = self.line.hear()
            if verb == "end":
                return values[0]
            self._do(verb, *values)

    def _do(self, verb: str, at: int, forgotten: list[int], *values: Any) -> None:
        for mark in forgotten:
            self.marks.pop((at, mark), None)
        if verb == "open past":
            recipe, grid, in_fp8 = values
            own = Recipe.from_mapping(recipe), Size(*grid), in_fp8
            self.shares[at] = own_past(self.way, self.line, self.parts, *own)
        elif verb == "open decoder":
            is_mine = number() == count() - 1
            self.shares[at] = Decoding(self.parts.vae) if is_mine else None
        elif verb == "close":
            del self.shares[at]
            self.marks = {key: mark for key, mark in self.marks.items() if key[0] != at}
        elif (share := self.shares[at]) is None:
            return
        elif verb == "mark":
            self.marks[at, values[0]] = share.mark()
        elif verb == "go_back":
            share.go_back(self.marks[at, values[0]])
        elif isinstance(share, Decoding):
            self._decoded(share, verb, *values)
        elif verb in WITH_PARTS:
            getattr(share, verb)(self.parts, *values)
        else:
            assert verb in OF_PASTS, f"rank 0 tells {verb!r}"
            getattr(share, verb)(*values)

    def _decoded(self, decoding: Decoding, verb: str, *values: Any) -> None:
        if verb == "decode":
            decoding.decode(values[0])
        elif verb == "fetch":
            self.line.report(decoding.fetched())
        elif verb == "look":
            self.line.report(decoding.stream.snapshot())
        elif verb == "restore":
            decoding.reset()
            decoding.stream.restore(values[0])
        else:
            decoding.reset()
