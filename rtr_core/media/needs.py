"""What a job takes of memory, by arithmetic, and what would take less."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch

from ..settings import Settings
from ..shapes import Size
from ..stylizer import Stylizer, memory_of
from .job import AHEAD, BEHIND
from .pictures import BYTE
from .probe import SourceInfo

CHANNELS, FLOAT = 3, 4  # of a picture, and the bytes of one of its numbers
OF_DTYPE = {"weights", "KV cache", "its copy while a session is saved"}  # as large as it is
HALF = 2  # bytes of a number in bf16
UNITS = (("GiB", 30), ("MiB", 20), ("KiB", 10), ("bytes", 0))


@dataclass(frozen=True, kw_only=True)
class Memory:
    """What is needed of one memory. The networks' passing results come on top, uncounted."""

    place: str
    items: Mapping[str, int]  # bytes
    there: int | None  # all the memory there is, if that is known

    @property
    def needed(self) -> int:
        return sum(self.items.values())

    @property
    def fits(self) -> bool:
        return self.there is None or self.needed <= self.there

    @property
    def halved(self) -> "Memory":
        """The same with half the bytes for each number of the model."""
        halves = {name: size // (1 + (name in OF_DTYPE)) for name, size in self.items.items()}
        return replace(self, items=halves)

    def __str__(self) -> str:
        of = f" of {amount(self.there)}" if self.there is not None else ""
        items = " + ".join(f"{name} {amount(size)}" for name, size in self.items.items() if size)
        return f"{self.place}: {amount(self.needed)}{of} at least, estimated: {items}"


def memory_needs(
    stylizer: Stylizer, settings: Settings, clip: SourceInfo, latents: int | None
) -> tuple[Memory, ...]:
    """Of the device and, where that is not the CPU, of RAM. A styled frame waits on the device."""
    parts, recipe = stylizer.parts, settings.recipe
    if recipe.window is None and latents is not None:  # all of the clip stays in the cache
        settings = replace(settings, recipe=recipe.override(window=latents))
    cache, frames = parts.cache_bytes(settings), recipe.chunk * parts.vae.stride.time
    source_frame = clip.size.area * CHANNELS * (1 if clip.depth <= BYTE else FLOAT)
    on_device = {
        "weights": parts.weight_bytes,
        "KV cache": cache,
        "its copy while a session is saved": cache,
        "pixels of a chunk": parts.session_bytes(settings) - cache,
        "styled frames in the queue": settings.size.area * CHANNELS * FLOAT * (BEHIND + frames),
    }
    in_ram = {
        # those that are read ahead, the chunk's, and the twins of styled ones
        "source frames in the queues": source_frame * (AHEAD + BEHIND + frames),
        "text encoder": parts.text_bytes,
    }
    there = memory_of(parts.device)
    if parts.device.type == "cpu":
        return (Memory(place="RAM", items=on_device | in_ram, there=there),)
    ram = Memory(place="RAM", items=in_ram, there=memory_of(torch.device("cpu")))
    return Memory(place=f"{parts.device}", items=on_device, there=there), ram


def what_would_fit(
    stylizer: Stylizer, settings: Settings, clip: SourceInfo, latents: int | None
) -> Iterator[str]:
    """Advice where the needs are too large: each line is enough by itself."""

    def fits(changed: Settings) -> bool:
        return all(part.fits for part in memory_needs(stylizer, changed, clip, latents))

    is_wide = stylizer.parts.latents_like.element_size() > HALF
    parts = memory_needs(stylizer, settings, clip, latents)
    if is_wide and all(part.halved.fits for part in parts):
        yield "--dtype bf16 can fit too: it halves weights and cache"
    sizes = smaller_sizes(settings.size, stylizer.parts.geometry((1, 1)).padded)
    fitting = (size for size in sizes if fits(replace(settings, size=size)))
    if (size := next(fitting, None)) is None:
        yield "no size fits: choose a smaller model, --dtype bf16, or another --device"
        return
    yield f"--size {size} is the largest that can fit; less leaves room for what is not counted"
    recipe = settings.recipe
    windows = range((latents if recipe.window is None else recipe.window) or 0)
    for window in reversed(windows):
        if fits(replace(settings, recipe=recipe.override(window=window))):
            yield f"--recipe window={window} can fit too, and forgets sooner"
            return


def what_may_fit(stylizer: Stylizer, settings: Settings) -> Iterator[str]:
    """Advice where memory ran out though the needs seemed to fit: what is not counted did it."""
    sizes = smaller_sizes(settings.size, stylizer.parts.geometry((1, 1)).padded)
    half = next((size for size in sizes if 2 * size.area <= settings.size.area), None)
    yield "the trial ran out of memory: what the networks take while they work is not counted above"
    yield "--tiled encodes and decodes in tiles, in less memory"
    if half is not None:
        yield f"--size {half}, half the pixels, is worth a try"


def smaller_sizes(size: Size, step: Size) -> list[Size]:
    """Sizes of about the same shape in whole tokens, from the largest down."""
    widths = range((size.width - 1) // step.width * step.width, 0, -step.width)
    rows = [round(size.height * width / size.width / step.height) for width in widths]
    return [Size(max(1, n) * step.height, w) for n, w in zip(rows, widths, strict=True)]


def amount(count: float) -> str:
    """Bytes in the unit that suits them."""
    unit, power = next(pair for pair in UNITS if count >= 2 ** pair[1] or pair[1] == 0)
    return f"{count / 2**power:.1f} {unit}" if power else f"{count:.0f} {unit}"
