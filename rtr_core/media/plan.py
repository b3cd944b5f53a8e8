"""`rtr plan`: what a clip will take here, said beforehand.

    with open_source("night.mp4") as source:
        print(Plan.of(source, stylizer))

Counts follow from arithmetic, memory from a session without numbers, speeds and sizes from a trial
on the clip's own beginning; time, output and disk are scaled up from both. Each line says which of
these it is.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from math import ceil

from torch import Tensor

from ..errors import OutOfMemory
from ..settings import Settings
from ..shapes import Size
from ..stylizer import Stylizer
from .codecs import H264, Codec
from .extent import Extent
from .needs import Memory, amount, memory_needs, what_may_fit, what_would_fit
from .probe import SourceInfo
from .recorder import SESSION_BYTES
from .source import Source
from .trial import Trial, run_trial

FEWEST_SESSIONS = 2  # that a job keeps, however large they are


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What one clip will take. Numbers about all of it are None where its length is not known."""

    clip: SourceInfo
    settings: Settings
    codec: Codec
    model: str
    frames_per_chunk: int
    extent: Extent | None
    memory: tuple[Memory, ...]
    trial: Trial | None = None  # None where there is no room for it
    advice: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, source: Source, stylizer: Stylizer, size: Size | None = None, codec: Codec = H264
    ) -> "Plan":
        """Count, reckon, and try where there seems to be room."""
        clip, stride = source.info, stylizer.parts.vae.stride
        settings = Settings(size=size or clip.size, recipe=stylizer.recipe, cache=stylizer.cache)
        extent = Extent.of(clip, settings, stride)
        latents = extent.latents if extent else None
        plan = cls(
            clip=clip,
            settings=settings,
            codec=codec,
            model=described(stylizer),
            frames_per_chunk=settings.recipe.chunk * stride.time,
            extent=extent,
            memory=memory_needs(stylizer, settings, clip, latents),
        )
        if not all(part.fits for part in plan.memory):
            advice = what_would_fit(stylizer, settings, clip, latents)
            return replace(plan, advice=tuple(advice))
        try:
            trial = run_trial(source, stylizer, settings, codec)
        except OutOfMemory:
            return replace(plan, advice=tuple(what_may_fit(stylizer, settings)))
        if trial.is_whole:
            extent = Extent(
                frames=trial.frames, known="counted", stride=stride, recipe=settings.recipe
            )
        return replace(plan, trial=trial, extent=extent)

    @property
    def fits(self) -> bool:
        return self.trial is not None

    # ---- scaled up from the trial ----

    @property
    def rate(self) -> float | None:
        """Frames a second, of the whole clip, or in the long run where its length is not known."""
        if self.extent is not None and self.seconds is not None:
            return self.extent.frames / self.seconds
        return self.trial.rate(self.frames_per_chunk) if self.trial else None

    @property
    def seconds(self) -> float | None:
        """For all frames, once everything is loaded."""
        if self.trial is None or self.extent is None:
            return None
        return self.trial.seconds(self.extent.frames, self.extent.chunks)

    @property
    def encoded(self) -> int | None:
        """Bytes of the pictures; sound is copied on top."""
        if self.trial is None or self.extent is None:
            return None
        return round(self.trial.encoded / self.trial.frames * self.extent.frames)

    def disk(self, copies: int, spare: int = 0) -> int | None:
        """Bytes of so many copies of the pictures, and of the sessions that are kept."""
        if self.trial is None or self.extent is None or self.encoded is None:
            return None
        most = max(FEWEST_SESSIONS, SESSION_BYTES // self.trial.saved)
        kept = min(self.extent.sessions, most + spare)
        return copies * self.encoded + kept * self.trial.saved

    @property
    def disk_after(self) -> int | None:
        """The result, and its folder of segments and sessions, which a redo needs."""
        return self.disk(copies=2)

    @property
    def disk_at_most(self) -> int | None:
        """While the result is put together the partial file is there too, and while sessions are
        thinned out one more of them."""
        return self.disk(copies=3, spare=1)

    # ---- words ----

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def lines(self) -> Iterator[str]:
        clip, recipe = self.clip, self.settings.recipe
        yield f"{clip.path}: {clip.size}, {float(clip.rate):.5g} frames a second"
        yield f"frames: {self.extent or 'unknown, the file does not say'}"
        yield f"model: {self.model}, at {self.settings.size}"
        yield (
            f"recipe: {recipe.name}, {len(recipe.timesteps)} steps, {recipe.chunk} latent frames a "
            f"chunk, {'all' if recipe.window is None else recipe.window} behind them in sight"
        )
        yield from (f"memory, {part}" for part in self.memory)
        if self.trial is not None:
            yield from self._tried(self.trial)
        else:
            yield "does not fit"
        yield from (f"advice: {line}" for line in self.advice)

    def _tried(self, trial: Trial) -> Iterator[str]:
        if trial.peak is not None:
            yield f"memory, measured in the trial: {amount(trial.peak)} at most"
        part = "the whole clip" if trial.is_whole else "its beginning"
        yield (
            f"trial, measured: {part}, frames: {trial.frames}, chunks: {trial.chunks}; a chunk of "
            f"{self.frames_per_chunk} took {trial.rendering:.3g} s to stylize, beside it "
            f"{1 / trial.decoding:.3g} frames a second were decoded, {1 / trial.encoding:.3g} "
            f"encoded"
        )
        whole = "unknown" if self.seconds is None else clock(self.seconds)
        yield f"time, estimated: {whole}, {self.rate:.3g} frames a second; loading not counted"
        if self.settings.recipe.window is None:
            yield "  more of both time and disk: without a window each chunk adds to the next"
        if self.encoded is not None:
            yield f"output, roughly: {amount(self.encoded)} as {self.codec.name}, and the sound"
        if self.disk_after is not None and self.disk_at_most is not None:
            yield (
                f"disk, roughly: {amount(self.disk_after)} for the result, its segments and "
                f"sessions, {amount(self.disk_at_most)} on the way"
            )
        if trial.damage:
            yield f"damage: {trial.damage}"


def described(stylizer: Stylizer) -> str:
    """The networks, and what they run on and in."""
    parts, vae = stylizer.parts, stylizer.parts.vae
    stride = "x".join(map(str, vae.stride))
    return (
        f"{parts.name} on {parts.device} in {named(parts.latents_like)}, {type(vae).__name__} "
        f"({vae.channels} channels, {stride}) in {named(parts.pixels_like)}"
    )


def named(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def clock(seconds: float) -> str:
    """h:mm:ss, a begun second counted."""
    return str(timedelta(seconds=ceil(seconds)))
