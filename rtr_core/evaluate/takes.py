"""Frames through a model: as sessions run it, as a teacher is asked, and with its reference let go.

All takes give uint8 `[t h w 3]`, as a viewer would see them.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from ..flow import shifted_sigmas
from ..frames import checked_frames, to_frames, to_pixels
from ..model.chunk_causal import bidirectional
from ..parts import Parts
from ..recipes import Recipe
from ..sampling import SeededNoise, denoiser, euler
from ..session import Session
from ..shapes import Size
from ..style import Style
from ..stylizer import Stylizer
from ..vae.stream import DecoderStream, EncoderStream

T = TypeVar("T")
R = TypeVar("R")


def styled(stylizer: Stylizer, style: Style, source: np.ndarray, seed: int = 0) -> np.ndarray:
    """A clip through a session."""
    session = stylizer.session(style, source.shape[1:3], seed=seed)
    return joined([*session.push(source), *session.flush()])


def switched(
    stylizer: Stylizer, before: Style, after: Style, source: np.ndarray, chunks: tuple[int, int]
) -> tuple[np.ndarray, list[np.ndarray]]:
    """So many chunks of the first style in one, and so many of the other, each by itself."""
    session = stylizer.session(before, source.shape[1:3])
    first, (count, more) = frames_by(stylizer, chunks[0]), chunks
    old = joined([*session.push(source[:first])])
    session.switch(after)
    last = frames_by(stylizer, count + more)
    return old, [as_bytes(chunk) for chunk in session.push(source[first:last])]


def let_go(session: Session) -> None:
    """Make the reference an ordinary past frame, which rolls out of the window like any other."""
    latent = session.encoded.latent
    assert latent is not None, "only a reference can be let go"
    session.memory.replace_anchor(None)
    with torch.no_grad():
        session.parts.transformer.remember_reference(latent, session.memory)
    session.memory.commit()


@torch.no_grad()
def sampled(
    stylizer: Stylizer, style: Style, source: np.ndarray, steps: int, seed: int = 0
) -> np.ndarray:
    """A window all at once in many steps, every frame seeing all: how a teacher is asked."""
    parts = stylizer.parts
    geometry = parts.geometry(source.shape[1:3])
    encoded = parts.encode(style, geometry)
    pixels = to_pixels(checked_frames(source), geometry, parts.pixels_like)
    latents = encode(parts, pixels).to(parts.latents_like)
    references = 0 if encoded.latent is None else encoded.latent.shape[2]
    context = parts.transformer.encode_context(encoded.rows)
    memory = bidirectional(geometry.grid, references + latents.shape[2], context)
    denoise = denoiser(parts.transformer, memory, latents, encoded.latent)
    noise = SeededNoise(seed, parts.device).like(latents)
    clean = euler(denoise, noise, many_sigmas(stylizer.recipe, steps))
    return as_bytes(to_frames(decode(parts, clean), geometry.size))[: len(source)]


def many_sigmas(recipe: Recipe, steps: int) -> tuple[float, ...]:
    """Evenly from pure noise down, shifted as the recipe is."""
    return shifted_sigmas([1000 * (steps - n) / steps for n in range(steps)], recipe.shift)


def round_trip(parts: Parts, source: np.ndarray) -> np.ndarray:
    """A clip through the autoencoder alone."""
    size = Size(*source.shape[1:3])
    pixels = to_pixels(checked_frames(source), parts.geometry(size), parts.pixels_like)
    with torch.no_grad():
        return as_bytes(to_frames(decode(parts, encode(parts, pixels)), size))[: len(source)]


def encode(parts: Parts, pixels: Tensor) -> Tensor:
    stream = EncoderStream(parts.vae)
    latents = [part for part in (stream.push(pixels), stream.flush()) if part is not None]
    return torch.cat(latents, dim=2)


def decode(parts: Parts, latents: Tensor) -> Tensor:
    return DecoderStream(parts.vae).push(latents.to(parts.pixels_like))


def frames_by(stylizer: Stylizer, chunks: int) -> int:
    """Frames of a clip that so many chunks cover."""
    return stylizer.recipe.frames_of(chunks, stylizer.parts.vae.stride)


def joined(parts: list[Tensor]) -> np.ndarray:
    return as_bytes(torch.cat(parts))


def as_bytes(frames: Tensor) -> np.ndarray:
    return (frames * 255).round().byte().cpu().numpy()


# ---- many takes beside each other ----


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Small tensors gain little from threads of their own: takes run beside each other instead."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def side_by_side(take: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """The results of all, in their order; as many at once as torch has threads."""
    with ThreadPoolExecutor(torch.get_num_threads()) as pool, one_thread_each():
        return list(pool.map(take, items))
