"""Sessions that outlive the calls which feed them.

A host keeps the outputs of its nodes as long as it likes and no longer. What must not be lost, or
served twice, therefore lives here, by name.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import RLock
from typing import Any

from torch import Tensor

from .errors import SessionError
from .timeline import Lead

MOST = 16  # sessions; of more than that, the one not used for longest is let go


@dataclass(kw_only=True, eq=False)
class Kept:
    """A session between two calls, and what the next call must know."""

    lead: Lead
    signature: Mapping[str, str]  # what it stands on, by names that a person can be told
    asked: str  # fingerprint of the timeline that was asked for last; a session may be beyond it
    shown: Tensor | None = None  # the last styled frame
    lodging: Any = None  # by which a host knows how much memory it takes


class Registry:
    """Sessions by name. Safe to ask from any thread; a session itself is fed by one at a time."""

    def __init__(self, most: int = MOST):
        self.most = most
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._lock = RLock()

    def names(self) -> list[str]:
        with self._lock:
            return list(self._kept)

    def find(self, name: str) -> Kept | None:
        with self._lock:
            if name in self._kept:
                self._kept.move_to_end(name)
            return self._kept.get(name)

    def get(self, name: str) -> Kept:
        kept = self.find(name)
        if kept is None:
            there = ", ".join(map(repr, self.names())) or "none at all"
            raise SessionError(
                f"There is no session {name!r}; there are {there}. Queue its stream first, or load "
                f"one from a file."
            )
        return kept

    def keep(self, name: str, kept: Kept) -> Kept:
        with self._lock:
            self._kept[name] = kept
            self._kept.move_to_end(name)
            while len(self._kept) > self.most:
                self._kept.popitem(last=False)
        return kept

    def drop(self, name: str) -> bool:
        with self._lock:
            return self._kept.pop(name, None) is not None

    def fitting(
        self, name: str, signature: Mapping[str, str], begin: Callable[[], Kept]
    ) -> tuple[Kept, str]:
        """The session of this name where it stands on the same; else a new one, and why it is new.

        The reason is empty where the session goes on, or where there was none before.
        """
        kept = self.find(name)
        if kept is not None:
            changes = [
                f"{what} was {kept.signature.get(what)}, is {now}"
                for what, now in signature.items()
                if kept.signature.get(what) != now
            ]
            if not changes:
                return kept, ""
            self.drop(name)  # its memory is free before the new one takes its own
            return self.keep(name, begin()), f"begun anew: {'; '.join(changes)}"
        return self.keep(name, begin()), ""
