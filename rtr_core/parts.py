"""What a stylizer is put together from, wherever it comes from."""

from dataclasses import dataclass

from .model.text import PromptEncoder
from .model.transformer import Transformer
from .recipes import Recipe
from .vae.stream import Vae


@dataclass(frozen=True, kw_only=True)
class Parts:
    transformer: Transformer
    vae: Vae
    text: PromptEncoder | None
    recipe: Recipe | None  # None: the file brings none, and its family's is taken
    name: str
