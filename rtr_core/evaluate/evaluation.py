"""Outputs measured against their sources, one after the other; a bad one does not stop the rest."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import fmean
from typing import Any

import numpy as np
import torch

from ..appearance import Frames
from ..errors import ClipError
from ..frames import covering
from ..media.batch import FAILURES
from ..shapes import Size
from .bars import Bar, Table
from .by_weights import NEEDS, Seers
from .course import Course
from .descriptor import Descriptor, apart
from .film import Film, Pictures
from .gauges import Likeness, Look, Steadiness
from .passages import Pair, measured_size, passages
from .report import rows_of
from .showings import Showing
from .triples import Skipped

SIDE = 384  # pixels of the longer side that frames are measured at
FEWEST = 3  # different references from which it can be told which is meant
PAPER = ("CLIP-F", "aesthetic", "imaging")  # of the paper's table, beside CLIP-T or CSD
GUIDED = {"by prompt": "CLIP-T", "by reference": "CSD", "not told": "CLIP-T"}


@dataclass(frozen=True, kw_only=True)
class Result:
    """All that is known of one output."""

    name: str
    method: str
    prompt: str | None
    reference: np.ndarray | None  # uint8 [h w 3]
    frames: int
    rate: float
    size: Size
    minutes: float | None
    bars: dict[str, Bar]
    curve: list[dict[str, float]]
    pictures: Pictures
    described: np.ndarray  # its style
    wanted: np.ndarray | None  # the reference's
    notes: list[str]
    paths: dict[str, str]

    @property
    def missed(self) -> list[str]:
        return [key for key, bar in self.bars.items() if bar.passed is False]

    def values(self) -> dict[str, Any]:
        """For a JSON file."""
        return {
            "name": self.name,
            "method": self.method,
            **self.paths,
            "prompt": self.prompt,
            "frames": self.frames,
            "rate": self.rate,
            "size": str(self.size),
            "minutes": self.minutes,
            "missed": self.missed,
            "figures": {n: asdict(bar) | {"passed": bar.passed} for n, bar in self.bars.items()},
            "curve": self.curve,
            "notes": self.notes,
        }

    @property
    def guided(self) -> str:
        if self.reference is not None:
            return "by reference"
        return "by prompt" if self.prompt else "not told"


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Results with those that missed most first, what was skipped, and what has to be known."""

    results: Sequence[Result]
    skipped: Sequence[Skipped] = ()
    about: dict[str, Any] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)  # weights, and why

    @property
    def whole(self) -> bool:
        """Whether all that was asked for was measured."""
        return bool(self.results) and not self.skipped and not self.refused

    def values(self) -> dict[str, Any]:
        """For a JSON file."""
        table = self.paper()
        return {
            "about": self.about,
            "paper": [dict(zip(table.head, row, strict=True)) for row in table.rows],
            "clips": [result.values() for result in self.results],
            "skipped": [skipped._asdict() for skipped in self.skipped],
            "refused weights": self.refused,
        }

    def paper(self) -> Table:
        """The paper's first table: a row for each method and kind of guidance."""
        head = ("method", "guided", "clips", "CLIP-T / CSD", "CLIP-F", "AQ", "IQ", "min a clip")
        return Table(head, [self._row(*kind) for kind in self._kinds()])

    def _kinds(self) -> list[tuple[str, str]]:
        return sorted({(result.guided, result.method) for result in self.results})

    def _row(self, guided: str, method: str) -> tuple[Any, ...]:
        among = [r for r in self.results if (r.guided, r.method) == (guided, method)]
        keys = (GUIDED[guided], *PAPER)
        minutes = mean_of([result.minutes for result in among])
        values = [mean_of([result.bars[key].value for result in among]) for key in keys]
        return method, guided, len(among), *values, minutes


def on_screen(evaluation: Evaluation) -> str:
    """What a terminal shows."""
    lines = rows_of(evaluation.paper()) if evaluation.results else []
    head = ("clip", "method", "structure", "warp excess", "motion", "look at")
    rows = [
        (r.name, r.method, *(r.bars[key].value for key in head[2:5]), ", ".join(r.missed) or "-")
        for r in evaluation.results
    ]
    lines += rows_of(Table(head, rows)) if rows else []
    lines += [f"skipped {name}: {reason}" for name, reason in evaluation.skipped]
    lines += [f"refused --{name}: {reason}" for name, reason in evaluation.refused.items()]
    return "\n".join(lines)


def mean_of(values: Iterable[float | None]) -> float | None:
    """Of those there are."""
    found = [value for value in values if value is not None]
    return fmean(found) if found else None


@dataclass(frozen=True, kw_only=True)
class Measuring:
    """How clips are measured."""

    descriptor: Descriptor
    seers: Seers
    side: int = SIDE

    def evaluate(
        self,
        showings: Sequence[tuple[str, Callable[[], Showing]]],
        skipped: Sequence[Skipped],
        about: dict[str, Any],
        tell: Callable[[str], None],
    ) -> Evaluation:
        """All showings, each opened when its turn comes."""
        results, left_out = [], list(skipped)
        for number, (name, opened) in enumerate(showings, 1):
            tell(f"{number} of {len(showings)}: {name}")
            try:
                results.append(self.measure(opened()))
            except FAILURES as error:
                left_out.append(Skipped(name, str(error)))
        results = sorted(with_own_reference(results), key=lambda r: (-len(r.missed), r.name))
        return Evaluation(
            results=results, skipped=left_out, about=about, refused=dict(self.seers.refused)
        )

    def measure(self, showing: Showing) -> Result:
        """One output, in memory that does not grow with its length."""
        seen = self.seers.gauges(showing)
        steady, like, course = Steadiness(), Likeness(), Course(showing.rate)
        film, look = Film(showing.rate), Look(self.descriptor, self._small(showing.reference))
        size: list[Size] = []

        def see(number: int, pair: Pair) -> None:
            size[:] = size or [Size(*pair.output.shape[:2])]
            for gauge in seen:
                gauge.see(number, pair)

        frames = 0
        for passage in passages(showing.pairs(), showing.rate, self.side, see):
            said = [gauge.take(passage) for gauge in (steady, like, course, look)]
            course.note(passage, {name: v for part in said for name, v in part.items()})
            film.take(passage)
            frames += passage.count
        if not frames:
            raise ClipError("there is no frame that can be read.")
        bars = {name: bar for g in (steady, like, look, course) for name, bar in g.bars().items()}
        paper = self.seers.absent() | {n: bar for g in seen for n, bar in g.bars().items()}
        return Result(
            name=showing.name,
            method=showing.method,
            prompt=showing.prompt,
            reference=None if showing.reference is None else showing.reference.cpu().numpy(),
            frames=frames,
            rate=showing.rate,
            size=size[0],
            minutes=showing.minutes,
            bars={name: paper[name] for name in NEEDS} | bars,
            curve=course.points,
            pictures=film.pictures(),
            described=look.described,
            wanted=look.reference,
            notes=showing.notes,
            paths=showing.paths,
        )

    def _small(self, reference: torch.Tensor | None) -> Frames | None:
        if reference is None:
            return None
        size = measured_size(Size(*reference.shape[:2]), self.side)
        return covering(reference, size).cpu().numpy()[None]


def with_own_reference(results: list[Result]) -> list[Result]:
    """Each told whether the nearest of all references is its own: a swapped style shows here."""
    asked = [(result, result.wanted) for result in results if result.wanted is not None]
    bank = [wanted for n, (_, wanted) in enumerate(asked) if not _known(wanted, asked[:n])]
    claim = "whether the nearest of all references is its own"
    reason = f"fewer than {FEWEST} different references" if asked else "no reference"
    bars = {id(result): Bar(claim=claim, value=None, reason=reason) for result in results}
    if len(bank) >= FEWEST:
        nearest = apart([result.described for result, _ in asked], bank).argmin(1)
        for (result, wanted), number in zip(asked, nearest, strict=True):
            is_own = np.array_equal(bank[number], wanted)
            bars[id(result)] = Bar(claim=claim, value=float(is_own), least=1)
    return [replace(r, bars=r.bars | {"own reference": bars[id(r)]}) for r in results]


def _known(wanted: np.ndarray, before: Sequence[tuple[Result, np.ndarray]]) -> bool:
    return any(np.array_equal(wanted, other) for _, other in before)
