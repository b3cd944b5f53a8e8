"""All or nothing: what a failed chunk leaves behind is what was there before it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, ParamSpec, Protocol, TypeVar

import torch

from .errors import OutOfMemory

P = ParamSpec("P")
R = TypeVar("R")

NO_ROOM = ("not enough memory", "can't allocate memory", "out of memory")


class Part(Protocol):
    """A piece of state that can go back to a copy of itself."""

    def snapshot(self) -> Any: ...

    def restore(self, state: Any, /) -> None: ...


@contextmanager
def undone_on_error(*parts: Part, frame: int) -> Iterator[None]:
    """Put `parts` back where the body fails, and name the frame where memory ran out."""
    before = [part.snapshot() for part in parts]
    try:
        yield
    except BaseException as error:
        for part, state in zip(parts, before, strict=True):
            part.restore(state)
        if ran_out_of_memory(error):
            raise OutOfMemory(
                f"The device ran out of memory at frame {frame}. The session stays at its last "
                f"chunk: free memory and go on with `resume()`, or begin again with a smaller "
                f"size, chunk or window. ({error})"
            ) from error
        raise


def ran_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in NO_ROOM)


def plain_tensors(verb: Callable[P, R]) -> Callable[P, R]:
    """Run without gradients, and out of a host's inference mode.

    A session outlives the call that fed it, and tensors made in inference mode could not be
    written again outside of it.
    """

    @wraps(verb)
    def outside(*values: P.args, **named: P.kwargs) -> R:
        with torch.inference_mode(False), torch.no_grad():
            return verb(*values, **named)

    return outside
