"""What an exam finds: figures, some of them with a limit, in sections."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A figure that has to be within limits, both included."""

    claim: str
    value: float | None  # None: not measured, and `reason` says why
    least: float | None = None
    most: float | None = None
    unit: str = ""
    reason: str = ""

    @property
    def passed(self) -> bool | None:
        """None where nothing was measured."""
        if self.value is None:
            return None
        above = self.least is None or self.value >= self.least
        return above and (self.most is None or self.value <= self.most)

    @property
    def limit(self) -> str:
        bounds = [(self.least, "at least"), (self.most, "at most")]
        told = [f"{word} {shown(bound)}" for bound, word in bounds if bound is not None]
        return ", ".join(told) + self.unit


@dataclass(frozen=True)
class Table:
    head: Sequence[str]
    rows: Sequence[Sequence[Any]]
    title: str = ""


@dataclass(frozen=True, kw_only=True)
class Section:
    """One part of an exam."""

    name: str
    bars: Sequence[Bar] = ()
    tables: Sequence[Table] = ()
    notes: Sequence[str] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)  # for the JSON file only


def shown(value: Any) -> str:
    """A cell of a table."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"
    return str(value)
