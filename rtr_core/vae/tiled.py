"""Less memory for large pictures: an autoencoder that works on overlapping tiles.

Each tile has a trail of its own, kept in the clip's trail under the tile's place, so streams,
snapshots and forks are as without tiles.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from math import ceil

import torch
from torch import Tensor

from ..errors import ShapeError
from ..shapes import Size, as_size
from .causal import Trail, compact, prefixed, under
from .stream import AroundVae, Vae


def tiled(vae: Vae, tile: Size, overlap: int) -> "TiledVae":
    """`vae`, on tiles of at most `tile` pixels that fade into each other over `overlap` pixels."""
    return TiledVae(vae, as_size(tile), overlap)


@dataclass(frozen=True)
class TiledVae(AroundVae):
    """The same autoencoder, tile by tile. A picture that fits into one tile comes out the same."""

    tile: Size  # pixels
    overlap: int  # pixels, at least

    def __post_init__(self):
        for side, step in zip(self.tile, self._cell, strict=True):
            if side % step or self.overlap % step or not 0 <= self.overlap < side:
                raise ShapeError(
                    f"Tiles of {self.tile} that share {self.overlap} pixels do not fit this "
                    f"autoencoder: all must be multiples of {step}, and a tile larger than what "
                    "it shares."
                )

    def encode_group(self, pixels: Tensor, trail: Trail) -> Tensor:
        return self._by_tile(self.vae.encode_group, pixels, trail, self._cell, Size(1, 1))

    def decode_latent(self, latent: Tensor, trail: Trail) -> Tensor:
        return self._by_tile(self.vae.decode_latent, latent, trail, Size(1, 1), self._cell)

    @property
    def _cell(self) -> Size:
        """The pixels that one position of a latent frame covers."""
        return Size(self.stride.height, self.stride.width)

    def _by_tile(
        self,
        step: Callable[[Tensor, Trail], Tensor],
        x: Tensor,
        trail: Trail,
        taken: Size,  # what a latent position covers in x
        given: Size,  # and in the result
    ) -> Tensor:
        height, width = x.shape[-2] // taken.height, x.shape[-1] // taken.width
        canvas = Canvas(
            Size(height * given.height, width * given.width),
            Size(*(self.overlap // cell * to for cell, to in zip(self._cell, given, strict=True))),
        )
        for rows, columns in product(
            spans(height, self.tile.height // self._cell.height, self.overlap // self._cell.height),
            spans(width, self.tile.width // self._cell.width, self.overlap // self._cell.width),
        ):
            prefix = f"tile {rows.start},{columns.start}: "
            own = under(prefix, trail)
            for name in own:  # each is given up once its successor is there, not all at the end
                del trail[prefix + name]
            part = x[..., scaled(rows, taken.height), scaled(columns, taken.width)]
            made = step(compact(part), own)
            canvas.lay(made, scaled(rows, given.height), scaled(columns, given.width))
            trail.update(prefixed(prefix, own))
        return canvas.picture()


class Canvas:
    """Tiles laid beside each other, each fading linearly into its neighbours."""

    def __init__(self, size: Size, fade: Size):
        self.size, self.fade = size, fade
        self.dtype = torch.float32
        self.sum = torch.zeros(())  # takes its shape from the first tile
        self.weight = torch.zeros(size)

    def lay(self, tile: Tensor, rows: slice, columns: slice) -> None:
        if self.sum.ndim == 0:
            self.dtype, wide = tile.dtype, torch.promote_types(tile.dtype, torch.float32)
            self.sum = tile.new_zeros(*tile.shape[:-2], *self.size, dtype=wide)
            self.weight = self.weight.to(self.sum)
        down = presence(rows, self.size.height, self.fade.height)
        across = presence(columns, self.size.width, self.fade.width)
        weight = (down[:, None] * across).to(self.sum)
        self.sum[..., rows, columns] += tile * weight
        self.weight[rows, columns] += weight

    def picture(self) -> Tensor:
        return (self.sum / self.weight).to(self.dtype)


def spans(length: int, tile: int, overlap: int) -> list[slice]:
    """The fewest tiles, at least `overlap` shared, that cover `length`, and as small as they can
    be: what tiles share is remembered and worked out twice."""
    if length <= tile:
        return [slice(0, length)]
    count = ceil((length - overlap) / (tile - overlap))
    side = ceil((length + (count - 1) * overlap) / count)
    starts = (step * (length - side) // (count - 1) for step in range(count))
    return [slice(start, start + side) for start in starts]


def scaled(span: slice, by: int) -> slice:
    return slice(span.start * by, span.stop * by)


def presence(span: slice, length: int, fade: int) -> Tensor:
    """A tile's weight along one axis: 1, and falling towards the ends that a neighbour covers."""
    count = span.stop - span.start
    rising = torch.arange(1, count + 1) / (fade + 1)
    weight = torch.ones_like(rising)
    if span.start > 0:
        weight = weight.minimum(rising)
    if span.stop < length:
        weight = weight.minimum(rising.flip(0))
    return weight
