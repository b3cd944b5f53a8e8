"""The past of a stream as keys and values: anchor, window and the chunk at hand.

Keys are kept unrotated, with a position per latent frame, and turned when they are read; so the
same cache serves positions that grow for ever and positions that never move (see `segments`).
One buffer a layer holds `anchor and window slots | chunk`, filled from the front, so that what is
visible is always one slice. In fp8 the buffers hold bytes, see `fp8.packed`, half as many as in
bf16; the past is widened when it is read, one layer at a time, and the chunk at hand seen as it is.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import SessionError, ShapeError
from ..shapes import Size
from .attention import Context
from .fp8 import behind, packed
from .rope import frame_turns, rotate, rotate_into
from .segments import Frame, MemoryConfig, Segments
from .sight import Sight

Buffers = dict[int, Tensor]  # of each layer, `[b l h d]`


class Shown(NamedTuple):
    """What a chunk saw of the past in one layer: it stays as it was, whatever the cache does."""

    keys: Tensor  # unrotated
    values: Tensor
    turns: Tensor  # of the past and of the chunk
    sight: Sight

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        keys, values = torch.cat([self.keys, k], 1), torch.cat([self.values, v], 1)
        q, keys = rotate(q, self.turns[-q.shape[1] :]), rotate(keys, self.turns)
        return self.sight.attend(layer, q, keys, values)


class KVCache:
    """The memory of one stream under inference and rollout.

    During a chunk every step calls `extend`; what it adds is provisional and overwritten by the
    next step. `commit` makes the last extension past. Where autograd runs, the past is a constant
    and the chunk at hand is joined to it by concatenation, which is also the slow proof.

    A verb that fails has changed nothing: what it needs is made first, and taken over last.
    """

    def __init__(
        self, grid: Size, config: MemoryConfig, context: Context = (), in_fp8: bool = False
    ):
        self.grid, self.context, self.in_fp8 = grid, context, in_fp8
        self.segments = Segments(config=config)
        self._keys: Buffers = {}
        self._values: Buffers = {}
        self._turned: Tensor | None = None  # rotated keys of one layer at a time
        self._turns: tuple[Sequence[int], Tensor] | None = None  # angles, and of which positions
        self._sight: tuple[Segments, Sight] | None = None  # and of which segments

    # ---- the verbs of a step ----

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Self-attention of the chunk at hand over all that is visible."""
        if torch.is_grad_enabled():
            return self.show(layer, k, v).attend(layer, q, k, v)
        keys, values = self.extend(layer, k, v)
        turns = self._visible_turns(q)
        q, keys = rotate(q, turns[-q.shape[1] :]), self._rotated(keys, turns)
        return self._visible_sight(q).attend(layer, q, keys, values)

    def show(self, layer: int, k: Tensor, v: Tensor) -> Shown:
        """Put the chunk after the past, as `extend` does, and give a copy of that past."""
        keys, values = self.extend(layer, k, v)
        past = keys.shape[1] - k.shape[1]
        past_keys, past_values = (kept[:, :past].detach().clone() for kept in (keys, values))
        return Shown(past_keys, past_values, self._visible_turns(k), self._visible_sight(k))

    def extend(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Put the chunk's keys and values `[b l h d]` after the past. Returns all, unrotated."""
        self.segments = self.segments.extend(self._frames_of(k))
        used = len(self.segments.slots) * self.grid.area
        end = used + k.shape[1]
        visible = []
        for buffers, new in ((self._keys, k), (self._values, v)):
            kept = packed(new.detach()) if self.in_fp8 else new.detach()
            buffer = self._room(buffers, layer, kept, end)
            buffer[:, used:end].copy_(kept)
            visible.append(behind(buffer[:, :used], new) if self.in_fp8 else buffer[:, :end])
        return visible[0], visible[1]

    @property
    def has_chunk(self) -> bool:
        """Whether there is a chunk at hand that could be committed."""
        return self.segments.chunk > 0

    def commit(self, count: int | None = None) -> None:
        """Make the chunk at hand past, or its first `count` frames, and let go of what no longer
        fits. What is left of the chunk is forgotten.

        The only verb that writes over the past. It allocates nothing; should it be interrupted,
        doing it again is doing it once.
        """
        if not self.has_chunk:
            raise SessionError("There is no chunk to commit: run the transformer on one first.")
        after, placed = self.segments.commit(count)
        for buffer in (*self._keys.values(), *self._values.values()):
            frames = self._by_frame(buffer)
            for source, slot in enumerate(placed, start=len(self.segments.slots)):
                if slot is not None and slot != source:
                    frames[:, slot].copy_(frames[:, source])
        self.segments = after

    # ---- the verbs of a switch ----

    def truncate(self, keep: int) -> None:
        """Forget the past but its newest `keep` latent frames and the reference."""
        after, old = self.segments.truncate(keep)
        self._take_over(after, old)

    def replace_anchor(self, reference: "KVCache | None") -> None:
        """Anchor the frames that `reference` has just been run on; None leaves no anchor."""
        count = reference.segments.chunk if reference else 0
        after, old = self.segments.replace_anchor(count)
        self._take_over(after, old, reference)

    def reset_context(self, context: Context) -> None:
        """Re-initialize the cross-attention cache: from now on another text is attended."""
        self.context = context

    def clear(self) -> None:
        """Forget every past frame, keep the reference and the context: a new clip begins."""
        self.truncate(0)
        self.segments = self.segments.restart()

    # ---- what a session needs to undo, save, fork and account for it ----

    @property
    def nbytes(self) -> int:
        return sum(buffer.nbytes for buffer in (*self._keys.values(), *self._values.values()))

    def mark(self) -> tuple:
        """Where the cache is, to go back to before the next `commit`. Copies nothing."""
        return dict(self._keys), dict(self._values), self.segments, self.context

    def go_back(self, mark: tuple) -> None:
        keys, values, self.segments, self.context = mark
        self._keys, self._values = dict(keys), dict(values)
        self._turned = self._turns = self._sight = None  # made anew, where the keys are now

    def snapshot(self) -> dict[str, Tensor]:
        """A copy of what is past, as flat tensors in host memory, where there is room for more of
        them. The provisional chunk is not part of it."""
        used = len(self.segments.slots) * self.grid.area
        slots = [(frame.index, frame.anchored) for frame in self.segments.slots]
        state = {
            "slots": torch.tensor(slots, dtype=torch.int64).reshape(-1, 2),
            "next_index": torch.tensor(self.segments.next_index),
        }
        for name, buffers in (("keys", self._keys), ("values", self._values)):
            state |= {f"{name}.{n}": on_host(buffer[:, :used]) for n, buffer in buffers.items()}
        for n, (k, v) in enumerate(self.context):
            state |= {f"context.{n}.k": k.clone(), f"context.{n}.v": v.clone()}
        return state

    def restore(self, state: dict[str, Tensor]) -> None:
        """Become what `snapshot` saw. Its keys and values are shared and never written into: the
        next extension finds no room in them, and makes some."""
        slots = (Frame(index, bool(anchored)) for index, anchored in state["slots"].tolist())
        keys, values = (
            {int(k.split(".")[1]): t for k, t in state.items() if k.startswith(name)}
            for name in ("keys.", "values.")
        )
        layers = sum(key.startswith("context.") for key in state) // 2
        names = ((f"context.{n}.k", f"context.{n}.v") for n in range(layers))
        context = tuple((state[k].clone(), state[v].clone()) for k, v in names)
        segments = Segments(
            config=self.segments.config, slots=tuple(slots), next_index=int(state["next_index"])
        )
        self.go_back((keys, values, segments, context))

    # ---- buffers ----

    def _by_frame(self, buffer: Tensor) -> Tensor:
        return buffer.unflatten(1, (-1, self.grid.area))

    def _frames_of(self, k: Tensor) -> int:
        if k.shape[1] == 0 or k.shape[1] % self.grid.area:
            raise ShapeError(
                f"{k.shape[1]} tokens came, but a latent frame has {self.grid.area} "
                f"({self.grid} of them): the latents do not fit this session's size."
            )
        return k.shape[1] // self.grid.area

    def _room(self, buffers: Buffers, layer: int, like: Tensor, end: int) -> Tensor:
        """The layer's buffer with room for `end` tokens, made once where the window is bounded."""
        old = buffers.get(layer)
        if old is not None and old.shape[1] >= end:
            return old
        most = self.segments.most
        # an unbounded window doubles, so that a long stream copies each frame a few times only
        room = most * self.grid.area if most else max(2 * end, 8 * self.grid.area)
        new = like.new_zeros(like.shape[0], max(room, end), *like.shape[2:])
        if old is not None:
            new[:, : old.shape[1]] = old
        buffers[layer] = new
        return new

    def _take_over(
        self, after: Segments, slots: Sequence[int], reference: "KVCache | None" = None
    ) -> None:
        """Go on with the frames of these slots, in this order, and a reference behind them."""
        kept = [
            {layer: self._by_frame(b)[:, list(slots)].flatten(1, 2) for layer, b in mine.items()}
            for mine in (self._keys, self._values)
        ]
        if reference is not None:
            tokens = reference.segments.chunk * self.grid.area
            for mine, theirs in zip(kept, (reference._keys, reference._values), strict=True):
                for layer, buffer in theirs.items():
                    new = buffer[:, :tokens]
                    mine[layer] = torch.cat([mine.get(layer, new[:, :0]), new], dim=1)
        self.go_back((*kept, after, self.context))

    def _visible_turns(self, like: Tensor) -> Tensor:
        positions = self.segments.positions
        if self._turns is None or self._turns[0] != positions:
            turns = frame_turns(positions, self.grid, like.shape[-1], like.device)
            self._turns = positions, turns
        return self._turns[1]

    def _visible_sight(self, like: Tensor) -> Sight:
        if self._sight is None or self._sight[0] != self.segments:
            self._sight = self.segments, Sight.of(self.segments, self.grid, like.device)
        return self._sight[1]

    def _rotated(self, keys: Tensor, turns: Tensor) -> Tensor:
        """Keys as they stand now. One buffer serves all layers, one after the other."""
        if self._turned is None or self._turned.shape[1] < keys.shape[1]:
            room = max(buffer.shape[1] for buffer in self._keys.values())
            self._turned = keys.new_empty(keys.shape[0], room, *keys.shape[2:])
        return rotate_into(self._turned[:, : keys.shape[1]], keys, turns)


def on_host(x: Tensor) -> Tensor:
    return x.to("cpu", copy=True)
