"""Whether tensors are those of a model: names and shapes held against it, numbers looked at."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import WeightsError
from ..model.config import TransformerConfig
from ..model.transformer import Transformer
from ..model.words import WordEncoder, WordEncoderConfig
from ..vae.tiny import TinyVae
from ..vae.tiny_config import TinyVaeConfig
from ..vae.wan import WanVae
from ..vae.wan_config import WanVaeConfig
from .configs import Config
from .listing import few

MODULES = {
    TransformerConfig: Transformer,
    WanVaeConfig: WanVae,
    TinyVaeConfig: TinyVae,
    WordEncoderConfig: WordEncoder,
}
LOOKED_AT = 2**24  # numbers at a time


@dataclass(frozen=True)
class Fit:
    """How tensors differ from those of a model; nothing in it where they do not."""

    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    misshapen: tuple[str, ...] = ()  # each with the shape it has and the one it should have

    @property
    def is_perfect(self) -> bool:
        return not (self.missing or self.unexpected or self.misshapen)

    def lines(self) -> list[str]:
        kinds = {
            "missing": self.missing,
            "unexpected": self.unexpected,
            "of another shape": self.misshapen,
        }
        return [f"{len(names)} {kind}: {few(names)}" for kind, names in kinds.items() if names]


def module_on_meta(config: Config) -> nn.Module | None:
    """The module of a config without memory for its weights. None for umT5, built elsewhere."""
    if type(config) not in MODULES:
        return None
    with torch.device("meta"):
        return MODULES[type(config)](config)


def fit(tensors: Mapping[str, Tensor], module: nn.Module) -> Fit:
    """Hold the shapes of `tensors`, which may be on the meta device, against a module."""
    expected = module.state_dict()
    return Fit(
        missing=tuple(name for name in expected if name not in tensors),
        unexpected=tuple(name for name in tensors if name not in expected),
        misshapen=tuple(
            f"{name} is {list(tensor.shape)}, not {list(expected[name].shape)}"
            for name, tensor in tensors.items()
            if name in expected and tensor.shape != expected[name].shape
        ),
    )


def check_fit(tensors: Mapping[str, Tensor], module: nn.Module) -> None:
    found = fit(tensors, module)
    if not found.is_perfect:
        raise WeightsError(
            f"Its tensors are not those of this model. {'. '.join(found.lines())}. `rtr inspect` "
            f"prints what the file is; it may be cut off, or of a variant that is not supported."
        )


def finite(tensor: Tensor, name: str) -> Tensor:
    """The tensor, refused where a number in it is NaN or infinite."""
    count = not_finite(tensor)
    if count:
        raise WeightsError(
            f"{count} of {tensor.numel()} numbers in {name!r} are NaN or infinite as "
            f"{tensor.dtype}. If the file is sound in a wider dtype such as bfloat16, load it in "
            f"that; else download it again, or go back to an earlier checkpoint."
        )
    return tensor


def not_finite(tensor: Tensor) -> int:
    """How many numbers are NaN or infinite, a piece at a time so that no large copy is made."""
    if tensor.is_meta or not tensor.is_floating_point():
        return 0
    pieces = tensor.reshape(-1).split(LOOKED_AT)
    # one-byte floats know neither isfinite nor arithmetic
    pieces = (piece.bfloat16() if piece.itemsize == 1 else piece for piece in pieces)
    return sum(piece.numel() - int(piece.isfinite().sum()) for piece in pieces)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Put the file's name before what is said about its content."""
    try:
        yield
    except WeightsError as error:
        if path.name in str(error):
            raise
        raise WeightsError(f"{path}: {error}") from error
