"""How each family of checkpoints is run: frozen values, chosen by what a file contains.

A field may be overridden one at a time: `SELF_FORCING.override(window=9)`. Nothing that is
arithmetic of a model's shape is written here.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from .errors import StyleError
from .flow import shifted_sigmas
from .model.segments import MemoryConfig, Positions

Commit = Literal["clean", "last step"]

CHOICES = {
    "commit": ("clean", "last step"),
    "positions": ("relative", "absolute"),
}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    name: str
    timesteps: tuple[float, ...]  # one denoise step each, 1000 is pure noise, before the shift
    shift: float = 1.0  # spends more of the steps at high noise
    chunk: int = 3  # latent frames denoised together
    window: int | None = 6  # past latent frames seen besides the anchor; None never forgets
    anchor: int = 0  # first latent frames that never leave, where no reference is anchored
    positions: Positions = "relative"  # where the window stands in time, see model/segments
    strength: float = 1.0  # scales all noise levels: below 1 the source shows through the first
    commit: Commit = "clean"  # the pass whose keys and values stay: one more at sigma 0, or none

    def __post_init__(self):
        for field, choices in CHOICES.items():
            if getattr(self, field) not in choices:
                self._refuse(field, "one of " + ", ".join(map(repr, choices)))
        self._check_numbers()
        object.__setattr__(self, "timesteps", tuple(float(t) for t in self.timesteps))
        steps = self.timesteps
        if not steps or list(steps) != sorted(set(steps), reverse=True):
            self._refuse("timesteps", "at least one, each below the last")
        if not (steps[-1] > 0 and steps[0] <= 1000):
            self._refuse("timesteps", "above 0 and at most 1000")
        if not 0 < self.shift < math.inf:
            self._refuse("shift", "above 0")
        if not 0 < self.strength <= 1:
            self._refuse("strength", "above 0 and at most 1")

    def _check_numbers(self) -> None:
        counts = {"chunk": 1, "anchor": 0, "window": 0}
        for field, least in counts.items():
            value = getattr(self, field)
            if field == "window" and value is None:
                continue
            if not isinstance(value, int) or value < least:
                self._refuse(field, f"a whole number of latent frames, at least {least}")
        numbers = self.timesteps if isinstance(self.timesteps, (tuple, list)) else [None]
        if not all(isinstance(t, (int, float)) for t in (*numbers, self.shift, self.strength)):
            self._refuse("timesteps", "a list of numbers, and shift and strength numbers")

    @property
    def sigmas(self) -> tuple[float, ...]:
        """The noise level of each denoise step."""
        return shifted_sigmas(self.timesteps, self.shift)

    @property
    def memory(self) -> MemoryConfig:
        """What a stream under this recipe remembers."""
        return MemoryConfig(window=self.window, anchor=self.anchor, positions=self.positions)

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> "Recipe":
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise StyleError(
                f"A recipe has no field {', '.join(map(repr, unknown))}. "
                f"Its fields are {', '.join(sorted(known))}."
            )
        return cls(**values)

    def override(self, **values: Any) -> "Recipe":
        """This recipe with some fields changed, unknown ones refused."""
        return Recipe.from_mapping(asdict(self) | values)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @property
    def fingerprint(self) -> str:
        """A short name that changes with any field."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:6]

    def _refuse(self, field: str, expected: str) -> None:
        value = getattr(self, field)
        raise StyleError(f"Recipe {self.name!r}: {field} must be {expected}, not {value!r}.")


_BETWEEN = re.compile(r"""[\s,;]+(?![^\[]*\])(?=[^"]*(?:"[^"]*"[^"]*)*$)""")  # not in [] or ""


def told_fields(text: str) -> dict[str, Any]:
    """Fields of a recipe as people write them: `window=9 commit="last step"`, by blanks, commas or
    lines."""
    fields = {}
    for pair in _BETWEEN.split(text.strip()) if text.strip() else ():
        name, equals, value = pair.partition("=")
        if not equals:
            raise StyleError(f"A recipe is told as FIELD=VALUE, such as window=9; not {pair!r}.")
        try:
            fields[name] = json.loads(value)
        except ValueError:
            fields[name] = value
    return fields


RTR = Recipe(name="rtr", timesteps=(1000, 500), shift=5.0)
"""RTR-DiT. The paper gives neither steps nor window; two steps is what `rtr-tiny` aims at."""

SELF_FORCING = Recipe(
    name="self-forcing",
    timesteps=(1000, 750, 500, 250),
    shift=5.0,
    window=18,
    strength=0.7,
)
"""Self-Forcing's configs/self_forcing_dmd.yaml: four warped steps, 21 latent frames in sight.
It has no channels for a source, so that must show through the noise: StreamDiffusionV2's start."""


def recipe_for(*, takes_source: bool) -> Recipe:
    """The recipe of a checkpoint that brings none of its own."""
    return RTR if takes_source else SELF_FORCING
