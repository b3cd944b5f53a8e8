"""The past of a stream as keys and values: anchor, window and the chunk at hand.

Keys are kept unrotated, with a position per latent frame, and turned when they are read; so the
same cache serves positions that grow for ever and positions that never move (see `segments`).
One buffer a layer holds `anchor and window slots | chunk`, filled from the front, so that what is
visible is always one slice.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..errors import SessionError, ShapeError
from ..shapes import Size
from .attention import Context, attend
from .rope import frame_turns, rotate, rotate_into
from .segments import Frame, MemoryConfig, Segments


class KVCache:
    """The memory of one stream under inference and rollout.

    During a chunk every step calls `extend`; what it adds is provisional and overwritten by the
    next step. `commit` makes the last extension past. Where autograd runs, the past is a constant
    and the chunk at hand is joined to it by concatenation, which is also the slow proof.
    """

    def __init__(self, grid: Size, config: MemoryConfig, context: Context = ()):
        self.grid, self.context = grid, context
        self.segments = Segments(config)
        self._keys: dict[int, Tensor] = {}
        self._values: dict[int, Tensor] = {}
        self._turned: Tensor | None = None  # rotated keys of one layer at a time
        self._turns: Tensor | None = None  # angles of what is visible, until that changes
        self._chunk_frames = 0

    # ---- the verbs of a step ----

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Self-attention of the chunk at hand over all that is visible."""
        keys, values = self.extend(layer, k, v)
        turns = self._visible_turns(q)
        q = rotate(q, turns[-q.shape[1] :])
        if torch.is_grad_enabled():
            past = keys.shape[1] - k.shape[1]
            keys, values = (
                torch.cat([kept[:, :past].detach(), new], 1)
                for kept, new in ((keys, k), (values, v))
            )
            return attend(q, rotate(keys, turns), values)
        return attend(q, self._rotated(keys, turns), values)

    def extend(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Put the chunk's keys and values `[b l h d]` after the past. Returns all, unrotated."""
        chunk = self._frames_of(k)
        if chunk != self._chunk_frames:
            self._chunk_frames, self._turns = chunk, None
        used = len(self.segments.slots) * self.grid.area
        end = used + k.shape[1]
        visible = []
        for buffers, new in ((self._keys, k), (self._values, v)):
            buffer = self._room(buffers, layer, new, end)
            buffer[:, used:end].copy_(new.detach())
            visible.append(buffer[:, :end])
        return visible[0], visible[1]

    def commit(self) -> None:
        """Make the chunk at hand past, and let go of what no longer fits."""
        if not self._chunk_frames:
            raise SessionError("There is no chunk to commit: run the transformer on one first.")
        used = len(self.segments.slots)
        moves = list(enumerate(self.segments.admit(self._chunk_frames), start=used))
        for buffer in self._buffers():
            frames = self._by_frame(buffer)
            for source, slot in moves:
                if slot is not None and slot != source:
                    frames[:, slot].copy_(frames[:, source])
        self._chunk_frames, self._turns = 0, None

    # ---- the verbs of a switch ----

    def truncate(self, keep: int) -> None:
        """Forget the past but its newest `keep` latent frames and the reference."""
        self._select(self.segments.truncate(keep))

    def replace_anchor(self, reference: "KVCache | None") -> None:
        """Anchor the frames that `reference` has just been run on; None leaves no anchor."""
        count = reference._chunk_frames if reference else 0
        self._select(self.segments.replace_anchor(count))
        if reference is None:
            return
        end = len(self.segments.slots) * self.grid.area
        for mine, theirs in (
            (self._keys, reference._keys),
            (self._values, reference._values),
        ):
            for layer, buffer in theirs.items():
                new = buffer[:, : count * self.grid.area]
                self._room(mine, layer, new, end)[:, end - new.shape[1] : end].copy_(new)

    def reset_context(self, context: Context) -> None:
        """Re-initialize the cross-attention cache: from now on another text is attended."""
        self.context = context

    def clear(self) -> None:
        """Forget every past frame, keep the reference and the context: a new clip begins."""
        self.truncate(0)
        self.segments.next_index = 0

    # ---- what a session needs to save, fork and account for it ----

    @property
    def nbytes(self) -> int:
        return sum(buffer.nbytes for buffer in self._buffers())

    def snapshot(self) -> dict[str, Tensor]:
        """A copy of what is past, as flat tensors. The provisional chunk is not part of it."""
        used = len(self.segments.slots) * self.grid.area
        slots = [(frame.index, frame.anchored) for frame in self.segments.slots]
        state = {
            "slots": torch.tensor(slots, dtype=torch.int64).reshape(-1, 2),
            "next_index": torch.tensor(self.segments.next_index),
        }
        for name, buffers in (("keys", self._keys), ("values", self._values)):
            state |= {f"{name}.{n}": buffer[:, :used].clone() for n, buffer in buffers.items()}
        for n, (k, v) in enumerate(self.context):
            state |= {f"context.{n}.k": k.clone(), f"context.{n}.v": v.clone()}
        return state

    def restore(self, state: dict[str, Tensor]) -> None:
        """Become what `snapshot` saw. The tensors are copied, never shared."""
        slots = state["slots"].tolist()
        self.segments.slots = [Frame(index, bool(anchored)) for index, anchored in slots]
        self.segments.next_index = int(state["next_index"])
        self._keys, self._values, self._turned, self._turns = {}, {}, None, None
        self._chunk_frames = 0
        for name, buffers in (("keys", self._keys), ("values", self._values)):
            for key in (key for key in state if key.startswith(f"{name}.")):
                buffers[int(key.split(".")[1])] = state[key].clone()
        layers = sum(key.startswith("context.") for key in state) // 2
        names = ((f"context.{n}.k", f"context.{n}.v") for n in range(layers))
        self.context = tuple((state[k].clone(), state[v].clone()) for k, v in names)

    # ---- buffers ----

    def _buffers(self) -> list[Tensor]:
        return [*self._keys.values(), *self._values.values()]

    def _by_frame(self, buffer: Tensor) -> Tensor:
        return buffer.unflatten(1, (-1, self.grid.area))

    def _frames_of(self, k: Tensor) -> int:
        if k.shape[1] == 0 or k.shape[1] % self.grid.area:
            raise ShapeError(
                f"{k.shape[1]} tokens came, but a latent frame has {self.grid.area} "
                f"({self.grid} of them): the latents do not fit this session's size."
            )
        return k.shape[1] // self.grid.area

    def _room(self, buffers: dict[int, Tensor], layer: int, like: Tensor, end: int) -> Tensor:
        """The layer's buffer with room for `end` tokens, made once where the window is bounded."""
        old = buffers.get(layer)
        if old is not None and old.shape[1] >= end:
            return old
        most = self.segments.most(max(self._chunk_frames, 1))
        # an unbounded window doubles, so that a long stream copies each frame a few times only
        room = most * self.grid.area if most else max(2 * end, 8 * self.grid.area)
        new = like.new_zeros(like.shape[0], max(room, end), *like.shape[2:])
        if old is not None:
            new[:, : old.shape[1]] = old
        buffers[layer] = new
        return new

    def _select(self, slots: Sequence[int]) -> None:
        """Keep the frames in these slots, moved to the front in this order."""
        for buffer in self._buffers():
            frames = self._by_frame(buffer)
            frames[:, : len(slots)] = frames[:, list(slots)]
        self._chunk_frames, self._turns = 0, None

    def _visible_turns(self, like: Tensor) -> Tensor:
        if self._turns is None:
            positions = self.segments.positions(self._chunk_frames)
            self._turns = frame_turns(positions, self.grid, like.shape[-1], like.device)
        return self._turns

    def _rotated(self, keys: Tensor, turns: Tensor) -> Tensor:
        """Keys as they stand now. One buffer serves all layers, one after the other."""
        if self._turned is None or self._turned.shape[1] < keys.shape[1]:
            layer = next(iter(self._keys.values()))
            self._turned = torch.empty_like(layer)
        return rotate_into(self._turned[:, : keys.shape[1]], keys, turns)


class KVBanks:
    """A cache per denoise stage, for samplers that keep several chunks in flight.

    Row `i` of the batch is at stage `i`, sees only what passed that stage, and is committed into
    that stage's bank: every chunk meets a past as noisy as it was trained to meet.
    """

    def __init__(self, banks: Sequence[KVCache]):
        self.banks = list(banks)

    @property
    def context(self) -> Context:
        return self.banks[0].context

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        rows = (t.chunk(len(self.banks)) for t in (q, k, v))
        pairs = zip(self.banks, *rows, strict=True)
        return torch.cat([bank.attend(layer, *row) for bank, *row in pairs])

    def extend(self, layer: int, k: Tensor, v: Tensor) -> None:
        rows = (t.chunk(len(self.banks)) for t in (k, v))
        for bank, *row in zip(self.banks, *rows, strict=True):
            bank.extend(layer, *row)

    def commit(self, stages: Sequence[int] | None = None) -> None:
        """Make the chunks of these stages past; while the pipeline fills, not all rows hold one."""
        for stage in range(len(self.banks)) if stages is None else stages:
            self.banks[stage].commit()

    def truncate(self, keep: int) -> None:
        self._each(lambda bank: bank.truncate(keep))

    def replace_anchor(self, reference: KVCache | None) -> None:
        self._each(lambda bank: bank.replace_anchor(reference))

    def reset_context(self, context: Context) -> None:
        self._each(lambda bank: bank.reset_context(context))

    def clear(self) -> None:
        self._each(KVCache.clear)

    @property
    def nbytes(self) -> int:
        return sum(bank.nbytes for bank in self.banks)

    def _each(self, verb: Callable[[KVCache], None]) -> None:
        for bank in self.banks:
            verb(bank)
