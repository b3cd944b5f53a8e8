"""RTR-DiT: Wan's transformer with a noise level per latent frame and a memory for its past.

Axes: latents `[b c t h w]`, tokens `[b t n d]` (n of them a latent frame), heads `[b l h d]`.
Parameter names are those of the original Wan release, so that its files, LoRAs and hosts fit.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from ..flow import TIMESTEPS, velocity_from_clean, widest
from .adapter import ReferenceAdapter
from .attention import Context, KeepsPast, Memory, attend
from .config import TransformerConfig
from .layers import Layers


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return torch.addcmul(shift, x, 1 + scale)


def sinusoid(timestep: Tensor, dim: int) -> Tensor:
    """Cosines then sines of a timestep, `[..., dim]`."""
    half, wide = dim // 2, widest(timestep.device)
    steps = torch.arange(half, dtype=wide, device=timestep.device) / half
    angle = timestep.to(wide)[..., None] * 10000.0**-steps
    return torch.cat([angle.cos(), angle.sin()], dim=-1)


class Attention(nn.Module):
    """Projections and q/k norms, common to attention over video and over text."""

    def __init__(self, config: TransformerConfig, layers: Layers):
        super().__init__()
        self.heads = config.heads
        self.q = layers.linear(config.dim, config.dim)
        self.k = layers.linear(config.dim, config.dim)
        self.v = layers.linear(config.dim, config.dim)
        self.o = layers.linear(config.dim, config.dim)
        self.norm_q = layers.rms_norm(config.dim, eps=config.eps)
        self.norm_k = layers.rms_norm(config.dim, eps=config.eps)

    def queries(self, x: Tensor) -> Tensor:
        return self._split(self.norm_q(self.q(x)))

    def keys_and_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self._split(self.norm_k(self.k(x))), self._split(self.v(x))

    def join(self, x: Tensor) -> Tensor:
        return self.o(x.flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1))


class Block(nn.Module):
    """Attend to the visible past and oneself, then to the text, then think."""

    def __init__(self, config: TransformerConfig, layers: Layers):
        super().__init__()
        dim = config.dim
        self.norm1 = layers.layer_norm(dim, eps=config.eps, elementwise_affine=False)
        self.self_attn = Attention(config, layers)
        self.norm3 = layers.layer_norm(dim, eps=config.eps)
        self.cross_attn = Attention(config, layers)
        self.norm2 = layers.layer_norm(dim, eps=config.eps, elementwise_affine=False)
        self.ffn = nn.Sequential(
            layers.linear(dim, config.ffn_dim),
            nn.GELU(approximate="tanh"),
            layers.linear(config.ffn_dim, dim),
        )
        self.modulation = nn.Parameter(torch.empty(1, 6, dim, **layers.placed))

    def forward(self, x: Tensor, modulation: Tensor, memory: Memory, layer: int) -> Tensor:
        """Tokens `x` `[b t n d]` under `modulation` `[b t 6 d]`."""
        shift, scale, gate, ffn_shift, ffn_scale, ffn_gate = self._modulation(modulation)
        video = modulate(self.norm1(x), shift, scale)
        x = torch.addcmul(x, gate, self._see(video, memory, layer))
        x = x + self._read(self.norm3(x), memory.context[layer])
        thought = self.ffn(modulate(self.norm2(x), ffn_shift, ffn_scale))
        return torch.addcmul(x, ffn_gate, thought)

    def keys_and_values(self, x: Tensor, modulation: Tensor) -> tuple[Tensor, Tensor]:
        """What later chunks will see of these tokens in this block."""
        shift, scale, *_ = self._modulation(modulation)
        video = modulate(self.norm1(x), shift, scale)
        return self.self_attn.keys_and_values(video.flatten(1, 2))

    def encode_context(self, text: Tensor) -> tuple[Tensor, Tensor]:
        """What this block will read of an embedded prompt."""
        return self.cross_attn.keys_and_values(text)

    def _modulation(self, modulation: Tensor) -> tuple[Tensor, ...]:
        """Shift, scale and gate of attention, then of the feed-forward layer: `[b t 1 d]` each."""
        mine = modulation + self.modulation.to(modulation)
        return mine[:, :, None].unbind(3)

    def _see(self, x: Tensor, memory: Memory, layer: int) -> Tensor:
        tokens = x.flatten(1, 2)
        q, (k, v) = self.self_attn.queries(tokens), self.self_attn.keys_and_values(tokens)
        return self.self_attn.join(memory.attend(layer, q, k, v)).view_as(x)

    def _read(self, x: Tensor, text: tuple[Tensor, Tensor]) -> Tensor:
        q = self.cross_attn.queries(x.flatten(1, 2))
        return self.cross_attn.join(attend(q, *text)).view_as(x)


class Head(nn.Module):
    def __init__(self, config: TransformerConfig, layers: Layers):
        super().__init__()
        out = config.out_channels * math.prod(config.patch)
        self.norm = layers.layer_norm(config.dim, eps=config.eps, elementwise_affine=False)
        self.head = layers.linear(config.dim, out)
        self.modulation = nn.Parameter(torch.empty(1, 2, config.dim, **layers.placed))

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        shift, scale = (time[:, :, None] + self.modulation.to(time))[:, :, None].unbind(3)
        return self.head(modulate(self.norm(x), shift, scale))


class Transformer(nn.Module):
    """Weights only: what is past lives in the memory that each call brings along."""

    def __init__(self, config: TransformerConfig, operations: Any = nn, device=None, dtype=None):
        super().__init__()
        self.config = config
        layers = Layers.of(operations, device, dtype)
        dim, patch = config.dim, config.patch
        self.patch_embedding = layers.conv3d(
            config.in_channels, dim, kernel_size=patch, stride=patch
        )
        self.text_embedding = nn.Sequential(
            layers.linear(config.text_dim, dim),
            nn.GELU(approximate="tanh"),
            layers.linear(dim, dim),
        )
        self.time_embedding = nn.Sequential(
            layers.linear(config.freq_dim, dim), nn.SiLU(), layers.linear(dim, dim)
        )
        self.time_projection = nn.Sequential(nn.SiLU(), layers.linear(dim, 6 * dim))
        blocks = nn.ModuleList(Block(config, layers) for _ in range(config.layers))
        self.blocks: Sequence[Block] = blocks  # type: ignore[assignment]  # as nn types its items
        self.head = Head(config, layers)
        if config.adapter_dim:
            self.reference_adapter = ReferenceAdapter(
                config.out_channels, dim, config.adapter_dim, patch, layers
            )
        if config.tile > 1:
            places = config.tile**2
            self.tile_embedding = nn.Parameter(torch.empty(places, dim, **layers.placed))
        if config.structure:  # no bias, so that zeros say nothing
            self.structure_embedding = layers.conv3d(
                config.out_channels, dim, kernel_size=patch, stride=patch, bias=False
            )

    def forward(
        self, x: Tensor, sigma: Tensor, memory: Memory, reference: Tensor | None = None
    ) -> Tensor:
        """Velocity of latents `x` `[b c t h w]` at `sigma` `[b t]`.

        Its channels are the noisy latent, then the source's, then the structure's, where it takes
        them.
        A reference `[b c r h w]` stands before them, clean, where the memory makes room for it.
        """
        tokens = self._patchify(x)
        if reference is not None:
            tokens = torch.cat([self._adapted(reference), tokens], dim=1)
            sigma = torch.cat([sigma.new_zeros(len(sigma), reference.shape[2]), sigma], dim=1)
        time, modulation = self._time(sigma, tokens)
        for layer, block in enumerate(self.blocks):
            tokens = block(tokens, modulation, memory, layer)
        frames = x.shape[2]
        out = self._unpatchify(self.head(tokens[:, -frames:], time[:, -frames:]), x)
        if self.config.predicts == "clean":
            noisy = x[:, : self.config.out_channels]
            return velocity_from_clean(noisy, out, sigma[:, -frames:])
        return out

    def remember(self, x: Tensor, memory: KeepsPast) -> None:
        """Pass clean latents `x` through the blocks, so that `memory` has their keys and values."""
        self._keep(self._patchify(x), memory)

    def remember_reference(self, reference: Tensor, memory: KeepsPast) -> None:
        """The same for a reference `[b c r h w]`, which comes through the adapter."""
        self._keep(self._adapted(reference), memory)

    def alone(self, clean: Tensor) -> Tensor:
        """Clean latents of which nothing further is known, as the `x` of `remember`."""
        return (
            torch.cat([clean, torch.zeros_like(clean)], dim=1) if self.config.structure else clean
        )

    def encode_context(self, text: Tensor) -> Context:
        """Keys and values of a prompt `[b rows text_dim]`, worked out once for all its chunks."""
        text = self.text_embedding(text)
        return tuple(block.encode_context(text) for block in self.blocks)

    def _keep(self, tokens: Tensor, memory: KeepsPast) -> None:
        """Nobody looks at the result, so the last block need not go beyond keys and values."""
        _, modulation = self._time(tokens.new_zeros(tokens.shape[:2]), tokens)
        last = len(self.blocks) - 1
        for layer, block in enumerate(self.blocks):
            if layer < last:
                tokens = block(tokens, modulation, memory, layer)
            else:
                memory.extend(layer, *block.keys_and_values(tokens, modulation))

    def _time(self, sigma: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """The noise level of each latent frame, `[b t d]` for the head, `[b t 6 d]` for blocks."""
        time = self.time_embedding(sinusoid(sigma * TIMESTEPS, self.config.freq_dim).to(like))
        return time, self.time_projection(time).unflatten(-1, (6, -1))

    def _patchify(self, x: Tensor) -> Tensor:
        if self.config.structure:
            x, structure = x.split([self.config.in_channels, self.config.out_channels], dim=1)
            embedded = self.patch_embedding(x) + self.structure_embedding(structure)
        else:
            embedded = self.patch_embedding(x)
        return self._placed(rearrange(embedded, "b d t h w -> b t (h w) d"), x)

    def _adapted(self, reference: Tensor) -> Tensor:
        return self._placed(self.reference_adapter(reference), reference)

    def _placed(self, tokens: Tensor, latents: Tensor) -> Tensor:
        """Each token told where in a tile it stands: attention knows distances alone, and a
        pattern that is wider than a token has to be drawn in step."""
        if (tile := self.config.tile) == 1:
            return tokens
        _, down, across = self.config.patch
        height, width = latents.shape[-2] // down, latents.shape[-1] // across
        row, column = (torch.arange(side, device=tokens.device) % tile for side in (height, width))
        place = (row[:, None] * tile + column).flatten()
        return tokens + self.tile_embedding.to(tokens)[place]

    def _unpatchify(self, tokens: Tensor, like: Tensor) -> Tensor:
        time, down, across = self.config.patch
        height, width = like.shape[-2] // down, like.shape[-1] // across
        return rearrange(
            tokens,
            "b t (h w) (pt ph pw c) -> b c (t pt) (h ph) (w pw)",
            h=height,
            w=width,
            pt=time,
            ph=down,
            pw=across,
        )
