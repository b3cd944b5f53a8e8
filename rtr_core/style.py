"""What the user asks for: a prompt, a reference image or both, and how strongly."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from .errors import StyleError
from .frames import picture
from .loras import LoraFile, strengths_of
from .model.lora import Lora

LORA = "lora."  # in a snapshot, before the digest and the path of one
REFERENCE_PROMPT = "Transfer the video style to match the reference image style"

Way = Literal["linear", "slerp"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Style:
    prompt: str | None = None
    reference: Any = None  # a path, a PIL image, an array or a tensor; kept as a tensor [h w 3]
    strength: float = 1.0  # how much noise the source is given: less keeps more of it
    embedding: Tensor | None = None  # an encoded prompt [rows, dim] in the place of `prompt`
    loras: Mapping[Any, float] = field(default_factory=dict)  # file -> strength, kept by LoraFile
    avoid: str = ""  # a prompt to keep away from, where the recipe has guidance
    mix: Mix | None = None  # another style that it goes part of the way to, see `mixed`

    def __post_init__(self):
        if not isinstance(self.prompt, (str, type(None))):
            raise StyleError(f"A prompt is a text, not {type(self.prompt).__name__}.")
        if not (self.prompt or "").strip() and self.reference is None and self.embedding is None:
            raise StyleError("A style needs a prompt or a reference image.")
        if not isinstance(self.avoid, str):
            raise StyleError(f"What to avoid is a text, not {type(self.avoid).__name__}.")
        if not 0 <= self.strength <= 1:
            raise StyleError(f"Strength is at least 0 and at most 1, not {self.strength}.")
        if self.reference is not None:
            object.__setattr__(self, "reference", picture(self.reference))
            if not (self.prompt or "").strip():
                object.__setattr__(self, "prompt", REFERENCE_PROMPT)
        if self.embedding is not None:
            object.__setattr__(self, "embedding", _rows(self.embedding))
        object.__setattr__(self, "loras", strengths_of(self.loras))

    def mixed(self, other: Style, weight: float = 0.5, way: Way = "linear") -> Style:
        """A style between this one (0) and another (1): prompts, references and strengths.

        `slerp` turns one prompt's vectors into the other's and keeps their length.
        """
        return replace(self, mix=Mix(other, weight, way))

    @cached_property
    def fingerprint(self) -> str:
        """The same for styles that ask for the same."""
        mix = self.mix and (self.mix.other.fingerprint, self.mix.weight, self.mix.way)
        digest = hashlib.sha256(repr((self.prompt, self.strength, self.avoid, mix)).encode())
        for tensor in (self.reference, self.embedding):
            digest.update(b"none" if tensor is None else repr(tuple(tensor.shape)).encode())
            if tensor is not None:
                digest.update(tensor.float().cpu().contiguous().numpy().tobytes())
        acting = sorted(
            (file.digest, strength) for file, strength in self.loras.items() if strength
        )
        digest.update(repr(acting).encode() if acting else b"")
        return digest.hexdigest()[:16]

    def __str__(self) -> str:
        if self.mix is not None:
            return f"{replace(self, mix=None)} + {self.mix.weight:g} {self.mix.other}"
        said = [] if self.prompt in (None, REFERENCE_PROMPT) else [self.prompt]
        if self.reference is not None:
            height, width = self.reference.shape[:2]
            said.append(f"reference {width}x{height}")
        said = said or [self.prompt or "an encoded prompt"]
        return ", ".join([*said, *(f"{file.name} {s:g}" for file, s in self.loras.items())])


@dataclass(frozen=True, eq=False)
class Mix:
    """Where a style goes, and how far."""

    other: Style
    weight: float
    way: Way = "linear"

    def __post_init__(self):
        if not isinstance(self.other, Style):
            raise StyleError(f"A style is mixed with a Style, not {type(self.other).__name__}.")
        if not 0 <= self.weight <= 1:
            raise StyleError(f"A mix is between 0 and 1 of the other style, not {self.weight}.")
        if self.way not in get_args(Way):
            ways = ", ".join(map(repr, get_args(Way)))
            raise StyleError(f"Styles are mixed one of these ways: {ways}; not {self.way!r}.")


def _rows(embedding: Any) -> Tensor:
    """One encoded prompt `[rows dim]`; hosts put it in a batch of one."""
    if not isinstance(embedding, Tensor) or not embedding.is_floating_point():
        raise StyleError("An encoded prompt is a tensor of floats [rows, dim].")
    rows = embedding[0] if embedding.ndim == 3 and len(embedding) == 1 else embedding
    if rows.ndim != 2 or 0 in rows.shape:
        raise StyleError(f"An encoded prompt is [rows, dim]; this is {list(embedding.shape)}.")
    if not rows.isfinite().all():
        raise StyleError("The encoded prompt holds NaN or infinity. Encode it again, in fp32.")
    return rows.detach()


@dataclass(frozen=True)
class EncodedStyle:
    """A style made ready for pictures of one size."""

    style: Style
    rows: Tensor  # of the prompt, [1 rows dim]
    latent: Tensor | None  # of the reference
    strength: float
    avoid: Tensor | None = None  # rows of what to keep away from, under guidance
    loras: Mapping[Lora, float] = field(default_factory=dict)

    def snapshot(self) -> dict[str, Tensor]:
        state = {"rows": self.rows, "latent": self.latent, "avoid": self.avoid}
        there = {name: tensor for name, tensor in state.items() if tensor is not None}
        numbers = {f"{LORA}{lora.digest}.{lora.path}": s for lora, s in self.loras.items()}
        numbers["strength"] = self.strength
        return there | {n: torch.tensor(s, dtype=torch.float64) for n, s in numbers.items()}

    @classmethod
    def restored(
        cls, style: Style, state: dict[str, Tensor], read: Callable[[LoraFile], Lora]
    ) -> EncodedStyle:
        loras = {}
        for name in state:
            if name.startswith(LORA):
                digest, _, path = name.removeprefix(LORA).partition(".")
                loras[read(LoraFile(path, digest))] = float(state[name])
        strength = float(state["strength"])
        return cls(style, state["rows"], state.get("latent"), strength, state.get("avoid"), loras)

    def toward(self, other: EncodedStyle, weight: float, way: Way = "linear") -> EncodedStyle:
        """Part of the way from this style to another. A reference that only one has is not
        thinned: it comes, or goes, at half the way."""
        nearer = other if weight >= 0.5 else self
        latent = nearer.latent
        if self.latent is not None and other.latent is not None:
            latent = self.latent.lerp(other.latent, weight)
        between = slerp if way == "slerp" else torch.lerp
        avoid = None
        if self.avoid is not None and other.avoid is not None:
            avoid = self.avoid.lerp(other.avoid, weight)
        return EncodedStyle(
            style=other.style,
            rows=between(self.rows, other.rows, weight),
            latent=latent,
            strength=_between(self.strength, other.strength, weight),
            avoid=avoid,
            loras={
                lora: _between(self.loras.get(lora, 0.0), other.loras.get(lora, 0.0), weight)
                for lora in {**self.loras, **other.loras}
            },
        )


def _between(before: float, after: float, weight: float) -> float:
    return before + weight * (after - before)


def slerp(a: Tensor, b: Tensor, weight: float) -> Tensor:
    """From `a` to `b` `[... d]` along the arc between their directions, lengths in proportion.

    Where one of them is zero, or they are one direction, that arc is the straight line.
    """
    sizes = [x.float().norm(dim=-1, keepdim=True) for x in (a, b)]
    product = (a.float() * b.float()).sum(-1, keepdim=True) / (sizes[0] * sizes[1])
    angle = product.nan_to_num(1.0).clamp(-1, 1).acos()
    arc = angle.sin()
    turned = [
        (share * angle).sin() / arc * x.float() / size
        for share, x, size in ((1 - weight, a, sizes[0]), (weight, b, sizes[1]))
    ]
    on_arc = (turned[0] + turned[1]) * sizes[0].lerp(sizes[1], weight)
    return torch.where(arc > 1e-4, on_arc, a.float().lerp(b.float(), weight)).to(a.dtype)


@dataclass(frozen=True)
class Switch:
    """A style that is taken up at the next chunk, at once or over some frames."""

    style: Style
    fade: int = 0  # frames
    seed: int | None = None  # of new noise; None goes on with the old


@dataclass(frozen=True)
class Fade:
    """A switch on its way."""

    before: EncodedStyle
    after: EncodedStyle
    frames: int
    done: int = 0  # frames rendered since it began

    @property
    def is_over(self) -> bool:
        return self.done >= self.frames

    def step(self, frames: int) -> Fade:
        return replace(self, done=self.done + frames)

    @property
    def now(self) -> EncodedStyle:
        return (
            self.after if self.is_over else self.before.toward(self.after, self.done / self.frames)
        )
