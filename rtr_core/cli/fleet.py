"""`rtr stylize ... --ray`: the same work, the same bytes, on many machines."""

import argparse
import os
import sys
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ..errors import ClipError
from ..loras import read_strength
from ..media.batch import FAILURES, Row, clips_in, pairs, table
from ..media.source import open_source
from ..stylizer import BUILT_IN
from .clips import is_many, size_of_clips, task_of
from .models import loaded
from .progress import Progress
from .weights import FAILED

if TYPE_CHECKING:
    from ..scale.fleet import Fleet
    from ..scale.line import Film


def stylize_on_fleet(chosen: argparse.Namespace) -> int:
    for name, given in {"OUT -": str(chosen.out) == "-", "--frames": chosen.frames}.items():
        if given:
            raise ClipError(f"{name} is for one machine: leave out --ray.")
    if chosen.preview is not None:
        raise ClipError("--preview is for one machine: with --ray, look at OUT.rtr/partial.mov.")
    for name in ("workers", "cores", "per_gpu"):
        if (count := getattr(chosen, name)) is not None and count < 1:
            raise ClipError(f"--{name.replace('_', '-')} is 1 or more, not {count}.")
    rows, films = [], []
    for item in _films(with_whole_paths(chosen)):
        (rows if isinstance(item, Row) else films).append(item)
    if films:
        _expect_ray()
        rows += _run(with_whole_paths(chosen), films)
    print(table(rows))
    return FAILED if any(row.failed for row in rows) else 0


def _expect_ray() -> None:
    if find_spec("ray") is None:
        raise ClipError(
            "--ray needs Ray, which is not installed here: pip install 'realtime-rerenderer[ray]'. "
            "Without --ray everything works on one machine."
        )


def _run(chosen: argparse.Namespace, films: "list[Film]") -> Iterator[Row]:
    from ..scale.fleet import Fleet, Muster, connect
    from ..scale.line import Line
    from ..scale.stylist import Post

    cores, cpus = chosen.cores or torch.get_num_threads(), os.cpu_count() or 1
    connect(chosen.ray, max(cpus, cores * (chosen.workers or 1)))
    wanted = Muster.of(chosen.device, chosen.workers, chosen.cores, chosen.per_gpu)
    post = Post(
        open_stylizer=partial(loaded, chosen, partial(size_of_clips, chosen)),
        threads=wanted.cores,
        share=wanted.share,
    )
    lengths = [film.frames for film in films]
    progress = Progress(None if None in lengths else sum(n or 0 for n in lengths))

    def draw(fleet: "Fleet") -> None:
        busy = [worker.work for worker in fleet.workers if worker.work]
        progress.at(fleet.frames, f"{len(busy)}/{len(fleet.workers)}: {busy[0] if busy else ''}")

    fleet = Fleet(Line(films, chosen.force), post, wanted, draw)
    for row in fleet.run(chosen.out if chosen.out.is_dir() else chosen.out.parent):
        print(f"\r{row.clip.name}: {row.said}\x1b[K" if sys.stderr.isatty() else row.said)
        yield row
    progress.close()


def _films(chosen: argparse.Namespace) -> "Iterator[Film | Row]":
    """What is to be done, and rows of what is not."""
    from ..scale.line import Film

    todo: list[tuple[Path, Path | Row]] = [(chosen.source, chosen.out)]
    if is_many(chosen.source):
        clips = clips_in(chosen.source)
        todo = list(pairs(clips, chosen.out, chosen.codec, force=chosen.force))
    for clip, out in todo:
        if isinstance(out, Row):
            yield out
            continue
        try:
            task = task_of(chosen, clip.absolute(), out.absolute())
            with open_source(clip) as source:
                info = source.info
        except FAILURES as error:
            yield Row(clip, f"failed: {error}", failed=True)
            continue
        frames = info.frames
        if frames is None and info.duration is not None:
            frames = round(info.duration * info.rate)
        yield Film(task, frames, (task.size or info.size).area)


def with_whole_paths(chosen: argparse.Namespace) -> argparse.Namespace:
    """Options that mean the same in another process's folder."""
    values = dict(vars(chosen))
    values["model"] = [m if m == BUILT_IN else str(Path(m).absolute()) for m in chosen.model]
    for name in ("source", "out", "tokenizer", "depth", "decoder"):
        values[name] = values[name] and values[name].absolute()
    loras = map(read_strength, chosen.loras)
    values["loras"] = [f"{Path(file).absolute()}:{strength!r}" for file, strength in loras]
    return argparse.Namespace(**values)
