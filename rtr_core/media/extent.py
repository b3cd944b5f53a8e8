"""How much a clip is, by arithmetic: frames, latent frames, chunks, segments, saved sessions."""

from dataclasses import dataclass

from ..recipes import Recipe
from ..settings import Settings
from ..shapes import Stride, latent_frames
from .job import SEGMENT_FRAMES
from .probe import SourceInfo


@dataclass(frozen=True, kw_only=True)
class Extent:
    """A clip of one shot, as a job will cut it."""

    frames: int
    known: str  # how
    stride: Stride
    recipe: Recipe
    segment_frames: int = SEGMENT_FRAMES

    @classmethod
    def of(cls, clip: SourceInfo, settings: Settings, stride: Stride) -> "Extent | None":
        """By what the file says of itself; None where it says nothing."""
        if clip.frames is not None:
            frames, known = clip.frames, "as the file says"
        elif clip.duration is not None:
            frames, known = max(1, round(clip.duration * clip.rate)), "estimated from its duration"
        else:
            return None
        return cls(frames=frames, known=known, stride=stride, recipe=settings.recipe)

    @property
    def latents(self) -> int:
        return latent_frames(self.frames, self.stride)

    @property
    def chunks(self) -> int:
        return self.recipe.chunks_of(self.latents)

    @property
    def sessions(self) -> int:
        """How many are saved: one at each border, which are ends of chunks too."""
        first, later = self._borders
        return max(0, 1 + (self.frames - first) // later)

    @property
    def segments(self) -> int:
        """Those that a border closes, and the one that the clip's end does."""
        first, later = self._borders
        last_border = first + (self.sessions - 1) * later if self.sessions else 0
        return self.sessions + (self.frames > last_border)

    @property
    def _borders(self) -> tuple[int, int]:
        """Frames up to the first border, and between two others."""
        chunks = self.recipe.chunks_of(latent_frames(self.segment_frames, self.stride))
        step = self.recipe.chunk * self.stride.time
        first = self.recipe.frames_of(chunks, self.stride)
        return first, -(-self.segment_frames // step) * step

    def __str__(self) -> str:
        return (
            f"{self.frames} ({self.known}); latent frames: {self.latents}, chunks: {self.chunks}, "
            f"segments: {self.segments}"
        )
