"""Attention, and what a transformer asks of the memory it runs under."""

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor
from torch.nn import functional as F

Context = Sequence[tuple[Tensor, Tensor]]  # keys and values of the encoded text, one per layer


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """Every query sees every key. All `[b l h d]`; keys of one row may serve many.

    `bias` `[l]` is added to the score of each key.
    """
    k, v = (t.expand(q.shape[0], -1, -1, -1) for t in (k, v))
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))
    mask = None if bias is None else bias.to(q.dtype).expand(q.shape[2], -1)
    return F.scaled_dot_product_attention(q, k, v, mask).transpose(1, 2)


class Memory(Protocol):
    """Decides which latent frames a chunk sees and where in time each of them stands.

    The transformer knows nothing else about the past: the same forward is a causal step under a
    `KVCache`, a training pass under `ChunkCausal`, and a teacher's under `bidirectional`.
    """

    @property
    def context(self) -> Context: ...

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Self-attention of the tokens at hand. `q`, `k`, `v` are not rotated yet."""
        ...


class KeepsPast(Memory, Protocol):
    """A memory that a chunk can be put into."""

    def extend(self, layer: int, k: Tensor, v: Tensor) -> object: ...
