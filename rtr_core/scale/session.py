"""Sessions of rank 0 whose model runs on all ranks: the same verbs, and the same frames."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import count as numbers
from typing import Any

import torch
from torch import Tensor

from ..errors import NumericsError
from ..frames import is_finite, to_frames
from ..parts import Parts
from ..session import Session
from ..settings import Settings
from ..snapshot import Snapshot
from ..stylizer import Stylizer
from ..transaction import all_or_nothing
from .decoding import LateDecoder, catch_up
from .heads import by_heads
from .shared import LedPast, Way, check_stages, own_past
from .telling import Line

LATE = "decoder.late"  # a saved session's frames that nobody has asked for


@dataclass(frozen=True)
class Leader:
    """Rank 0: what it has opened on the others is closed when nobody holds it any more."""

    way: Way
    line: Line
    numbers: Iterator[int] = field(default_factory=numbers)

    def past(self, parts: Parts, settings: Settings) -> LedPast:
        recipe, grid = settings.recipe, parts.geometry(settings.size).grid
        own = own_past(self.way, self.line, parts, recipe, grid, settings.in_fp8)
        number = self._open("open past", asdict(recipe), list(grid), settings.in_fp8)
        return self._closed_at_its_end(LedPast(self.line, number, own))

    def decoder(self) -> LateDecoder:
        return self._closed_at_its_end(LateDecoder(self.line, self._open("open decoder")))

    def _open(self, verb: str, *values: Any) -> int:
        number = next(self.numbers)
        self.line.tell(verb, number, [], *values)
        return number

    def _closed_at_its_end(self, led: Any) -> Any:
        weakref.finalize(led, self.line.tell_later, "close", led.number, [])
        return led


@dataclass(frozen=True, kw_only=True, eq=False)
class RankedStylizer(Stylizer):
    """A stylizer as rank 0 has it, while the others follow."""

    leader: Leader

    @classmethod
    def led(cls, stylizer: Stylizer, leader: Leader) -> RankedStylizer:
        same: dict[str, Any] = {f.name: getattr(stylizer, f.name) for f in fields(Stylizer)}
        same["parts"] = split(stylizer.parts, leader.way)
        return cls(**same, leader=leader)

    def _opened(self, settings: Settings) -> Session:
        if self.leader.way == "heads":
            return RankedSession(self.parts, settings, self.watch, self.leader)
        check_stages(settings.recipe)
        return LateSession(self.parts, settings, self.watch, self.leader)


def split(parts: Parts, way: Way) -> Parts:
    """The parts as each rank has them."""
    if way == "heads":
        return replace(parts, transformer=by_heads(parts.transformer))
    return parts


class RankedSession(Session):
    """A session whose past all ranks have a share of."""

    def __init__(self, parts: Parts, settings: Settings, watch: Callable[[], None], leader: Leader):
        super().__init__(parts, settings, watch)
        self.leader = leader
        past: Any = leader.past(parts, settings)  # has the verbs of the one that it replaces
        self.flight.past = past

    def fork(self) -> RankedSession:
        twin = type(self)(self.parts, self.settings, self.watch, self.leader)
        twin.restore(self.snapshot())
        return twin


class LateSession(RankedSession):
    """One whose frames are made on the last rank, while rank 0 encodes the next ones.

    A chunk's frames come with the chunk after it, or at a flush. What is saved in between has them
    as they are, so that only such a session goes on from it.
    """

    def __init__(self, parts: Parts, settings: Settings, watch: Callable[[], None], leader: Leader):
        super().__init__(parts, settings, watch, leader)
        self.decoder: Any = leader.decoder()
        self.late = self._none()  # frames that were fetched before somebody asked for them

    def flush(self) -> Iterator[Tensor]:
        yield from self.resume()
        if not self.intake.is_ending and len(frames := self._caught_up()):
            yield frames
        yield from super().flush()

    def reset(self) -> None:
        super().reset()
        self.late = self._none()

    def snapshot(self) -> Snapshot:
        self._hold()
        snapshot = super().snapshot()
        late = {LATE: self.late} if len(self.late) else {}
        return replace(snapshot, tensors={**snapshot.tensors, **late})

    def restore(self, snapshot: Snapshot) -> None:
        tensors = dict(snapshot.tensors)
        late = tensors.pop(LATE, self._none())
        super().restore(replace(snapshot, tensors=tensors))
        self.late = late.to(self.parts.device)

    def _decoded(self, clean: Tensor) -> Tensor:
        """The frames of the chunk before; of this one too where none comes after it."""
        if not is_finite(clean):
            raise NumericsError(
                f"The model made NaN of the chunk after frame {self.frames_out}. The session stays "
                f"before it: switch the style or use fp32, then `resume()`."
            )
        before = self._shown()
        self.decoder.decode(clean.to(self.parts.pixels_like))
        is_last = self.intake.is_ending and not self.flight.chunks
        if not is_last or self.intake.next_chunk() is not None:
            return before
        return torch.cat([before, self._shown(len(before))])

    @all_or_nothing
    def _caught_up(self) -> Tensor:
        frames = self._shown()
        self.frames_out += len(frames)
        return frames

    @all_or_nothing
    def _hold(self) -> None:
        """Fetch what is late, and keep it until it is asked for."""
        self.late = self._shown()

    def _shown(self, shown: int = 0) -> Tensor:
        """The frames of all that waits, behind `shown` others; those filled in are cut off."""
        pixels, held = catch_up(self.decoder), self.late
        if pixels is None:
            return self._taken(held)
        if not is_finite(pixels):
            raise NumericsError(
                f"The decoder made NaN after frame {self.frames_out}: load it in fp32."
            )
        frames = torch.cat([held, to_frames(pixels, self.geometry.size).to(held)])
        return self._taken(frames[: self.frames_in - self.frames_out - shown])

    def _taken(self, frames: Tensor) -> Tensor:
        self.late = self._none()
        return frames

    def _none(self) -> Tensor:
        return torch.empty(0, *self.geometry.size, 3, device=self.parts.device)
