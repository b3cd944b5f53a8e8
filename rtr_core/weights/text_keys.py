"""Names of umT5 tensors: whatever a file calls them, this is where they become canonical.

Canonical are the names of transformers' UMT5EncoderModel, with `shared.weight` for the embedding,
`X.scale_weight` for the scale of an fp8 weight `X.weight`, and `spiece_model` for the tokenizer.
"""

import re
from collections.abc import Callable, Mapping

from torch import Tensor

from ..errors import WeightsError

Rename = Callable[[str], str | None]  # a layer's name in the file to its canonical name

TOKENIZER = "spiece_model"
SCALES = ("scale_weight", "weight_scale")  # the older and the newer name in ComfyUI's files
UNUSED = ("scale_input", "input_scale", "comfy_quant")  # for fp8 arithmetic, which we do not use

HF_MARK = "encoder.block.0.layer.0.SelfAttention.q.weight"
WAN_MARK = "blocks.0.attn.q.weight"

WAN_OUTER = {
    "token_embedding": "shared",
    "norm": "encoder.final_layer_norm",
}
WAN_BLOCK = {
    "norm1": "layer.0.layer_norm",
    "attn.q": "layer.0.SelfAttention.q",
    "attn.k": "layer.0.SelfAttention.k",
    "attn.v": "layer.0.SelfAttention.v",
    "attn.o": "layer.0.SelfAttention.o",
    "pos_embedding.embedding": "layer.0.SelfAttention.relative_attention_bias",
    "norm2": "layer.1.layer_norm",
    "ffn.gate.0": "layer.1.DenseReluDense.wi_0",
    "ffn.fc1": "layer.1.DenseReluDense.wi_1",
    "ffn.fc2": "layer.1.DenseReluDense.wo",
}


def canonical(tensors: Mapping[str, Tensor], file: str = "This file") -> dict[str, Tensor]:
    """The umT5 among the tensors under canonical names; everything else is left out."""
    prefix, rename = _layout(tensors, file)
    renamed = {}
    for key, tensor in tensors.items():
        if key.rpartition(".")[2] == TOKENIZER:
            renamed[TOKENIZER] = tensor
        elif key.startswith(prefix):
            layer, _, leaf = key[len(prefix) :].rpartition(".")
            name = rename(layer)
            if name is not None and leaf not in UNUSED:
                renamed[f"{name}.{SCALES[0] if leaf in SCALES else leaf}"] = tensor
    return renamed


def _layout(tensors: Mapping[str, Tensor], file: str) -> tuple[str, Rename]:
    """The prefix of all names, such as `text_encoders.umt5xxl.transformer.`, and what renames."""
    for mark, rename in ((HF_MARK, _hf_name), (WAN_MARK, _wan_name)):
        for key in tensors:
            if key == mark or key.endswith(f".{mark}"):
                return key.removesuffix(mark), rename
    raise WeightsError(
        f"{file} holds no umT5 text encoder: there is neither {HF_MARK} nor {WAN_MARK} in it. "
        f"Choose a file such as umt5_xxl_fp16.safetensors or models_t5_umt5-xxl-enc-bf16.pth."
    )


def _hf_name(layer: str) -> str | None:
    if layer == "encoder.embed_tokens":
        return "shared"
    return layer if layer.startswith(("shared", "encoder.")) else None


def _wan_name(layer: str) -> str | None:
    block = re.fullmatch(r"blocks\.(\d+)\.(.+)", layer)
    if block is None:
        return WAN_OUTER.get(layer)
    name = WAN_BLOCK.get(block[2])
    return name and f"encoder.block.{block[1]}.{name}"
