"""Configs of all our networks: inferred from shapes, to and from JSON, and held against shapes."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from types import UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from ..errors import WeightsError
from ..model import words
from ..model.config import TransformerConfig
from ..model.words import WordEncoderConfig
from ..vae.tiny_config import TinyVaeConfig
from ..vae.wan_config import WanVaeConfig

Shapes = Mapping[str, Sequence[int]]
BAD_VALUES = (KeyError, IndexError, TypeError, ValueError, ZeroDivisionError)


@dataclass(frozen=True)
class Umt5Config:
    """Nothing of umT5 has to be known that transformers does not read off its shapes."""

    @classmethod
    def infer(cls, shapes: Shapes) -> "Umt5Config":
        return cls()


Config = TransformerConfig | WanVaeConfig | TinyVaeConfig | WordEncoderConfig | Umt5Config


class Family(NamedTuple):
    config: type
    infer: Callable[[Shapes], Any]


FAMILIES = {
    ("transformer", "wan"): Family(TransformerConfig, TransformerConfig.infer),
    ("vae", "wan"): Family(WanVaeConfig, WanVaeConfig.infer),
    ("vae", "tiny"): Family(TinyVaeConfig, TinyVaeConfig.infer),
    ("text", "words"): Family(WordEncoderConfig, words.infer),
    ("text", "umt5"): Family(Umt5Config, Umt5Config.infer),
}
# Fields that no tensor's shape tells.
UNSEEN = {"heads", "text_rows", "eps", "statistics", "predicts"}
WITNESSES = {  # the tensor whose shape tells a field
    TransformerConfig: {
        "dim": "patch_embedding.weight",
        "ffn_dim": "blocks.0.ffn.0.weight",
        "in_channels": "patch_embedding.weight",
        "out_channels": "head.head.weight",
        "text_dim": "text_embedding.0.weight",
        "freq_dim": "time_embedding.0.weight",
        "adapter_dim": "reference_adapter.gate.weight",
        "structure": "structure_embedding.weight",
        "patch": "patch_embedding.weight",
        "tile": "tile_embedding",
    },
    WanVaeConfig: {
        "channels": "conv2.weight",
        "dim": "encoder.conv1.weight",
        "decoder_dim": "decoder.head.0.gamma",
        "patch": "encoder.conv1.weight",
    },
    TinyVaeConfig: {"patch": "encoder.0.weight"},
    WordEncoderConfig: {
        "rows": "position",
        "dim": "position",
        "buckets": "buckets.weight",
        "ffn_dim": "blocks.0.ffn.0.weight",
    },
}
FOREIGN_FIELDS = {  # of the `config` that others write, the fields that no tensor's shape tells
    "num_heads": "heads",
    "num_attention_heads": "heads",
    "text_len": "text_rows",
    "eps": "eps",
}


def infer_config(role: str, family: str, shapes: Shapes, **known: Any) -> Any:
    """The config that these shapes have, `known` fields taken as given."""
    try:
        config = FAMILIES[role, family].infer(shapes, **known)
    except BAD_VALUES as error:
        raise WeightsError(
            f"The shapes of its tensors make no {family} {role} ({type(error).__name__}: {error})."
        ) from error
    if role == "transformer":
        _check_blocks(config.layers, shapes)
    return config


def _check_blocks(layers: int, shapes: Shapes) -> None:
    """Before a model is built: a name may claim a billion of them."""
    found = {int(m[1]) for m in (re.match(r"blocks\.(\d+)\.", name) for name in shapes) if m}
    if len(found) != layers:
        lost = next(n for n in range(layers) if n not in found)
        raise WeightsError(
            f"Its tensors go up to 'blocks.{layers - 1}', but there is no 'blocks.{lost}': "
            f"{len(found)} blocks of {layers} are there."
        )


def foreign_fields(stated: Mapping[str, Any]) -> dict[str, Any]:
    """What a config written by others adds to what the shapes tell."""
    types = {"heads": int, "text_rows": int, "eps": float}
    return {
        ours: stated[theirs]
        for theirs, ours in FOREIGN_FIELDS.items()
        if type(stated.get(theirs)) is types[ours] and stated[theirs] > 0
    }


def check_agreement(stated: Any, inferred: Any, shapes: Shapes) -> None:
    """Refuse a config that says other than the tensors."""
    for field in fields(stated):
        said, seen = getattr(stated, field.name), getattr(inferred, field.name)
        if field.name not in UNSEEN and said != seen:
            witness = WITNESSES[type(stated)].get(field.name, "")
            where = f"{witness!r} {list(shapes[witness])}" if witness in shapes else "its tensors"
            raise WeightsError(
                f"Its config says {field.name} = {said}, but {where} says {seen}. "
                f"One of the two was changed without the other; convert the original file again."
            )


def overridden(config: Any, **given: Any) -> Any:
    """The config with some fields changed, refused where the result makes no sense."""
    try:
        return replace(config, **given)
    except BAD_VALUES as error:
        raise WeightsError(f"No {type(config).__name__} can be so: {error}.") from error


def family_of(config: Config) -> str:
    return next(name for (_, name), known in FAMILIES.items() if isinstance(config, known.config))


def from_json(config: type, values: Any) -> Any:
    """A frozen dataclass from what JSON made of it; unknown fields and wrong types are refused."""
    if not isinstance(values, Mapping):
        raise WeightsError(f"A {config.__name__} is an object of fields, not {values!r}.")
    hints = get_type_hints(config)
    unknown = sorted(set(values) - {field.name for field in fields(config)})
    if unknown:
        raise WeightsError(
            f"A {config.__name__} has no field {', '.join(map(repr, unknown))}. The file was made "
            f"by another version of RTR: update RTR, or convert the original file again."
        )
    try:
        return config(**{name: _as(hints[name], value) for name, value in values.items()})
    except BAD_VALUES as error:
        raise WeightsError(f"No {config.__name__} has these values: {error}.") from error


def _as(hint: Any, value: Any) -> Any:
    """A value from JSON as the type a field has: counts, numbers, texts and tuples of them."""
    if get_origin(hint) in (Union, UnionType):
        return None if value is None else _as(get_args(hint)[0], value)
    if get_origin(hint) is Literal:
        return value  # one of a few, which the dataclass checks itself
    if get_origin(hint) is tuple:
        return tuple(_as(get_args(hint)[0], item) for item in _items(value))
    if isinstance(hint, type) and issubclass(hint, tuple):
        parts = zip(get_type_hints(hint).values(), _items(value), strict=True)
        return hint(*(_as(part, item) for part, item in parts))
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint or (hint is int and value < 0):
        raise ValueError(f"{value!r} is no {hint.__name__}")
    return value


def _items(value: Any) -> Sequence[Any]:
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"{value!r} is no list")
    return value
