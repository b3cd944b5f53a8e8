"""One running video: everything about it that changes. Read `push` first.

A session borrows the weights of a stylizer and owns the rest: the autoencoder's streams, the KV
cache, the noise, the frames not yet rendered. So many sessions run on one stylizer, and each can
be forked, rewound, saved and loaded.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from .errors import NumericsError, SessionError
from .frames import checked_frames, to_frames, to_pixels
from .model.kv_cache import KVCache
from .parts import Parts
from .placing import bytes_of, moved
from .sampling import Noise, SeededNoise, beside, denoiser, render_chunk
from .settings import Settings
from .shapes import frames_of
from .snapshot import Snapshot
from .style import EncodedStyle, Fade, Style, Switch
from .transaction import all_or_nothing, plain_tensors
from .vae.causal import under
from .vae.stream import DecoderStream, EncoderStream

SLICE = 32  # frames converted at a time, so that a long push needs little memory
COUNTS = ("frames_in", "frames_out", "chunks", "seed")


def unwatched() -> None:
    """Nobody wants to stop a session or to know where it is."""


class Session:
    """All mutable state of one running video. Opened by `Stylizer.session`."""

    def __init__(self, parts: Parts, settings: Settings, watch: Callable[[], None] = unwatched):
        self.parts, self.settings, self.recipe = parts, settings, settings.recipe
        self.watch = watch  # called before each pass; what it raises ends the verb that runs
        self.geometry = parts.geometry(settings.size)
        self.encoder, self.decoder = EncoderStream(parts.vae), DecoderStream(parts.vae)
        self.memory = KVCache(self.geometry.grid, self.recipe.memory, (), settings.cache == "fp8")
        self.history: deque[Snapshot] = deque(maxlen=settings.history)
        self.seed = settings.seed
        self.switching: tuple[Switch, EncodedStyle] | None = None  # at the next chunk
        self.fade: Fade | None = None
        self.noise: Noise = SeededNoise(self.seed, parts.device)
        self.reset()

    @all_or_nothing
    def begin(self, style: Style) -> None:
        """Take up the first style. Later ones are for `switch`."""
        self._take_up(self.parts.encode(style, self.geometry))

    # ---- the way of a frame ----

    def push(self, frames: Any) -> Iterator[Tensor]:
        """Feed frames `[t h w 3]`; iterate over styled frames `[t h w 3]` as chunks complete.

        The frames are taken in at once; chunks are rendered as the iterator is drawn on. What an
        abandoned iterator leaves is rendered first at the next push.
        """
        if self.is_ending:
            raise SessionError(
                "A flush is under way: draw its iterator to the end, or `reset`, then push."
            )
        self._take_in(checked_frames(frames, first=self.frames_in))
        return self.resume()

    def resume(self) -> Iterator[Tensor]:
        """Render what has been pushed and not rendered: after an error, say, or a rewind."""
        while (source := self._next_chunk()) is not None:
            yield self._render(source)  # pixels leave first; the chunk is past when more are asked

    def flush(self) -> Iterator[Tensor]:
        """Render the rest, so that as many frames came out as went in; then a new clip begins."""
        yield from self.resume()
        self._fill_last_chunk()
        yield from self.resume()

    @property
    def frames_to_chunk(self) -> int:
        """How many more frames complete the next chunk; none or less where it is complete."""
        return self._frames_by(self.chunks + 1) - self.frames_in

    @all_or_nothing
    def _take_in(self, frames: Tensor) -> None:
        """Frames become source latents."""
        latents = []
        for part in frames.split(SLICE):
            self.watch()
            pixels = to_pixels(part, self.geometry, self.parts.pixels_like)
            latents.append(self.encoder.push(pixels))
        self._wait_for(*latents)
        self.frames_in += len(frames)

    @all_or_nothing
    def _render(self, source: Tensor) -> Tensor:
        """Source latents of one chunk become clean ones, and those become frames."""
        before = self.snapshot() if self.history.maxlen else None
        fade = self._take_switch()
        clean = self.render(source)
        pixels = self.decoder.push(clean.to(self.parts.pixels_like))
        self._refuse_nan(pixels)
        frames = to_frames(pixels, self.geometry.size)[: self.frames_in - self.frames_out]
        self.pending = self.pending[:, :, self.recipe.chunk :]
        self._rendered, self.fade = (clean, source), fade
        self.frames_out += len(frames)
        self.chunks += 1
        if before is not None:
            self.history.append(before)
        if self.is_ending and not self.pending.shape[2]:
            self.reset()
        return frames

    def render(self, source: Tensor) -> Tensor:
        """The clean latents of one chunk of source latents."""
        step = denoiser(self.parts.transformer, self.memory, self._channels(source))

        def denoise(x: Tensor, sigma: float) -> Tensor:
            self.watch()
            return step(x, sigma)

        return render_chunk(denoise, self.recipe, source, self.noise, self.encoded.strength)

    @plain_tensors
    def commit(self) -> None:
        """Make the rendered chunk past. Does nothing where that has been done."""
        self._remember_rendered()
        if self.memory.has_chunk:
            self.memory.commit()

    @all_or_nothing
    def _remember_rendered(self) -> None:
        if self._rendered is not None:
            self.remember(*self._rendered)
            self._rendered = None

    def remember(self, clean: Tensor, source: Tensor) -> None:
        """The keys and values of a chunk of clean latents, ready to be committed."""
        if self.recipe.commit == "clean":
            self.watch()
            self.parts.transformer.remember(beside(clean, self._channels(source)), self.memory)

    # ---- style ----

    @property
    def style(self) -> Style:
        """The style in force, or the one that is being faded to."""
        return self.encoded.style

    @all_or_nothing
    def switch(self, style: Style, fade: int = 0, seed: int | None = None) -> None:
        """Take up another style at the next chunk, over `fade` frames: no flash, no reset."""
        encoded = self.parts.encode(style, self.geometry)
        self.switching = Switch(style, fade, seed), encoded

    def _take_switch(self) -> Fade | None:
        """Begin a switch that is due, or go on with a fade. Returns what is left of it."""
        if self.switching is not None:
            (switch, encoded), self.switching = self.switching, None
            self.fade = Fade(self.encoded, encoded, max(switch.fade, 1))
            if switch.seed is not None:
                self.seed = switch.seed
                self.noise = SeededNoise(self.seed, self.parts.device)
        if self.fade is None:
            return None
        fade = self.fade.step(self._frames_by(self.chunks + 1) - self._frames_by(self.chunks))
        self._take_up(fade.now)
        if not fade.is_over:
            return fade
        self.memory.truncate(keep=1)
        return None

    def _take_up(self, encoded: EncodedStyle) -> None:
        self.encoded = encoded
        self.parts.take_up(encoded, self.memory)

    # ---- time travel ----

    @all_or_nothing
    def reset(self) -> None:
        """Begin a new clip in the same style, with the same noise as the first time."""
        self.memory.clear()
        self.encoder.reset()
        self.decoder.reset()
        self.history.clear()
        self.noise = SeededNoise(self.seed, self.parts.device)
        self.frames_in = self.frames_out = self.chunks = 0
        self.is_ending = False  # a flush has filled up the last chunk
        self.pending = self._no_latents()  # source latents that are no chunk yet
        self._rendered: tuple[Tensor, Tensor] | None = None  # clean and source, not past yet

    def mark(self) -> tuple:
        """Where the session is, to go back to if something fails. Copies no frames."""
        streams = [state.snapshot() for state in (self.encoder, self.decoder, self.noise)]
        return dict(vars(self)), streams, self.memory.mark(), list(self.history)

    def go_back(self, mark: tuple) -> None:
        attributes, streams, memory, history = mark
        vars(self).update(attributes)
        for state, before in zip((self.encoder, self.decoder, self.noise), streams, strict=True):
            state.restore(before)
        self.memory.go_back(memory)
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
        tensors["pending"] = self.pending.clone()
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
        self.encoded = EncodedStyle.restored(snapshot.style, under("encoded.", tensors))
        self.pending, self._rendered, self.fade = tensors["pending"], None, None
        if "fade_frames" in numbers:
            before = EncodedStyle.restored(snapshot.style, under("fade.", tensors))
            after = self.parts.encode(snapshot.style, self.geometry)
            self.fade = Fade(before, after, numbers["fade_frames"], numbers["fade_done"])
        for name in COUNTS:
            setattr(self, name, numbers[name])
        self.switching = None
        if (switch := snapshot.switch) is not None:
            self.switch(switch.style, switch.fade, switch.seed)

    def _states(self) -> list[tuple[str, Any]]:
        return [(name, getattr(self, name)) for name in ("encoder", "decoder", "memory", "noise")]

    # ---- a host's memory ----

    def borrow(self, parts: Parts, watch: Callable[[], None]) -> None:
        """Go on with the same weights as they are held now. See `Stylizer.lend`."""
        self.parts, self.watch = parts, watch
        self.encoder.vae = self.decoder.vae = parts.vae

    @property
    def nbytes(self) -> int:
        """What the whole state takes: KV cache, streams, latents, history."""
        return bytes_of(self.mark())

    @all_or_nothing
    def move(self, device: torch.device) -> None:
        """Take all state to another device, out of the way or back to where the weights compute."""
        self.go_back(moved(self.mark(), device))

    # ---- small pieces ----

    def _channels(self, source: Tensor) -> Tensor | None:
        """The source where the transformer takes it beside the noise."""
        return source if self.parts.transformer.config.takes_source else None

    def _frames_by(self, chunks: int) -> int:
        """How many frames of a clip so many chunks cover."""
        return frames_of(chunks * self.recipe.chunk, self.parts.vae.stride)

    def _next_chunk(self) -> Tensor | None:
        """Source latents of the next chunk, once there are enough and the last one is past."""
        self.commit()
        if self.pending.shape[2] < self.recipe.chunk:
            return None
        return self.pending[:, :, : self.recipe.chunk]

    def _wait_for(self, *latents: Tensor | None) -> None:
        """Let latents wait until there are enough for a chunk."""
        new = [part.to(self.pending) for part in latents if part is not None]
        self.pending = torch.cat([self.pending, *new], dim=2)
        if not self.pending.isfinite().all():
            raise NumericsError(
                f"The autoencoder made NaN of frames from {self.frames_in} on. They were not taken "
                f"in: load it in fp32."
            )

    @all_or_nothing
    def _fill_last_chunk(self) -> None:
        """Repeat the last latent frame until a chunk is whole; its frames are cut off again."""
        if not self.is_ending:
            self._wait_for(self.encoder.flush())
            missing = -self.pending.shape[2] % self.recipe.chunk
            self._wait_for(self.pending[:, :, -1:].expand(-1, -1, missing, -1, -1))
            self.is_ending = True
        if not self.pending.shape[2]:
            self.reset()

    def _no_latents(self) -> Tensor:
        channels = self.parts.transformer.config.out_channels
        return self.parts.latents_like.new_zeros(1, channels, 0, *self.geometry.latent)

    def _refuse_nan(self, pixels: Tensor) -> None:
        if not pixels.isfinite().all():
            raise NumericsError(
                f"The model made NaN of the chunk that begins at frame {self.frames_out}. The "
                f"session stays before it: switch the style or use fp32, then `resume()`."
            )
