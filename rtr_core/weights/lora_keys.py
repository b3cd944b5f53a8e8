"""Keys of LoRA files: every way to write `prefix | layer | piece`, taken apart.

    diffusion_model.blocks.0.self_attn.q.lora_A.weight          ComfyUI and most trainers
    lora_unet_blocks_0_self_attn_q.lora_down.weight             kohya, musubi; Wan-Fun with __
    transformer.blocks.0.attn1.to_q.lora_A.default.weight       diffusers
    generator_lora.base_model.model.blocks.0.self_attn.q.lora_A.weight         PEFT in a checkpoint

What stands before the layer is of no meaning but one: training checkpoints hold a judge's LoRA too.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from ..errors import WeightsError
from .layouts import DIFFUSERS_BLOCK, DIFFUSERS_OUTER, FRAGMENTS, choose, wan_name

Piece = Literal["down", "up", "up bias", "alpha", "weight", "bias", "modulation"]

PIECES: tuple[tuple[re.Pattern[str], Piece], ...] = (
    (re.compile(r"[._]lora(?:_linear_layer)?[._](?:A|down)(?:\.[^.]+)?(?:\.weight)?$"), "down"),
    (re.compile(r"[._]lora(?:_linear_layer)?[._](?:B|up)(?:\.[^.]+)?\.bias$"), "up bias"),
    (re.compile(r"[._]lora(?:_linear_layer)?[._](?:B|up)(?:\.[^.]+)?(?:\.weight)?$"), "up"),
    (re.compile(r"\.alpha$"), "alpha"),
    (re.compile(r"\.diff$"), "weight"),
    (re.compile(r"\.diff_b$"), "bias"),
    (re.compile(r"\.diff_m$"), "modulation"),
)
REFUSED = {  # other ways to write a change down
    re.compile(r"\.hada_"): "LoHa",
    re.compile(r"\.lokr_"): "LoKr",
    re.compile(r"\.(dora_scale|lora_magnitude_vector)\b"): "DoRA",
    re.compile(r"\.b?oft_"): "OFT",
    re.compile(r"\.lora_mid\b"): "LoCon with a middle layer (Tucker)",
}
FLAT = re.compile(r"(lora_unet_{1,2}|lycoris_)(.+)")
FLAT_BLOCK = re.compile(r"blocks_(\d+)_(.+)")
OUTER = (
    *("patch_embedding", "text_embedding", "time_embedding", "time_projection", "head"),
    *("condition_embedder", "proj_out", "scale_shift_table", "reference_adapter"),
)
DOTTED = re.compile(rf"((?:[^.]+\.)*?)((?:blocks\.\d+|{'|'.join(OUTER)})(?:\..+)?)")
DIFFUSERS = re.compile(r"\.(attn[12]|ffn\.net)\.|^(condition_embedder|proj_out|scale_shift_table)")
BLOCK_LAYERS = {*DIFFUSERS_BLOCK, *DIFFUSERS_BLOCK.values()}
OUTER_LAYERS = {
    *DIFFUSERS_OUTER,
    *DIFFUSERS_OUTER.values(),
    *("head", "patch_embedding", "reference_adapter.patch_embedding"),
    *(f"reference_adapter.{name}" for name in ("gate", "up", "down")),
}
UNFLAT = {name.replace(".", "_"): name for name in (*BLOCK_LAYERS, *OUTER_LAYERS)}
NAMINGS = {  # what a prefix tells of who wrote the file, the first that fits
    "lora_unet__": "Wan-Fun",
    "lora_unet_": "kohya",
    "lycoris_": "LyCORIS",
    "base_model.model.": "PEFT",
    "pipe.dit.": "DiffSynth",
    "diffusion_model.": "ComfyUI",
    "transformer.": "diffusers",
}


class Key(NamedTuple):
    """A key of a file, taken apart. The layer is named as the file names it, with dots."""

    prefix: str
    layer: str
    piece: Piece


@dataclass(frozen=True, kw_only=True)
class LoraLayout:
    """Where in a file the pieces of a LoRA are."""

    prefix: str
    naming: str  # of who wrote it
    pieces: Mapping[str, Mapping[Piece, str]]  # layer, by its original Wan name -> keys
    called: Mapping[str, str]  # layer -> as the file calls it
    strange: tuple[str, ...]  # keys that are no piece of a layer
    passed_over: tuple[str, ...] = ()  # prefixes of other LoRAs

    @property
    def keys(self) -> int:
        return sum(map(len, self.pieces.values())) + len(self.strange)


def is_lora(keys: Iterable[str]) -> bool:
    """Whether a file with these keys changes a model and is none itself."""
    return any(piece_of(key)[1] not in (None, "alpha") or refused(key) for key in keys)


def find_lora(keys: Iterable[str]) -> LoraLayout:
    """The LoRA of a transformer among these keys."""
    parsed = {key: parse(key) for key in keys}
    for key in parsed:
        if kind := refused(key):
            raise WeightsError(
                f"It is a {kind} ({key!r}), which cannot be used here: choose a plain LoRA, or "
                f"merge it into its model with the program it comes from."
            )
    found = {key: apart for key, apart in parsed.items() if apart}
    prefixes = list(dict.fromkeys(apart.prefix for apart in found.values()))
    taken = _taken(found.values(), prefixes)
    as_diffusers = any(DIFFUSERS.search(apart.layer) for apart in found.values())
    pieces: dict[str, dict[Piece, str]] = {}
    called: dict[str, str] = {}
    for key, apart in found.items():
        if apart.prefix in taken:
            layer = wan_name(apart.layer) if as_diffusers else apart.layer
            pieces.setdefault(layer, {})[apart.piece] = key
            called[layer] = apart.layer
    prefix = next(iter(taken), "")
    return LoraLayout(
        prefix=prefix,
        naming=next((name for mark, name in NAMINGS.items() if mark in prefix), "bare"),
        pieces=pieces,
        called=called,
        strange=tuple(key for key, apart in parsed.items() if apart is None),
        passed_over=tuple(other for other in prefixes if other not in taken),
    )


def parse(key: str) -> Key | None:
    """A key taken apart, None where it names no piece of a Wan layer."""
    rest, piece = piece_of(key)
    if piece is None:
        return None
    if flat := FLAT.fullmatch(rest):
        return Key(flat[1], _unflat(flat[2]), piece)
    plain = ".".join(part for part in rest.split(".") if part not in FRAGMENTS)
    dotted = DOTTED.fullmatch(plain)
    return Key(dotted[1], dotted[2], piece) if dotted else None


def piece_of(key: str) -> tuple[str, Piece | None]:
    """What a key names a piece of, and which."""
    for pattern, piece in PIECES:
        if end := pattern.search(key):
            return key[: end.start()], piece
    return key, None


def refused(key: str) -> str:
    """The name of a way to write changes that is not read here; empty where it is none."""
    return next((kind for mark, kind in REFUSED.items() if mark.search(key)), "")


def _unflat(layer: str) -> str:
    """A layer's name with its dots; one that is not known stays flat, and matches nothing."""
    if block := FLAT_BLOCK.fullmatch(layer):
        return f"blocks.{block[1]}.{UNFLAT.get(block[2], block[2])}"
    return UNFLAT.get(layer, layer)


def _taken(found: Iterable[Key], prefixes: list[str]) -> list[str]:
    """All prefixes, unless two of them name the same pieces: then it is one of those."""
    places = [(apart.layer, apart.piece) for apart in found]
    return prefixes if len(set(places)) == len(places) else [choose(prefixes)]
