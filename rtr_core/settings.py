"""What about a session never changes."""

import operator
from dataclasses import dataclass
from typing import Literal, get_args

from .errors import SessionError
from .recipes import Recipe
from .shapes import Size

Cache = Literal["fp8"]  # how keys and values are kept, where not in the dtype that computes
SEEDS = range(-(2**63), 2**64)  # what torch takes


@dataclass(frozen=True, kw_only=True)
class Settings:
    size: Size
    recipe: Recipe
    seed: int = 0
    history: int = 0  # chunks it can go back
    cache: Cache | None = None

    @property
    def in_fp8(self) -> bool:
        return self.cache == "fp8"

    def __post_init__(self):
        for name in ("seed", "history"):
            try:
                object.__setattr__(self, name, operator.index(getattr(self, name)))
            except TypeError:
                raise SessionError(
                    f"{name} is a whole number, not {getattr(self, name)!r}."
                ) from None
        if self.seed not in SEEDS:
            raise SessionError(f"A seed is from {SEEDS[0]} to {SEEDS[-1]}, not {self.seed}.")
        if self.history < 0:
            raise SessionError(f"history is 0 or more chunks, not {self.history}.")
        if self.cache not in (None, *get_args(Cache)):
            raise SessionError(
                f"A cache is kept in {', '.join(get_args(Cache))}, or None to keep "
                f"it as it is computed; not {self.cache!r}."
            )
