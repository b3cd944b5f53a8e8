"""A worker of a fleet: one loaded model in a process of its own. It knows nothing of Ray."""

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..errors import ClipError
from ..media.job import Done, Job, Task
from ..media.lock import Occupied
from ..media.manifest import Manifest
from ..media.render import Styled
from ..media.source import fingerprint, open_source
from ..media.units import Survey, Unit, make, survey
from ..stylizer import Stylizer
from .host import Host, answer, check_room, this_host

PAUSE = 1.0  # seconds


@dataclass(frozen=True, kw_only=True)
class Post:
    """What a worker is given when it is hired."""

    open_stylizer: Callable[[], Stylizer]
    threads: int  # of torch
    share: float  # of its device's memory


class Stylist:
    """Does one piece of work at a time, and tells meanwhile how far it is."""

    def __init__(self, post: Post):
        self.post, self.frames = post, 0  # frames of the work at hand

    def __repr__(self) -> str:
        return f"rtr stylist on {socket.gethostname()}"

    def introduce(self, proof: Path) -> tuple[Host, str]:
        """Load the model. What is missing here is said now."""
        said = answer(proof)
        self._begin()
        self.stylizer = self.post.open_stylizer()
        return this_host(self.stylizer), said

    def facts(self, task: Task) -> dict[str, Any]:
        """All that decides a clip's result, as it is seen from here."""
        with open_source(task.source) as source:
            info = source.info
        check_room(self.stylizer, info, task.size or info.size, self.post.share)
        return task.facts(self.stylizer)

    def survey(self, task: Task) -> Survey:
        return survey(task, self.stylizer.recipe, self.stylizer.parts.vae.stride)

    def render(self, task: Task, unit: Unit, facts: dict[str, Any]) -> int:
        """Returns how many frames were made now."""
        self._begin()
        if fingerprint(task.source) != facts["source"]:
            raise ClipError(
                f"{task.source} on {socket.gethostname()} is not the file that the job was begun "
                f"with: its storage is not shared, or it was changed."
            )
        try:
            make(Job(task, self.stylizer, self._count), unit, facts)
        except Occupied:
            time.sleep(PAUSE)  # a worker that was given up may hold it a little longer
            raise
        return self.frames

    def finish(self, task: Task, resumed_at: int) -> Done:
        self._begin()
        return Job(task, self.stylizer, self._count).end(Manifest.read(task.folder), resumed_at)

    def told(self) -> int:
        return self.frames

    def _begin(self) -> None:
        torch.set_num_threads(self.post.threads)  # it counts for the thread that is told so
        self.frames = 0

    def _count(self, styled: Styled) -> None:
        self.frames += 1
