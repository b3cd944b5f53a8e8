"""A stylizer and the pages that use it: one worker gives each of them its turn.

    stage = Stage(Setup(chips=chips), weights, busy)
    viewer = stage.enter(tell, show)        # None where it is full
    viewer.put(picture); stage.wake()
    stage.leave(viewer)

**The rule by which the device is shared.** Pages take turns of one chunk, in a circle, those that
have nothing to render left out. While the host works on something else (`busy`), the worker rests
after each turn for as long as the turn took: a queued graph has at least half of the time, and
every stream goes on, at half its rate.
"""

import logging
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from threading import Condition, Thread
from typing import Any

import torch
from torch import Tensor

from ..errors import RtrError
from ..recipes import Recipe
from ..stylizer import Stylizer
from .take import TakeDone
from .viewer import Setup, Viewer

MOST_VIEWERS = 4
AWAY_SECONDS = 0.5  # between two looks at whether the weights are back
POLL_SECONDS = 0.5
LONGEST_REST = 1.0  # seconds: a slow first chunk must not freeze the stream

log = logging.getLogger(__name__)


class Tokens:
    """What a link must have in it: to perform, and only to watch."""

    def __init__(self):
        self.perform, self.watch = secrets.token_urlsafe(12), secrets.token_urlsafe(12)


class Away(RtrError):
    """The weights cannot be used now; says why, and what brings them back."""


def low_latency(recipe: Recipe) -> Recipe:
    """The same weights with the shortest wait: chunks of one latent frame, and where there are
    several steps one of them for each chunk in flight, so that each call gives frames."""
    steps = len(recipe.timesteps)
    panes = recipe.panes and (1, *recipe.panes[1:])
    quick = recipe.override(chunk=1, first=None, panes=panes)
    if steps == 1 or recipe.between == "flow":
        return quick
    return quick.override(buffer=steps, flight="apart", commit="last step")


class Stage:
    """Opened by whoever has a stylizer; closed when it goes."""

    def __init__(
        self,
        setup: Setup,
        weights: Callable[[], AbstractContextManager[Stylizer]],
        busy: Callable[[], bool] = lambda: False,
        most: int = MOST_VIEWERS,
        tokens: Tokens | None = None,
    ):
        self.setup, self.weights, self.busy, self.most = setup, weights, busy, most
        self.tokens = tokens or Tokens()
        self.name = "model"
        self.recorded: list[TakeDone] = []
        self.on_recorded: Callable[[TakeDone], None] = lambda take: None
        self.lead: Viewer | None = None  # who began last: watchers see that one
        self.sinks: list[Callable[[Tensor], None]] = []  # of the lead's frames, a camera say
        self._viewers: list[Viewer] = []
        self._leaving: list[Viewer] = []
        self._ends: dict[Viewer, Callable[[], None]] = {}
        self._change = Condition()
        self._is_open = True
        self._is_eager = False  # the turn at hand was waited for: more frames would have their turn
        self._thread = Thread(target=self._work, name="rtr live", daemon=True)
        self._thread.start()

    @classmethod
    def of(cls, stylizer: Stylizer, setup: Setup, most: int = MOST_VIEWERS) -> "Stage":
        """A stage of weights that never go away."""
        stage = cls(setup, lambda: nullcontext(stylizer), most=most)
        stage.name = stylizer.parts.name
        return stage

    # ---- from any thread ----

    def enter(
        self,
        tell: Callable[[Mapping[str, Any]], None],
        show: Callable[[float, bytes, Tensor], None],
        end: Callable[[], None] = lambda: None,
    ) -> Viewer | None:
        """A new page's viewer, None where there is no room for one. `end` is called if the stage
        closes before the page leaves."""
        with self._change:
            if not self._is_open or len(self._viewers) + len(self._leaving) >= self.most:
                return None
            viewer = Viewer(self.setup, tell, show, self._took)
            self._viewers.append(viewer)
            self._ends[viewer] = end
            return viewer

    def leave(self, viewer: Viewer) -> None:
        """Let go of a page; its session goes before the next turn."""
        with self._change:
            if viewer in self._viewers:
                self._viewers.remove(viewer)
                self._leaving.append(viewer)
                del self._ends[viewer]
            self._change.notify()

    def wake(self) -> None:
        """Something was put in."""
        with self._change:
            self._change.notify()

    def close(self) -> None:
        """End all sessions and recordings; waits for the chunk at hand."""
        with self._change:
            self._is_open = False
            self._change.notify()
        self._thread.join()
        for end in self._ends.values():
            end()

    @property
    def viewers(self) -> int:
        return len(self._viewers)

    @property
    def is_open(self) -> bool:
        return self._is_open

    # ---- the worker ----

    def _took(self, take: TakeDone) -> None:
        self.recorded.append(take)
        self.on_recorded(take)

    @torch.inference_mode()
    def _work(self) -> None:
        while (viewer := self._next()) is not None:
            began = time.monotonic()
            frames = self._turn(viewer)
            if self.busy():
                time.sleep(min(time.monotonic() - began, LONGEST_REST))
            spent = (time.monotonic() - began) * max(1, self.viewers)
            viewer.learn_pace(frames, spent, self._is_eager)
        for viewer in [*self._viewers, *self._leaving]:
            viewer.close()
        self._viewers.clear()

    def _next(self) -> Viewer | None:
        """The page whose turn it is, the others behind it; None when all is over."""
        self._is_eager = False
        while True:
            with self._change:
                leaving, self._leaving = self._leaving, []
                if not self._is_open:
                    self._leaving = leaving
                    return None
                viewer = next((v for v in self._viewers if v.has_work), None)
                if viewer is not None:
                    self._viewers.remove(viewer)
                    self._viewers.append(viewer)
                elif not leaving:
                    self._is_eager = True
                    self._change.wait(POLL_SECONDS)
            for gone in leaving:
                gone.close()
            if viewer is not None:
                return viewer

    def _turn(self, viewer: Viewer) -> int:
        try:
            with self.weights() as stylizer:
                return viewer.turn(stylizer)
        except Away as away:
            viewer.tell({"is": "waiting", "why": str(away)})
            time.sleep(AWAY_SECONDS)
        except Exception as error:  # one page's trouble must not end the others' streams
            log.exception("A live stream broke")
            viewer.close()
            why = f"The stream broke ({type(error).__name__}: {error}): begin again."
            viewer.tell({"is": "refused", "what": "begin", "why": why})
        return 0
