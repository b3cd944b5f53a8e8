"""One pass on several ranks: tokens are split among them, and within attention heads (Ulysses).

    model = by_heads(model)             # the same on every rank

Each rank works on its tokens of every latent frame. Before attention they are exchanged, so that a
rank has all tokens of its own heads, and the keys and values it keeps are those of its heads only;
behind attention they go back. Tokens that do not divide by the ranks are filled up with zeros,
which no head ever sees. Heads that do not divide are refused: a rank with fewer of them would wait
for the others in each layer, and most numbers of ranks that people have do divide.
"""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.distributed as dist
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import RankError
from ..model.attention import Context, Memory
from ..model.offload import HostBlocks
from ..model.transformer import Block, Transformer
from ..ranks import count, number
from .telling import as_sent, named


def by_heads(model: Transformer) -> Transformer:
    """A twin over the same weights, whose passes all ranks make together."""
    heads, ranks = model.config.heads, count()
    if heads % ranks:
        fit = [str(n) for n in range(2, heads + 1) if heads % n == 0]
        raise RankError(
            f"{heads} heads cannot be shared by {ranks} ranks evenly: take {', '.join(fit)} ranks."
        )
    if isinstance(model.blocks, HostBlocks):
        raise RankError("Blocks that stay in host memory cannot be split: leave --offload out.")
    twin = copy.copy(model)
    blocks = SplitBlocks(model.get_submodule("blocks").children())
    twin._modules = {**model._modules, "blocks": blocks}
    return twin


class SplitBlocks(nn.ModuleList):
    """A transformer's blocks. To go through them is to make one pass with all ranks."""

    def __iter__(self) -> Iterator[Any]:
        walk, blocks = Walk(), list(self.children())
        for n, block in enumerate(blocks):
            assert isinstance(block, Block), "a transformer has no others"
            yield Share(block, walk, is_first=n == 0, is_last=n + 1 == len(blocks))


class Share:
    """What this rank does of one block."""

    def __init__(self, block: Block, walk: "Walk", is_first: bool, is_last: bool):
        self.block, self.walk, self.is_first, self.is_last = block, walk, is_first, is_last
        self.encode_context = block.encode_context  # of text every rank has all

    def __call__(self, x: Tensor, modulation: Tensor, memory: Memory, layer: int) -> Tensor:
        mine = self.walk.cut(x) if self.is_first else x
        out = self.block(mine, modulation, Exchanged(memory, self.walk), layer)
        return self.walk.joined(out) if self.is_last else out

    def keys_and_values(self, x: Tensor, modulation: Tensor) -> tuple[Tensor, Tensor]:
        """Those of this rank's heads."""
        mine = self.walk.cut(x) if self.is_first else x
        pair = torch.cat(self.block.keys_and_values(mine, modulation), -1)
        k, v = self.walk.to_heads(pair).chunk(2, -1)
        return k, v


class Exchanged:
    """A memory, as a block sees it that has some of the tokens."""

    def __init__(self, memory: Memory, walk: "Walk"):
        self.memory, self.walk = memory, walk

    @property
    def context(self) -> Context:
        return self.memory.context

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = self.walk.to_heads(torch.cat([q, k, v], -1)).chunk(3, -1)
        return self.walk.to_tokens(self.memory.attend(layer, q, k, v))


class Walk:
    """One pass through the blocks: how many tokens a latent frame has in it, `n`, and a rank."""

    def __init__(self):
        self.ranks, self.tokens, self.share = count(), 0, 0

    def cut(self, x: Tensor) -> Tensor:
        """This rank's tokens of `x` `[b t n d]`."""
        self.tokens, self.share = x.shape[2], -(-x.shape[2] // self.ranks)
        return self._filled(x).unflatten(2, (self.ranks, self.share))[:, :, number()]

    def joined(self, x: Tensor) -> Tensor:
        """All ranks' tokens `[b t n d]`."""
        return rearrange(of_all(x), "r b t n d -> b t (r n) d")[:, :, : self.tokens]

    def to_heads(self, x: Tensor) -> Tensor:
        """All tokens of this rank's heads, of this rank's tokens of all heads `[b l h d]`."""
        sent = rearrange(x, "b (t n) (r h) d -> r b t n h d", n=self.share, r=self.ranks)
        whole = rearrange(exchanged(sent), "r b t n h d -> b t (r n) h d")
        return whole[:, :, : self.tokens].flatten(1, 2)

    def to_tokens(self, x: Tensor) -> Tensor:
        """And back."""
        frames = self._filled(x.unflatten(1, (-1, self.tokens)))
        sent = rearrange(frames, "b t (r n) h d -> r b t n h d", r=self.ranks)
        return rearrange(exchanged(sent), "r b t n h d -> b (t n) (r h) d")

    def _filled(self, x: Tensor) -> Tensor:
        """With zeros on its third axis, up to what divides by the ranks."""
        missing = self.ranks * self.share - x.shape[2]
        return F.pad(x, (*(0, 0) * (x.ndim - 3), 0, missing)) if missing else x


def exchanged(x: Tensor) -> Tensor:
    """Of `[r ...]` each rank gets its own part from each other, in the order of ranks."""
    sent = x.contiguous()
    came = torch.empty_like(sent)
    with named("a rank did not come to the exchange of tokens"):
        dist.all_to_all_single(as_sent(came), as_sent(sent))
    return came


def of_all(x: Tensor) -> Tensor:
    """What each rank has, one behind the other."""
    came = x.new_empty(count(), *x.shape)
    with named("a rank did not come to gather tokens"):
        dist.all_gather([as_sent(each) for each in came], as_sent(x))
    return came


def all_heads(tensor: Tensor) -> Tensor:
    """Keys or values `[b l h d]` of all ranks' heads."""
    return rearrange(of_all(tensor), "r b l h d -> b l (r h) d")


def own_heads(tensor: Tensor) -> Tensor:
    return tensor.chunk(count(), dim=2)[number()].clone()


def of_keys(state: dict[str, Tensor], change: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    """A snapshot of a past with its keys and values changed."""
    kept = {"keys", "values"}
    return {name: change(t) if kept & set(name.split(".")[:-1]) else t for name, t in state.items()}
