"""A video pushed through an autoencoder in pieces of any size.

    encoder, decoder = EncoderStream(vae), DecoderStream(vae)
    for frames in video:
        latents = encoder.push(frames)          # None until a group is whole
        if latents is not None:
            show(decoder.push(latents))
    latents = encoder.flush()                   # the last group, filled up; None if it was whole

One group of frames, one latent frame at a time goes through the network however the video is cut
into pushes, so the cut never changes a bit. A push that fails leaves its stream as it was.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..errors import SessionError, ShapeError
from ..shapes import Stride
from .causal import PICTURE_CHANNELS, Trail, compact, prefixed, under

TRAIL = "trail."  # before the names of a trail's tensors in a snapshot


class Vae(Protocol):
    """An autoencoder of one group of frames; an empty trail is the beginning of a clip.

    The first group of a clip is one frame, each later one `stride.time` frames. The network keeps
    no state: it replaces the tensors in `trail`, and gives the clip's next group that same trail.
    """

    @property
    def channels(self) -> int: ...

    @property
    def stride(self) -> Stride: ...

    def parameters(self) -> Iterable[Tensor]:
        """The weights; pixels and latents are on their device and in their dtype."""
        ...

    def encode_group(self, pixels: Tensor, trail: Trail) -> Tensor:
        """Pixels `[b 3 t h w]` of one group, in -1..1, to its normalized latent `[b c 1 h w]`."""
        ...

    def decode_latent(self, latent: Tensor, trail: Trail) -> Tensor:
        """A latent frame `[b c 1 h w]` to the pixels of its group, not clamped."""
        ...


@dataclass(frozen=True)
class AroundVae:
    """What an autoencoder around another one takes over from it."""

    vae: Vae

    @property
    def channels(self) -> int:
        return self.vae.channels

    @property
    def stride(self) -> Stride:
        return self.vae.stride

    def parameters(self) -> Iterable[Tensor]:
        return self.vae.parameters()


class EncoderStream:
    """Frames in, latent frames out."""

    def __init__(self, vae: Vae):
        self.vae = vae
        self.reset()

    def reset(self) -> None:
        """Begin a new clip."""
        self.frames = 0  # taken so far, with those a flush filled in
        self._pending: Tensor | None = None  # frames of a group that is not whole
        self._trail: Trail = {}

    def push(self, pixels: Tensor) -> Tensor | None:
        """Latents `[b c t h w]` of the groups that `pixels [b 3 t h w]` complete, if any."""
        check_pixels(pixels, self.vae.stride)
        waiting = pixels
        if self._pending is not None:
            check_same_clip(pixels, self._pending)
            waiting = torch.cat([self._pending, pixels], dim=2)
        trail, latents, start, stop = dict(self._trail), [], 0, self._group
        while stop <= waiting.shape[2]:
            latents.append(self.vae.encode_group(compact(waiting[:, :, start:stop]), trail))
            start, stop = stop, stop + self.vae.stride.time
        self._pending, self._trail = compact(waiting[:, :, start:]), trail
        self.frames += pixels.shape[2]
        return torch.cat(latents, dim=2) if latents else None

    def flush(self) -> Tensor | None:
        """The latent of a group left open, its last frame held; None if all groups are whole."""
        if self._pending is None or self._pending.shape[2] == 0:
            return None
        missing = self._group - self._pending.shape[2]
        return self.push(self._pending[:, :, -1:].expand(-1, -1, missing, -1, -1))

    def snapshot(self) -> dict[str, Tensor]:
        """All of the stream's state. It stays valid while the stream goes on."""
        pending = {} if self._pending is None else {"pending": self._pending}
        return {"frames": torch.tensor(self.frames), **pending, **prefixed(TRAIL, self._trail)}

    def restore(self, snapshot: Mapping[str, Tensor]) -> None:
        """Go on from where `snapshot` was taken."""
        self.frames, self._trail = _count(snapshot, "frames"), under(TRAIL, snapshot)
        self._pending = snapshot.get("pending")

    @property
    def _group(self) -> int:
        return self.vae.stride.time if self.frames else 1


class DecoderStream:
    """Latent frames in, frames out."""

    def __init__(self, vae: Vae):
        self.vae = vae
        self.reset()

    def reset(self) -> None:
        """Begin a new clip."""
        self.latents = 0  # latent frames taken so far
        self._trail: Trail = {}

    def push(self, latents: Tensor) -> Tensor:
        """Pixels `[b 3 t h w]` of latents `[b c t h w]`, about -1..1 but not clamped."""
        check_latents(latents, self.vae.channels)
        trail = dict(self._trail)
        groups = [self.vae.decode_latent(compact(one), trail) for one in latents.split(1, dim=2)]
        self._trail = trail
        self.latents += len(groups)
        return torch.cat(groups, dim=2)

    def flush(self) -> None:
        """Nothing: each latent frame has given all its frames at once."""

    def snapshot(self) -> dict[str, Tensor]:
        """All of the stream's state. It stays valid while the stream goes on."""
        return {"latents": torch.tensor(self.latents), **prefixed(TRAIL, self._trail)}

    def restore(self, snapshot: Mapping[str, Tensor]) -> None:
        """Go on from where `snapshot` was taken."""
        if "late" in snapshot:
            raise SessionError(
                "ranks saved it while frames were on their way: go on with `--ranks stages`, on as "
                "many as you like"
            )
        self.latents, self._trail = _count(snapshot, "latents"), under(TRAIL, snapshot)


def encode_picture(vae: Vae, picture: Tensor) -> Tensor:
    """The latent `[b c 1 h w]` of a still `[b 3 h w]`, as a clip of its own."""
    latent = EncoderStream(vae).push(picture.unsqueeze(2))
    assert latent is not None, "the first frame of a clip is a whole group"
    return latent


def check_pixels(pixels: Tensor, stride: Stride) -> None:
    if pixels.ndim != 5 or pixels.shape[1] != PICTURE_CHANNELS:
        raise ShapeError(f"Frames are [b {PICTURE_CHANNELS} t h w], not {list(pixels.shape)}.")
    height, width = pixels.shape[-2:]
    if not height or not width or height % stride.height or width % stride.width:
        raise ShapeError(
            f"Frames of {width}x{height} do not fit this autoencoder: width must be a multiple of "
            f"{stride.width} and height of {stride.height}. Pad or resize them."
        )


def check_same_clip(pixels: Tensor, earlier: Tensor) -> None:
    if (pixels.shape[0], *pixels.shape[-2:]) != (earlier.shape[0], *earlier.shape[-2:]):
        raise ShapeError(
            f"A clip cannot change its size: it began as {list(earlier.shape)} and goes on as "
            f"{list(pixels.shape)} [b c t h w]. Resize the frames, or reset the stream."
        )


def check_latents(latents: Tensor, channels: int) -> None:
    if latents.ndim != 5 or latents.shape[1] != channels or not latents.shape[2]:
        raise ShapeError(
            f"Latents are [b {channels} t h w] with at least one latent frame, "
            f"not {list(latents.shape)}."
        )


def _count(snapshot: Mapping[str, Tensor], name: str) -> int:
    if name not in snapshot:
        raise SessionError(
            f"This is not a snapshot of such a stream: it has no '{name}', only {sorted(snapshot)}."
        )
    return int(snapshot[name])
