"""A source and its output, shown frame by frame: from two files, or made by a model on the way."""

import time
from collections import deque
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Protocol

from torch import Tensor

from ..errors import ClipError
from ..frames import picture
from ..media.source import open_source
from ..style import REFERENCE_PROMPT, Style
from ..stylizer import Stylizer
from .passages import Pair, check_shapes
from .triples import Triple


class Showing(Protocol):
    """What is measured."""

    name: str
    method: str
    prompt: str | None
    reference: Tensor | None  # [h w 3]
    unasked: str  # why there is neither
    rate: float
    minutes: float | None  # that making the output took, known at its end
    notes: list[str]
    paths: dict[str, str]

    def pairs(self) -> Iterator[Pair]: ...


class FilesShown:
    """Both clips of a triple. What does not match is found on the way or at the end."""

    minutes: float | None = None

    def __init__(self, triple: Triple):
        self.name, self.method, self.unasked = triple.name, triple.method, triple.unasked
        self.prompt = triple.prompt
        self.reference = None if triple.reference is None else picture(triple.reference)
        self.notes: list[str] = []
        self.paths = {"source": str(triple.source), "output": str(triple.output)}
        if triple.reference is not None:
            self.paths["reference"] = str(triple.reference)
        self._source, self._output = open_source(triple.source), open_source(triple.output)
        self.rate = float(self._source.info.rate)
        sizes = self._source.info.size, self._output.info.size
        check_shapes(*sizes)
        if sizes[0] != sizes[1]:
            self.notes.append(f"the output is {sizes[1]} and the source {sizes[0]}")

    def pairs(self) -> Iterator[Pair]:
        ours = theirs = 0
        with self._source as source, self._output as output:
            for frame, other in zip_longest(source.frames(), output.frames()):
                ours, theirs = ours + (frame is not None), theirs + (other is not None)
                if frame is not None and other is not None:
                    yield Pair(frame.pixels, other.pixels)
        self.notes += filter(None, (source.damage, output.damage))
        if ours != theirs:
            raise ClipError(
                f"the source has {ours} frames and the output {theirs}: these are not the same "
                f"frames. {' '.join(self.notes)}".rstrip()
            )


class ModelShown:
    """A clip, and what a session makes of it; every frame once, nothing is written."""

    def __init__(self, clip: Path, stylizer: Stylizer, style: Style, method: str, seed: int = 0):
        self.name, self.method = clip.stem, method
        only_reference = style.prompt == REFERENCE_PROMPT
        self.prompt = None if only_reference else style.prompt
        self.reference, self.unasked = style.reference, ""
        self.notes: list[str] = []
        self.paths = {"source": str(clip)}
        self.minutes: float | None = None
        self._source = open_source(clip)
        self.rate = float(self._source.info.rate)
        check_shapes(self._source.info.size, self._source.info.size)
        self._begin = lambda: stylizer.session(style, self._source.info.size, seed=seed)

    def pairs(self) -> Iterator[Pair]:
        self.minutes, waiting, session = 0.0, deque[Tensor](), self._begin()
        with self._source as source:
            for frame in source.frames():
                waiting.append(frame.pixels)
                yield from self._matched(session.push(frame.pixels[None]), waiting)
            yield from self._matched(session.flush(), waiting)
        self.notes += filter(None, (source.damage,))

    def _matched(self, chunks: Iterator[Tensor], waiting: deque[Tensor]) -> Iterator[Pair]:
        for chunk in self._timed(chunks):
            for frame in chunk:
                yield Pair(waiting.popleft(), frame)

    def _timed(self, chunks: Iterator[Tensor]) -> Iterator[Tensor]:
        while True:
            began = time.perf_counter()
            chunk = next(chunks, None)
            self.minutes = (self.minutes or 0) + (time.perf_counter() - began) / 60
            if chunk is None:
                return
            yield chunk
