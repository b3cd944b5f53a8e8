"""`rtr inspect`: what a file is and whether it would load, without loading it."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import WeightsError
from ..families import family_of
from ..recipes import Recipe
from .bundle import About, read_about
from .fit import Fit, fit, module_on_meta, naming, not_finite
from .identify import Kind, Part, identify
from .lazy import LazyTensors
from .listing import few
from .load import Source, canonical, config_of
from .lora import ranks
from .lora_keys import LoraLayout, Piece, find_lora, is_lora
from .quantized import dequantized, is_scaled
from .read import WeightsFile, open_weights
from .signs import signs_of

DTYPE_NAMES = {"float8_e4m3fn": "fp8 e4m3", "float8_e5m2": "fp8 e5m2"}
WHOLE: tuple[Piece, ...] = ("weight", "bias", "modulation")  # changes, number by number
LORA_HINT = "give it with --lora FILE:STRENGTH, in a cue as lora=FILE:STRENGTH"
SAMPLES = 5  # tensors that are named where a list would be long


@dataclass(frozen=True, kw_only=True)
class PartReport:
    """One network of ours in a file: what it is and how it fits."""

    part: Part
    parameters: int
    config: Any = None  # None where the tensors make no model of ours
    fit: Fit = field(default_factory=Fit)
    trouble: str = ""  # why it would not load

    def lines(self) -> Iterator[str]:
        layout = self.part.layout
        yield f"{self.part.role}: {self.part.label}, {_short(self.parameters)} parameters"
        yield f"  names: {layout.naming}, prefix {layout.prefix!r}"
        if layout.passed_over:
            yield f"  also there: {', '.join(map(repr, layout.passed_over))}"
        values = asdict(self.config) if self.config is not None else {}
        if values:
            yield "  config: " + ", ".join(f"{name} {value}" for name, value in values.items())
        yield from (f"  {line}" for line in self.fit.lines())
        if self.trouble:
            yield f"  {self.trouble}"


@dataclass(frozen=True, kw_only=True)
class LoraReport:
    """A LoRA: who wrote it, and what it changes."""

    layout: LoraLayout | None = None  # None where it cannot be read
    ranks: Mapping[int, int] = field(default_factory=dict)  # rank -> layers
    trouble: str = ""

    @classmethod
    def of(cls, file: WeightsFile) -> "LoraReport":
        try:
            layout = find_lora(file.tensors)
        except WeightsError as error:
            return cls(trouble=str(error))
        trouble = "" if layout.pieces else "no layer of a Wan transformer is named in it"
        return cls(layout=layout, ranks=Counter(ranks(file, layout)), trouble=trouble)

    def lines(self) -> Iterator[str]:
        if self.layout and self.layout.pieces:
            of_rank = [f"{count} of rank {rank}" for rank, count in sorted(self.ranks.items())]
            pieces = Counter(piece for of in self.layout.pieces.values() for piece in of)
            whole = [f"{pieces[p]} whole {p} changes" for p in WHOLE if p in pieces]
            layers = len(self.layout.pieces)
            yield f"LoRA: {layers} layers, " + ", ".join(of_rank + whole)
            yield f"  names: {self.layout.naming}, prefix {self.layout.prefix!r}"
            if self.layout.passed_over:
                yield f"  also there: {', '.join(map(repr, self.layout.passed_over))}"
            if self.layout.strange:
                yield f"  {len(self.layout.strange)} other keys: {few(self.layout.strange)}"
        if self.trouble:
            yield f"  {self.trouble}"


@dataclass(frozen=True, kw_only=True)
class Report:
    """What `rtr inspect` prints, as values."""

    path: Path
    kind: Kind
    size: int  # bytes of numbers
    parameters: int
    dtypes: Mapping[str, int]  # name -> tensors stored in it
    parts: tuple[PartReport, ...]
    others: int  # tensors that belong to none of the parts
    about: About | None
    recipe: Recipe | None
    not_finite: Mapping[str, int] | None  # tensor -> its NaN or infinite numbers; None: not looked
    hints: tuple[str, ...]
    lora: LoraReport | None = None

    @property
    def is_sound(self) -> bool:
        """Whether everything of ours in the file would load."""
        troubled = any(part.trouble or not part.fit.is_perfect for part in self.parts)
        if self.lora is not None:
            return not self.lora.trouble and not self.not_finite
        return bool(self.parts) and not troubled and not self.not_finite

    def lines(self) -> Iterator[str]:
        mix = ", ".join(f"{name} x{count}" for name, count in self.dtypes.items())
        yield f"{self.path}: {self.kind}"
        yield f"{_short(self.size)}B, {_short(self.parameters)} numbers, tensors: {mix}"
        for part in self.parts:
            yield from part.lines()
        if self.lora is not None:
            yield from self.lora.lines()
        elif self.others:
            yield f"{self.others} tensors belong to none of these"
        if self.recipe:
            stored = "stored in it" if self.about and self.about.recipe else "of its family"
            yield f"recipe {stored}: {self.recipe.to_json()}"
        if self.about:
            yield from (f"style: {style}" for style in self.about.styles)
            yield from (f"{name}: {value}" for name, value in self.about.card.items())
        if self.not_finite is not None:
            yield from self._value_lines()
        yield from (f"hint: {hint}" for hint in self.hints)

    def _value_lines(self) -> Iterator[str]:
        broken = dict(self.not_finite or {})
        yield f"values: {len(broken)} tensors with NaN or infinity" if broken else "values: finite"
        for name, count in list(broken.items())[:SAMPLES]:
            yield f"  {name}: {count}"

    def __str__(self) -> str:
        return "\n".join(self.lines())


def inspect(path: Source, *, ema: bool | None = None, values: bool = False) -> Report:
    """What a file is. Its numbers are read only to look for NaN and infinity (`values`)."""
    file = open_weights(path)
    with naming(file.path):
        kind, about = identify(file.tensors.meta, ema), read_about(file)
    parts = tuple(_inspect_part(file, part) for part in kind.parts)
    lora = LoraReport.of(file) if is_lora(file.tensors) else None
    used = {name for part in kind.parts for name in part.layout.names.values()}
    meta = file.tensors.meta
    return Report(
        path=file.path,
        kind=kind,
        size=sum(tensor.nbytes for tensor in meta.values()),
        parameters=sum(tensor.numel() for tensor in meta.values()),
        dtypes=Counter(_dtype_name(tensor) for tensor in meta.values()),
        parts=parts,
        others=len(meta) - len(used),
        about=about,
        recipe=_recipe(file, about, parts),
        not_finite=_broken(file.tensors) if values else None,
        hints=(LORA_HINT,) if lora else tuple(_hints(file, kind, parts)),
        lora=lora,
    )


def _inspect_part(file: WeightsFile, part: Part) -> PartReport:
    tensors = canonical(file, part)
    parameters = sum(tensor.numel() for tensor in tensors.meta.values())
    try:
        if part.role != "text":
            tensors = dequantized(tensors, torch.float32)
        config = config_of(file, part, tensors)
        module = module_on_meta(config)
    except WeightsError as error:
        return PartReport(part=part, parameters=parameters, trouble=str(error))
    found = fit(tensors.meta, module) if module is not None else Fit()
    return PartReport(part=part, parameters=parameters, config=config, fit=found)


def _recipe(file: WeightsFile, about: About | None, parts: tuple[PartReport, ...]) -> Recipe | None:
    if about and about.recipe:
        return about.recipe
    for report in parts:
        if report.part.role == "transformer" and report.config:
            return family_of(signs_of(file, report.part, report.config)).recipe
    return None


def _broken(tensors: LazyTensors) -> dict[str, int]:
    counts = ((name, not_finite(tensor)) for name, tensor in tensors.items())
    return {name: count for name, count in counts if count}


def _hints(file: WeightsFile, kind: Kind, parts: tuple[PartReport, ...]) -> Iterator[str]:
    if not kind.parts:
        yield "this file cannot be used here"
        return
    if is_scaled(file.tensors.meta):
        yield "fp8 weights of the transformer are widened when it is loaded"
    if any(part.part.layout.passed_over for part in parts):
        yield "it holds a network twice: `ema` chooses between averaged and last weights"
    if not kind.is_bundle:
        yield "`rtr convert` makes one clean safetensors file of it, with config and recipe inside"


def _dtype_name(tensor: Tensor) -> str:
    name = str(tensor.dtype).removeprefix("torch.")
    return DTYPE_NAMES.get(name, name)


def _short(count: int) -> str:
    """A count in thousands, millions or billions."""
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if count >= size:
            return f"{count / size:.2f} {unit}"
    return f"{count} "
