"""The built-in text encoder of small models: words as bags of hashed letter groups.

A word is the mean of the embeddings of its letter groups and of itself whole, so that a form never
seen in training ("cartoony") lands near one that was ("cartoon"). One or two transformer layers
let the words see each other. Half a million parameters, trained together with the stylizer.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..errors import WeightsError
from .text import cleaned, cut, fingerprint

HEAD_DIM = 32
GROUP_LETTERS = (3, 4, 5)
END = 0  # the bucket of the token that closes every prompt; words are hashed into the others


@dataclass(frozen=True, kw_only=True)
class WordEncoderConfig:
    rows: int = 32  # words a prompt can have, and one for its end
    dim: int = 128
    buckets: int = 3072  # embeddings shared by all letter groups and words
    layers: int = 1
    ffn_dim: int = 256

    def __post_init__(self):
        if self.rows < 2 or self.buckets < 2 or self.layers < 1:
            raise ValueError(f"A word encoder needs 2 rows, 2 buckets and 1 layer, not {self}")
        if self.dim % HEAD_DIM:
            raise ValueError(f"dim must be a multiple of {HEAD_DIM}, got {self.dim}")


class WordBlock(nn.Module):
    """Attention among the words of a prompt, then a feed-forward layer."""

    def __init__(self, dim: int, ffn_dim: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim)
        self.ffn = nn.Sequential(nn.Linear(dim, ffn_dim), nn.GELU(), nn.Linear(ffn_dim, dim))

    def forward(self, x: Tensor, is_real: Tensor) -> Tensor:
        qkv = self.qkv(self.norm1(x))
        q, k, v = rearrange(qkv, "b l (three h d) -> three b h l d", three=3, d=HEAD_DIM)
        seen = F.scaled_dot_product_attention(q, k, v, attn_mask=is_real[:, None, None, :])
        x = x + self.out(rearrange(seen, "b h l d -> b l (h d)"))
        return x + self.ffn(self.norm2(x))


class WordEncoder(nn.Module):
    """A prompt encoder: one row for each word and one for the end, then zero rows."""

    def __init__(self, config: WordEncoderConfig | None = None):
        super().__init__()
        self.config = config or WordEncoderConfig()
        self.rows, self.dim = self.config.rows, self.config.dim
        self.buckets = nn.Embedding(self.config.buckets, self.dim)
        self.word_norm = nn.LayerNorm(self.dim)
        self.position = nn.Parameter(0.1 * torch.randn(self.rows, self.dim))
        self.blocks = nn.ModuleList(
            WordBlock(self.dim, self.config.ffn_dim) for _ in range(self.config.layers)
        )
        self.norm = nn.LayerNorm(self.dim)

    def tokens(self, prompt: str) -> list[list[int]]:
        """For each word the buckets that make it up, and the end."""
        words = cut(re.findall(r"\w+", cleaned(prompt).lower()), self.rows - 1)
        return [*(self._word_buckets(word) for word in words), [END]]

    def forward(self, prompts: Sequence[str]) -> Tensor:
        """Contexts `[b, rows, dim]` with gradient."""
        return self._contexts([self.tokens(prompt) for prompt in prompts])

    def encode(self, prompt: str) -> Tensor:
        with torch.no_grad():
            return self._contexts([self.tokens(prompt)])[0].cpu()

    def fingerprint(self) -> str:
        return fingerprint(self.state_dict(), self.position.device.type)

    def _contexts(self, sentences: Sequence[Sequence[Sequence[int]]]) -> Tensor:
        device = self.position.device
        lengths = torch.tensor([len(sentence) for sentence in sentences], device=device)
        is_real = torch.arange(self.rows, device=device) < lengths[:, None]
        words = self._embed([word for sentence in sentences for word in sentence])
        x = words.new_zeros(*is_real.shape, self.dim).masked_scatter(is_real[..., None], words)
        x = x + self.position
        for block in self.blocks:
            x = block(x, is_real)
        return self.norm(x).masked_fill(~is_real[..., None], 0)

    def _embed(self, words: Sequence[Sequence[int]]) -> Tensor:
        """Each word, the mean of its buckets: `[words, dim]`."""
        device = self.position.device
        buckets = torch.tensor([bucket for word in words for bucket in word], device=device)
        ends = list(accumulate(map(len, words)))
        starts = torch.tensor([0, *ends[:-1]], device=device)
        return self.word_norm(F.embedding_bag(buckets, self.buckets.weight, starts, mode="mean"))

    def _word_buckets(self, word: str) -> list[int]:
        bounded = f"<{word}>"
        groups = {
            bounded[start : start + letters]
            for letters in GROUP_LETTERS
            for start in range(len(bounded) - letters + 1)
        }
        return sorted(self._bucket(group) for group in groups | {bounded})

    def _bucket(self, text: str) -> int:
        """A hash that is the same in every process and on every machine."""
        digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
        return 1 + int.from_bytes(digest, "big") % (self.config.buckets - 1)


def infer(shapes: Mapping[str, Sequence[int]]) -> WordEncoderConfig:
    """The config of a word encoder, from the shapes in its state dict."""
    try:
        rows, dim = shapes["position"]
        return WordEncoderConfig(
            rows=rows,
            dim=dim,
            buckets=shapes["buckets.weight"][0],
            layers=sum(key.endswith(".qkv.weight") for key in shapes),
            ffn_dim=shapes["blocks.0.ffn.0.weight"][0],
        )
    except KeyError as error:
        raise WeightsError(
            f"These are not the weights of a word encoder: {error} is missing. Expected are the "
            f"names that WordEncoder.state_dict() gives."
        ) from error
