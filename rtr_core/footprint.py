"""What a stream takes of its device's memory, counted beforehand.

    counted(Model.of(stylizer), Size(480, 832), Savings.of(stylizer)).peak      # bytes

Nothing is estimated: a session of the very networks runs on tensors that have shapes and no
numbers, its window full, and a ledger counts what is there at each moment. What a kernel takes for
itself while it runs, the driver and lost room between blocks are not seen.
"""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import torch
from torch import Tensor, nn

from .ledger import Fused, Ledger, bytes_of
from .model.config import TransformerConfig
from .model.fp8 import Fp8Linear, in_fp8
from .model.kv_banks import KVBanks
from .model.offload import HostBlocks, offloaded
from .model.segments import Frame, Segments
from .parts import Parts
from .recipes import Recipe
from .session import Session
from .settings import Cache, Settings
from .shapes import Size
from .style import Style
from .stylizer import Stylizer
from .transaction import plain_tensors
from .vae.blank import Blank
from .vae.causal import Trail
from .vae.paired import PairedVae, paired
from .vae.stream import AroundVae, Vae
from .vae.tiled import TiledVae
from .vae.tiny_config import TinyVaeConfig
from .vae.wan_config import WanVaeConfig
from .weights.fit import module_on_meta
from .weights.load import Narrow

FEW = 2  # blocks that are run: all are alike, so the rest is multiplied
GROUPS = 3  # of frames in a chunk that are run: those that follow take hardly more

ENCODER, TRANSFORMER, DECODER = "encoder", "transformer", "decoder"  # at work
LEAST = TransformerConfig(
    dim=4,
    ffn_dim=4,
    heads=1,
    layers=1,
    in_channels=1,
    out_channels=1,
    text_dim=1,
    text_rows=1,
    freq_dim=4,
)


Tiny = Literal["decodes", "both"]  # what a tiny autoencoder does in place of the model's own
VaeConfig = WanVaeConfig | TinyVaeConfig | Blank


@dataclass(frozen=True, kw_only=True)
class Model:
    """What is run, as far as memory goes."""

    name: str
    transformer: TransformerConfig
    vae: VaeConfig
    recipe: Recipe
    tiny: VaeConfig | None = None  # an autoencoder that could decode in place of its own
    pixels: torch.dtype | None = None  # of the autoencoder, where latents have another

    @classmethod
    def of(cls, stylizer: Stylizer) -> "Model":
        parts = stylizer.parts
        encodes, decodes = halves(parts.vae)
        wide = parts.pixels_like.dtype
        return cls(
            name=parts.name,
            transformer=parts.transformer.config,
            vae=encodes,
            recipe=stylizer.recipe,
            tiny=decodes,
            pixels=None if wide == parts.latents_like.dtype else wide,
        )


@dataclass(frozen=True, kw_only=True)
class Savings:
    """All that takes less memory, on or off."""

    dtype: torch.dtype = torch.bfloat16
    weights: Narrow = None
    cache: Cache | None = None
    tiled: bool = False
    tiny: Tiny | None = None
    offload: bool = False

    @classmethod
    def of(cls, stylizer: Stylizer) -> "Savings":
        """What is on already."""
        parts = stylizer.parts
        layers = parts.transformer.modules()
        return cls(
            dtype=parts.latents_like.dtype,
            weights="fp8" if any(isinstance(layer, Fp8Linear) for layer in layers) else None,
            cache=stylizer.cache,
            tiled=isinstance(parts.vae, TiledVae),
            tiny="decodes" if halves(parts.vae)[1] is not None else None,
            offload=isinstance(parts.transformer.blocks, HostBlocks),
        )


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """Bytes on the device, and of blocks that stay in host memory."""

    weights: int
    cache: int
    kept: int  # what autoencoders remember, the encoded prompt, frames that wait
    passing: Mapping[str, int]  # of each network at work, beside all these, at most at once
    on_host: int

    @property
    def peak(self) -> int:
        return self.weights + self.cache + self.kept + max(self.passing.values())

    @property
    def items(self) -> dict[str, int]:
        """What there is at the peak."""
        phase = max(self.passing, key=lambda phase: self.passing[phase])
        return {
            "weights": self.weights,
            "KV cache": self.cache,
            "autoencoder's past, prompt and frames": self.kept,
            f"passing results of the {phase}": self.passing[phase],
        }


def counted(model: Model, size: Size, savings: Savings) -> Footprint:
    """What a session of this size takes in the long run, as on a GPU.

    Transformer and autoencoder are run apart, each beside the least of the other, and of the
    transformer's blocks a few: they are all alike.
    """
    # Steps follow on one another and leave nothing behind, so one a place tells as much as all.
    recipe = model.recipe.override(timesteps=model.recipe.timesteps[: model.recipe.buffer])
    few = replace(model.transformer, layers=FEW)
    blank = Blank(model.vae.channels, model.vae.stride)
    least = replace(
        LEAST,
        in_channels=blank.channels,
        out_channels=blank.channels,
        structure=model.transformer.structure,
    )
    alone = replace(model, name="", transformer=few, vae=blank, tiny=None, recipe=recipe)
    alike = Recipe(name="", timesteps=(1000,), window=0, chunk=min(recipe.chunk, GROUPS))
    beside = replace(model, name="", transformer=least, recipe=alike)
    off = Savings(dtype=savings.dtype)
    passes = replace(savings, tiled=False, tiny=None)
    pictures = replace(off, tiled=savings.tiled, tiny=savings.tiny)
    first, each = _apart(alone, size, passes, chunks=recipe.buffer)
    second, _ = _apart(beside, size, pictures, chunks=2)  # in the first one it has no past
    more = model.transformer.layers - FEW
    return Footprint(
        weights=first.weights + second.weights + more * each.weights,
        cache=first.cache + more * each.cache,
        kept=first.kept + second.kept + more * each.kept,
        passing={**second.passing, TRANSFORMER: first.passing[TRANSFORMER]},
        on_host=first.on_host + more * each.on_host,
    )


def working_bytes(stylizer: Stylizer, settings: Settings) -> int:
    """What a session takes beside weights and cache."""
    model = replace(Model.of(stylizer), recipe=settings.recipe)
    taken = counted(model, settings.size, Savings.of(stylizer))
    return taken.kept + max(taken.passing.values())


@lru_cache(maxsize=1024)
def _apart(model: Model, size: Size, savings: Savings, chunks: int) -> tuple[Footprint, Footprint]:
    return measured(model, size, savings, torch.device("meta"), chunks)


@plain_tensors
def measured(
    model: Model, size: Size, savings: Savings, device: torch.device, chunks: int = 2
) -> tuple[Footprint, Footprint]:
    """What a session of this very model takes in the last of some chunks, and of that what each
    block does: on the meta device without numbers, on the CPU with real work."""
    with nullcontext() if device.type == "cpu" else Fused(), Heights() as ledger:
        stylizer = imagined(model, savings, device, ledger.begin)
        session = steady(stylizer, size, ledger, chunks)
        transformer, vae = stylizer.parts.transformer, stylizer.parts.vae
        at_rest = nn.Module.children(transformer.blocks)  # type: ignore[arg-type]
        blocks = bytes_of(w for block in at_rest for w in block.parameters())
        weights = bytes_of([*transformer.parameters(), *vae.parameters()])
        contexts = [memory.context for memory in session.flight.past.memories]
        context = bytes_of(t for pairs in contexts for pair in pairs for t in pair)
        cache, layers, now = session.flight.past.nbytes, transformer.config.layers, ledger.now
    on_host = blocks if savings.offload else 0
    whole = Footprint(
        weights=weights - on_host,
        cache=cache,
        kept=now - weights - cache,
        passing={phase: peak - now for phase, peak in ledger.heights.items()},
        on_host=on_host,
    )
    each = Footprint(
        weights=(blocks - on_host) // layers,
        cache=cache // layers,
        kept=context // layers,
        passing={},
        on_host=on_host // layers,
    )
    return whole, each


class Heights(Ledger):
    """A ledger of the peak of each phase."""

    def __init__(self):
        super().__init__()
        self.heights: dict[str, int] = {}

    def begin(self, phase: str) -> None:
        before = self.phase
        self.heights[before] = max(self.peak, self.heights.get(before, 0))
        super().begin(phase)
        self.start_over()


def steady(stylizer: Stylizer, size: Size, ledger: Heights, chunks: int) -> Session:
    """A session whose window is full, after some chunks of which the last one is looked at."""
    config = stylizer.parts.transformer.config
    settings = Settings(size=size, recipe=stylizer.recipe, cache=stylizer.cache)
    session = Session(stylizer.parts, settings, stylizer.watch)
    session.begin(Style(embedding=torch.zeros(config.text_rows, config.text_dim)))
    for memory in session.flight.past.memories:
        for bank in memory.banks if isinstance(memory, KVBanks) else [memory]:
            bank.segments = full(bank.segments, with_reference=config.adapter_dim > 0)
    for _ in range(chunks):
        frames = torch.zeros(session.frames_to_chunk, *size, 3, dtype=torch.uint8)
        ledger.begin(ENCODER)
        ledger.heights.clear()
        for _ in session.push(frames):
            ledger.begin(TRANSFORMER)  # which makes the chunk past
        ledger.begin("")
    return session


def full(segments: Segments, with_reference: bool) -> Segments:
    """All the past that there can be, its keys and values not there yet."""
    config = segments.config
    reference = [Frame(-1, True)] if with_reference else []
    anchor = [] if reference else [Frame(index, True) for index in range(config.anchor)]
    window = [Frame(len(anchor) + index, False) for index in range(config.window or 0)]
    past = (*reference, *anchor, *window)
    return replace(segments, slots=past, next_index=len(anchor) + len(window))


# ---- networks without numbers ----


class DrawnOnCpu(Parts):
    """Parts that may be on the meta device, where no noise can be drawn."""

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")


def imagined(
    model: Model, savings: Savings, device: torch.device, begin: Callable[[str], None]
) -> Stylizer:
    """A stylizer of nothing but zeros, that tells `begin` which network is at work."""
    transformer = zeros(model.transformer, savings.dtype, device)
    if savings.weights == "fp8":
        transformer = in_fp8(transformer)
    if savings.offload:
        transformer = offloaded(transformer, device)
    vae = imagined_vae(model, savings, device)
    parts = DrawnOnCpu(
        transformer=transformer, vae=vae, text=None, recipe=model.recipe, name=model.name
    )
    stylizer = Stylizer(parts=parts, recipe=model.recipe, cache=savings.cache)
    stylizer = stylizer.tiled() if savings.tiled else stylizer
    told = replace(stylizer.parts, vae=ToldVae(stylizer.parts.vae, begin))
    return replace(stylizer, parts=told, watch=lambda: begin(TRANSFORMER))


def imagined_vae(model: Model, savings: Savings, device: torch.device) -> Vae:
    dtype = model.pixels or savings.dtype
    if model.tiny is None or savings.tiny is None:
        return zeros(model.vae, dtype, device)
    tiny = zeros(model.tiny, dtype, device)
    return tiny if savings.tiny == "both" else paired(zeros(model.vae, dtype, device), tiny)


def zeros(config: TransformerConfig | VaeConfig, dtype: torch.dtype, device: torch.device) -> Any:
    """The network of this config without a thing in it."""
    if isinstance(config, Blank):
        return config
    module: Any = module_on_meta(config)
    meta = module.state_dict().items()
    empty = {name: torch.zeros(w.shape, dtype=dtype, device=device) for name, w in meta}
    module.load_state_dict(empty, assign=True)
    return module.eval().requires_grad_(False)


@dataclass(frozen=True)
class ToldVae(AroundVae):
    """An autoencoder that says when it is at work."""

    begin: Callable[[str], None]

    def encode_group(self, pixels: Tensor, trail: Trail) -> Tensor:
        self.begin(ENCODER)
        return self.vae.encode_group(pixels, trail)

    def decode_latent(self, latent: Tensor, trail: Trail) -> Tensor:
        self.begin(DECODER)
        return self.vae.decode_latent(latent, trail)


def halves(vae: Any) -> tuple[VaeConfig, VaeConfig | None]:
    """What an autoencoder encodes with, and what it decodes with where that is another."""
    if isinstance(vae, TiledVae):
        return halves(vae.vae)
    if isinstance(vae, PairedVae):
        return halves(vae.encodes)[0], halves(vae.decodes)[0]
    return vae.config, None
