"""One running video: everything about it that changes. Read `push` first.

A session borrows the weights of a stylizer and owns the rest: the source not yet rendered, chunks
in flight and what their model remembers, the decoder's stream. So many sessions run on one
stylizer, and each can be forked, rewound, saved and loaded.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from .drift import DriftMeter
from .errors import NumericsError, SessionError
from .flight import Flight, Watch, unwatched
from .frames import checked_frames, is_finite, to_frames
from .intake import Intake
from .parts import Parts
from .past import Memory
from .placing import bytes_of, moved
from .sampling import SeededNoise
from .settings import Settings
from .snapshot import Snapshot
from .style import EncodedStyle, Fade, Style, Switch
from .transaction import all_or_nothing, plain_tensors
from .vae.causal import under
from .vae.stream import DecoderStream

SLICE = 32  # frames taken in at a time, so that a long push needs little memory
COUNTS = ("frames_out", "chunks", "seed")


class Session:
    """All mutable state of one running video. Opened by `Stylizer.session`."""

    def __init__(self, parts: Parts, settings: Settings, watch: Watch = unwatched):
        self.parts, self.settings, self.recipe = parts, settings, settings.recipe
        self.watch = watch  # called before each pass; what it raises ends the verb that runs
        self.geometry = parts.geometry(settings.size)
        self.intake = Intake(parts, self.recipe, self.geometry)
        self.flight = Flight(parts, self.recipe, self.geometry.grid, settings.seed, settings.in_fp8)
        self.decoder, self.drift = DecoderStream(parts.vae), DriftMeter()
        self.history: deque[Snapshot] = deque(maxlen=settings.history)
        self.seed = settings.seed
        self.switching: tuple[Switch, EncodedStyle] | None = None  # at the next chunk
        self.fade: Fade | None = None
        self.reset()

    @all_or_nothing
    def begin(self, style: Style) -> None:
        """Take up the first style. Later ones are for `switch`."""
        self._take_up(self._encode(style))

    # ---- the way of a frame ----

    def push(self, frames: Any) -> Iterator[Tensor]:
        """Feed frames `[t h w 3]`; iterate over styled frames `[t h w 3]` as chunks complete.

        The frames are taken in at once; chunks are rendered as the iterator is drawn on. What an
        abandoned iterator leaves is rendered first at the next push.
        """
        self._take_in(checked_frames(frames, first=self.frames_in))
        return self.resume()

    def resume(self) -> Iterator[Tensor]:
        """Render what has been pushed and not rendered: after an error, say, or a rewind."""
        while self._is_due():
            frames = self._render()
            if len(frames):  # none while the flight fills
                yield frames  # pixels leave first; the chunk is past when more are asked

    def flush(self) -> Iterator[Tensor]:
        """Render the rest, so that as many frames came out as went in; then a new clip begins."""
        yield from self.resume()
        self._end()
        yield from self.resume()

    @all_or_nothing
    def _take_in(self, frames: Tensor) -> None:
        """Frames become source latents."""
        for part in frames.split(SLICE):
            self.watch()
            self.intake.push(part)

    def _is_due(self) -> bool:
        """Whether there is something to render, once the last chunk is past."""
        self.commit()
        is_landing = self.intake.is_ending and bool(self.flight.chunks)
        return is_landing or self.intake.next_chunk() is not None

    @all_or_nothing
    def _render(self) -> Tensor:
        """The next chunk sets out, all in flight move on, the one that lands becomes frames."""
        before = self.snapshot() if self.history.maxlen else None
        fade, waiting = self.fade, self.intake.next_chunk()
        if waiting is not None:
            fade = self._take_switch(waiting.frames)
            self.flight.set_out(waiting, self.encoded.strength, self.intake.has_source)
            self.intake.take(waiting)
            self.chunks += 1
        landed = self.flight.move_on(self.watch)
        frames = self._decoded(landed.x) if landed else torch.empty(0, *self.geometry.size, 3)
        self.drift.push(frames[-1:])  # the one that the next chunk goes on from
        self.frames_out += len(frames)
        self.fade = fade
        if before is not None:
            self.history.append(before)
        if self.intake.is_ending and not self.flight.chunks and self.intake.next_chunk() is None:
            self.reset()
        return frames

    def _decoded(self, clean: Tensor) -> Tensor:
        """The frames of a clean chunk, those that were filled in cut off."""
        pixels = self.decoder.push(clean.to(self.parts.pixels_like))
        if not is_finite(pixels):
            raise NumericsError(
                f"The model made NaN of the chunk that begins at frame {self.frames_out}. The "
                f"session stays before it: switch the style or use fp32, then `resume()`."
            )
        return to_frames(pixels, self.geometry.size)[: self.frames_in - self.frames_out]

    @plain_tensors
    def commit(self) -> None:
        """Make the chunk that landed past. Does nothing where that has been done."""
        self._remember()
        self.flight.past.commit()

    @all_or_nothing
    def _remember(self) -> None:
        self.flight.remember(self.watch)

    # ---- beginnings and ends ----

    def imagine(self, frames: int) -> Iterator[Tensor]:
        """Make so many frames of the prompt alone, after what there is (text to video).

        As with a push they come as chunks complete, and the rest at a flush.
        """
        if self.parts.transformer.config.takes_source:
            raise SessionError(f"{self.parts.name} rerenders a source and makes nothing without.")
        self._imagine(frames)
        return self.resume()

    @all_or_nothing
    def _imagine(self, frames: int) -> None:
        self.intake.imagine(frames)

    @all_or_nothing
    def follow(self, frames: Any) -> None:
        """Let given frames be the clip's first: what comes goes on from them.

        One frame is image to video, more of them continue a video; `imagine` or `push` go on.
        """
        if self.frames_in:
            raise SessionError("A clip can follow frames only where it begins: reset it first.")
        if self.parts.transformer.config.takes_source:
            raise SessionError(f"{self.parts.name} rerenders a source and follows no frames.")
        latents = self.intake.follow(checked_frames(frames))
        for chunk in latents.split(self.recipe.chunk, dim=2):
            self.watch()
            self.flight.past.take_in(chunk, None)
            self.flight.past.commit()
        self.decoder.push(latents.to(self.parts.pixels_like))
        self.frames_out = self.frames_in

    @all_or_nothing
    def _end(self) -> None:
        """No more frames come: what is left is filled up to a chunk."""
        self.intake.fill()
        if not self.flight.chunks and self.intake.next_chunk() is None:
            self.reset()

    # ---- style ----

    @property
    def style(self) -> Style:
        """The style in force, or the one that is being faded to."""
        return self.encoded.style

    @all_or_nothing
    def switch(self, style: Style, fade: int = 0, seed: int | None = None) -> None:
        """Take up another style at the next chunk, over `fade` frames: no flash, no reset."""
        self.switching = Switch(style, fade, seed), self._encode(style)

    def _encode(self, style: Style) -> EncodedStyle:
        return self.parts.encode(style, self.geometry, guided=self.recipe.guidance != 1)

    def _take_switch(self, frames: int) -> Fade | None:
        """Begin a switch that is due, or go on with a fade, by a chunk of so many frames. Returns
        what is left of it."""
        if self.switching is not None:
            (switch, encoded), self.switching = self.switching, None
            self.fade = Fade(self.encoded, encoded, max(switch.fade, 1))
            if switch.seed is not None:
                self.seed = switch.seed
                self.flight.noise = SeededNoise(self.seed, self.parts.device)
        if self.fade is None:
            return None
        fade = self.fade.step(frames)
        self._take_up(fade.now)
        self.drift.begin(waits=len(self.flight.chunks) + (not fade.is_over))
        if not fade.is_over:
            return fade
        self.flight.past.switch()
        return None

    def _take_up(self, encoded: EncodedStyle) -> None:
        self.encoded = encoded
        self.flight.past.take_up(self.parts, encoded)

    # ---- time travel ----

    @all_or_nothing
    def reset(self) -> None:
        """Begin a new clip in the same style, with the same noise as the first time."""
        self.flight.reset(SeededNoise(self.seed, self.parts.device))
        self.intake.reset()
        self.decoder.reset()
        self.drift.end()
        self.history.clear()
        self.frames_out = self.chunks = 0

    def mark(self) -> tuple:
        """Where the session is, to go back to if something fails. Copies no frames."""
        streams = [state.snapshot() for state in (self.intake, self.decoder, self.drift)]
        return dict(vars(self)), streams, self.flight.mark(), list(self.history)

    def go_back(self, mark: tuple) -> None:
        attributes, streams, flight, history = mark
        vars(self).update(attributes)
        for state, before in zip((self.intake, self.decoder, self.drift), streams, strict=True):
            state.restore(before)
        self.flight.go_back(flight)
        self.history.clear()
        self.history.extend(history)

    def __str__(self) -> str:
        return f"frame {self.frames_out} of {self.frames_in}"

    def fork(self) -> Session:
        """A twin that goes on from here by itself."""
        twin = Session(self.parts, self.settings, self.watch)
        twin.restore(self.snapshot())  # its history begins here
        return twin

    def rewind(self, chunks: int = 1) -> None:
        """Go back to before the newest `chunks` chunks; `resume` renders them once more.

        Frames pushed since then are forgotten: `frames_in` tells where to go on.
        """
        if not 1 <= chunks <= len(self.history):
            raise SessionError(
                f"Cannot rewind {chunks} chunks: {len(self.history)} are remembered. Open the "
                f"session with history=N to keep N chunks to go back to."
            )
        history = list(self.history)
        self.restore(history[-chunks])
        self.history.extend(history[:-chunks])

    def save(self, path: str | os.PathLike) -> None:
        """Write everything to a safetensors file, for `Stylizer.load_session`."""
        self.snapshot().write(path)

    @plain_tensors
    def snapshot(self) -> Snapshot:
        """All state as it is now, not shared with the session."""
        self.commit()
        tensors = {
            f"{name}.{key}": value
            for name, state in [*self._states(), ("encoded", self.encoded)]
            for key, value in state.snapshot().items()
        }
        numbers = {name: getattr(self, name) for name in COUNTS}
        if self.fade is not None:
            tensors |= {f"fade.{key}": value for key, value in self.fade.before.snapshot().items()}
            numbers |= {"fade_frames": self.fade.frames, "fade_done": self.fade.done}
        return Snapshot(
            settings=self.settings,
            weights=self.parts.fingerprint,
            tensors=tensors,
            numbers=numbers,
            style=self.style,
            switch=self.switching[0] if self.switching else None,
        )

    @all_or_nothing
    def restore(self, snapshot: Snapshot) -> None:
        """Become what `snapshot` saw; the snapshot stays good for another time."""
        tensors = {name: t.to(self.parts.device) for name, t in snapshot.tensors.items()}
        numbers = dict(snapshot.numbers)
        for name, state in self._states():
            state.restore(under(f"{name}.", tensors))
        self.encoded = self.parts.restored(snapshot.style, under("encoded.", tensors))
        self.flight.past.wear(self.parts, self.encoded)
        self.fade = self.switching = None
        if "fade_frames" in numbers:
            before = self.parts.restored(snapshot.style, under("fade.", tensors))
            after = self._encode(snapshot.style)
            self.fade = Fade(before, after, numbers["fade_frames"], numbers["fade_done"])
        vars(self).update({name: numbers[name] for name in COUNTS})
        if (switch := snapshot.switch) is not None:
            self.switch(switch.style, switch.fade, switch.seed)

    def _states(self) -> list[tuple[str, Any]]:
        return [(name, getattr(self, name)) for name in ("intake", "flight", "decoder", "drift")]

    # ---- a host's memory ----

    def borrow(self, parts: Parts, watch: Watch) -> None:
        """Go on with the same weights as they are held now. See `Stylizer.lend`."""
        self.parts, self.watch = parts, watch
        self.intake.borrow(parts)
        self.flight.past.wear(parts, self.encoded)
        self.decoder.vae = parts.vae

    @property
    def nbytes(self) -> int:
        """What the whole state takes: KV cache, streams, latents, history."""
        return bytes_of(self.mark())

    @all_or_nothing
    def move(self, device: torch.device) -> None:
        """Take all state to another device, out of the way or back to where the weights compute."""
        self.go_back(moved(self.mark(), device))

    # ---- facts ----

    @property
    def frames_in(self) -> int:
        return self.intake.frames

    @property
    def is_ending(self) -> bool:
        """Whether a flush is under way."""
        return self.intake.is_ending

    @property
    def frames_to_chunk(self) -> int:
        """How many more frames complete the next chunk; none or less where it is complete."""
        return self.intake.missing

    @property
    def memory(self) -> Memory:
        """The KV cache of the style."""
        return self.flight.past.memory
