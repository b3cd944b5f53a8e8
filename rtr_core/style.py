"""What the user asks for: a prompt, a reference image or both, and how strongly."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from .errors import StyleError
from .frames import picture
from .model.attention import Context
from .model.kv_cache import KVCache

REFERENCE_PROMPT = "Transfer the video style to match the reference image style"


@dataclass(frozen=True, kw_only=True, eq=False)
class Style:
    prompt: str | None = None
    reference: Any = None  # a path, a PIL image, an array or a tensor; kept as a tensor [h w 3]
    strength: float = 1.0  # how much noise the source is given: less keeps more of it
    embedding: Tensor | None = None  # an encoded prompt [rows, dim] in the place of `prompt`

    def __post_init__(self):
        if not (self.prompt or "").strip() and self.reference is None and self.embedding is None:
            raise StyleError("A style needs a prompt or a reference image.")
        if not 0 < self.strength <= 1:
            raise StyleError(f"Strength is above 0 and at most 1, not {self.strength}.")
        if self.reference is not None:
            object.__setattr__(self, "reference", picture(self.reference))
            if not (self.prompt or "").strip():
                object.__setattr__(self, "prompt", REFERENCE_PROMPT)

    def __str__(self) -> str:
        if self.reference is None:
            return self.prompt or "an encoded prompt"
        height, width = self.reference.shape[:2]
        words = "" if self.prompt in (None, REFERENCE_PROMPT) else f"{self.prompt}, "
        return f"{words}reference {width}x{height}"


@dataclass(frozen=True)
class EncodedStyle:
    """A style made ready for one session's size: what a switch puts into the cache."""

    style: Style
    context: Context
    anchor: KVCache | None  # has just been run on the reference
