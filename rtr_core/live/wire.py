"""What a page and the server say to each other, and what of it is believed.

A page is anyone who knows the link. So each message is read by one function that knows all there
may be, has a bound for everything, and refuses the rest with a sentence that the page can show.
docs/live.md has the whole list.
"""

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..errors import RtrError
from ..shapes import LARGEST_SIDE, Size

FRAME, REFERENCE = 1, 2  # the first byte of a binary message
HEAD = struct.Struct("<Bd")  # of a frame: its kind, and when its source was taken, milliseconds

MOST_TEXT = 64 * 1024  # bytes of a text message
MOST_FRAME = 2 * 2**20
MOST_REFERENCE = 16 * 2**20
MOST_MESSAGE = MOST_REFERENCE + 1
MOST_PROMPT = 2000  # characters
MOST_FADE = 480  # frames
MOST_A_SECOND = 240  # messages
LATEST = 1e15  # milliseconds; clocks of pages count from 1970 or from when they were opened


class Refused(RtrError):
    """A message that is not carried out. `what` it was about, and why."""

    def __init__(self, what: str, why: str):
        super().__init__(why)
        self.what = what


@dataclass(frozen=True, kw_only=True)
class StyleWish:
    """A chip by its number, or a prompt, a reference of the page or both."""

    chip: int | None = None
    prompt: str | None = None
    reference: str | None = None
    strength: float | None = None  # None: as the chip has it


@dataclass(frozen=True)
class Begin:
    size: Size  # of the source
    style: StyleWish


@dataclass(frozen=True)
class Switch:
    style: StyleWish
    fade: int


@dataclass(frozen=True)
class Record:
    on: bool


@dataclass(frozen=True)
class Offer:
    """Of WebRTC, to send frames around the socket; None: by the socket again."""

    sdp: str | None


class Picture(NamedTuple):
    """A frame as a page sent it: an image file, and the page's time of it."""

    time: float  # milliseconds
    data: bytes


@dataclass(frozen=True)
class Reference:
    data: bytes


Message = Begin | Switch | Record | Offer | Picture | Reference


def read(message: str | bytes) -> Message:
    """A page's message, or `Refused`."""
    return _read_binary(message) if isinstance(message, bytes) else _read_text(message)


def framed(time: float, data: bytes) -> bytes:
    """A frame as it goes over the wire, either way."""
    return HEAD.pack(FRAME, time) + data


def _read_binary(data: bytes) -> Picture | Reference:
    kind = data[0] if data else None
    if kind == REFERENCE:
        if not 1 < len(data) <= MOST_REFERENCE:
            raise Refused("reference", f"A reference is a file of up to {MOST_REFERENCE >> 20} MB.")
        return Reference(data[1:])
    if kind != FRAME or len(data) <= HEAD.size:
        raise Refused("message", "A binary message is a frame or a reference; this is neither.")
    if len(data) > MOST_FRAME:
        raise Refused("frame", f"A frame has up to {MOST_FRAME >> 20} MB: send a smaller one.")
    time = HEAD.unpack_from(data)[1]
    if not (math.isfinite(time) and abs(time) < LATEST):
        raise Refused("frame", "A frame has a time in milliseconds before its picture.")
    return Picture(time, data[HEAD.size :])


def _read_text(text: str) -> Begin | Switch | Record | Offer:
    if len(text) > MOST_TEXT:
        raise Refused("message", f"A message has up to {MOST_TEXT} characters.")
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        raise Refused("message", "A message is JSON; this is not.") from None
    if not isinstance(said, dict):
        raise Refused("message", 'A message is an object, such as {"do": "begin", ...}.')
    match said.get("do"):
        case "begin":
            size = (_number(said, name, "begin", 1, LARGEST_SIDE) for name in ("height", "width"))
            return Begin(Size(*map(int, size)), _style(said, "begin"))
        case "style":
            fade = 0 if "fade" not in said else _number(said, "fade", "style", 0, MOST_FADE)
            return Switch(_style(said, "style"), int(fade))
        case "record":
            if not isinstance(said.get("on"), bool):
                raise Refused("record", "Recording is on (true) or off (false).")
            return Record(said["on"])
        case "offer":
            sdp = said.get("sdp")
            return Offer(None if sdp is None else _text(said, "sdp", "message", MOST_TEXT))
    raise Refused("message", "A message says what to do: begin, style, record or offer.")


def _style(said: Mapping[str, Any], what: str) -> StyleWish:
    style = said.get("style")
    if not isinstance(style, dict):
        raise Refused(what, "A style is an object with a chip, a prompt or a reference.")
    chip = prompt = reference = strength = None
    if style.get("chip") is not None:
        chip = int(_number(style, "chip", what, 0, 10_000))
    if style.get("prompt") is not None:
        prompt = _text(style, "prompt", what, MOST_PROMPT).strip()
    if style.get("reference") is not None:
        reference = _text(style, "reference", what, 40)
    if style.get("strength") is not None:
        strength = _number(style, "strength", what, 0, 1)
    if chip is None and not prompt and reference is None:
        raise Refused(what, "Say a style: tap a chip, write a prompt, or give a reference.")
    return StyleWish(chip=chip, prompt=prompt or None, reference=reference, strength=strength)


def _number(said: Mapping[str, Any], name: str, what: str, least: float, most: float) -> float:
    value = said.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        raise Refused(what, f"{name} is a number from {least} to {most}.")
    return value


def _text(said: Mapping[str, Any], name: str, what: str, most: int) -> str:
    value = said.get(name)
    if not isinstance(value, str) or len(value) > most:
        raise Refused(what, f"{name} is a text of up to {most} characters.")
    if any(ord(letter) < 32 and letter not in "\t\r\n" for letter in value):
        raise Refused(what, f"{name} has characters that mean nothing in a text.")
    return value
