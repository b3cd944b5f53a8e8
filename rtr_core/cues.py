"""Cue sheets: styles over time, as text. Read `CueSheet.parse` first.

    # time     style
    00:00      ink wash painting
    00:12.5    @klimt.png fade=12
    00:30      impressionist oil strength=0.8 seed=7 lora=klimt.safetensors:0.8
    f720       "a prompt with = and @ signs" @"my art/ref.png"      # to the end of the line

A line is a moment, then a prompt, an @reference or both, then options. A prompt stands bare, or in
quotes where it holds = or " or words that begin with @ or #; a quote inside quotes is written
twice. Each line begins later than those above it. A cue lasts until the next one, and the first
one holds from the first frame on, whatever its moment says: no frame is without a style.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from .errors import StyleError
from .frames import picture
from .loras import LoraFile, read_strength, told_once
from .moments import CONTROL, Moment, Place, numbered_lines, read_text
from .style import Style

EXAMPLE = "00:12 ink wash painting @klimt.png fade=12"

# A word of a bare prompt; a text in quotes, straight or as a word processor makes them.
_WORD = r'(?![@#“„«])[^\s"=]+'
_QUOTED = r'"(?:[^"]|"")*"|[“„«][^“”„«»"]*[”“»]'
_SEPARATOR = r"[-\u2013\u2014|>:]+"  # what people put between a time and a style: it means nothing

_HEAD = re.compile(rf"\s*(?P<moment>\S+?)[:,]?(?:\s+{_SEPARATOR}(?=\s|$))?(?=\s|$)")
_GAP = re.compile(r"\s*")
_TOKEN = re.compile(
    rf"""(?: (?P<comment> \#.* )
    | @ (?P<reference> {_QUOTED} | [^\s"]*? ) ,?
    | (?P<quoted> {_QUOTED} ) ,?
    | (?P<option> {_WORD} ) \s*=\s* (?P<value> (?:{_QUOTED})?\S*? ) ,?
    | (?P<word> {_WORD} )
    )(?=\s|$)""",
    re.VERBOSE,
)
_BARE_PROMPT = re.compile(rf"(?!{_SEPARATOR}(?: |$)){_WORD}(?: {_WORD})*")
_BARE_REFERENCE = re.compile(r'(?![“„«])(?:[^\s"]*[^\s",])')


class Option(NamedTuple):
    """One `name=value` of a line."""

    read: Callable[[str], Any]
    fits: Callable[[Any], bool]
    expected: str


OPTIONS = {
    "strength": Option(float, lambda value: 0 < value <= 1, "a number above 0 and at most 1"),
    "seed": Option(int, lambda value: 0 <= value < 2**64, "a whole number from 0 to 2**64 - 1"),
    "fade": Option(int, lambda value: value >= 0, "a whole number of frames, 0 or more"),
}
NAMES = (*OPTIONS, "lora")  # the last may be given several times
TWICE = {
    "prompt": "the prompt goes on after it ended: keep its words together, or put all in quotes.",
    "reference": "a second @reference; a style has one.",
    **{name: f"{name} is given twice." for name in OPTIONS},
}


@dataclass(frozen=True, kw_only=True)
class Cue:
    """A style and the moment it starts."""

    start: Moment
    prompt: str | None = None
    reference: str | None = None  # a path, or the name of an image, as written
    strength: float = 1.0
    seed: int | None = None  # None: the noise goes on as it was
    fade: int = 0  # frames over which the style before becomes this one
    loras: tuple[tuple[str, float], ...] = ()  # paths as written, and strengths
    place: Place | None = field(default=None, compare=False)
    reference_place: Place | None = field(default=None, compare=False)

    def __post_init__(self):
        if self.prompt is None and self.reference is None:
            raise StyleError(f"a style is missing; expected a line such as '{EXAMPLE}'.")
        for name in ("prompt", "reference"):
            text = getattr(self, name)
            if text is not None and (not text.strip() or "\n" in text or CONTROL.search(text)):
                raise StyleError(f"a {name} is one line of text and not empty, not {text!r}.")
        for name, option in OPTIONS.items():
            value = getattr(self, name)
            if value is not None and not option.fits(value):
                raise StyleError(f"{name} is {option.expected}, not {value!r}.")
        told_once(self.loras)

    @property
    def line(self) -> int | None:
        """Where it was written, if it was."""
        return self.place.line if self.place else None

    @property
    def words(self) -> str:
        """Everything but the moment, in the one way it is written back."""
        written = []
        if self.prompt is not None:
            written.append(_quoted_unless(_BARE_PROMPT, self.prompt))
        if self.reference is not None:
            written.append(f"@{_quoted_unless(_BARE_REFERENCE, self.reference)}")
        values = {name: getattr(self, name) for name in OPTIONS}
        written += [f"{name}={v}" for name, v in values.items() if v != getattr(Cue, name)]
        written += [
            f"lora={_quoted_unless(_BARE_REFERENCE, path)}:{strength!r}"
            for path, strength in self.loras
        ]
        return " ".join(written)

    def error(self, message: str) -> StyleError:
        return self.place.error(message) if self.place else StyleError(f"{self.start}: {message}")


@dataclass(frozen=True)
class CueSheet:
    """Cues in the order of time. `str` writes the text that `parse` reads back as an equal one."""

    cues: tuple[Cue, ...]
    name: str = field(default="cues", compare=False)

    def __post_init__(self):
        if not self.cues:
            raise StyleError(f"{self.name}: no cue; expected lines such as '{EXAMPLE}'.")
        latest: dict[bool, Cue] = {}  # times and frames can be compared only with their own kind
        for cue in self.cues:
            before = latest.get(cue.start.time is None)
            if before and before.start.at_rate(Fraction(1)) >= cue.start.at_rate(Fraction(1)):
                raise _not_later(cue, before)
            latest[cue.start.time is None] = cue

    @classmethod
    def parse(cls, text: str, name: str = "cues") -> "CueSheet":
        """Read a sheet; `name` stands before line and column in errors."""
        lines = numbered_lines(text, name)
        return cls(tuple(_cue(line, place) for place, line in lines if _says_something(line)), name)

    @classmethod
    def read(cls, path: str | os.PathLike) -> "CueSheet":
        """Read a sheet from a file."""
        return cls.parse(read_text(path), Path(path).name)

    def __str__(self) -> str:
        width = max(len(str(cue.start)) for cue in self.cues)
        return "".join(f"{cue.start!s:<{width}}  {cue.words}\n" for cue in self.cues)

    def cue_at(self, time: Fraction, frame: int) -> Cue:
        """The cue in force at the frame numbered `frame`, shown at `time`.

        It is the last one on the sheet that has been reached: of several due at once the last
        wins. So it depends on nothing that came before, and holds after a resume as well.
        """
        reached = (cue for cue in reversed(self.cues) if cue.start.reached(time, frame))
        return next(reached, self.cues[0])

    def due(self, time: Fraction, frame: int, active: Cue | None) -> Cue | None:
        """The cue to switch to before this frame; None where `active` goes on.

        if cue := sheet.due(time, frame, active): session.switch(styles[cue]); active = cue
        """
        cue = self.cue_at(time, frame)
        return None if cue == active else cue

    def check_rate(self, rate: Fraction) -> None:
        """Refuse cues that at `rate` frames a second begin before a cue above them.

        Only sheets that mix times and frame numbers can have such; the cue above would be lost.
        """
        for before, cue in pairwise(self.cues):
            if cue.start.at_rate(rate) < before.start.at_rate(rate):
                raise _not_later(cue, before)

    def styles(
        self, folder: str | os.PathLike | None = None, images: Mapping[str, Any] | None = None
    ) -> dict[Cue, Style]:
        """The style of each cue, every reference read once.

        A reference is the name of one of `images`, or else a file in `folder`; without a folder
        no file is ever opened.
        """
        pictures: dict[str, Tensor] = {}
        for cue in self.cues:
            if cue.reference is not None and cue.reference not in pictures:
                with (cue.reference_place or Place(self.name, 0, 0)).blamed():
                    pictures[cue.reference] = picture(_found(cue.reference, folder, images or {}))
        return {
            cue: Style(
                prompt=cue.prompt,
                reference=None if cue.reference is None else pictures[cue.reference],
                strength=cue.strength,
                loras={_lora_file(cue, path, folder): strength for path, strength in cue.loras},
            )
            for cue in self.cues
        }


def _cue(line: str, place: Place) -> Cue:
    """One line of a sheet."""
    line = line.rstrip()
    head = _HEAD.match(line)
    assert head is not None, "a line that says something has a first word"
    place = place.at(head.start("moment"))
    with place.blamed():
        start = Moment.parse(head["moment"])
    found, reference_place, kind_before = {}, None, None
    for token in _tokens(line, head.end(), place):
        at, kind = place.at(token.start()), token.lastgroup
        name, value = _said(token, place)
        if name == "lora":
            found["loras"] = (*found.get("loras", ()), value)
            continue
        if name == "prompt" and kind == kind_before == "word":
            found[name] += f" {value}"
            continue
        if name in found:
            raise at.error(TWICE[name])
        if name == "reference":
            reference_place = at
        found[name], kind_before = value, kind
    with place.at(len(line)).blamed():
        return Cue(start=start, **found, place=place, reference_place=reference_place)


def _tokens(line: str, offset: int, place: Place) -> Iterator[re.Match]:
    while (offset := _end_of_gap(line, offset)) < len(line):
        token = _TOKEN.match(line, offset)
        if token is None:
            raise place.at(offset).error(_unreadable(line[offset:]))
        if token.lastgroup == "comment":
            return
        yield token
        offset = token.end()


def _said(token: re.Match, place: Place) -> tuple[str, Any]:
    """What a token gives a value to, and the value."""
    if token.lastgroup == "value":
        name = token["option"].lower()
        with place.at(token.start("option")).blamed():
            _check_name(name)
        with place.at(token.start("value")).blamed():
            return name, _value(name, token["value"])
    if token.lastgroup == "reference":
        return "reference", _unquoted(token["reference"])
    return "prompt", _unquoted(token["quoted"] or token["word"])


def _check_name(name: str) -> None:
    if name not in NAMES:
        raise StyleError(
            f"there is no option {name!r}{_near(name, NAMES)}; options are {', '.join(NAMES)}. "
            f"Put the prompt in quotes if = belongs to it."
        )


def _value(name: str, text: str) -> Any:
    if name == "lora":  # a path, in quotes where it has blanks, and its strength
        quoted = re.fullmatch(rf"({_QUOTED})(.*)", text)
        return read_strength(_unquoted(quoted[1]) + quoted[2] if quoted else text)
    option = OPTIONS[name]
    try:
        value = option.read(text)
    except ValueError:
        came = repr(text) if text else "nothing"
        raise StyleError(f"{name}= is followed by {option.expected}, not by {came}.") from None
    if not option.fits(value):
        raise StyleError(f"{name} is {option.expected}, not {text}.")
    return value


def _lora_file(cue: Cue, path: str, folder: str | os.PathLike | None) -> LoraFile:
    with (cue.place or Place("cues", 0, 0)).blamed():
        if folder is None:
            raise StyleError(f"lora={path}: no file is opened here; put the LoRA on the model.")
        return LoraFile.of(Path(folder) / path)


def _found(reference: str, folder: str | os.PathLike | None, images: Mapping[str, Any]) -> Any:
    """The image a reference means, or the path of its file."""
    if reference in images:
        return images[reference]
    names = list(images)
    if folder is not None:
        path = Path(folder) / reference
        if path.is_file():
            return path
        names += [sibling.name for sibling in path.parent.glob("*")]
    place = "among the images" if folder is None else f"in {os.fspath(folder)!r}"
    raise StyleError(f"there is no {reference!r} {place}{_near(reference, names)}.")


def _not_later(cue: Cue, before: Cue) -> StyleError:
    where = f"line {before.line}" if before.line else "the cue before"
    return cue.error(
        f"{cue.start} is not later than {before.start} of {where}. Put the lines in the order of "
        f"time, one cue to a moment."
    )


def _unreadable(rest: str) -> str:
    if rest.startswith("="):
        return f"= without an option's name before it; options are {', '.join(NAMES)}."
    return (
        'a quote that is not closed, or does not stand around the whole prompt; inside quotes "" '
        'is one ".'
    )


def _near(name: str, names: Iterable[str]) -> str:
    close = get_close_matches(name, names, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _says_something(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith("#")


def _end_of_gap(line: str, offset: int) -> int:
    gap = _GAP.match(line, offset)
    return gap.end() if gap else offset


def _unquoted(text: str) -> str:
    if text.startswith('"'):
        return text[1:-1].replace('""', '"')
    return text[1:-1] if text[:1] in tuple("“„«") else text


def _quoted_unless(bare: re.Pattern[str], text: str) -> str:
    if bare.fullmatch(text):
        return text
    doubled = text.replace('"', '""')
    return f'"{doubled}"'
