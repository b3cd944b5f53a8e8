"""From a prompt to a context: what every prompt encoder promises, and one that remembers.

A context is `[rows, dim]`: the rows of the text first, then rows of exact zeros. There is no text
mask: the transformer attends to the zero rows too, so they are part of what a model has learned.
"""

import hashlib
import html
import warnings
from collections.abc import Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Protocol, TypeVar
from uuid import uuid4

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

RECENT_PROMPTS = 64  # contexts held in memory by an encoder that remembers
WHOLE_ELEMENTS = 2**20  # a tensor up to this size is hashed whole,
SAMPLED_ELEMENTS = 1024  # of a larger one this many elements

T = TypeVar("T")


class PromptCut(UserWarning):
    """A prompt is longer than the encoder can read; its end was left out."""


class NotRemembered(UserWarning):
    """A context could not be written to disk; it will be encoded again next time."""


class PromptEncoder(Protocol):
    """Encodes a prompt as a context `[rows, dim]` on the CPU, zero rows past its end."""

    @property
    def rows(self) -> int: ...

    @property
    def dim(self) -> int: ...

    def encode(self, prompt: str) -> Tensor: ...

    def fingerprint(self) -> str:
        """Changes whenever the same prompt could give another context."""
        ...


def cleaned(prompt: str) -> str:
    """The prompt as Wan reads it: HTML entities resolved twice, every white space one blank."""
    text = html.unescape(html.unescape(prompt))
    return " ".join(text.encode(errors="replace").decode().split())  # no half emoji survives


def cut(tokens: list[T], room: int) -> list[T]:
    """The first `room` tokens; a warning tells the caller of `encode` what was left out."""
    if len(tokens) > room:
        warnings.warn(
            f"The prompt has {len(tokens)} tokens, the text encoder reads {room}: the first {room} "
            f"are kept. Shorten the prompt, or move what matters most to its front.",
            PromptCut,
            stacklevel=4,
        )
    return tokens[:room]


def padded(context: Tensor, rows: int) -> Tensor:
    """`[n, d]` filled up to `[rows, d]` with zeros."""
    return F.pad(context, (0, 0, 0, rows - len(context)))


def unpadded(context: Tensor) -> Tensor:
    """The rows up to the last one that is not zero: `padded` gives the rest back."""
    filled = context.any(dim=1).nonzero()
    return context[: int(filled.max()) + 1 if len(filled) else 0].clone()


def fingerprint(tensors: Mapping[str, Tensor], *facts: str) -> str:
    """A hash of facts and weights: names, dtypes, shapes, small tensors whole, samples of the rest.

    A merge or a training step moves most elements of a tensor, so the samples tell.
    """
    digest = hashlib.sha256("\0".join(facts).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"\0{name} {tensor.dtype} {tuple(tensor.shape)}\0".encode())
        # An odd step walks through all columns of a matrix with an even number of them.
        step = tensor.numel() // SAMPLED_ELEMENTS | 1 if tensor.numel() > WHOLE_ELEMENTS else 1
        sample = tensor.detach().reshape(-1)[::step].cpu().contiguous()
        digest.update(sample.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def remembered(encoder: PromptEncoder, folder: Path) -> PromptEncoder:
    """The same encoder, except that it encodes a prompt once: `folder` keeps its contexts.

    The encoder's weights must not change from here on.
    """
    return Remembered(encoder, folder)


class Remembered:
    """A prompt encoder that looks into memory, then on disk, and only then encodes."""

    def __init__(self, encoder: PromptEncoder, folder: Path):
        self.encoder = encoder
        self.folder = folder
        self._recall = lru_cache(RECENT_PROMPTS)(self._read_or_encode)

    @property
    def rows(self) -> int:
        return self.encoder.rows

    @property
    def dim(self) -> int:
        return self.encoder.dim

    def fingerprint(self) -> str:
        return self._fingerprint

    def encode(self, prompt: str) -> Tensor:
        return padded(self._recall(prompt), self.rows)

    @cached_property
    def _fingerprint(self) -> str:
        return self.encoder.fingerprint()

    def _read_or_encode(self, prompt: str) -> Tensor:
        path = self._path(prompt)
        context = _read(path)
        if context is None or len(context) > self.rows or context.shape[1:] != (self.dim,):
            context = unpadded(self.encoder.encode(prompt))
            _write(path, context)
        return context

    def _path(self, prompt: str) -> Path:
        key = hashlib.sha256(f"{self._fingerprint}\0{cleaned(prompt)}".encode()).hexdigest()
        return self.folder / f"{key}.safetensors"


def _read(path: Path) -> Tensor | None:
    """The context in a file; None where there is no file, or no context in it."""
    try:
        return load(path.read_bytes())["context"]
    except (OSError, SafetensorError, KeyError):
        return None


def _write(path: Path, context: Tensor) -> None:
    """Write under another name, then rename: a reader finds a whole file or none."""
    unfinished = path.with_suffix(f".{uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            unfinished.write_bytes(save({"context": context}))
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        warnings.warn(
            f"The encoded prompt cannot be kept in {path.parent}: {error}. It works without, but "
            f"the prompt will be encoded again next time. Make the folder writable.",
            NotRemembered,
            stacklevel=4,
        )
