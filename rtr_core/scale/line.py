"""What a fleet does next. It knows nothing of Ray, nor of time.

The clip with the most pixels left comes first, so that no long one begins when all others are done;
the units of a clip come in the order of time, so that what plays of it grows. A clip is opened only
when a worker has nothing else to do, and a worker has one unit at a time: what waits is a list here
and never a queue there.
"""

from collections import Counter, deque
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from ..errors import RtrError
from ..media.batch import FAILURES, Row, finished
from ..media.job import Done, Task, begun
from ..media.lock import Occupied
from ..media.manifest import Manifest
from ..media.partial import Partial
from ..media.source import fingerprint
from ..media.units import Survey, Unit

DEADLY = 3  # workers that die of one unit, without getting further with it
PATIENCE = 60  # tries where another process holds a unit's folder: a worker that was given up
Verb = Literal["facts", "survey", "render", "finish"]


class Work(NamedTuple):
    """A call of a worker."""

    film: "Film"
    verb: Verb
    unit: Unit | None = None

    def __str__(self) -> str:
        """As Ray's dashboard shows it."""
        what = f"frames {self.unit}" if self.unit else self.verb
        return f"{self.film.task.source.name} {what}"


@dataclass(eq=False)
class Film:
    """A clip on its way through the fleet."""

    task: Task
    frames: int | None  # as its file says
    area: int = 1  # pixels
    facts: dict[str, Any] = field(default_factory=dict)
    manifest: Manifest | None = None
    found: Survey | None = None
    waiting: deque[Work] = field(default_factory=deque)
    running: int = 0
    resumed_at: int = 0
    done: int = 0  # frames
    row: Row | None = None
    made: set[int] = field(default_factory=set)  # units, by their first frames
    breaks: Counter[str] = field(default_factory=Counter)  # of each work, since it got further
    reached: dict[str, int] = field(default_factory=dict)  # frame, when a worker died
    kept: ExitStack = field(default_factory=ExitStack)

    @property
    def load(self) -> int:
        return (self.frames or 0) * self.area

    # ---- steps ----

    def begin(self, facts: dict[str, Any], force: bool) -> None:
        """The job as far as it is done, held against others until the film is closed."""
        if facts["source"] != fingerprint(self.task.source):
            raise RtrError(
                f"{self.task.source} is another file on the worker: its storage is not shared."
            )
        self.facts = facts
        self.manifest = self.kept.enter_context(begun(self.task, facts, force))
        self.resumed_at = self.done = self.manifest.frames
        paths = [self.manifest.path(s.name) for s in self.manifest.segments]
        self.partial = Partial(self.task.partial, paths)
        if self.manifest.source_ended:
            self.waiting.append(Work(self, "finish"))
        else:
            self.waiting.append(Work(self, "survey"))

    def divide(self, found: Survey) -> None:
        assert self.manifest is not None, "a clip is begun before it is divided"
        self.found = found
        self.waiting += [Work(self, "render", unit) for unit in found.units(self.manifest)]

    def take_over(self) -> None:
        """What has been made becomes part of the film, once all before it is."""
        assert self.manifest is not None and self.found is not None
        before = self.manifest
        self.manifest = before.with_parts(self.made)
        for segment in self.manifest.segments[len(before.segments) :]:
            self.partial.append(self.manifest.path(segment.name))
        if self.manifest.source_ended:
            self.waiting.append(Work(self, "finish"))
        elif not self.waiting and not self.running:  # files are gone that had been made
            self.divide(self.found)

    def close(self, row: Row) -> None:
        self.row = self.row or row
        self.waiting.clear()
        if not self.running:
            self.kept.close()


class Line:
    """All clips of a run. `next` gives work, and each ends with `back`, `lost` or `failed`."""

    def __init__(self, films: list[Film], force: bool = False):
        self.films, self.force = films, force
        self.unopened = deque(sorted(films, key=lambda film: -film.load))
        self.open: list[Film] = []
        self._told: set[int] = set()

    def next(self) -> Work | None:
        for film in self.open:
            if film.waiting:
                film.running += 1
                return film.waiting.popleft()
        if not self.unopened:
            return None
        film = self.unopened.popleft()
        self.open.append(film)
        film.running += 1
        return Work(film, "facts")

    def back(self, work: Work, result: Any) -> None:
        film = work.film
        film.running -= 1
        if film.row is not None:
            return film.close(film.row)
        try:
            self._go_on(work, result)
        except FAILURES as error:
            self._give_up(film, error)

    def _go_on(self, work: Work, result: Any) -> None:
        film = work.film
        match work.verb:
            case "facts":
                film.begin(result, self.force)
            case "survey":
                film.divide(result)
            case "render":
                assert work.unit is not None, "only units are rendered"
                film.made.add(work.unit.first)
                film.done += result
                film.take_over()
            case "finish":
                assert isinstance(result, Done)
                film.close(finished(film.task.source, result))

    def lost(self, work: Work) -> None:
        """The worker died. Somebody else goes on where it was."""
        film, key = work.film, str(work)
        film.running -= 1
        if work.unit is not None and film.manifest is not None:
            reached = film.manifest.reached(work.unit.first)
            if reached > film.reached.get(key, work.unit.first):
                film.breaks[key] = 0
            film.reached[key] = reached
        film.breaks[key] += 1
        if film.breaks[key] < DEADLY:
            return self._again(work)
        message = f"{DEADLY} workers died of {work}. Try it without --ray to see why."
        self._give_up(film, RtrError(message))

    def failed(self, work: Work, error: BaseException) -> None:
        """The clip is broken, or its options are."""
        film = work.film
        film.running -= 1
        if isinstance(error, Occupied):
            film.breaks[str(work)] += 1
            if film.breaks[str(work)] < PATIENCE:
                return self._again(work)
        self._give_up(film, error)

    def _again(self, work: Work) -> None:
        if work.film.row is None:
            work.film.waiting.appendleft(work)
        else:
            work.film.close(work.film.row)

    def _give_up(self, film: Film, error: BaseException) -> None:
        film.close(Row(film.task.source, f"failed: {error}", failed=True))

    def rows(self) -> Iterator[Row]:
        """What has become of clips since it was asked last."""
        for film in list(self.open):
            if film.row is not None and not film.running:
                film.close(film.row)
                self.open.remove(film)
                yield film.row

    @property
    def is_done(self) -> bool:
        return not self.open and not self.unopened

    @property
    def frames(self) -> int:
        return sum(film.done for film in self.films)

    def close(self) -> None:
        for film in self.films:
            film.kept.close()
