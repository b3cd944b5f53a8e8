"""Frames are made on the last rank while rank 0 encodes the next: they come a chunk later."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..ranks import count
from ..vae.stream import DecoderStream, Vae
from .shared import Led, Mark
from .telling import Line


class Decoding:
    """The decoder of a session, where it is: on the last rank."""

    def __init__(self, vae: Vae):
        self.stream = DecoderStream(vae)
        self.made: tuple[Tensor, ...] = ()  # and not fetched

    def decode(self, latents: Tensor) -> None:
        self.made = (*self.made, self.stream.push(latents))

    def fetched(self) -> Tensor:
        first, *rest = self.made
        self.made = tuple(rest)
        return first

    def reset(self) -> None:
        self.stream.reset()
        self.made = ()

    def mark(self) -> tuple:
        return self.stream.snapshot(), self.made

    def go_back(self, mark: tuple) -> None:
        state, self.made = mark
        self.stream.restore(state)


@dataclass(frozen=True)
class Kept(Mapping[str, Tensor]):
    """A decoder's state, as the last rank keeps it; it is fetched where somebody looks."""

    mark: Mark
    waiting: int
    look: Callable[[], dict[str, Tensor]]

    def __getitem__(self, name: str) -> Tensor:
        return self.look()[name]

    def items(self) -> Iterable[tuple[str, Tensor]]:  # type: ignore[override]  # at one look
        return self.look().items()

    def __iter__(self) -> Iterator[str]:
        return iter(self.look())

    def __len__(self) -> int:
        return len(self.look())


class LateDecoder(Led):
    """Has the verbs of a `DecoderStream`, and those of being late."""

    def __init__(self, line: Line, number: int):
        super().__init__(line, number)
        self.waiting = 0  # chunks whose frames are not fetched

    def decode(self, latents: Tensor) -> None:
        """Begin to decode: nobody waits for it."""
        self._tell("decode", latents)
        self.waiting += 1

    def fetch(self) -> Tensor:
        """The pixels of the oldest chunk that waits."""
        self._tell("fetch")
        self.waiting -= 1
        return self.line.heard_from(count() - 1)

    def push(self, latents: Tensor) -> Tensor:
        """Pixels at once, where nothing waits: of frames that a clip is to follow."""
        self.decode(latents)
        return self.fetch()

    def reset(self) -> None:
        self._tell("reset")
        self.waiting = 0

    def snapshot(self) -> Kept:
        return Kept(self._mark(), self.waiting, self._look)

    def restore(self, state: Mapping[str, Tensor]) -> None:
        if isinstance(state, Kept):
            self._go_back(state.mark)
            self.waiting = state.waiting
            return
        self._tell("restore", dict(state))
        self.waiting = 0

    def _look(self) -> dict[str, Tensor]:
        self._tell("look")
        return {name: t.to("cpu") for name, t in self.line.heard_from(count() - 1).items()}


def catch_up(decoder: LateDecoder) -> Tensor | None:
    """The pixels of all that waits."""
    late = [decoder.fetch() for _ in range(decoder.waiting)]
    return torch.cat(late, dim=2) if late else None
