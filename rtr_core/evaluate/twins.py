"""Every fast path beside its slow twin, on the same work: by how much it gains here.

Both are run once and compared, and then by turns, so that what else the machine does slows both
alike. What has to be switched on is measured too, and said where it does not pay.
"""

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..errors import NumericsError
from ..model.attention import Context
from ..model.chunk_causal import ChunkCausal
from ..model.kv_cache import KVCache
from ..model.transformer import Transformer
from ..shapes import Size, frames_of
from ..stylizer import Stylizer
from ..vae.stream import DecoderStream, EncoderStream, Vae
from .meter import seconds_on

ROUNDS, SECONDS = 12, 4.0  # at most, of a pair; 3 rounds at least
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 3e-2, torch.float16: 3e-3}  # relative L2
LAYOUTS = {4: torch.channels_last, 5: torch.channels_last_3d}


class Twins(NamedTuple):
    """Two ways to the same result."""

    name: str
    fast: Callable[[], Tensor]
    slow: Callable[[], Tensor]
    dtype: torch.dtype  # the narrower of both: how near they have to be


@dataclass(frozen=True, kw_only=True)
class Gain:
    ratio: float  # slow over fast, each at its fastest
    error: float  # relative L2


def gains(stylizer: Stylizer, size: Size) -> Mapping[str, Gain]:
    """By the name of each fast path."""
    return {twins.name: _gain(twins, stylizer.parts.device) for twins in _pairs(stylizer, size)}


@torch.no_grad()
def _gain(twins: Twins, device: torch.device) -> Gain:
    fast, slow = twins.fast().double(), twins.slow().double()
    error, limit = float((fast - slow).norm() / slow.norm()), TOLERANCE[twins.dtype]
    if not error <= limit:
        raise NumericsError(
            f"{twins.name}: the fast path differs from the slow one by {error:.1e} (relative L2); "
            f"{limit:.0e} is allowed. Please report it."
        )
    now, took = seconds_on(device), ([], [])
    began = now()
    while len(took[0]) < 3 or (len(took[0]) < ROUNDS and now() - began < SECONDS):
        for seconds, way in zip(took, twins[1:3], strict=True):
            start = now()
            way()
            seconds.append(now() - start)
    return Gain(ratio=min(took[1]) / min(took[0]), error=error)


def _pairs(stylizer: Stylizer, size: Size) -> Iterator[Twins]:
    """A new clip that has as many latent frames behind it as the recipe has in sight."""
    parts, recipe = stylizer.parts, stylizer.recipe
    window = recipe.window if recipe.window is not None else recipe.chunk
    past = math.ceil(max(recipe.anchor + window, 1) / recipe.chunk) * recipe.chunk
    latent, whole = parts.geometry(size).latent, past + recipe.chunk
    rng, stride = torch.Generator().manual_seed(0), parts.vae.stride
    count, padded = frames_of(whole, stride), parts.geometry(size).padded
    pixels = (torch.rand(1, 3, count, *padded, generator=rng) * 2 - 1).to(parts.pixels_like)
    clip = torch.randn(1, parts.vae.channels, whole, *latent, generator=rng)
    yield from _of_transformer(stylizer, size, past)
    yield from _of_streams(parts.vae, pixels, clip.to(parts.pixels_like), recipe.chunk)
    if parts.device.type == "cpu" and parts.pixels_like.dtype == torch.float32:
        yield from _of_numbers(parts.vae, pixels)


def _of_transformer(stylizer: Stylizer, size: Size, past: int) -> Iterator[Twins]:
    """A denoise step: the past remembered, or passed through again; the prompt too."""
    parts, recipe = stylizer.parts, stylizer.recipe
    model, like = parts.transformer, parts.latents_like
    config, geometry, chunk = model.config, parts.geometry(size), recipe.chunk
    channels = config.in_channels + (config.out_channels if config.structure else 0)
    rng = torch.Generator().manual_seed(1)
    x = torch.randn(1, channels, past + chunk, *geometry.latent, generator=rng).to(like)
    text = torch.randn(1, config.text_rows, config.text_dim, generator=rng).to(like)
    sigma = torch.tensor([[0.0] * past + [0.5] * chunk], device=like.device)
    context, memory = _remembered(stylizer, model, geometry.grid, x[:, :, :past], text)

    def step() -> Tensor:
        return model(x[:, :, past:], sigma[:, past:], memory)

    def masked() -> Tensor:
        twin = ChunkCausal(geometry.grid, recipe.memory, context)
        for _ in range(0, past, chunk):
            twin.commit(chunk)
        twin.extend(chunk)
        return model(x, sigma, twin)[:, :, past:]

    def asked_again() -> Tensor:
        memory.reset_context(model.encode_context(text))
        return step()

    yield Twins("KV cache", step, masked, like.dtype)
    yield from _of_memory(model, memory, x[:, :, past:], sigma[:, past:])
    yield Twins("prompt kept", step, asked_again, like.dtype)
    if like.device.type == "cpu" and like.dtype == torch.float32:
        narrow, half = copy.deepcopy(model).bfloat16(), x.bfloat16()
        _, past_of_half = _remembered(
            stylizer, narrow, geometry.grid, half[:, :, :past], text.bfloat16()
        )
        now = partial(narrow, half[:, :, past:], sigma[:, past:], past_of_half)
        yield Twins("bf16 step", now, step, torch.bfloat16)


def _of_memory(model: Transformer, memory: KVCache, x: Tensor, sigma: Tensor) -> Iterator[Twins]:
    """What the cache does not do again at each step."""
    constant = copy.deepcopy(model).requires_grad_(False)  # nothing to differentiate in a twin

    def step() -> Tensor:
        return model(x, sigma, memory)

    def joined() -> Tensor:
        with torch.enable_grad():  # where the cache joins past and chunk instead of holding both
            return constant(x, sigma, memory)

    def placed_again() -> Tensor:
        memory.go_back(memory.mark())  # angles, sight and the buffer of turned keys are let go of
        return step()

    yield Twins("ring of keys and values", step, joined, x.dtype)
    yield Twins("angles and sight kept", step, placed_again, x.dtype)


@torch.no_grad()
def _remembered(
    stylizer: Stylizer, model: Transformer, grid: Size, past: Tensor, text: Tensor
) -> tuple[Context, KVCache]:
    """What a model keeps of a prompt and of a past that is clean."""
    context = model.encode_context(text)
    memory = KVCache(grid, stylizer.recipe.memory, context)
    for clean in past.split(stylizer.recipe.chunk, dim=2):
        model.remember(clean, memory)
        memory.commit()
    return context, memory


def _of_streams(vae: Vae, pixels: Tensor, clip: Tensor, chunk: int) -> Iterator[Twins]:
    """A chunk by what the stream remembers, or all that is in sight anew."""
    new = chunk * vae.stride.time
    with torch.no_grad():
        encoder, decoder = EncoderStream(vae), DecoderStream(vae)
        encoder.push(pixels[:, :, :-new])
        decoder.push(clip[:, :, :-chunk])
    encoded, decoded = encoder.snapshot(), decoder.snapshot()

    def encode() -> Tensor:
        encoder.restore(encoded)
        return _there(encoder.push(pixels[:, :, -new:]))

    def decode() -> Tensor:
        decoder.restore(decoded)
        return decoder.push(clip[:, :, -chunk:])

    dtype = pixels.dtype
    yield Twins("streamed encoder", encode, lambda: _encoded(vae, pixels)[:, :, -chunk:], dtype)
    yield Twins(
        "streamed decoder", decode, lambda: DecoderStream(vae).push(clip)[:, :, -new:], dtype
    )


def _of_numbers(vae: Vae, pixels: Tensor) -> Iterator[Twins]:
    """What a CPU may be quicker at: pixels by pixels instead of channels, and half the bits."""
    if not isinstance(vae, nn.Module):
        return
    plain = partial(_encoded, vae, pixels)
    last, narrow = copy.deepcopy(vae), copy.deepcopy(vae).bfloat16()
    for weight in last.parameters():
        if weight.dim() in LAYOUTS:
            weight.data = weight.data.contiguous(memory_format=LAYOUTS[weight.dim()])
    yield Twins("channels-last encoder", partial(_encoded, last, pixels), plain, torch.float32)
    half = pixels.bfloat16()
    yield Twins("bf16 encoder", partial(_encoded, narrow, half), plain, torch.bfloat16)


def _encoded(vae: Vae, pixels: Tensor) -> Tensor:
    return _there(EncoderStream(vae).push(pixels))


def _there(latents: Tensor | None) -> Tensor:
    assert latents is not None, "whole groups were pushed"
    return latents
