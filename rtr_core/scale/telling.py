"""How rank 0 tells the others what to do, and hears from them: a verb, and what goes with it.

What is told is JSON, and tensors are sent as the bytes they are: nothing that comes over a line is
ever executed. Telling does not wait until it was heard, so that rank 0 works on meanwhile; only
tensors are taken by all ranks at once.
"""

import json
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields
from datetime import timedelta
from threading import Thread
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from ..errors import RankError
from ..loras import LoraFile
from ..model.lora import Lora
from ..ranks import as_bytes, as_text, count, number
from ..sampling import Chunk
from ..style import EncodedStyle, Style

SILENCE = timedelta(days=365)  # a viewer may take a break; a rank that dies is noticed at once
DTYPES = {
    str(dtype): dtype
    for dtype in (
        *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
        *(torch.uint8, torch.int64, torch.int32, torch.bool),
    )
}
FAREWELL = 5.0  # seconds until the others have surely heard the end
NOBODY = Style(prompt="told by rank 0")  # what a style is called where only its tensors count

T = TypeVar("T")
Told = tuple[str, list[Any]]


class Line:
    """Between rank 0 and the others."""

    def __init__(self, device: torch.device, lora: Callable[[LoraFile], Lora]):
        self.device, self.lora = device, lora
        words: Any = dist.new_group(backend="gloo", timeout=SILENCE)
        self.words: dist.ProcessGroup = words
        self._underway: deque[tuple[dist.Work, Tensor, int]] = deque()
        self._later: deque[tuple[Any, ...]] = deque()

    # ---- from rank 0 to all others ----

    def tell(self, verb: str, *values: Any) -> None:
        while self._later:
            self._tell(*self._later.popleft())
        self._tell(verb, *values)

    def tell_later(self, verb: str, *values: Any) -> None:
        """Before what is told next, as when something is let go of at an odd moment."""
        self._later.append((verb, *values))

    def end(self, why: str | None) -> None:
        """The last that is told. Who is in the midst of a pass will not hear it, and see the end
        of this process instead."""
        farewell = Thread(target=self._told_to_the_end, args=(why,), daemon=True)
        farewell.start()
        farewell.join(FAREWELL)

    def _told_to_the_end(self, why: str | None) -> None:
        with suppress(RankError):  # who is gone needs to hear nothing
            self.tell("end", why)
            self._wait_until_heard()

    def _tell(self, verb: str, *values: Any) -> None:
        tensors: list[Tensor] = []
        words = [verb, packed(values, tensors), shapes_of(tensors)]
        told = as_bytes(json.dumps(words))
        for rank in range(1, count()):
            for part in (torch.tensor([len(told)]), told):
                with named(f"rank {rank} does not hear {verb!r}"):
                    work = dist.isend(part, rank, group=self.words)
                assert work is not None, "rank 0 is in the group"
                self._underway.append((work, part, rank))
        for tensor in filter(Tensor.numel, tensors):
            with named(f"a rank did not come to {verb!r}"):
                dist.broadcast(as_sent(tensor.to(self.device)), 0)
        if tensors:  # who has them has heard all that was told before
            self._wait_until_heard()

    def hear(self) -> Told:
        verb, values, shapes = json.loads(as_text(self._words(0)))
        with named(f"rank 0 is gone in {verb!r}"):
            tensors = self._received(shapes, lambda room: dist.broadcast(room, 0))
        return verb, unpacked(values, tensors, self.lora)

    # ---- from one of them to rank 0 ----

    def report(self, value: Any) -> None:
        tensors: list[Tensor] = []
        told = as_bytes(json.dumps([packed(value, tensors), shapes_of(tensors)]))
        with named("rank 0 is gone"):
            for part in (torch.tensor([len(told)]), told):
                dist.send(part, 0, group=self.words)
            for tensor in filter(Tensor.numel, tensors):
                dist.send(as_sent(tensor.to(self.device)), 0)

    def heard_from(self, rank: int) -> Any:
        value, shapes = json.loads(as_text(self._words(rank)))
        with named(f"rank {rank} is gone"):
            tensors = self._received(shapes, lambda room: dist.recv(room, rank))
        return unpacked(value, tensors, self.lora)

    # ---- small pieces ----

    def _words(self, rank: int) -> Tensor:
        length = torch.zeros(1, dtype=torch.int64)
        with named(f"rank {rank} is gone"):
            dist.recv(length, rank, group=self.words)
            told = torch.zeros(int(length), dtype=torch.uint8)
            dist.recv(told, rank, group=self.words)
        return told

    def _received(self, shapes: Sequence[Any], take: Callable[[Tensor], Any]) -> list[Tensor]:
        tensors = []
        for shape, dtype in shapes:
            tensor = torch.empty(shape, dtype=DTYPES[dtype], device=self.device)
            room = as_sent(tensor)
            if room.numel():
                take(room)
            tensors.append(room.view(tensor.dtype).view(shape))
        return tensors

    def _wait_until_heard(self) -> None:
        while self._underway:
            work, _, rank = self._underway.popleft()
            with named(f"rank {rank} is gone"):
                work.wait()


@contextmanager
def named(what: str) -> Iterator[None]:
    """What torch says of a broken line, in our words."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        raise RankError(
            f"On rank {number()}: {what} ({str(error).strip().split(chr(10))[0]}). Look for what "
            f"that rank said last. What is written stays: the same command goes on from it."
        ) from error


def as_sent(tensor: Tensor) -> Tensor:
    """The bytes of a tensor, one after the other; of a contiguous one they are its own."""
    return tensor.contiguous().reshape(-1).view(torch.uint8)


def shapes_of(tensors: Sequence[Tensor]) -> list[Any]:
    return [[list(tensor.shape), str(tensor.dtype)] for tensor in tensors]


def packed(value: Any, tensors: list[Tensor]) -> Any:
    """A value as JSON has it; its tensors go to the list."""
    if isinstance(value, Tensor):
        tensors.append(value)
        return {"tensor": len(tensors) - 1}
    if isinstance(value, dict):
        return {"dict": {name: packed(each, tensors) for name, each in value.items()}}
    if isinstance(value, Chunk):
        return {"chunk": {f.name: packed(getattr(value, f.name), tensors) for f in fields(value)}}
    if isinstance(value, EncodedStyle):
        told = {name: getattr(value, name) for name in ("rows", "latent", "strength", "avoid")}
        loras = [[lora.path, lora.digest, strength] for lora, strength in value.loras.items()]
        return {"style": packed(told | {"loras": loras}, tensors)}
    if isinstance(value, (list, tuple)):
        return [packed(each, tensors) for each in value]
    assert value is None or isinstance(value, (str, int, float)), f"{type(value)} is not told"
    return value


def unpacked(told: Any, tensors: Sequence[Tensor], lora: Callable[[LoraFile], Lora]) -> Any:
    """The value again."""
    if isinstance(told, list):
        return [unpacked(each, tensors, lora) for each in told]
    if not isinstance(told, dict):
        return told
    ((kind, inner),) = told.items()
    if kind == "tensor":
        return tensors[inner]
    if kind == "style":
        of = unpacked(inner, tensors, lora)
        loras = {lora(LoraFile(path, digest)): s for path, digest, s in of["loras"]}
        return EncodedStyle(NOBODY, of["rows"], of["latent"], of["strength"], of["avoid"], loras)
    values: dict[str, Any] = {n: unpacked(each, tensors, lora) for n, each in inner.items()}
    if kind == "chunk":
        values["levels"] = tuple(values["levels"])
        return Chunk(**values)
    return values
