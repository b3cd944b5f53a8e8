"""The source side of a session: frames go in, chunks of source latents come out.

    intake.push(frames)
    while (waiting := intake.next_chunk()) is not None:
        ...                                     # render it; if that fails, it is still there
        intake.take(waiting)

Its state is replaced and never changed in place, so a snapshot of it stays good.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from .errors import NumericsError, SessionError
from .frames import is_finite, to_pixels
from .parts import Parts
from .recipes import Recipe
from .shapes import Geometry, frames_of, latent_frames, whole_latent_frames
from .structure import StructureStream
from .vae.causal import prefixed, under
from .vae.stream import EncoderStream

FAST = 0.2  # change from frame to frame, of pixels in -1..1, that is fast: StreamDiffusionV2's
INERTIA = 0.1  # share of the last chunk's motion in that of the next: the same
ENCODER, STRUCTURE = "encoder.", "structure."  # before the names of their tensors in a snapshot


class Waiting(NamedTuple):
    """The source of one chunk."""

    source: Tensor  # [1 c t h w]
    frames: int
    motion: float  # 0 where the picture stands, 1 where it moves fast
    structure: Tensor | None = None  # the same of its structure, where the model is told of it


class Intake:
    def __init__(self, parts: Parts, recipe: Recipe, geometry: Geometry):
        self.parts, self.recipe, self.geometry = parts, recipe, geometry
        self.encoder = EncoderStream(parts.vae)
        self.structure: StructureStream | None = None
        if parts.transformer.config.structure:
            depth = parts.depth if recipe.structure == "depth" else None
            self.structure = StructureStream(parts.vae, depth)
        self.reset()

    def reset(self) -> None:
        """Begin a new clip."""
        self.encoder.reset()
        if self.structure is not None:
            self.structure.reset()
        self.pending = self._blank(0)  # source latents that are no chunk yet, the structure's after
        self.frames = self.latents = 0  # taken in; given away
        self.is_ending = False  # the last chunk has been filled up
        self.has_source = True  # else frames are made of the prompt alone
        self.moves: tuple[float, ...] = ()  # of the frames that are no chunk yet
        self.motion = 0.0  # of the last chunk
        self.last: Tensor | None = None  # frame, to see the motion of the next

    # ---- in ----

    def push(self, frames: Tensor) -> None:
        """Frames `[t h w 3]` become source latents."""
        self._begin(has_source=True)
        like = self.parts.pixels_like
        wide = to_pixels(frames, self.geometry, like.new_empty(0, dtype=torch.float32))
        pixels = wide.to(like.dtype)
        if self.recipe.motion:
            self._watch(pixels)
        structure = self.structure.push(wide) if self.structure else None
        self._wait_for(self.encoder.push(pixels), structure)
        self.frames += len(frames)

    def imagine(self, frames: int) -> None:
        """So many frames are wanted that no picture is the source of."""
        self._begin(has_source=False)
        self.frames += frames
        self._wait_blank(whole_latent_frames(self.frames, self.encoder.vae.stride))

    def follow(self, frames: Tensor) -> Tensor:
        """The latents of frames that are given and not to be rendered: the clip's first."""
        stride, count = self.encoder.vae.stride, len(frames)
        whole = frames_of(whole_latent_frames(count, stride), stride)
        if count != whole:
            raise SessionError(
                f"{count} frames are no whole number of latent frames: give {whole} of them (1, or "
                f"1 more than a multiple of {stride.time})."
            )
        self.push(frames)
        latents, self.pending = self.pending[:, : self._channels], self._blank(0)
        self.latents += latents.shape[2]
        self.moves = ()
        return latents

    def fill(self) -> None:
        """Repeat the last latent frame until a chunk is whole: the clip ends here."""
        if self.is_ending:
            return
        if not self.has_source:
            self._wait_blank(latent_frames(self.frames, self.encoder.vae.stride))
        self._wait_for(self.encoder.flush(), self.structure.flush() if self.structure else None)
        if left := self.pending.shape[2]:
            missing = -left % self.recipe.chunk_after(self.latents)
            self._wait_for(self.pending[:, :, -1:].expand(-1, -1, missing, -1, -1))
        self.is_ending = True

    # ---- out ----

    def next_chunk(self) -> Waiting | None:
        """The next chunk's source, once there is enough of it."""
        size = self.recipe.chunk_after(self.latents)
        if self.pending.shape[2] < size:
            return None
        stride = self.encoder.vae.stride
        frames = frames_of(self.latents + size, stride) - frames_of(self.latents, stride)
        motion = max(self.moves[:frames], default=0.0)
        smooth = motion + INERTIA * (self.motion - motion)
        latents, channels = self.pending[:, :, :size], self._channels
        structure = latents[:, channels:] if self.structure else None
        return Waiting(latents[:, :channels], frames, smooth, structure)

    def take(self, waiting: Waiting) -> None:
        """Give a chunk away."""
        size = waiting.source.shape[2]
        self.pending, self.motion = self.pending[:, :, size:], waiting.motion
        self.moves = self.moves[waiting.frames :]
        self.latents += size

    @property
    def is_between_chunks(self) -> bool:
        """Whether every frame that came in is in a chunk that has been given away."""
        return self.frames == frames_of(self.latents, self.encoder.vae.stride)

    @property
    def missing(self) -> int:
        """How many more frames complete the next chunk; none or less where it is complete."""
        latents = self.latents + self.recipe.chunk_after(self.latents)
        return frames_of(latents, self.encoder.vae.stride) - self.frames

    # ---- what a session needs to undo, save and move it ----

    def borrow(self, parts: Parts) -> None:
        self.parts, self.encoder.vae = parts, parts.vae
        if self.structure is not None:
            self.structure.borrow(parts.vae, parts.depth)

    def snapshot(self) -> dict[str, Tensor]:
        counts = self.frames, self.latents, self.is_ending, self.has_source
        last = {} if self.last is None else {"last": self.last}
        structure = {} if self.structure is None else self.structure.snapshot()
        return {
            "pending": self.pending,
            "counts": torch.tensor(counts, dtype=torch.int64),
            "moves": torch.tensor([self.motion, *self.moves], dtype=torch.float64),
            **prefixed(ENCODER, self.encoder.snapshot()),
            **prefixed(STRUCTURE, structure),
            **last,
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        self.frames, self.latents, *flags = state["counts"].tolist()
        self.is_ending, self.has_source = map(bool, flags)
        self.motion, *moves = state["moves"].tolist()
        self.moves, self.pending, self.last = tuple(moves), state["pending"], state.get("last")
        self.encoder.restore(under(ENCODER, state))
        if self.structure is not None:
            self.structure.restore(under(STRUCTURE, state))

    # ---- small pieces ----

    def _begin(self, has_source: bool) -> None:
        if self.is_ending:
            raise SessionError(
                "A flush is under way: draw its iterator to the end, or `reset`, then push."
            )
        may_change = not self.frames or (self.has_source and self.is_between_chunks)
        if has_source != self.has_source and not may_change:
            raise SessionError(
                "A clip that has a source goes on without one only where all its chunks are drawn, "
                "and one without never gets one: flush it, and begin a new clip."
            )
        self.has_source = has_source

    def _wait_for(self, latents: Tensor | None, structure: Tensor | None = None) -> None:
        """Let latents wait until there are enough for a chunk, those of their structure behind."""
        if latents is None:
            return
        if structure is not None:
            latents = torch.cat([latents, structure], dim=1)
        self.pending = torch.cat([self.pending, latents.to(self.pending)], dim=2)
        if not is_finite(latents):
            raise NumericsError(
                f"The autoencoder made NaN of frames from {self.frames} on. Nothing of this push "
                f"was taken in: load it in fp32."
            )

    def _wait_blank(self, latents: int) -> None:
        """As many blanks as make so many latent frames of the clip."""
        self.pending = self._blank(latents - self.latents)

    def _blank(self, latents: int) -> Tensor:
        channels = self._channels * (1 if self.structure is None else 2)
        one = self.parts.latents_like.new_zeros(1, channels, 1, *self.geometry.latent)
        return one.expand(-1, -1, latents, -1, -1)

    @property
    def _channels(self) -> int:
        """Of a latent."""
        return self.parts.transformer.config.out_channels

    def _watch(self, pixels: Tensor) -> None:
        """How fast the picture moves, for each frame of `[1 3 t h w]`."""
        before = pixels[:, :, :1] if self.last is None else self.last
        change = torch.cat([before, pixels], dim=2).float().diff(dim=2)
        speed = change.square().mean(dim=(0, 1, 3, 4)).sqrt() / FAST
        self.moves += tuple(speed.clamp(max=1).tolist())
        self.last = pixels[:, :, -1:].clone()
