"""Moments of a clip as people write them, and errors that point at what was written.

    00:12.5   1:02:03   12.5   12.5s        a time: mm:ss, hh:mm:ss or seconds, up to nine decimals
    f720                                    a frame number, from 0

Cue sheets and lists of cuts are lines of text; both are read with what stands here.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from .errors import RtrError, StyleError

MOMENT = "mm:ss, hh:mm:ss, seconds, or a frame number such as f720"
DECIMALS = 9  # of a second: finer than any container's clock

_FRAME = re.compile(r"[fF]([0-9]{1,12})")
_TIME = re.compile(r"(?:([0-9]{1,6}):)?(?:([0-9]{1,6}):)?([0-9]{1,9}(?:[.,][0-9]{1,9})?)s?")
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # all but tab and line feed


class Place(NamedTuple):
    """Where something was written; lines and columns count from 1."""

    name: str  # of the text
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.name}:{self.line}:{self.column}"

    def at(self, offset: int) -> "Place":
        """The place `offset` characters into this one's line."""
        return self._replace(column=offset + 1)

    def error(self, message: object) -> StyleError:
        return StyleError(f"{self}: {message}")

    @contextmanager
    def blamed(self) -> Iterator[None]:
        """What goes wrong inside went wrong because of what stands here."""
        try:
            yield
        except (RtrError, OSError) as error:
            raise self.error(error) from error


@dataclass(frozen=True)
class Moment:
    """A time in seconds or a frame number: exactly one of them."""

    time: Fraction | None = None
    frame: int | None = None

    def __post_init__(self):
        if (self.time is None) == (self.frame is None):
            raise StyleError("A moment is a time or a frame number, one of them.")
        if (self.frame or 0) < 0 or (self.time or 0) < 0:
            raise StyleError(f"A moment is not negative; this one is {self.time or self.frame}.")
        if self.time is not None and 10**DECIMALS % Fraction(self.time).denominator:
            raise StyleError(
                f"A time has at most {DECIMALS} decimals, and {self.time} s has more. Give the "
                f"frame number."
            )

    @classmethod
    def parse(cls, text: str) -> "Moment":
        if frame := _FRAME.fullmatch(text):
            return cls(frame=int(frame[1]))
        parts = _TIME.fullmatch(text)
        if parts is None:
            raise StyleError(_not_a_moment(text))
        hours, minutes = (parts[1], parts[2]) if parts[2] else (None, parts[1])
        seconds = Fraction(parts[3].replace(",", "."))
        moment = cls(time=int(hours or 0) * 3600 + int(minutes or 0) * 60 + seconds)
        if (minutes and seconds >= 60) or (hours and minutes and int(minutes) >= 60):
            raise StyleError(
                f"{text!r} is no time: minutes and seconds after a colon end at 59. "
                f"Did you mean {moment}?"
            )
        return moment

    def __str__(self) -> str:
        """The one way in which this moment is written back."""
        if self.time is None:
            return f"f{self.frame}"
        whole, rest = divmod(self.time, 1)
        minutes, seconds = divmod(int(whole), 60)
        hours, minutes = divmod(minutes, 60)
        clock = f"{hours:02}:{minutes:02}:{seconds:02}" if hours else f"{minutes:02}:{seconds:02}"
        decimals = f"{int(rest * 10**DECIMALS):0{DECIMALS}}".rstrip("0")
        return f"{clock}.{decimals}" if decimals else clock

    def reached(self, time: Fraction, frame: int) -> bool:
        """Whether the frame numbered `frame`, shown at `time`, is at this moment or after it."""
        return time >= self.time if self.time is not None else frame >= (self.frame or 0)

    def at_rate(self, rate: Fraction) -> Fraction:
        """The time in a clip of `rate` frames a second."""
        return self.time if self.time is not None else Fraction(self.frame or 0) / rate


def numbered_lines(text: str, name: str) -> Iterator[tuple[Place, str]]:
    """The lines of a text of any system, each with the place where it begins."""
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    for number, line in enumerate(text.split("\n"), start=1):
        place = Place(name, number, 1)
        if control := CONTROL.search(line):
            raise place.at(control.start()).error(
                f"the character {control[0]!r} has no meaning here. Delete it, or save the file "
                f"as plain text in UTF-8."
            )
        yield place, line


def read_text(path: str | os.PathLike) -> str:
    """A text file in UTF-8."""
    try:
        return Path(path).read_bytes().decode("utf-8")
    except OSError as error:
        raise StyleError(f"{os.fspath(path)!r} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise StyleError(
            f"{os.fspath(path)!r} is not text in UTF-8 (byte {error.start}). Save it as UTF-8."
        ) from error


def _not_a_moment(text: str) -> str:
    if re.match(r"-[0-9:]", text):
        return f"{text!r} is negative; a clip begins at 00:00."
    return f"expected {MOMENT}; not {text!r}."
