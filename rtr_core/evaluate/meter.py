"""How a chunk's time, or whatever else is spent on it, divides among the stages of a session.

    clock = Meter(seconds_on(device))
    observe(session, clock)                     # its verbs report to the meter from here on
    clock.run("the rest", draw_a_chunk)
    clock.spent                                 # {"encode": 0.01, "step 1": 0.2, ..., "the rest"}

A session is observed from outside and knows nothing of it. Stages nest: each is told what was spent
in it and in no stage inside, so that all of them add up to the whole.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import torch

from ..sampling import Chunks
from ..session import Session

PIXELS_IN, ENCODE, DECODE, PIXELS_OUT = "pixels in", "encode", "decode", "pixels out"
STEP, DRIFT, COMMIT, REST = "step", "drift meter", "commit", "the rest"
WAY = (PIXELS_IN, ENCODE, STEP, DECODE, PIXELS_OUT, DRIFT, COMMIT, REST)

Read = Callable[[], Any]  # a number, or an array of them, that only grows


class Observer(Protocol):
    def run(self, stage: str, verb: Callable[[], Any]) -> Any: ...


class Meter:
    """Adds up by how much something grew in each stage."""

    def __init__(self, read: Read):
        self.read = read
        self.is_on = True
        self.spent: dict[str, Any] = {}
        self._inside: list[Any] = []  # of the stages that are open: what was spent further inside

    def run(self, stage: str, verb: Callable[[], Any]) -> Any:
        if not self.is_on:
            return verb()
        self._inside.append(0)
        before = self.read()
        result = verb()
        whole = self.read() - before
        self.spent[stage] = self.spent.get(stage, 0) + whole - self._inside.pop()
        if self._inside:
            self._inside[-1] = self._inside[-1] + whole
        return result

    def lap(self) -> dict[str, Any]:
        """What has been spent since the last lap."""
        spent, self.spent = self.spent, {}
        return spent


def seconds_on(device: torch.device) -> Callable[[], float]:
    """The time at which a device has done all that it was told to do."""
    if device.type != "cuda":
        return time.perf_counter

    def now() -> float:
        torch.cuda.synchronize(device)
        return time.perf_counter()

    return now


def observe(session: Session, observer: Observer) -> None:
    """Let a session's stages report to an observer, those that call others included."""
    past = session.flight.past
    _observe(session.intake, "push", PIXELS_IN, observer)
    _observe(session.intake.encoder, "push", ENCODE, observer)
    _observe(past, "denoise", step_of, observer)
    _observe(past, "remember", COMMIT, observer)
    _observe(past, "commit", COMMIT, observer)
    _observe(session.decoder, "push", DECODE, observer)
    _observe(session.drift, "push", DRIFT, observer)
    _observe(session, "_decoded", PIXELS_OUT, observer)


def step_of(chunks: Chunks) -> str:
    """The stage of a denoise step: the one that is nearest to clean counts."""
    return f"{STEP} {chunks[0].done + 1}"


def place_of(stage: str) -> tuple[int, int]:
    """Stages in the order of a frame's way."""
    kind, _, number = stage.partition(" ")
    return (WAY.index(STEP), int(number)) if kind == STEP else (WAY.index(stage), 0)


def _observe(owner: Any, name: str, stage: str | Callable[..., str], observer: Observer) -> None:
    verb = getattr(owner, name)

    def observed(*given: Any) -> Any:
        named = stage if isinstance(stage, str) else stage(*given)
        return observer.run(named, partial(verb, *given))

    setattr(owner, name, observed)
