"""The simulation against a real run: `python -m rtr_core.scale.check FOLDER [WORKERS]`.

Clips go through local workers. What calls take is learnt from every second clip, while all workers
are busy, for they share the cores with one another and with whatever else the machine does. From
that, and from how many frames the units of all clips have, the time of the whole run is reckoned,
and held against the clock.
"""

import json
import sys
from collections import defaultdict
from collections.abc import Container, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean

from ..cues import CueSheet
from ..media.batch import clips_in
from ..media.codecs import H264
from ..media.job import Task
from ..media.source import open_source
from ..stylizer import BUILT_IN, Stylizer
from .fleet import Call, Fleet, Muster, connect
from .line import Film, Line
from .simulate import VERBS, Clip, Costs, fitted, simulate
from .stylist import Post

SHEET = CueSheet.parse("00:00 ink wash painting")
SEGMENT = 48  # frames: small clips have several units


def main(folder: Path, workers: int) -> None:
    clips = clips_in(folder)
    connect("local", workers)
    calls = passed(clips, folder / "styled", workers)
    known = {clip.name for clip in clips[::2]}
    costs = costs_of(calls, known)
    predicted = simulate(clips_of(calls), [0.0] * workers, costs)
    seconds = ended(calls) - begun(calls)
    told = {
        "workers": workers,
        "clips": len(clips),
        "those that costs are learnt from": len(known),
        "units": sum(call.verb == "render" for call in calls),
        "predicted, s": round(predicted.seconds, 2),
        "measured, s": round(seconds, 2),
        "predicted / measured": round(predicted.seconds / seconds, 3),
        "busy, predicted": round(predicted.busy, 3),
        "costs, s": costs,
    }
    sys.stdout.write(json.dumps(told, indent=1) + "\n")


def passed(clips: Sequence[Path], out: Path, workers: int) -> list[Call]:
    """All calls of a real run."""
    out.mkdir()
    films = []
    for clip in clips:
        task = Task(
            source=clip.absolute(),
            out=out.absolute() / clip.name,
            sheet=SHEET,
            styles=SHEET.styles(),
            codec=H264,
            shots="auto",
            segment_frames=SEGMENT,
        )
        with open_source(clip) as source:
            films.append(Film(task, source.info.frames, source.info.size.area))
    opened = partial(Stylizer.load, BUILT_IN, device="cpu")
    post = Post(open_stylizer=opened, threads=1, share=1.0)
    muster = Muster(workers=workers, cores=1, per_gpu=1, on_gpu=False)
    fleet = Fleet(Line(films), post, muster, lambda fleet: None)
    failed = [row.said for row in fleet.run(out) if row.failed]
    if failed:
        raise SystemExit(f"The run failed: {failed}.")
    return fleet.log


def costs_of(calls: Sequence[Call], known: Container[str]) -> Costs:
    """By the later calls of each worker, and what its first one takes more; of `known` clips."""
    seen, firsts, later = set(), defaultdict(list), defaultdict(list)
    for call in sorted(calls, key=lambda call: call.begin):
        key = call.worker, call.verb
        if call.clip in known:
            kind = later if key in seen else firsts
            kind[call.verb].append((call.frames, call.end - call.begin))
        seen.add(key)
    costs = {}
    for verb in VERBS:
        line = fitted(later[verb] or firsts[verb])
        more = [seconds - line(frames) for frames, seconds in firsts[verb]]
        costs[verb] = line._replace(first=max(0.0, fmean(more)) if more else 0.0)
    return costs


def clips_of(calls: Sequence[Call]) -> list[Clip]:
    names = dict.fromkeys(call.clip for call in calls)
    return [
        tuple(call.frames for call in calls if call.clip == name and call.verb == "render")
        for name in names
    ]


def begun(calls: Sequence[Call]) -> float:
    return min(call.begin for call in calls)


def ended(calls: Sequence[Call]) -> float:
    return max(call.end for call in calls)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 4)
