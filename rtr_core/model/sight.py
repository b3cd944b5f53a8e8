"""How a chunk looks at what is visible: at all of it alike, at the past with less weight, or within
panes.

Panes (StreamDiT) make attention over large pictures cheaper. The chunk is cut into boxes of so many
latent frames, tokens down and tokens across. A pane sees itself, of the past what stands in the
same place, and all of a reference: that is another scene, and shows its style wherever it does. In
every second layer the cuts are moved by half a pane, so that what one layer parts the next joins.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise, product
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor

from ..shapes import Size
from .attention import attend
from .segments import Segments

Pane = tuple[slice, slice, slice]  # latent frames, rows and columns


class Sight(NamedTuple):
    """How keys that are visible are attended."""

    grid: Size
    panes: Sequence[int] | None
    bias: Tensor | None  # of each key, added to its score
    shown: Sequence[int] = ()  # latent frames of a reference, by their slots

    @classmethod
    def of(cls, segments: Segments, grid: Size, device: torch.device) -> "Sight":
        """That of the chunk at hand."""
        bias = None
        if any(weight != 1 for weight in segments.weights):  # it scales what scores are powers of
            each = torch.tensor(segments.weights, device=device).log()
            bias = each.repeat_interleave(grid.area)
        shown = [slot for slot, frame in enumerate(segments.slots) if frame.index < 0]
        return cls(grid, segments.config.panes, bias, shown)

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention of the chunk `q`; `k` and `v` are of the past and after it the chunk."""
        if self.panes is None:
            return attend(q, k, v, self.bias)
        q, k, v = (self._in_space(x) for x in (q, k, v))
        bias = None if self.bias is None else self._in_space(self.bias[None, :, None, None])
        past, out = k.shape[1] - q.shape[1], torch.empty_like(q)
        for panes in alike(panes_of(q.shape[1], self.grid, self.panes, layer)):
            queries = torch.cat(
                [q[:, time, down, across].flatten(1, 3) for time, down, across in panes]
            )
            keys, values = (torch.cat([self._seen(x, past, p) for p in panes]) for x in (k, v))
            of_keys = None if bias is None else self._seen(bias, past, panes[0]).flatten()
            looked = attend(queries, keys, values, of_keys).chunk(len(panes))
            for (time, down, across), pane in zip(panes, looked, strict=True):
                there = out[:, time, down, across]
                there.copy_(pane.view(there.shape))
        return out.flatten(1, 3)

    def _seen(self, x: Tensor, past: int, pane: Pane) -> Tensor:
        """Of keys or values `[b t h w n d]` what a pane sees `[b l n d]`."""
        time, down, across = pane
        there = [slot for slot in range(past) if slot not in self.shown]
        there += range(past + time.start, past + time.stop)
        near = x[:, there, down, across].flatten(1, 3)
        if not self.shown:
            return near
        return torch.cat([x[:, list(self.shown)].flatten(1, 3), near], dim=1)

    def _in_space(self, x: Tensor) -> Tensor:
        return rearrange(x, "b (t h w) n d -> b t h w n d", h=self.grid.height, w=self.grid.width)


def panes_of(frames: int, grid: Size, panes: Sequence[int], layer: int) -> Iterator[Pane]:
    """The panes of a chunk of so many latent frames."""
    time, down, across = (
        cuts(length, pane, layer) for length, pane in zip((frames, *grid), panes, strict=True)
    )
    return product(time, down, across)


def alike(panes: Iterator[Pane]) -> list[list[Pane]]:
    """Panes of the same size side by side: one call does them all."""
    groups: dict[tuple[int, ...], list[Pane]] = {}
    for pane in panes:
        groups.setdefault(tuple(cut.stop - cut.start for cut in pane), []).append(pane)
    return list(groups.values())


def cuts(length: int, pane: int, layer: int) -> list[slice]:
    """An axis in panes; in odd layers moved by half of one, where the first and last are short."""
    first = pane // 2 if layer % 2 and 1 < pane < length else pane
    return [slice(a, b) for a, b in pairwise([0, *range(first, length, pane), length])]
