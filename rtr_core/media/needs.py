"""What a job takes of memory: its session as it is counted, its frames by arithmetic."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch

from ..fitting import choose, first_that, smaller_sizes
from ..footprint import Model, Savings, counted
from ..settings import Settings
from ..shapes import Size
from ..stylizer import Stylizer, memory_of
from .job import AHEAD, BEHIND
from .pictures import BYTE
from .probe import SourceInfo

CHANNELS, FLOAT = 3, 4  # of a picture, and the bytes of one of its numbers
UNITS = (("GiB", 30), ("MiB", 20), ("KiB", 10), ("bytes", 0))


@dataclass(frozen=True, kw_only=True)
class Memory:
    """What is needed of one memory."""

    place: str
    items: Mapping[str, int]  # bytes
    there: int | None  # all the memory there is, if that is known

    @property
    def needed(self) -> int:
        return sum(self.items.values())

    @property
    def fits(self) -> bool:
        return self.there is None or self.needed <= self.there

    def __str__(self) -> str:
        of = f" of {amount(self.there)}" if self.there is not None else ""
        items = " + ".join(f"{name} {amount(size)}" for name, size in self.items.items() if size)
        return f"{self.place}: {amount(self.needed)}{of} at most, counted: {items}"


def memory_needs(
    stylizer: Stylizer,
    settings: Settings,
    clip: SourceInfo,
    latents: int | None,
    dtype: torch.dtype | None = None,
) -> tuple[Memory, ...]:
    """Of the device and, where that is not the CPU, of RAM. A styled frame waits on the device.

    `dtype` is asked about in place of the one that is loaded.
    """
    parts, recipe = stylizer.parts, settings.recipe
    if recipe.window is None and latents is not None:  # all of the clip stays in the cache
        recipe = recipe.override(window=latents, span=None)
    model, savings = Model.of(stylizer), Savings.of(stylizer)
    savings = replace(savings, dtype=dtype or savings.dtype)
    model = replace(model, recipe=recipe, pixels=None if dtype else model.pixels)
    taken, frames = counted(model, settings.size, savings), recipe.chunk * parts.vae.stride.time
    source_frame = clip.size.area * CHANNELS * (1 if clip.depth <= BYTE else FLOAT)
    on_device = {
        **taken.items,
        "LoRAs and depth model": parts.beside_bytes,
        "styled frames in the queue": queued(settings.size, frames),
    }
    in_ram = {
        # those that are read ahead, the chunk's, and the twins of styled ones
        "source frames in the queues": source_frame * (AHEAD + BEHIND + frames),
        "text encoder": parts.text_bytes,
        "KV cache, a copy while a session is saved": taken.cache,
        "blocks": taken.on_host,
    }
    there = memory_of(parts.device)
    if parts.device.type == "cpu":
        return (Memory(place="RAM", items=on_device | in_ram, there=there),)
    ram = Memory(place="RAM", items=in_ram, there=memory_of(torch.device("cpu")))
    return Memory(place=f"{parts.device}", items=on_device, there=there), ram


def queued(size: Size, frames: int) -> int:
    """Bytes of the styled frames of a chunk, and of those that wait to be encoded."""
    return size.area * CHANNELS * FLOAT * (BEHIND + frames)


def what_would_fit(
    stylizer: Stylizer, settings: Settings, clip: SourceInfo, latents: int | None
) -> Iterator[str]:
    """Advice where the needs are too large: each line is enough by itself."""

    def fits(changed: Settings, dtype: torch.dtype | None = None) -> bool:
        needs = memory_needs(stylizer, changed, clip, latents, dtype)
        return all(part.fits for part in needs)

    is_wide = stylizer.parts.latents_like.element_size() > torch.bfloat16.itemsize
    if is_wide and fits(settings, torch.bfloat16):
        yield "--dtype bf16 can fit too"
    if flags := enough(stylizer, memory_needs(stylizer, settings, clip, latents)[0], settings):
        yield f"{flags} can fit too"
    sizes = smaller_sizes(settings.size, stylizer.parts.geometry((1, 1)).padded)
    size = first_that(sizes, lambda size: fits(replace(settings, size=size)))
    if size is None:
        yield "no size fits: choose a smaller model, --dtype bf16, or another --device"
        return
    yield f"--size {size} is the largest that can fit; less leaves room for what is not counted"
    recipe = settings.recipe
    windows = range((latents if recipe.window is None else recipe.window) or 0)[::-1]
    window = first_that(
        windows, lambda n: fits(replace(settings, recipe=recipe.override(window=n)))
    )
    if window is not None:
        yield f"--recipe window={window} can fit too, and forgets sooner"


def enough(stylizer: Stylizer, whole: Memory, settings: Settings) -> str:
    """Flags of what takes less memory and is enough; none where there are no such."""
    if whole.there is None or settings.recipe.window is None:
        return ""
    model = replace(Model.of(stylizer), recipe=settings.recipe)
    base, kept = Savings.of(stylizer), ["dtype", "tiny"]
    kept += [] if stylizer.parts.device.type == "cuda" else ["offload"]
    beside = whole.needed - counted(model, settings.size, base).peak
    plan = choose(model, settings.size, whole.there, base, without=kept, beside=beside)
    return plan.flags if plan.fits else ""


def what_may_fit(stylizer: Stylizer, settings: Settings) -> Iterator[str]:
    """Advice where memory ran out though the needs seemed to fit: what is not counted did it."""
    sizes = smaller_sizes(settings.size, stylizer.parts.geometry((1, 1)).padded)
    half = next((size for size in sizes if 2 * size.area <= settings.size.area), None)
    yield "the trial ran out of memory: others use it, or kernels take more of it than is counted"
    yield "--memory SIZE, with less than there is, switches on what takes less of it"
    if half is not None:
        yield f"--size {half}, half the pixels, is worth a try"


def amount(count: float) -> str:
    """Bytes in the unit that suits them."""
    unit, power = next(pair for pair in UNITS if count >= 2 ** pair[1] or pair[1] == 0)
    return f"{count / 2**power:.1f} {unit}" if power else f"{count:.0f} {unit}"
