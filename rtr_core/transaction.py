"""All or nothing: what a failed verb leaves behind is what was there before it."""

from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import torch

from .errors import OutOfMemory

NO_ROOM = ("not enough memory", "can't allocate memory", "out of memory")


class Undoable(Protocol):
    """State that can go back to where it was."""

    def mark(self) -> Any: ...

    def go_back(self, mark: Any, /) -> None: ...


P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S", bound=Undoable)


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


def all_or_nothing(verb: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
    """A verb after which, where it fails, its object is as it was before."""

    @plain_tensors
    @wraps(verb)
    def whole(state: S, *values: P.args, **named: P.kwargs) -> R:
        mark = state.mark()
        try:
            return verb(state, *values, **named)
        except BaseException as error:
            state.go_back(mark)
            if ran_out_of_memory(error):
                raise OutOfMemory(
                    f"The device ran out of memory at {state}. Nothing of it was done: free memory "
                    f"and go on, or begin again with a smaller size, chunk or window, or tiled. "
                    f"({error})"
                ) from error
            raise

    return whole


def ran_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in NO_ROOM)
