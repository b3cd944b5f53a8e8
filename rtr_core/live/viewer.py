"""One page: its session, the frames on their way in, and what it asked for. Read `turn` first.

A socket's thread puts frames and wishes in; the worker's thread takes a turn now and then, and
everything of the session happens there. What the page is told goes through `tell` and `show`,
which never wait.
"""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import ClipError, OutOfMemory, RtrError
from ..session import Session
from ..shapes import Size, frames_of
from ..style import Style
from ..stylizer import Stylizer
from .images import decoded_frame, decoded_reference, encoded, is_webp
from .inbox import Inbox, Waiting
from .take import Take, TakeDone, take_folder
from .wire import Begin, Picture, Record, Reference, Refused, StyleWish, Switch

MOST_REFERENCES = 8  # of a page; beyond that the oldest is forgotten
MOST_WISHES = 64
LEAST_STRENGTH = 0.01  # what a cue sheet can say
CELL = 16  # sides of streams are multiples of it, so that few models have to fill anything up
LATE_SECONDS = 0.5  # after a beginning, in which frames of the size before are still on their way
SMOOTH = 0.8  # of a measured time before, in the one now
EAGER = 0.9  # of a frame's time: a worker that waits for frames asks for them as much faster

Wish = Begin | Switch | Record | Reference


@dataclass(frozen=True)
class Chip:
    """A style with a name, to tap on."""

    name: str
    style: Style


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What all pages of a stage have in common."""

    chips: Sequence[Chip]
    side: int = 256  # a stream has about as many pixels as a square of this side
    seed: int = 0
    takes: Path | None = None  # where recordings go; None: nothing is recorded


class Viewer:
    """The state of one page. Opened by `Stage.enter`."""

    def __init__(
        self,
        setup: Setup,
        tell: Callable[[Mapping[str, Any]], None],
        show: Callable[[float, bytes, Tensor], None],
        took: Callable[[TakeDone], None],
    ):
        self.setup, self.tell, self.show, self.took = setup, tell, show, took
        self.inbox = Inbox(1)
        self.wishes: deque[Wish] = deque()
        self.session: Session | None = None
        self.begun = 0.0  # when
        self.missing = 1  # frames that complete the next chunk; the weights may be away when asked
        self.take: Take | None = None
        self.inside: deque[tuple[float, float]] = deque()  # frames in the session: time, arrival
        self.references: dict[str, Tensor] = {}
        self.read = 0  # references so far
        self.pace = self.latency = 0.0  # seconds a frame, and from its arrival to its leaving
        self.haste = 1.0  # share of the pace that the page is told
        self.frames = self.dropped = 0  # styled, and let go of, since the page came

    # ---- the socket's side ----

    def put(self, picture: Picture) -> None:
        self.inbox.put(Waiting(picture, time.monotonic()))

    def wish(self, wish: Wish) -> None:
        if len(self.wishes) >= MOST_WISHES:
            raise Refused("message", "Too many wishes at once: wait until some are carried out.")
        if isinstance(wish, Switch) and self.wishes and isinstance(self.wishes[-1], Switch):
            self.wishes.pop()  # of a slider that is moved only the end counts
        self.wishes.append(wish)

    @property
    def has_work(self) -> bool:
        return bool(self.wishes) or (self.session is not None and len(self.inbox) >= self.missing)

    # ---- the worker's side ----

    def turn(self, stylizer: Stylizer) -> int:
        """What was wished, then a chunk at most. Returns how many frames were taken."""
        try:
            while self.wishes:
                self._carry_out(self.wishes.popleft(), stylizer)
            if self.session is None:
                return 0
            stylizer.lend(self.session)
            return self._chunk()
        except Refused as refused:
            self._refuse(refused.what, refused)
        except OutOfMemory as error:
            self.close()
            self._refuse("begin", f"{error} Begin again with a smaller picture.")
        except ClipError as error:
            self._give_up_take()
            self._refuse("record", f"The recording ends here: {error}")
        except RtrError as error:
            self._refuse("frame", error)
        return 0

    def learn_pace(self, frames: int, seconds: float, is_eager: bool) -> None:
        """What a turn took. A stream's first frame takes a chunk's work: it is no pace."""
        if self.session is None or frames < self._chunk_frames(self.session):
            return
        pace = seconds / frames
        self.pace = SMOOTH * self.pace + (1 - SMOOTH) * pace if self.pace else pace
        self.haste = EAGER if is_eager else 1.0

    def close(self) -> None:
        """Let go of everything. A recording is ended, not lost."""
        session, self.session = self.session, None
        if self.take is not None and session is not None:
            with suppress(Exception):  # of weights that are gone: what came out so far is kept
                self._flush(session)
            try:
                self._end_take()
            except RtrError as error:
                self._give_up_take()
                self._refuse("record", error)
        self.wishes.clear()
        self.references.clear()
        self.inside.clear()

    def _carry_out(self, wish: Wish, stylizer: Stylizer) -> None:
        match wish:
            case Begin():
                style = self._style_of(wish.style, "begin")
                self._begin(stylizer, fitted(wish.size, self.setup.side), style)
            case Switch():
                self._switch(self._style_of(wish.style, "style"), wish.fade, stylizer)
            case Record(on=True):
                self._begin_take(stylizer)
            case Record():
                if self.take is None:
                    raise Refused("record", "Nothing is being recorded.")
                self._flush(self._running("record"))
                self._end_take()
            case Reference():
                self._keep(decoded_reference(wish.data))

    # ---- a chunk ----

    def _chunk(self) -> int:
        session = self.session
        assert session is not None
        waiting, dropped = self.inbox.take(self.missing)
        if not waiting and not dropped:
            return 0
        self.dropped += dropped
        self._tell_taken(waiting[-1].picture.time if waiting else None, dropped)
        frames = [(w, pixels) for w in waiting if (pixels := self._decoded(w)) is not None]
        for w, pixels in frames:
            self.inside.append((w.picture.time, w.since))
            if self.take is not None:
                self.take.source(pixels, w.picture.time)
            form = "WEBP" if is_webp(w.picture.data) else "JPEG"
            for out in session.push(pixels[None]):
                self._shown(out, form)
        self.missing = max(1, session.frames_to_chunk)
        return len(frames)

    def _tell_taken(self, time: float | None, dropped: int) -> None:
        """Every frame up to this time was taken, or dropped, or lost on its way."""
        pace = round(self.haste * self.pace, 4)
        self.tell({"is": "taken", "time": time, "dropped": dropped, "pace": pace})

    def _decoded(self, waiting: Waiting) -> Tensor | None:
        """Its pixels; a frame that is none is left out, and the others go on."""
        assert self.session is not None
        try:
            return decoded_frame(waiting.picture.data, self.session.settings.size)
        except Refused as refused:
            if waiting.since > self.begun + LATE_SECONDS:
                self._refuse(refused.what, refused)
            return None

    def _shown(self, frames: Tensor, form: str) -> None:
        frames = frames.cpu()
        for frame in frames:
            taken, since = self.inside.popleft()
            self.show(taken, encoded(frame, form), frame)
            late = time.monotonic() - since
            self.latency = SMOOTH * self.latency + (1 - SMOOTH) * late if self.latency else late
        self.frames += len(frames)
        if self.take is not None:
            self.take.styled(frames)

    # ---- wishes ----

    def _begin(self, stylizer: Stylizer, size: Size, style: Style) -> None:
        if self.take is not None and self.session is not None:
            self._flush(self.session)
            self._end_take()  # a clip has one size
        self._tell_taken(None, len(self.inbox))
        self.session = None  # its memory is free before another takes its own
        self.session = session = stylizer.session(style, size, seed=self.setup.seed)
        self.inside.clear()
        self.begun, self.missing = time.monotonic(), max(1, session.frames_to_chunk)
        chunk = self._chunk_frames(session)
        self.inbox, self.pace, self.haste = Inbox(2 * chunk), 0.0, 1.0
        told = {"is": "begun", "width": size.width, "height": size.height}
        self.tell(told | {"chunk": chunk, "ahead": self.inbox.most})
        self.tell({"is": "style", "name": str(style), "frame": 0})

    @staticmethod
    def _chunk_frames(session: Session) -> int:
        return session.recipe.chunk * session.geometry.stride.time

    def _switch(self, style: Style, fade: int, stylizer: Stylizer) -> None:
        session = self._running("style")
        if session.frames_in == 0:  # nothing to fade from, and nothing to keep
            session = stylizer.session(style, session.settings.size, seed=session.seed)
            self.session, fade = session, 0
        else:
            stylizer.lend(session)
            session.switch(style, fade=fade)
        frame = frames_of(session.intake.latents, session.geometry.stride)
        if self.take is not None:
            self.take.cue(frame, style, fade)
        self.tell({"is": "style", "name": str(style), "frame": frame})

    def _begin_take(self, stylizer: Stylizer) -> None:
        """A recording is a clip of its own, so that it can be rendered again from its start."""
        session = self._running("record")
        if self.setup.takes is None:
            raise Refused("record", "This server records nothing: start it with a takes folder.")
        if self.take is not None:
            raise Refused("record", "A recording is under way: end it first.")
        size, style = session.settings.size, session.style
        self._begin(stylizer, size, style)
        folder = take_folder(self.setup.takes, datetime.now())
        self.take = Take(folder, size, style, self.setup.seed)
        self.tell({"is": "recording", "on": True, "take": folder.name})

    def _flush(self, session: Session) -> None:
        """What is in flight belongs to a recording too; after it a new clip begins."""
        for out in session.flush():
            self._shown(out, "JPEG")
        self.missing = max(1, session.frames_to_chunk)

    def _end_take(self) -> None:
        take, self.take = self.take, None
        assert take is not None
        done = take.close()
        self.took(done)
        told = {"take": done.name, "frames": done.frames, "command": done.command}
        self.tell({"is": "recorded", **told})

    def _give_up_take(self) -> None:
        take, self.take = self.take, None
        if take is not None:
            take.give_up()

    def _keep(self, reference: Tensor) -> None:
        self.read += 1
        name = f"r{self.read}"
        self.references[name] = reference
        while len(self.references) > MOST_REFERENCES:
            self.references.pop(next(iter(self.references)))
        self.tell({"is": "reference", "id": name})

    def _style_of(self, wish: StyleWish, what: str) -> Style:
        strength = None if wish.strength is None else max(wish.strength, LEAST_STRENGTH)
        if wish.chip is not None:
            if wish.chip >= len(self.setup.chips):
                raise Refused(what, f"There are {len(self.setup.chips)} chips, from number 0 on.")
            style = self.setup.chips[wish.chip].style
            return style if strength is None else replace(style, strength=strength)
        reference = wish.reference and self.references.get(wish.reference)
        if wish.reference and reference is None:
            raise Refused(what, "That reference is not here any more: drop the image once more.")
        try:
            return Style(prompt=wish.prompt, reference=reference, strength=strength or 1.0)
        except RtrError as error:
            raise Refused(what, str(error)) from error

    def _running(self, what: str) -> Session:
        if self.session is None:
            raise Refused(what, "Nothing is running: begin first.")
        return self.session

    def _refuse(self, what: str, why: object) -> None:
        self.tell({"is": "refused", "what": what, "why": str(why)})


def fitted(size: Size, side: int) -> Size:
    """A stream's size: the source's shape, about as many pixels as a square of `side`, and never
    more than the source has."""
    scale = min(1.0, (side * side / size.area) ** 0.5)
    return Size(*(max(CELL, round(edge * scale / CELL) * CELL) for edge in size))
