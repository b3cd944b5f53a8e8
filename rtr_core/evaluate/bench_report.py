"""What a bench found: as a table for people, as JSON for machines, and two of them as ratios."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import ClipError
from ..media.needs import amount
from .bars import shown

FORMAT = "rtr-bench-1"
PASSING = ("chunks timed", "load when it ended")  # two runs may differ in them and be alike
BROKEN = (KeyError, TypeError, ValueError, AttributeError)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A stage of a chunk."""

    name: str
    seconds: float  # median
    worst: float
    share: float  # of the chunk
    flops: int
    weights: int  # bytes
    past: int
    ends: int
    moved: int
    roofline: float  # share of what the machine could do
    bound: str  # by "arithmetic" or "bytes"


@dataclass(frozen=True, kw_only=True)
class Bench:
    about: Mapping[str, Any]
    figures: Mapping[str, float]  # the name says the unit
    stages: Sequence[Stage]
    notes: Sequence[str] = ()

    def to_json(self) -> str:
        return json.dumps({"format": FORMAT} | asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str, name: str = "the text") -> "Bench":
        try:
            values = json.loads(text)
            if values.pop("format") != FORMAT:
                raise ValueError("of another format")
            stages = [Stage(**stage) for stage in values.pop("stages")]
            return cls(stages=stages, **values)
        except BROKEN as error:
            raise ClipError(
                f"{name} is no report of `rtr bench --json FILE` (format {FORMAT}): {error!r}."
            ) from error

    @classmethod
    def read(cls, path: Path) -> "Bench":
        try:
            return cls.from_json(path.read_text(encoding="utf-8"), str(path))
        except UnicodeDecodeError as error:
            raise ClipError(f"{path} is no report of `rtr bench`, but binary data.") from error

    # ---- words ----

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def lines(self) -> Iterator[str]:
        about, recipe = self.about, self.about["recipe"]
        window = "all" if recipe["window"] is None else recipe["window"]
        yield f"{about['model']} ({about['weights']}), {about['autoencoder']}, at {about['size']}"
        yield (
            f"recipe {recipe['name']}: {len(recipe['timesteps'])} steps, {recipe['chunk']} latent "
            f"frames a chunk, {window} behind them in sight, {about['dtype']}"
            f"{', compiled' if about['compiled'] else ''}"
        )
        yield f"{about['device']}, {about['threads']} threads"
        yield ""
        head = ("", "ms", "worst", "share", "GFLOP", "least MB", "moved MB", "roofline", "bound by")
        yield from table([head, *map(stage_row, self.stages)])
        yield ""
        yield from table([(name, valued(name, value)) for name, value in self.figures.items()])
        yield from (f"note: {note}" for note in self.notes)


def stage_row(stage: Stage) -> tuple[str, ...]:
    least = stage.weights + stage.past + stage.ends
    numbers = stage.flops / 1e9, least / 1e6, stage.moved / 1e6
    return (
        stage.name,
        f"{1000 * stage.seconds:.2f}",
        f"{1000 * stage.worst:.2f}",
        f"{stage.share:.1%}",
        *(f"{number:.3g}" if number < 1000 else f"{number:.0f}" for number in numbers),
        f"{stage.roofline:.1%}" if least else "-",
        stage.bound if least else "-",
    )


def compared(first: Bench, second: Bench) -> Iterator[str]:
    """The second report as ratios to the first."""
    for name in first.about:
        a, b = first.about[name], second.about.get(name)
        if a != b and name not in PASSING:
            yield f"{name}: {_briefly(a, b)}"
    figures = ratios(first.figures, second.figures, first.figures)
    mine, theirs = ({s.name: s for s in bench.stages} for bench in (first, second))
    times = [{f"{n}, s": s.seconds for n, s in stages.items()} for stages in (mine, theirs)]
    yield from table(
        [
            ("", "first", "second", "second / first"),
            *ratios(times[0], times[1], times[0]),
            *figures,
        ]
    )


def ratios(
    first: Mapping[str, float], second: Mapping[str, float], names: Sequence[str] | Mapping
) -> list[tuple[str, ...]]:
    rows = []
    for name in names:
        if name in second:
            a, b = first[name], second[name]
            rows.append((name, valued(name, a), valued(name, b), f"{b / a:.3f}" if a else "-"))
    return rows


def valued(name: str, value: float) -> str:
    """A figure in the unit that its name asks for."""
    if "bytes/s" in name:
        return f"{value / 1e9:.3g} GB/s"
    if "bytes" in name:
        return amount(value)
    if "FLOP/s" in name:
        return f"{value / 1e9:.4g} GFLOP/s"
    if name.startswith("FLOP"):
        return f"{value / 1e9:.4g} G"
    if name.startswith("share"):
        return f"{value:.1%}"
    return f"{value:.4g}" if isinstance(value, float) and value < 10 else shown(value)


def table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Columns: the first is words, the others are numbers."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        yield "  ".join(cells).rstrip()


def _briefly(a: Any, b: Any) -> str:
    if isinstance(a, dict) and isinstance(b, dict):
        return ", ".join(f"{n} {a.get(n)} -> {b.get(n)}" for n in a if a.get(n) != b.get(n))
    return f"{a} -> {b}"
