"""umT5, the text encoder of Wan: transformers' module with the weights people have.

Tensors come under canonical names (see weights/text_keys.py). Weights stay in memory as narrow as
they come, however wide it computes: of the 5.7 billion in the xxl size 4.6 are in linear layers,
9.3 GB in bf16 and half that in fp8.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import UMT5Config, UMT5EncoderModel

from ..errors import WeightsError
from .text import cleaned, cut, fingerprint, padded
from .tokenizer import Tokenizer, find_tokenizer, read_tokenizer

TEXT_ROWS = 512  # Wan's text length


class NarrowLinear(nn.Module):
    """A linear layer (no bias) whose weight is widened for one call at a time."""

    weight = None  # transformers casts the input of `wo` to the dtype of a weight it can see
    stored: Tensor

    def __init__(self, linear: nn.Linear, dtype: torch.dtype, scale: float):
        super().__init__()
        self.register_buffer("stored", torch.empty_like(linear.weight, dtype=dtype))
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        wide = self.stored.to(x.dtype)
        return F.linear(x, wide if self.scale == 1.0 else wide * self.scale)


class NarrowEmbedding(nn.Embedding):
    """An embedding of which only the rows asked for are widened."""

    def __init__(self, embedding: nn.Embedding, dtype: torch.dtype):
        super().__init__(embedding.num_embeddings, embedding.embedding_dim, device="meta")
        self.wide = dtype

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input).to(self.wide)


class UMT5(nn.Module):
    """A prompt encoder: tokens through umT5, then zero rows up to `rows`."""

    def __init__(self, transformer: UMT5EncoderModel, tokenizer: Tokenizer, rows: int = TEXT_ROWS):
        super().__init__()
        self.transformer = transformer
        self.tokenizer = tokenizer
        self.rows = rows
        self.dim = transformer.config.d_model

    def tokens(self, prompt: str) -> list[int]:
        return [*cut(self.tokenizer.ids(cleaned(prompt)), self.rows - 1), self.tokenizer.end]

    def encode(self, prompt: str) -> Tensor:
        tokens = torch.tensor([self.tokens(prompt)], device=self._embedding.device)
        with torch.no_grad():
            hidden = self.transformer(input_ids=tokens).last_hidden_state[0]
        return padded(hidden.cpu(), self.rows)

    def fingerprint(self) -> str:
        scales = [str(layer.scale) for layer in self.modules() if isinstance(layer, NarrowLinear)]
        facts = (self.tokenizer.digest, str(self.rows), self._embedding.device.type, *scales)
        return fingerprint(self.transformer.state_dict(), *facts)

    @property
    def _embedding(self) -> Tensor:
        return self.transformer.shared.weight


def load(
    tensors: Mapping[str, Tensor],
    file: Path,
    *,
    tokenizer: Path | None = None,
    rows: int = TEXT_ROWS,
    dtype: torch.dtype = torch.bfloat16,
) -> UMT5:
    """The encoder in canonical `tensors`, computing in `dtype`; `file` is where they come from.

    The tokenizer is the one at `tokenizer`, else the one among the tensors, else one next to file.
    """
    weights = dict(tensors)
    pieces = weights.pop("spiece_model", None)
    if pieces is not None and tokenizer is None:
        found = read_tokenizer(pieces.cpu().numpy().tobytes(), file)
    else:
        found = find_tokenizer(file, tokenizer)
    config = infer(weights, file)
    if not config.vocab_size // 2 < found.size <= config.vocab_size:
        raise WeightsError(
            f"The tokenizer for {file.name} knows {found.size} tokens, the weights know "
            f"{config.vocab_size}: it belongs to another model. Use that of google/umt5-xxl."
        )
    return UMT5(_transformer(config, weights, file, dtype), found, rows)


def infer(tensors: Mapping[str, Tensor], file: Path) -> UMT5Config:
    """The size of a umT5, read from the shapes of its canonical tensors."""
    block = "encoder.block.0.layer"
    try:
        vocab_size, dim = tensors["shared.weight"].shape
        buckets, heads = tensors[f"{block}.0.SelfAttention.relative_attention_bias.weight"].shape
        inner = len(tensors[f"{block}.0.SelfAttention.q.weight"])
        ffn_dim = len(tensors[f"{block}.1.DenseReluDense.wi_0.weight"])
    except KeyError as error:
        raise _unfit(file, f"{error} is missing") from error
    blocks = {match[1] for key in tensors if (match := re.match(r"encoder\.block\.(\d+)\.", key))}
    return UMT5Config(
        vocab_size=vocab_size,
        d_model=dim,
        d_kv=inner // heads,
        d_ff=ffn_dim,
        num_layers=len(blocks),
        num_heads=heads,
        relative_attention_num_buckets=buckets,
        use_cache=False,
    )


def _transformer(
    config: UMT5Config, tensors: Mapping[str, Tensor], file: Path, dtype: torch.dtype
) -> UMT5EncoderModel:
    """The module with the tensors themselves as its weights: nothing is allocated for them."""
    with torch.device("meta"):
        model = UMT5EncoderModel(config)
    linear = {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.Linear)}
    weights = {}
    embedding = NarrowEmbedding(model.shared, dtype)
    for name in ("shared", "encoder.embed_tokens"):
        _replace(model, name, embedding)
    for key in [key for key in tensors if key.endswith(".weight")]:
        name, tensor = key.removesuffix(".weight"), tensors[key]
        scale = _scale(tensors, name, file)
        is_narrow = tensor.dtype.itemsize < dtype.itemsize
        if is_narrow and name in linear:
            _replace(model, name, NarrowLinear(linear[name], tensor.dtype, scale))
            weights[f"{name}.stored"] = tensor
        elif is_narrow and name == "shared" and scale == 1.0:
            weights[key] = tensor
        else:
            weights[key] = tensor.to(dtype) if scale == 1.0 else tensor.to(dtype) * scale
    weights["encoder.embed_tokens.weight"] = weights["shared.weight"]
    try:
        model.load_state_dict(weights, assign=True)
    except RuntimeError as error:
        raise _unfit(file, str(error)) from error
    return model.eval().requires_grad_(False)


def _scale(tensors: Mapping[str, Tensor], name: str, file: Path) -> float:
    """What the weight of a layer is to be multiplied by."""
    weight, scale = tensors[f"{name}.weight"], tensors.get(f"{name}.scale_weight")
    if not weight.is_floating_point() or (scale is not None and scale.numel() != 1):
        raise _unfit(file, f"{name} is quantized in a way that is not known here ({weight.dtype})")
    return 1.0 if scale is None else scale.item()


def _replace(model: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, layer)


def _unfit(file: Path, why: str) -> WeightsError:
    return WeightsError(
        f"{file.name} cannot be loaded as a umT5 text encoder: {why}. It must be a whole encoder "
        f"in bf16, fp16, fp32 or (scaled) fp8; other T5 models do not fit."
    )
