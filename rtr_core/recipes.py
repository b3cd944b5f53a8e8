"""How a checkpoint is run: frozen values. Those of public ones are in `families`.

A field may be overridden one at a time: `SELF_FORCING.override(window=9)`. Nothing that is
arithmetic of a model's shape is written here.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from .errors import StyleError
from .flow import TIMESTEPS, shifted_sigmas
from .model.segments import MemoryConfig, Positions
from .shapes import Stride, frames_of

Commit = Literal["clean", "last step", "recompute"]
Switch = Literal["truncate", "recompute"]
Flight = Literal["together", "apart"]
Between = Literal["noise", "flow"]
Structure = Literal["outline", "depth"]

CHOICES = {
    "commit": Commit,
    "switch": Switch,
    "flight": Flight,
    "between": Between,
    "positions": Positions,
    "structure": Structure,
}
COUNTS = {"chunk": 1, "anchor": 0, "window": 0, "first": 1, "span": 1, "buffer": 1}  # and least
OPTIONAL = ("window", "first", "span", "panes")
SHARES = ("strength", "motion", "inject", "weight")  # of one
NUMBERS = (*SHARES, "shift", "offset", "guidance")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Fields that a recipe does not name do nothing by their defaults."""

    name: str

    # noise
    timesteps: tuple[float, ...]  # one denoise step each, 1000 is pure noise, before the shift
    shift: float = 1.0  # spends more of the steps at high noise
    strength: float = 1.0  # scales all noise levels: below 1 the source shows through the first
    offset: float = 0.0  # timesteps of noise that the first step is not told of
    motion: float = 0.0  # share of the noise that is left off where the picture moves fast
    between: Between = "noise"  # steps: fresh noise, or along the flow as undistilled weights must
    inject: float = 0.0  # share of the source in what each step but the first begins with
    guidance: float = 1.0  # away from the style's `avoid`; for weights that were not distilled

    structure: Structure = "outline"  # what of the source a structure projection is told of

    # the past
    chunk: int = 3  # latent frames denoised together
    first: int | None = None  # those of a stream's first chunk, where they are others (warm-up)
    window: int | None = 6  # past latent frames seen besides the anchor; None never forgets
    anchor: int = 0  # first latent frames that never leave, where no reference is anchored
    positions: Positions = "relative"  # where the window stands in time, see model/segments
    weight: float = 1.0  # of the window in attention; less slows the drift of colours
    span: int | None = None  # most latent frames that the weights have seen at once in training
    commit: Commit = "clean"  # a chunk's keys and values: of a pass at sigma 0, of its last step,
    # or those of the whole window worked out anew from clean latents after each chunk
    switch: Switch = "truncate"  # to the newest latent frame, or the window anew in the new style

    # the flight
    buffer: int = 1  # chunks on their way from noise to clean at once, each at its own level
    flight: Flight = "together"  # they see one another, or each what passed its place before it
    panes: tuple[int, int, int] | None = None  # latent frames, tokens down and across: see sight

    def __post_init__(self):
        for field, choices in CHOICES.items():
            if getattr(self, field) not in get_args(choices):
                self._refuse(field, "one of " + ", ".join(map(repr, get_args(choices))))
        self._check_numbers()
        object.__setattr__(self, "timesteps", tuple(float(t) for t in self.timesteps))
        if self.panes is not None:
            object.__setattr__(self, "panes", tuple(self.panes))
        self._check_noise()
        self._check_past()

    def _check_numbers(self) -> None:
        for field, least in COUNTS.items():
            value = getattr(self, field)
            if value is None and field in OPTIONAL:
                continue
            if not isinstance(value, int) or value < least:
                what = "chunks" if field == "buffer" else "latent frames"
                self._refuse(field, f"a whole number of {what}, at least {least}")
        panes = (1, 1, 1) if self.panes is None else self.panes
        if not _is_list_of(panes, int) or len(panes) != 3 or min(panes) < 1:
            self._refuse("panes", "three whole numbers: latent frames, tokens down, tokens across")
        if not _is_list_of(self.timesteps, (int, float)):
            self._refuse("timesteps", "a list of numbers")
        for field in NUMBERS:
            if not isinstance(getattr(self, field), (int, float)):
                self._refuse(field, "a number")

    def _check_noise(self) -> None:
        steps = self.timesteps
        if not steps or list(steps) != sorted(set(steps), reverse=True):
            self._refuse("timesteps", "at least one, each below the last")
        if not (steps[-1] > 0 and steps[0] <= TIMESTEPS):
            self._refuse("timesteps", "above 0 and at most 1000")
        if len(steps) % self.buffer:
            self._refuse("buffer", f"a number that divides its {len(steps)} steps")
        for field in ("shift", "guidance"):
            if not 0 < getattr(self, field) < math.inf:
                self._refuse(field, "above 0")
        for field in SHARES:
            if not 0 <= getattr(self, field) <= 1:
                self._refuse(field, "at least 0 and at most 1")
        if not 0 <= self.offset < TIMESTEPS * self.sigmas[0]:
            self._refuse("offset", "at least 0 and below the first timestep")
        if self.weight == 0:
            self._refuse("weight", "above 0; `window=0` forgets the past")

    def _check_past(self) -> None:
        at_once = self.at_once
        if self.panes and at_once % self.panes[0]:
            self._refuse("panes", f"a division of the {at_once} latent frames denoised together")
        if self.flight == "apart" and self.commit != "last step":
            self._refuse("commit", "'last step' where chunks fly apart")
        if self.window is None and "recompute" in (self.commit, self.switch):
            self._refuse("window", "bounded where it is worked out anew")
        seen = self.anchor + (self.window or 0) + at_once
        if self.span is not None and seen > self.span:
            self._refuse(
                "span",
                f"at least the {seen} latent frames seen at once (anchor {self.anchor}, window "
                f"{self.window}, {at_once} in flight); or choose fewer of these",
            )

    @property
    def sigmas(self) -> tuple[float, ...]:
        """The noise level of each denoise step."""
        return shifted_sigmas(self.timesteps, self.shift)

    @property
    def memory(self) -> MemoryConfig:
        """What a stream under this recipe remembers."""
        return MemoryConfig(
            window=self.window,
            anchor=self.anchor,
            positions=self.positions,
            weight=self.weight,
            panes=self.panes,
        )

    @property
    def recomputes(self) -> bool:
        """Whether the window is ever worked out anew, so that its clean latents are kept."""
        return "recompute" in (self.commit, self.switch)

    def chunk_after(self, latents: int) -> int:
        """How many latent frames the chunk has that begins after so many."""
        return self.chunk if latents or self.first is None else self.first

    def latents_of(self, chunks: int) -> int:
        """How many latent frames the first chunks of a stream have."""
        return self.chunk_after(0) + (chunks - 1) * self.chunk if chunks else 0

    def chunks_of(self, latents: int) -> int:
        """How many chunks a clip of so many latent frames has, the last one filled up."""
        beyond = latents - self.chunk_after(0)
        return 0 if latents == 0 else 1 + max(0, -(-beyond // self.chunk))

    @property
    def at_once(self) -> int:
        """The most latent frames that one pass denoises for one cache."""
        chunks = self.buffer if self.flight == "together" else 1
        return max(self.chunk * chunks, self.chunk_after(0))

    @property
    def caches(self) -> int:
        """How many of them a stream has."""
        places = self.buffer if self.flight == "apart" else 1
        return places if self.guidance == 1 else 2 * places

    def frames_of(self, chunks: int, stride: Stride) -> int:
        """How many frames of a clip so many chunks cover."""
        return frames_of(self.latents_of(chunks), stride)

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

    @property
    def told(self) -> dict[str, Any]:
        """The fields that do anything: those that are not as they are by default."""
        plain = Recipe(name=self.name, timesteps=self.timesteps)
        own = {name: value for name, value in asdict(self).items() if value != getattr(plain, name)}
        return {"timesteps": self.timesteps} | own

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @property
    def fingerprint(self) -> str:
        """A short name that changes with any field."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:6]

    def _refuse(self, field: str, expected: str) -> None:
        value = getattr(self, field)
        raise StyleError(f"Recipe {self.name!r}: {field} must be {expected}, not {value!r}.")


def _is_list_of(value: Any, kind: Any) -> bool:
    return isinstance(value, (tuple, list)) and all(isinstance(each, kind) for each in value)


_BETWEEN = re.compile(r"""[\s,;]+(?![^\[]*\])(?=[^"]*(?:"[^"]*"[^"]*)*$)""")  # not in [] or ""


def told_fields(text: str) -> dict[str, Any]:
    """Fields of a recipe as people write them: `window=9 commit="last step"`, by blanks, commas or
    lines. A first word without `=` is the name of a family."""
    fields = {}
    for pair in _BETWEEN.split(text.strip()) if text.strip() else ():
        name, equals, value = pair.partition("=")
        if not equals and not fields:
            fields["name"] = pair
            continue
        if not equals:
            raise StyleError(f"A recipe is told as FIELD=VALUE, such as window=9; not {pair!r}.")
        try:
            fields[name] = json.loads(value)
        except ValueError:
            fields[name] = value
    return fields
