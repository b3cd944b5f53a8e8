"""One running video: everything about it that changes. Read `push` first.

A session borrows the weights of a stylizer and owns the rest: the autoencoder's streams, the KV
cache, the noise, the frames not yet rendered. So many sessions run on one stylizer, and each can
be forked, rewound, saved and loaded.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from .errors import NumericsError, SessionError
from .frames import checked_frames, to_frames, to_pixels
from .model.kv_cache import KVCache
from .parts import Parts
from .sampling import Noise, SeededNoise, commit_chunk, denoiser, render_chunk
from .snapshot import Settings, Snapshot
from .style import EncodedStyle, Style
from .transaction import plain_tensors, undone_on_error
from .vae.stream import DecoderStream, EncoderStream

SLICE = 32  # frames converted at a time, so that a long push needs little memory
COUNTS = ("frames_in", "frames_out", "chunks")


class Session:
    """All mutable state of one running video. Opened by `Stylizer.session`."""

    def __init__(self, parts: Parts, settings: Settings):
        self.parts, self.settings, self.recipe = parts, settings, settings.recipe
        self.geometry = parts.geometry(settings.size)
        self.encoder, self.decoder = EncoderStream(parts.vae), DecoderStream(parts.vae)
        self.memory = KVCache(self.geometry.grid, self.recipe.memory)
        self.history: deque[Snapshot] = deque(maxlen=settings.history)
        self.next_style: EncodedStyle | None = None
        self.reset()

    def begin(self, style: Style) -> None:
        """Take up the first style. Later ones are for `switch`."""
        self._apply(self.parts.encode(style, self.geometry))

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
        while (source := self._next_chunk()) is not None:
            yield self._render_next(source)
            self.commit()  # the frames are being looked at meanwhile

    def flush(self) -> Iterator[Tensor]:
        """Render the rest, so that as many frames came out as went in; then a new clip begins."""
        yield from self.resume()
        self._fill_last_chunk()
        yield from self.resume()
        self.reset()

    @plain_tensors
    def _take_in(self, frames: Tensor) -> None:
        """Frames become source latents. Nothing has happened where one of them fails."""
        with undone_on_error(self.encoder, frame=self.frames_in):
            latents = [
                self.encoder.push(to_pixels(part, self.geometry, self.parts.pixels_like))
                for part in frames.split(SLICE)
            ]
        self._wait_for(*latents)
        self.frames_in += len(frames)

    @plain_tensors
    def _render_next(self, source: Tensor) -> Tensor:
        """Source latents of one chunk become clean ones, and those become frames."""
        self.commit()
        before = self.snapshot() if self.history.maxlen else None
        self._take_switch()
        with undone_on_error(self.decoder, self.noise, frame=self.frames_out):
            clean = self.render(source)
            pixels = self.decoder.push(clean.to(self.parts.pixels_like))
            self._refuse_nan(pixels)
        self.pending = self.pending[:, :, self.recipe.chunk :]
        self._rendered = clean, source
        frames = to_frames(pixels, self.geometry.size)[: self.frames_in - self.frames_out]
        self.frames_out += len(frames)
        self.chunks += 1
        if before:
            self.history.append(before)
        return frames

    def render(self, source: Tensor) -> Tensor:
        """The clean latents of one chunk of source latents."""
        denoise = denoiser(self.parts.transformer, self.memory, self._channels(source))
        return render_chunk(denoise, self.recipe, source, self.noise, self.style.strength)

    @plain_tensors
    def commit(self) -> None:
        """Make the rendered chunk past. Does nothing where that has been done."""
        if self._rendered is not None:
            with undone_on_error(frame=self.frames_out):
                self.remember(*self._rendered)
            self._rendered = None

    def remember(self, clean: Tensor, source: Tensor) -> None:
        """One chunk of clean latents becomes part of what later chunks see."""
        model, channels = self.parts.transformer, self._channels(source)
        commit_chunk(model, self.memory, self.recipe, clean, channels)

    # ---- style ----

    def switch(self, style: Style) -> None:
        """Take up another style at the next chunk: no flash, no reset, the newest frame kept."""
        self.next_style = self.parts.encode(style, self.geometry)

    def _take_switch(self) -> None:
        if self.next_style is not None:
            self.memory.truncate(keep=1)
            self._apply(self.next_style)
            self.next_style = None

    def _apply(self, style: EncodedStyle) -> None:
        self.style = style.style
        self.memory.reset_context(style.context)
        self.memory.replace_anchor(style.anchor)

    # ---- time travel ----

    def reset(self) -> None:
        """Begin a new clip in the same style, with the same noise as the first time."""
        self._take_switch()
        self.memory.clear()
        self.encoder.reset()
        self.decoder.reset()
        self.noise: Noise = SeededNoise(self.settings.seed, self.parts.device)
        self.frames_in = self.frames_out = self.chunks = 0
        self.pending = self._no_latents()  # source latents that are no chunk yet
        self._rendered: tuple[Tensor, Tensor] | None = None  # clean and source, not past yet

    def fork(self) -> Session:
        """A twin that goes on from here by itself."""
        twin = Session(self.parts, self.settings)
        twin.restore(self.snapshot())
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
        for _ in range(chunks):
            snapshot = self.history.pop()
        self.restore(snapshot)

    def save(self, path: str | os.PathLike) -> None:
        """Write everything to a safetensors file, for `Stylizer.load_session`."""
        self.snapshot().write(path)

    @plain_tensors
    def snapshot(self) -> Snapshot:
        """All state as it is now, not shared with the session."""
        self.commit()
        tensors = {
            f"{name}.{key}": value
            for name, state in self._states()
            for key, value in state.snapshot().items()
        }
        tensors["pending"] = self.pending.clone()
        return Snapshot(
            settings=self.settings,
            weights=self.parts.fingerprint,
            tensors=tensors,
            counts={name: getattr(self, name) for name in COUNTS},
            style=self.style,
            next_style=self.next_style.style if self.next_style else None,
        )

    @plain_tensors
    def restore(self, snapshot: Snapshot) -> None:
        """Become what `snapshot` saw; the snapshot stays good for another time."""
        tensors = {name: t.to(self.parts.device) for name, t in snapshot.tensors.items()}
        for name, state in self._states():
            keys = (key for key in tensors if key.startswith(f"{name}."))
            state.restore({key.removeprefix(f"{name}."): tensors[key] for key in keys})
        self.pending = tensors["pending"]
        for name, value in snapshot.counts.items():
            setattr(self, name, value)
        self.style, self.next_style, self._rendered = snapshot.style, None, None
        if snapshot.next_style:
            self.switch(snapshot.next_style)

    def _states(self) -> list[tuple[str, Any]]:
        return [(name, getattr(self, name)) for name in ("encoder", "decoder", "memory", "noise")]

    # ---- small pieces ----

    def _channels(self, source: Tensor) -> Tensor | None:
        """The source where the transformer takes it beside the noise."""
        return source if self.recipe.start == "source channels" else None

    def _next_chunk(self) -> Tensor | None:
        """Source latents of the next chunk, once there are enough of them."""
        if self.pending.shape[2] < self.recipe.chunk:
            return None
        return self.pending[:, :, : self.recipe.chunk]

    def _wait_for(self, *latents: Tensor | None) -> None:
        new = [part.to(self.pending) for part in latents if part is not None]
        self.pending = torch.cat([self.pending, *new], dim=2)

    @plain_tensors
    def _fill_last_chunk(self) -> None:
        """Repeat the last latent frame until a chunk is whole; its frames are cut off again."""
        self._wait_for(self.encoder.flush())
        missing = -self.pending.shape[2] % self.recipe.chunk
        self._wait_for(self.pending[:, :, -1:].expand(-1, -1, missing, -1, -1))

    def _no_latents(self) -> Tensor:
        channels = self.parts.transformer.config.out_channels
        return self.parts.latents_like.new_zeros(1, channels, 0, *self.geometry.latent)

    def _refuse_nan(self, pixels: Tensor) -> None:
        if not pixels.isfinite().all():
            raise NumericsError(
                f"The model made NaN of the chunk that begins at frame {self.frames_out}. The "
                f"session stays before it: switch the style or use fp32, then `resume()`."
            )
