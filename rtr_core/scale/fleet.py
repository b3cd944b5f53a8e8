"""Clips on many GPUs or groups of cores, through Ray: one stylizer in each, units handed out.

The machine that runs the command keeps the books: it holds each job's folder and writes its
manifest. Workers write parts, each in a folder of its own. So whatever dies costs the segments that
were open, and the same command goes on.
"""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray  # pyright: ignore[reportMissingImports]
import torch
from ray.exceptions import (  # pyright: ignore[reportMissingImports]
    GetTimeoutError,
    RayError,
    RayTaskError,
)

from ..errors import ClipError, RtrError
from ..media.batch import Row
from .host import Host, check_alike, shared
from .line import Film, Line, Work
from .stylist import Post, Stylist

OBJECTS = 100 * 2**20  # bytes of Ray's store: what goes through it is small
TICK = 0.5  # seconds between two looks at how far it is
GATHERING = 60.0  # seconds that the first worker waits for the others
STILLBORN = 3  # workers, one after the other, that die before they have said who they are


@dataclass(frozen=True, kw_only=True)
class Muster:
    """How many workers are wanted, and what Ray is to give each."""

    workers: int | None  # None: as many as there is room for
    cores: int
    per_gpu: int
    on_gpu: bool

    @classmethod
    def of(
        cls, device: str | None, workers: int | None, cores: int | None, per_gpu: int
    ) -> "Muster":
        """On the cluster's GPUs, if it has any and no other device is asked for."""
        on_gpu = (device or "cuda").startswith("cuda") and ray.cluster_resources().get("GPU", 0) > 0
        usual = 1 if on_gpu else torch.get_num_threads()  # the same bits as of one process
        return cls(workers=workers, cores=cores or usual, per_gpu=per_gpu, on_gpu=on_gpu)

    @property
    def share(self) -> float:
        """Of its device's memory that a worker may take."""
        if self.on_gpu:
            return 1 / self.per_gpu
        most = max(node["Resources"].get("CPU", 1) for node in ray.nodes() if node["Alive"])
        return min(1.0, self.cores / most)

    @property
    def options(self) -> dict[str, Any]:
        return {"num_cpus": self.cores, "num_gpus": 1 / self.per_gpu if self.on_gpu else 0}

    def count(self) -> int:
        """By what the cluster has now."""
        there = ray.cluster_resources()
        room = int(there.get("CPU", 0) // self.cores)
        if self.on_gpu:
            room = min(room, int(there.get("GPU", 0)) * self.per_gpu)
        if not room:
            raise ClipError(
                f"Ray has room for no worker: each takes {self.options}, there is {there}."
            )
        return min(self.workers or room, room)


@dataclass(frozen=True, kw_only=True)
class Call:
    """A piece of work that was done, for those who reckon with it."""

    worker: str
    clip: str
    verb: str
    frames: int  # made, or of the whole clip
    begin: float  # seconds since the fleet began
    end: float


@dataclass(eq=False)
class Worker:
    handle: Any
    name: str
    host: Host | None = None
    work: Work | None = None
    since: float = 0.0  # when it was handed out


def connect(address: str, cores: int) -> None:
    """Join a cluster, or begin one on this machine."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")  # Ray would have workers give way to all else
    if ray.is_initialized():
        return
    known: dict[str, Any] = {"namespace": "rtr", "log_to_driver": False, "logging_level": "error"}
    if address == "local":
        known |= {"include_dashboard": False, "object_store_memory": OBJECTS, "num_cpus": cores}
    else:
        known["address"] = address
    try:
        ray.init(**known)
    except (RuntimeError, ConnectionError, ValueError) as error:
        raise ClipError(
            f"There is no Ray cluster at {address}: {error}. `ray start --head` begins one; "
            f"--ray alone works on this machine."
        ) from error


class Fleet:
    """Workers, and the line that they work off."""

    def __init__(self, line: Line, post: Post, muster: Muster, on_tick: Callable[["Fleet"], None]):
        self.line, self.post, self.muster, self.on_tick = line, post, muster, on_tick
        self.workers: list[Worker] = []
        self.calls: dict[Any, Worker] = {}  # by what Ray gives for them
        self.tasks: dict[Film, Any] = {}  # as Ray keeps them
        self.log: list[Call] = []
        self.began = self.asked = time.monotonic()
        self.hired = self.stillborn = self.here = 0  # the last: frames of the work at hand

    @property
    def frames(self) -> int:
        """Done, those of open units included."""
        return self.line.frames + self.here

    def run(self, folder: Path) -> Iterator[Row]:
        """Work all clips off. What became of each comes as soon as it is known."""
        with shared(folder) as proof:
            try:
                self.proof, self.secret = proof, proof.read_text(encoding="utf-8")
                for _ in range(self.muster.count()):
                    self._hire()
                self._gather()
                while not self.line.is_done:
                    self._hand_out()
                    self._wait()
                    yield from self.line.rows()
            finally:
                for worker in self.workers:
                    ray.kill(worker.handle)
                self.line.close()

    # ---- workers ----

    def _hire(self) -> None:
        self.hired += 1
        name = f"rtr stylist {self.hired}"
        kind = ray.remote(Stylist).options(name=name, max_concurrency=2, **self.muster.options)
        worker = Worker(kind.remote(self.post), name)
        self.workers.append(worker)
        self.calls[worker.handle.introduce.remote(self.proof)] = worker

    def _gather(self) -> None:
        """Nothing begins before all have come, or as many as there are after a while."""
        while any(worker.host is None for worker in self.workers):
            self._wait()
            late = time.monotonic() - self.began > GATHERING
            if late and any(worker.host for worker in self.workers):
                return

    def _welcome(self, worker: Worker, host: Host, said: str) -> None:
        if said != self.secret:
            raise ClipError(f"{self.proof.parent} is another folder on {host.name}: share it.")
        known = [other.host for other in self.workers if other.host]
        check_alike([*known, host])
        worker.host, self.stillborn = host, 0

    def _bury(self, worker: Worker, error: RayError) -> None:
        """Another one takes its place."""
        self.workers.remove(worker)
        if worker.host is None:
            self.stillborn += 1
            if self.stillborn >= STILLBORN:
                raise ClipError(f"{STILLBORN} workers died before they could begin: {error}")
        if worker.work is not None:
            self.line.lost(worker.work)
        ray.kill(worker.handle)
        self._hire()

    # ---- work ----

    def _hand_out(self) -> None:
        for worker in self.workers:
            if worker.host is None or worker.work is not None:
                continue
            if (work := self.line.next()) is None:
                return
            worker.work, worker.since = work, time.monotonic() - self.began
            call = getattr(worker.handle, work.verb).options(name=str(work))
            self.calls[call.remote(self._task(work.film), *self._given(work))] = worker

    def _given(self, work: Work) -> tuple[Any, ...]:
        match work.verb:
            case "render":
                return work.unit, work.film.facts
            case "finish":
                return (work.film.resumed_at,)
        return ()

    def _task(self, film: Film) -> Any:
        if film not in self.tasks:
            self.tasks[film] = ray.put(film.task)
        return self.tasks[film]

    def _wait(self) -> None:
        ready, _ = ray.wait([*self.calls], timeout=TICK)
        for call in ready:
            worker = self.calls.pop(call)
            work, worker_was = worker.work, worker.host
            try:
                result = ray.get(call)
            except RayTaskError as error:
                worker.work = None
                if work is None or worker_was is None:
                    raise _told(error) from error
                self.line.failed(work, _told(error))
            except RayError as error:
                self._bury(worker, error)
            else:
                worker.work = None
                if work is None:
                    self._welcome(worker, *result)
                else:
                    self._note(worker, work, result)
                    self.line.back(work, result)
        if (now := time.monotonic()) - self.asked > TICK:
            self.asked = now
            self._ask()
            self.on_tick(self)

    def _note(self, worker: Worker, work: Work, result: Any) -> None:
        film = work.film
        self.log.append(
            Call(
                worker=worker.name,
                clip=film.task.source.name,
                verb=work.verb,
                frames=result if work.verb == "render" else film.frames or 0,
                begin=worker.since,
                end=time.monotonic() - self.began,
            )
        )

    def _ask(self) -> None:
        """How far each is. Who does not answer at once is not waited for."""
        asked = [w.handle.told.remote() for w in self.workers if w.work and w.work.unit]
        ready, _ = ray.wait(asked, num_returns=len(asked), timeout=TICK) if asked else ([], [])
        self.here = 0
        for call in ready:
            try:
                self.here += ray.get(call, timeout=TICK)
            except (RayError, GetTimeoutError):
                continue  # its work will tell


def _told(error: RayTaskError) -> Exception:
    """What went wrong on the worker, in its own words."""
    cause = error.cause
    if isinstance(cause, ModuleNotFoundError):
        return ClipError(f"A worker lacks {cause.name}: install RTR there as it is here.")
    if isinstance(cause, RtrError | OSError | MemoryError):
        return cause
    return RuntimeError(str(cause))
