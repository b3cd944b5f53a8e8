"""The exam: every bar that an embedded model has to take, one section after the other."""

import hashlib
import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from ..appearance import LocalPatterns
from ..errors import ClipError
from ..stylizer import Stylizer
from . import by_prompt, by_reference, coding, length, order, speed
from .bars import Section
from .descriptor import Descriptor
from .held import read_held
from .here import processor
from .report import Report
from .subject import ExamConfig, Subject, styles_of

PACKAGES = ("realtime-rerenderer", "torch", "numpy", "opencv-python")


def run(subject: Subject) -> Iterator[Section]:
    """All sections, in the order in which an issue wants them shown."""
    if not any(clip.moves for clip in _clips(subject)):
        raise ClipError("None of the held-out clips moves: give some that do, or stills.")
    coded = coding.examine(subject)
    yield coded
    results = by_prompt.rendered(subject)
    yield by_prompt.examine(subject, results)
    yield by_reference.examine(subject)
    yield by_prompt.steadiness(subject, results, dict(coded.facts))
    yield length.examine(subject)
    yield order.examine(subject)
    yield speed.examine(subject)


def sit(
    files: Sequence[Path],
    clips: Path,
    folder: Path,
    config: ExamConfig,
    *,
    teacher: Path | None = None,
    causal: Path | None = None,
    descriptor: Descriptor | None = None,
    tell: Callable[[str], None],
) -> Report:
    """Examine the model in some files and write report and pictures to a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    stylizer = Stylizer.load(*files, device="cpu")
    least = by_reference.frames_of_clips(stylizer, config)
    held = read_held(clips, config.side, least, max(least, length.looped(config)))
    subject = Subject(
        stylizer=stylizer,
        styles=styles_of(files),
        held=held,
        config=config,
        descriptor=descriptor or LocalPatterns(),
        folder=folder,
        teacher=Stylizer.load(teacher, device="cpu") if teacher else None,
        causal=Stylizer.load(causal, device="cpu") if causal else None,
    )
    tell(f"{len(held.clips)} clips and {len(held.stills)} stills, {len(subject.styles)} styles")
    files_of = {"model": list(files), "teacher": [teacher], "causal": [causal]}
    report, watch = Report(about=about_this(subject, files_of), sections=[]), Watch()
    for section in run(subject):
        took = watch.lap()
        report = report.with_section(section, took)
        report.write(folder)  # what is known is kept, whatever happens to the next section
        missed = sum(bar.passed is False for bar in section.bars)
        tell(f"{section.name}: {missed} of {len(section.bars)} missed, {took['wall']:.0f} s")
    return report


class Watch:
    """Seconds since the last lap, by the wall and of the processor."""

    def __init__(self):
        self._last = self._now()

    def lap(self) -> dict[str, float]:
        now = self._now()
        passed = {name: now[name] - self._last[name] for name in now}
        self._last = now
        return passed

    @staticmethod
    def _now() -> dict[str, float]:
        return {"wall": time.perf_counter(), "processor": time.process_time()}


def about_this(subject: Subject, files: dict[str, list[Path | None]]) -> dict[str, Any]:
    """What has to be known to repeat an exam."""
    held = subject.held
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "versions": {name: _version(name) for name in PACKAGES}
        | {"python": platform.python_version()},
        "files": {
            role: [{"name": path.name, "sha256": sha256(path)} for path in paths if path]
            for role, paths in files.items()
        },
        "recipe": asdict(subject.stylizer.recipe),
        "dtype": str(subject.stylizer.parts.latents_like.dtype),
        "settings": asdict(subject.config),
        "descriptor": subject.descriptor.name,
        "styles": list(subject.styles),
        "clips": [clip.name for clip in held.clips],
        "stills": [still.name for still in held.stills],
        "left out": list(held.refused),
        "machine": {
            "processor": processor(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "load": os.getloadavg() if hasattr(os, "getloadavg") else None,
        },
    }


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _clips(subject: Subject):
    return subject.held.taken(subject.config.clips, subject.frames(subject.config.latents))


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
