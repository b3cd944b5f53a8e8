"""Styles over time, and a session that is led by them. Read `Lead.feed`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

from torch import Tensor

from .cues import Cue, CueSheet
from .errors import StyleError
from .moments import CONTROL, Moment
from .session import Session
from .style import Style
from .stylizer import Stylizer

START = Moment(time=Fraction(0))
RATE = Fraction(24)  # frames a second, where nobody says; only times in a sheet need it


@dataclass(frozen=True, kw_only=True, eq=False)
class Timeline:
    """A cue sheet, and the style of each cue. A single style is a sheet of one cue."""

    sheet: CueSheet
    styles: Mapping[Cue, Style]

    @classmethod
    def of(cls, style: Style) -> Timeline:
        words = " ".join(CONTROL.sub(" ", style.prompt or str(style)).split())
        loras = tuple((file.path, strength) for file, strength in style.loras.items())
        cue = Cue(start=START, prompt=words, strength=style.strength, loras=loras)
        return cls(sheet=CueSheet((cue,)), styles={cue: style})

    @property
    def only(self) -> Style:
        """Its one style; a sheet of several has none."""
        if len(self.styles) > 1:
            raise StyleError(
                f"A cue sheet of {len(self.styles)} styles cannot be mixed: wire single styles."
            )
        return self.styles[self.sheet.cues[0]]

    @cached_property
    def fingerprint(self) -> str:
        """The same for timelines that ask for the same."""
        told = [str(self.sheet), *(self.styles[cue].fingerprint for cue in self.sheet.cues)]
        return hashlib.sha256("\0".join(told).encode()).hexdigest()[:16]

    def __str__(self) -> str:
        first, *rest = (str(self.styles[cue]) for cue in self.sheet.cues)
        return f"{first} and {len(rest)} more" if rest else first


@dataclass(frozen=True)
class Broken:
    """A feed that was broken off: which frames it was given, and what it had done by then."""

    frames: str
    taken: int
    outs: tuple[Tensor, ...]  # rendered, and not handed over


class Lead:
    """One session led through the frames of a clip by a timeline."""

    def __init__(self, session: Session, timeline: Timeline, rate: Fraction = RATE):
        self.session, self.timeline, self.rate = session, timeline, rate
        self.active = timeline.sheet.cue_at(Fraction(0), 0)
        self.broken: Broken | None = None
        self.frames = 0  # handed over since it began or was reset

    @classmethod
    def loaded(cls, session: Session) -> Lead:
        """Goes on with a session that came from a file, in the style that it was to have next."""
        waiting = session.switching
        lead = cls(session, Timeline.of(waiting[0].style if waiting else session.style))
        lead.frames = session.frames_out
        return lead

    @classmethod
    def begin(
        cls,
        stylizer: Stylizer,
        timeline: Timeline,
        size: Sequence[int],
        *,
        rate: Fraction = RATE,
        seed: int = 0,
        history: int = 0,
    ) -> Lead:
        timeline.sheet.check_rate(rate)
        first = timeline.sheet.cue_at(Fraction(0), 0)
        seed = seed if first.seed is None else first.seed
        session = stylizer.session(timeline.styles[first], size, seed=seed, history=history)
        return cls(session, timeline, rate)

    def feed(
        self, frames: Tensor, show: Callable[[Tensor], None], ends: bool = False
    ) -> list[Tensor]:
        """The styled frames that `frames [t h w 3]` complete, each chunk shown when it comes.

        `ends` renders what is left of the clip, so that the next feed begins a new one. Should it
        be broken off, nothing is lost: feed the same frames again, or others, and it goes on.
        """
        before, self.broken = self.broken, None
        again = before is not None and before.frames == checksum(frames)
        taken, outs = before.taken if before and again else 0, list(before.outs if before else ())

        def draw(coming: Iterable[Tensor]) -> None:
            for out in coming:
                outs.append(out.cpu())
                show(outs[-1])

        try:
            draw(self.session.flush() if self.session.is_ending else self.session.resume())
            while taken < len(frames):
                part = frames[taken : taken + self._until_a_cue(len(frames) - taken)]
                coming = self.session.push(part)
                taken += len(part)
                draw(coming)
            if ends:
                draw(self.session.flush())
            self.session.commit()  # now, while the weights are there and a failure is told
        except BaseException:
            self.broken = Broken(checksum(frames), taken, tuple(outs))
            raise
        self.frames += sum(map(len, outs))
        return outs

    def reset(self, seed: int) -> None:
        """Begin a new clip in the style in force; frames not handed over yet are let go."""
        self.session.seed = seed
        self.session.reset()
        self.broken, self.frames = None, 0

    def switch(self, timeline: Timeline, fade: int = 0, seed: int | None = None) -> bool:
        """Be led by another timeline from the next chunk on. Nothing happens where it is the same:
        a graph that asks for it at every run must not begin the style anew at every run."""
        if timeline.fingerprint == self.timeline.fingerprint:
            return False
        timeline.sheet.check_rate(self.rate)
        session, cue = self.session, timeline.sheet.cue_at(self._now, self.session.frames_in)
        style, seed = timeline.styles[cue], cue.seed if seed is None else seed
        if session.switching or style.fingerprint != session.style.fingerprint:
            session.switch(style, fade=fade or cue.fade, seed=seed)
        self.timeline, self.active = timeline, cue
        return True

    def rewind(self, chunks: int) -> None:
        """Go back some chunks. The next feed renders them once more, before what it brings."""
        before = self.session.frames_out
        self.session.rewind(chunks)
        self.broken, self.frames = None, self.frames - (before - self.session.frames_out)

    def fork(self) -> Lead:
        """A twin that goes on by itself; what was not handed over yet, both will hand over."""
        twin = Lead(self.session.fork(), self.timeline, self.rate)
        twin.active, twin.broken, twin.frames = self.active, self.broken, self.frames
        return twin

    def facts(self) -> dict[str, Any]:
        """Where it stands, by names for people."""
        session = self.session
        waiting = {"style to come": str(session.switching[0].style)} if session.switching else {}
        return {
            "style": str(session.style),
            **waiting,
            "frames in": session.frames_in,
            "frames out": session.frames_out,
            "chunks": session.chunks,
            "frames to the next chunk": max(0, session.frames_to_chunk),
            "chunks to rewind": len(session.history),
            "size": str(session.settings.size),
            "seed": session.seed,
            "recipe": session.recipe.name,
            "drift": str(session.drift),
            "latent frames remembered": len(session.memory.segments.slots),
            "cache MB": round(session.memory.nbytes / 2**20, 1),
            "session MB": round(session.nbytes / 2**20, 1),
            "device": str(session.intake.pending.device),
        }

    @property
    def _now(self) -> Fraction:
        return self.session.frames_in / self.rate

    def _until_a_cue(self, frames: int) -> int:
        """How many frames can be pushed at once; a cue that is due now is taken up before.

        It takes effect at the first chunk that begins at or after it, as in `media.render`.
        """
        session, sheet = self.session, self.timeline.sheet
        if len(sheet.cues) == 1:
            return frames
        if session.intake.is_between_chunks:
            cue = sheet.due(self._now, session.frames_in, self.active)
            if cue is not None:
                session.switch(self.timeline.styles[cue], fade=cue.fade, seed=cue.seed)
                self.active = cue
        return 1


def checksum(frames: Tensor) -> str:
    """Tells one batch of frames from another."""
    digest = hashlib.blake2b(repr((tuple(frames.shape), frames.dtype)).encode())
    digest.update(frames.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
