"""Layouts: what surrounds and renames the tensors of one network in the files people have.

A name is taken apart as `prefix | name`, with the fragments that FSDP, compile and checkpointing
leave anywhere inside it. Canonical names are those of the original Wan release; a `Layout` says
where in the file each of them is. Renames are tables; everything that is not in one keeps its name.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from torch import Tensor

from ..errors import WeightsError
from . import text_keys, vae_keys

Role = Literal["transformer", "vae", "text"]
ROLES: tuple[Role, ...] = ("transformer", "vae", "text")
Rename = Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]

FRAGMENTS = {"_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_orig_mod", "module"}
AVERAGED = re.compile(r"(^|[._])ema([._]|$)")
JUDGES = re.compile(r"^(critic|discriminator|real_score|fake_score)(_lora)?\.")

DIFFUSERS_OUTER = {
    "condition_embedder.time_embedder.linear_1": "time_embedding.0",
    "condition_embedder.time_embedder.linear_2": "time_embedding.2",
    "condition_embedder.text_embedder.linear_1": "text_embedding.0",
    "condition_embedder.text_embedder.linear_2": "text_embedding.2",
    "condition_embedder.time_proj": "time_projection.1",
    "proj_out": "head.head",
    "scale_shift_table": "head.modulation",
}
DIFFUSERS_BLOCK = {
    "norm2": "norm3",  # the one before cross-attention, third in Wan's count
    "norm3": "norm2",
    "attn1.to_q": "self_attn.q",
    "attn1.to_k": "self_attn.k",
    "attn1.to_v": "self_attn.v",
    "attn1.to_out.0": "self_attn.o",
    "attn1.norm_q": "self_attn.norm_q",
    "attn1.norm_k": "self_attn.norm_k",
    "attn2.to_q": "cross_attn.q",
    "attn2.to_k": "cross_attn.k",
    "attn2.to_v": "cross_attn.v",
    "attn2.to_out.0": "cross_attn.o",
    "attn2.norm_q": "cross_attn.norm_q",
    "attn2.norm_k": "cross_attn.norm_k",
    "ffn.net.0.proj": "ffn.0",
    "ffn.net.2": "ffn.2",
    "scale_shift_table": "modulation",
}
BLOCK = re.compile(r"(blocks\.\d+)\.(.+)")


def wan_name(name: str) -> str:
    """The original Wan name of a transformer tensor that diffusers calls `name`."""
    block = BLOCK.fullmatch(name)
    if block is None:
        return _by_table(name, DIFFUSERS_OUTER)
    return f"{block[1]}.{_by_table(block[2], DIFFUSERS_BLOCK)}"


def _by_table(name: str, table: Mapping[str, str]) -> str:
    """`name`, or the layer it belongs to, looked up."""
    layer, dot, parameter = name.rpartition(".")
    return table[name] if name in table else table.get(layer, layer) + dot + parameter


def transformer_from_diffusers(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {wan_name(name): tensor for name, tensor in tensors.items()}


class Naming(NamedTuple):
    """How one family of files calls the tensors of one network."""

    role: Role
    family: str
    name: str
    marks: tuple[str, ...]  # any of these tells it
    rename: Rename
    beside: tuple[str, ...] = ()  # what belongs to it wherever it stands


NAMINGS = (
    Naming(
        "transformer",
        "wan",
        "diffusers",
        ("condition_embedder.time_proj.weight", "condition_embedder.time_proj.bias"),
        transformer_from_diffusers,
    ),
    Naming("transformer", "wan", "wan", ("head.modulation", "blocks.0.self_attn.q.weight"), dict),
    Naming("vae", "wan", "wan", ("decoder.middle.0.residual.0.gamma",), dict),
    Naming(
        "vae",
        "wan",
        "diffusers",
        ("decoder.mid_block.resnets.0.norm1.gamma",),
        vae_keys.from_diffusers,
    ),
    Naming("vae", "tiny", "taehv", ("decoder.3.conv.0.weight",), dict),
    Naming("text", "words", "rtr", ("word_norm.weight",), dict),
    Naming(
        "text",
        "umt5",
        "transformers",
        ("encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight",),
        text_keys.canonical,
        (text_keys.TOKENIZER,),
    ),
    Naming(
        "text",
        "umt5",
        "wan",
        ("blocks.0.pos_embedding.embedding.weight",),
        text_keys.canonical,
        (text_keys.TOKENIZER,),
    ),
)


@dataclass(frozen=True)
class Layout:
    """Where in a file one network's tensors are."""

    role: Role
    family: str  # wan | tiny | words | umt5
    naming: str
    prefix: str
    names: Mapping[str, str]  # canonical -> in the file
    passed_over: tuple[str, ...] = ()  # prefixes of other networks of this role


def find_layout(role: Role, meta: Mapping[str, Tensor], ema: bool | None = None) -> Layout | None:
    """The network of this role among the tensors, None where there is none.

    Training checkpoints hold it twice. The averaged one (`ema`) is taken unless told otherwise:
    it is what the public checkpoints are meant to be run with.
    """
    plain = {_without_fragments(name): name for name in meta}
    naming_of: dict[str, Naming] = {}
    for naming in NAMINGS:
        if naming.role == role:
            for prefix in _prefixes(plain, naming.marks):
                naming_of.setdefault(prefix, naming)
    if not naming_of:
        return None
    prefix = choose(list(naming_of), ema)
    naming = naming_of[prefix]
    inside = {n.removeprefix(prefix): file for n, file in plain.items() if n.startswith(prefix)}
    inside |= {leaf: file for n, file in plain.items() if (leaf := _leaf(n)) in naming.beside}
    old_names = _trace(naming.rename, {name: meta[file] for name, file in inside.items()})
    names = {canonical: inside[name] for canonical, name in old_names.items()}
    others = tuple(other for other in naming_of if other != prefix)
    return Layout(role, naming.family, naming.name, prefix, names, others)


def _leaf(name: str) -> str:
    return name.rpartition(".")[2]


def _without_fragments(name: str) -> str:
    """A fragment in front stays: it is a prefix like any other."""
    first, *rest = name.split(".")
    return ".".join([first, *(part for part in rest if part not in FRAGMENTS)])


def _prefixes(names: Iterable[str], marks: tuple[str, ...]) -> list[str]:
    """What stands before a mark; nothing, or whole words and a dot."""
    found = [name.removesuffix(mark) for name in names for mark in marks if name.endswith(mark)]
    return [prefix for prefix in dict.fromkeys(found) if not prefix or prefix.endswith(".")]


def choose(prefixes: list[str], ema: bool | None = None) -> str:
    """The network that is meant where a file holds several."""
    averaged = [prefix for prefix in prefixes if AVERAGED.search(prefix)]
    if ema and not averaged:
        raise WeightsError(
            f"No averaged (EMA) weights are in it, only {_spelled(prefixes)}. Leave `ema` out."
        )
    last = [prefix for prefix in prefixes if prefix not in averaged]
    if ema is False and not last:
        raise WeightsError(
            f"Only averaged (EMA) weights are in it: {_spelled(prefixes)}. Leave `ema` out."
        )
    candidates = averaged if averaged and ema is not False else last
    candidates = [prefix for prefix in candidates if not JUDGES.search(prefix)] or candidates
    if len(candidates) > 1:
        raise WeightsError(
            f"It holds several networks of one kind: {_spelled(candidates)}. Save the one you want "
            f"in a file of its own."
        )
    return candidates[0]


def _spelled(prefixes: Iterable[str]) -> str:
    return ", ".join(repr(prefix) for prefix in prefixes)


def _trace(rename: Rename, meta: Mapping[str, Tensor]) -> dict[str, str]:
    """New name -> old name, of a renaming that hands tensors on as they are."""
    old = {id(tensor): name for name, tensor in meta.items()}
    return {new: old[id(tensor)] for new, tensor in rename(meta).items()}
