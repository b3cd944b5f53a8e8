"""LoRA files: held against a model by names and shapes alone, and only then read.

plan = plan_lora(LoraFile.of("klimt.safetensors"), transformer.config)
print(plan)                                             # klimt.safetensors: 480 of 480 keys matched
transformer = under_loras(transformer, {plan.read(like): 0.8})
"""

import math
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from ..errors import WeightsError
from ..loras import LoraFile
from ..model.config import TransformerConfig
from ..model.lora import Change, Difference, Lora, LowRank, Strengths, added
from .fit import finite, module_on_meta, naming
from .identify import foreign_in, identify
from .lazy import LazyTensors
from .listing import few
from .lora_keys import LoraLayout, Piece, find_lora, is_lora
from .read import WeightsFile, json_object, open_weights

METADATA = "lora_adapter_metadata"  # where diffusers keeps what PEFT keeps in a file beside
LEAVES: dict[Piece, str] = {"weight": "weight", "bias": "bias", "modulation": "modulation"}
KEPT_BYTES = 2**31  # of LoRAs that nobody may be using any more


class LoraNotWhole(UserWarning):
    """Some keys of a LoRA belong to no layer of the model."""


class Pair(NamedTuple):
    """The keys of two thin matrices."""

    down: str
    up: str
    scale: float


class Whole(NamedTuple):
    """The key of a change that is there number by number."""

    key: str
    scale: float = 1.0


@dataclass(frozen=True, kw_only=True, eq=False)
class LoraPlan:
    """A LoRA that fits a model, before any of its numbers but the alphas is read."""

    file: LoraFile
    tensors: LazyTensors
    keys: int
    unmatched: tuple[str, ...]
    sources: Mapping[str, Pair | Whole]  # parameter of the model -> what changes it

    def read(self, like: Tensor) -> Lora:
        """Its numbers, on the device and in the dtype of `like`."""
        with naming(Path(self.file.path)):
            changes = {name: self._change(source, like) for name, source in self.sources.items()}
        return Lora(
            path=self.file.path,
            digest=self.file.digest,
            changes=changes,
            keys=self.keys,
            unmatched=self.unmatched,
        )

    def _change(self, source: Pair | Whole, like: Tensor) -> Change:
        if isinstance(source, Pair):
            down, up = (self._tensor(key, like) for key in source[:2])
            return LowRank(down, up.flatten(1), source.scale)
        return Difference(self._tensor(source.key, like) * source.scale)

    def _tensor(self, key: str, like: Tensor) -> Tensor:
        return finite(self.tensors[key].to(like.device, like.dtype, copy=True), key)

    def __str__(self) -> str:
        left = f"; not of this model: {few(self.unmatched)}" if self.unmatched else ""
        matched = self.keys - len(self.unmatched)
        return f"{self.file.name}: {matched} of {self.keys} keys matched{left}"


def plan_lora(file: LoraFile, config: TransformerConfig) -> LoraPlan:
    """Which keys of a file change which parameters of a model. A LoRA for another is refused."""
    opened = open_weights(file.path)
    with naming(opened.path):
        layout = lora_in(opened)
        matching = _Matching(file, opened, layout, _shapes_of(config))
        if not matching.sources:
            kind = foreign_in(opened.tensors.meta) or "another model"
            raise WeightsError(
                f"None of its {layout.keys} keys belongs to a layer of this model, it was made for "
                f"{kind}: {few([*layout.strange, *matching.unmatched])}."
            )
    plan = LoraPlan(
        file=file,
        tensors=opened.tensors,
        keys=layout.keys,
        unmatched=(*layout.strange, *matching.unmatched),
        sources=matching.sources,
    )
    if plan.unmatched:
        warnings.warn(str(plan), LoraNotWhole, stacklevel=3)
    return plan


def lora_in(file: WeightsFile) -> LoraLayout:
    """Where the LoRA in a file is; an error that says what the file is instead."""
    if not is_lora(file.tensors):
        raise WeightsError(f"It is no LoRA; it seems to be {identify(file.tensors.meta)}.")
    return find_lora(file.tensors)


def merged(tensors: LazyTensors, loras: Strengths) -> LazyTensors:
    """Weights with LoRAs inside, each made when it is asked for."""

    def make(these: Mapping[str, Tensor], name: str) -> Tensor:
        weight = these[name]
        changes = [
            (lora.changes[name], strength)
            for lora, strength in loras.items()
            if strength and name in lora.changes
        ]
        return weight if weight.is_meta or not changes else added(weight, changes)

    return tensors.derive(tensors, make)


class Shelf:
    """LoRAs of one model, read when a style first names them and kept as long as there is room.

    A session holds those of its own styles, whatever is let go of here.
    """

    def __init__(self, config: TransformerConfig, most: int = KEPT_BYTES):
        self.config, self.most = config, most
        self._kept: dict[LoraFile, Lora] = {}  # the one that was asked for last at the end

    def read(self, file: LoraFile, like: Tensor) -> Lora:
        lora = self._kept.pop(file, None)
        if lora is None:
            now = LoraFile.of(file.path)
            if now.digest != file.digest:
                raise WeightsError(
                    f"{file.path} was changed since it was named or the session was saved: it was "
                    f"{file.digest} and is {now.digest}. Put the old file back, or begin anew."
                )
            lora = plan_lora(file, self.config).read(like)
        self._kept[file] = lora
        while len(self._kept) > 1 and sum(kept.nbytes for kept in self._kept.values()) > self.most:
            del self._kept[next(iter(self._kept))]
        return lora


def _shapes_of(config: TransformerConfig) -> dict[str, tuple[int, ...]]:
    module = module_on_meta(config)
    assert module is not None, "a transformer has a module"
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


class _Matching:
    """Layers of a LoRA held against the parameters of a model, one by one."""

    def __init__(
        self,
        file: LoraFile,
        opened: WeightsFile,
        layout: LoraLayout,
        shapes: Mapping[str, tuple[int, ...]],
    ):
        self.meta, self.numbers, self.shapes = opened.tensors.meta, opened.tensors, shapes
        self.adapter = _Adapter(adapter_config(file, opened))
        self.sources: dict[str, Pair | Whole] = {}
        self.unmatched: list[str] = []
        for layer, pieces in layout.pieces.items():
            self._match(layer, layout.called[layer], dict(pieces))

    def _match(self, layer: str, called: str, pieces: dict[Piece, str]) -> None:
        alpha = pieces.pop("alpha", None)
        down, up, up_bias = (pieces.pop(name, None) for name in ("down", "up", "up bias"))
        pair = [key for key in (down, up, up_bias, alpha) if key]
        if (down is None) != (up is None):
            raise WeightsError(
                f"It has {down or up!r} and not the other half of it: it is cut off."
            )
        if down and up and f"{layer}.weight" in self.shapes:
            scale = self._scale(called, down, alpha)
            self._check_pair(f"{layer}.weight", down, up)
            self._use(f"{layer}.weight", Pair(down, up, scale))
            if up_bias:
                self._use_whole(f"{layer}.bias", Whole(up_bias, scale))
        else:
            self.unmatched += pair
        for piece, key in pieces.items():
            name = layer if layer in self.shapes else f"{layer}.{LEAVES[piece]}"
            if name in self.shapes:
                self._use_whole(name, Whole(key))
            else:
                self.unmatched.append(key)

    def _use_whole(self, name: str, source: Whole) -> None:
        self._check(name, tuple(self.meta[source.key].shape))
        self._use(name, source)

    def _use(self, name: str, source: Pair | Whole) -> None:
        if name in self.sources:
            raise WeightsError(f"It changes {name!r} twice, by {self.sources[name]} and {source}.")
        self.sources[name] = source

    def _scale(self, called: str, down: str, alpha: str | None) -> float:
        rank = len(self.meta[down])
        told = self._number(alpha) if alpha else self.adapter.alpha(called)
        if told is None:
            return 1.0
        return told / (math.sqrt(rank) if self.adapter.is_stabilized else rank)

    def _number(self, alpha: str) -> float:
        if self.meta[alpha].numel() != 1 or not math.isfinite(float(self.numbers[alpha])):
            raise WeightsError(f"{alpha!r} is not one finite number: the file is damaged.")
        return float(self.numbers[alpha])

    def _check_pair(self, name: str, down: str, up: str) -> None:
        (rank, *into), (out, inner, *rest) = (_dims(self.meta[key]) for key in (down, up))
        if not rank or inner != rank or any(side != 1 for side in rest):
            raise WeightsError(
                f"{down!r} {_dims(self.meta[down])} and {up!r} {_dims(self.meta[up])} do not go "
                f"together: the file is damaged."
            )
        self._check(name, (out, *into))

    def _check(self, name: str, came: tuple[int, ...]) -> None:
        if came != self.shapes[name]:
            raise WeightsError(
                f"It was made for another model: {name!r} is {list(self.shapes[name])} here and "
                f"{list(came)} there; choose a LoRA for a model of this size."
            )


def _dims(tensor: Tensor) -> list[int]:
    dims = list(tensor.shape)
    if len(dims) < 2:
        raise WeightsError(f"A half of a LoRA is a matrix, and one of its tensors is {dims}.")
    return dims


class _Adapter:
    """What PEFT tells of all layers at once."""

    def __init__(self, told: Mapping[str, Any]):
        self.told = told

    @cached_property
    def is_stabilized(self) -> bool:
        """RS-LoRA: alpha is divided by the root of the rank."""
        return self.told.get("use_rslora") is True

    def alpha(self, layer: str) -> float | None:
        pattern = self.told.get("alpha_pattern")
        patterns = pattern.items() if isinstance(pattern, dict) else ()
        own = (alpha for name, alpha in patterns if f".{layer}".endswith(f".{name}"))
        alpha = next(own, self.told.get("lora_alpha"))
        return float(alpha) if isinstance(alpha, (int, float)) else None


def adapter_config(file: LoraFile, opened: WeightsFile) -> dict[str, Any]:
    """What PEFT or diffusers say of a LoRA beside its tensors, empty where they say nothing."""
    if file.config is not None:
        return json_object(file.config.read_text(encoding="utf-8", errors="replace"))
    told = json_object(opened.metadata.get(METADATA, ""))
    return {name.removeprefix("transformer."): value for name, value in told.items()}


def ranks(file: WeightsFile, layout: LoraLayout) -> Iterator[int]:
    """The rank of each layer that has one."""
    for pieces in layout.pieces.values():
        if "down" in pieces:
            yield len(file.tensors.meta[pieces["down"]])
