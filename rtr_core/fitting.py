"""What to switch on so that a stream fits into a device's memory: as little as is enough.

    fitted = choose(KNOWN["wan-1.3b"], Size(480, 832), there=8 * 10**9)
    print(fitted)                   # what fits, why, and the flags that switch it on

Every choice there is has its memory counted, see `footprint`; of those that fit the one is taken
that costs least. The costs only order them: quality that can hardly be seen is given up before
speed, speed of the autoencoder before quality that can be seen, and that before speed of all.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch

from .errors import WeightsError
from .families import Signs, recipe_of
from .footprint import Footprint, Model, Savings, counted
from .model.config import WAN_1_3B, WAN_5B, WAN_14B
from .shapes import Geometry, Size
from .vae.tiny_config import TAEW2_1, TAEW2_2
from .vae.wan_config import WAN_2_1, WAN_2_2
from .weights.bundle import read_about
from .weights.fit import naming
from .weights.identify import Part
from .weights.layouts import Role
from .weights.load import canonical, config_of, find_parts
from .weights.quantized import dequantized
from .weights.read import WeightsFile
from .weights.signs import signs_of

T = TypeVar("T")
WIDE_BLOCKS = 4  # what it costs besides to copy blocks that could be half as large
RESERVED = 5 * 10**8  # of driver, kernels' own scratch and fragments
GB = 10**9
TABLE_MEMORY = tuple(n * GB for n in (8, 12, 16, 24))
TABLE_SIZES = Size(480, 832), Size(512, 512)
TINY = {tiny.channels: tiny for tiny in (TAEW2_1, TAEW2_2)}
WAN = {vae.channels: vae for vae in (WAN_2_1, WAN_2_2)}

KNOWN = {
    name: Model(
        name=name,
        transformer=config,
        vae=WAN[config.out_channels],
        recipe=recipe_of(Signs(config=config)),
        tiny=TINY[config.out_channels],
    )
    for name, config in (("wan-1.3b", WAN_1_3B), ("wan-5b", WAN_5B), ("wan-14b", WAN_14B))
}


class Step(NamedTuple):
    """One way to take less memory."""

    field: str  # of `Savings`
    value: Any
    cost: int
    flag: str  # that switches it on
    short: str  # in a table
    why: str


STEPS = (
    Step("dtype", torch.bfloat16, 1, "--dtype bf16", "bf16", "half the bytes of all numbers"),
    Step("cache", "fp8", 2, "--cache fp8", "fp8 cache", "half the KV cache, hardly visible"),
    Step("weights", "fp8", 3, "--weights fp8", "fp8 weights", "half the matrices, little visible"),
    Step("tiled", True, 4, "--tiled", "tiled", "less at once in the autoencoder, which is slower"),
    Step(
        "tiny", "decodes", 6, "--decoder TAEW", "tiny decoder",
        "a tiny decoder: softer pictures, sooner",
    ),
    Step(
        "tiny", "both", 9, "--model FILE TAEW", "tiny autoencoder",
        "a tiny autoencoder in place of Wan's: the source is seen less sharply too",
    ),
    Step("offload", True, 13, "--offload", "offload", "blocks stay in RAM: every pass copies them"),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A choice, and what it takes."""

    model: Model
    size: Size
    there: int
    savings: Savings
    base: Savings  # what was asked for
    beside: int  # bytes of what is no part of the stream

    @property
    def footprint(self) -> Footprint:
        return counted(self.model, self.size, self.savings)

    @property
    def needed(self) -> int:
        return self.footprint.peak + self.beside

    @property
    def room(self) -> int:
        return self.there - RESERVED

    @property
    def fits(self) -> bool:
        return self.needed <= self.room

    @property
    def steps(self) -> list[Step]:
        """Those that are on and were not asked for."""
        return [step for step in STEPS if self._is_on(step)]

    def saved(self, step: Step) -> int:
        """What would be needed more without it."""
        without = replace(self.savings, **{step.field: getattr(self.base, step.field)})
        return counted(self.model, self.size, without).peak - self.footprint.peak

    @property
    def flags(self) -> str:
        return " ".join(step.flag for step in self.steps)

    @property
    def short(self) -> str:
        """What is on and how much that takes, for a table."""
        if not self.fits:
            window = self.longest_window
            return "no" if window is None else f"window {window}: {self.with_window(window).short}"
        on = ", ".join(step.short for step in self.steps)
        return f"{on or 'nothing'}: {self.needed / GB:.1f}"

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def lines(self) -> Iterator[str]:
        print_, recipe = self.footprint, self.model.recipe
        yield (
            f"{self.model.name} at {self.size}: {recipe.chunk} latent frames a chunk, "
            f"{recipe.window} behind them in sight"
        )
        items = " + ".join(f"{name} {in_gb(n)}" for name, n in print_.items.items() if n)
        yield f"memory, counted: {in_gb(self.needed)} of {in_gb(self.there)} at most: {items}"
        if print_.on_host:
            yield f"RAM: {in_gb(print_.on_host)} of blocks"
        yield f"  {in_gb(RESERVED)} are set aside for the driver and what kernels take themselves"
        for step in self.steps:
            yield f"on: {step.flag} saves {in_gb(self.saved(step))}: {step.why}"
        if self.fits:
            yield f"fits with: {self.flags or 'nothing of this'}"
            return
        yield f"does not fit: {in_gb(self.needed + RESERVED)} would be enough"
        yield from (f"advice: {line}" for line in self.advice())

    def advice(self) -> Iterator[str]:
        """What else would be enough, each by itself and all that can be on being on."""
        window = self.longest_window
        if window is not None:
            yield f"--recipe window={window} fits with {self.flags}, and forgets sooner"
        sizes = smaller_sizes(self.size, cell_of(self.model))
        size = first_that(sizes, lambda size: replace(self, size=size).fits)
        if size is not None:
            yield f"--size {size} fits with {self.flags}"
        if window is None and size is None:
            yield "no window and no size fits: choose a smaller model"

    @property
    def longest_window(self) -> int | None:
        """That would fit, if one does."""
        shorter = range((self.model.recipe.window or 0) - 1, -1, -1)
        return first_that(shorter, lambda window: self.with_window(window).fits)

    def with_window(self, window: int) -> "Fitted":
        recipe = self.model.recipe.override(window=window)
        return replace(self, model=replace(self.model, recipe=recipe))

    def _is_on(self, step: Step) -> bool:
        return (
            getattr(self.savings, step.field) == step.value
            and getattr(self.base, step.field) != step.value
        )


def choose(
    model: Model,
    size: Size,
    there: int,
    base: Savings | None = None,
    without: Sequence[str] = (),
    beside: int = 0,
) -> Fitted:
    """The cheapest choice that fits into `there` bytes beside `beside` others; where none does, the
    one that takes least. What `base` has on stays on; `without` names fields that stay as they are.
    """
    base = base or Savings()
    fitted = None
    for savings in by_cost(base, [*without, *([] if model.tiny else ["tiny"])]):
        fitted = Fitted(
            model=model, size=size, there=there, savings=savings, base=base, beside=beside
        )
        if fitted.fits:
            return fitted
    assert fitted is not None
    choices = (replace(fitted, savings=s) for s in by_cost(base, without))
    return min(choices, key=lambda one: one.needed)


def by_cost(base: Savings, without: Sequence[str]) -> list[Savings]:
    """All that can be switched on, the cheapest first."""
    ways: dict[str, list[tuple[int, Any]]] = {}
    for field in fields(Savings):
        now = getattr(base, field.name)
        steps = [s for s in STEPS if s.field == field.name and s.field not in without]
        default = torch.float32 if field.name == "dtype" else field.default
        ways[field.name] = [(0, now), *((s.cost, s.value) for s in steps if now == default)]
    chosen = [dict(zip(ways, way, strict=True)) for way in product(*ways.values())]
    ways_of_cost = [
        (sum(cost for cost, _ in way.values()), Savings(**{n: v for n, (_, v) in way.items()}))
        for way in chosen
    ]
    ways_of_cost.sort(
        key=lambda one: one[0] + WIDE_BLOCKS * (one[1].offload > bool(one[1].weights))
    )
    return [savings for _, savings in ways_of_cost]


def described(
    files: Sequence[Path], decoder: Path | None = None, ema: bool | None = None, **recipe: Any
) -> Model:
    """What is in weights files, by their headers. Wan's autoencoder where they hold none."""
    found = find_parts(files, ema)
    if "transformer" not in found:
        raise WeightsError(f"{', '.join(map(str, files))}: no transformer is in it.")
    (file, part), config = found["transformer"], _config(found, "transformer")
    about = read_about(file)
    own = about.recipe if about else None
    vae = _config(found, "vae") if "vae" in found else WAN.get(config.out_channels)
    if vae is None:
        raise WeightsError(
            f"The transformer's latents have {config.out_channels} channels: no autoencoder of "
            f"that kind is known, so name its file too."
        )
    tiny = _config(find_parts([decoder]), "vae") if decoder else TINY.get(vae.channels)
    return Model(
        name=file.path.stem,
        transformer=config,
        vae=vae,
        recipe=recipe_of(signs_of(file, part, config), own, **recipe),
        tiny=tiny,
    )


def _config(found: Mapping[Role, tuple[WeightsFile, Part]], role: Role) -> Any:
    file, part = found[role]
    with naming(file.path):
        return config_of(file, part, dequantized(canonical(file, part), torch.float32))


# ---- sizes ----


def cell_of(model: Model) -> Size:
    """The pixels of a token."""
    return Geometry(Size(1, 1), model.vae.stride, model.transformer.patch).padded


def smaller_sizes(size: Size, step: Size) -> list[Size]:
    """Sizes of about the same shape in whole tokens, from the largest down."""
    widths = range((size.width - 1) // step.width * step.width, 0, -step.width)
    rows = [round(size.height * width / size.width / step.height) for width in widths]
    return [Size(max(1, n) * step.height, w) for n, w in zip(rows, widths, strict=True)]


def first_that(falling: Sequence[T], is_enough: Callable[[T], bool]) -> T | None:
    """The first of them that is enough, where all after one that is are so too."""
    place = bisect_left(falling, True, key=is_enough)
    return falling[place] if place < len(falling) else None


# ---- words ----


def in_gb(count: int) -> str:
    return f"{count / GB:.1f} GB"


def table() -> str:
    """What fits whom, for the README."""
    heads = ["GB", *(f"{there / GB:.0f} GB" for there in TABLE_MEMORY)]
    rows = [heads, ["---"] * len(heads)]
    lines = [f"| {' | '.join(cells)} |" for cells in rows]
    return "\n".join([*lines, *(row(*of) for of in product(KNOWN.values(), TABLE_SIZES))])


def row(model: Model, size: Size) -> str:
    plans = [choose(model, size, there) for there in TABLE_MEMORY]
    return f"| {' | '.join([f'{model.name}, {size}', *(plan.short for plan in plans)])} |"
