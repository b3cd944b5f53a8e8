"""Where the tensors of a session's state lie, and how much room they take.

State is tuples, lists and dicts of tensors, and a few frozen dataclasses that hold such; whatever
else is in it stays as it is.
"""

from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from .sampling import Chunk
from .snapshot import Snapshot
from .style import EncodedStyle, Fade

HOLDERS = (Chunk, EncodedStyle, Fade, Snapshot)


def moved(state: Any, device: torch.device) -> Any:
    """The same state with every tensor on `device`; those that are there already are shared."""
    if isinstance(state, Tensor):
        return state.to(device)
    if isinstance(state, dict):
        return {name: moved(value, device) for name, value in state.items()}
    if type(state) in (tuple, list):
        return type(state)(moved(value, device) for value in state)
    if isinstance(state, tuple):  # with names
        return type(state)(*(moved(value, device) for value in state))
    if isinstance(state, HOLDERS):
        names = [field.name for field in fields(state)]
        return replace(state, **{name: moved(getattr(state, name), device) for name in names})
    return state


def tensors_of(state: Any) -> Iterator[Tensor]:
    """Every tensor that `moved` would move."""
    if isinstance(state, Tensor):
        yield state
    elif isinstance(state, dict):
        yield from tensors_of(list(state.values()))
    elif type(state) in (tuple, list):
        for value in state:
            yield from tensors_of(value)
    elif isinstance(state, HOLDERS):
        yield from tensors_of([getattr(state, field.name) for field in fields(state)])


def bytes_of(state: Any) -> int:
    """The room of all tensors of the state, each storage counted once."""
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage() for t in tensors_of(state)}
    return sum(storage.nbytes() for storage in storages.values())
