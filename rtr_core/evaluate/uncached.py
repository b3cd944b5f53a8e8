"""The same work without a cache: diffusers' Wan sees all that is visible anew at every step."""

from typing import Any

import torch
from torch import Tensor

from ..model.config import TransformerConfig
from ..shapes import Size
from ..untrained import randomized
from .meter import seconds_on
from .roofline import FlopCounter


class Uncached:
    """diffusers' transformer of the same config, on random weights."""

    def __init__(self, config: TransformerConfig, latent: Size, frames: int, like: Tensor):
        from diffusers.models.transformers.transformer_wan import WanTransformer3DModel

        with torch.device(like.device):
            model = WanTransformer3DModel(
                patch_size=tuple(config.patch),
                num_attention_heads=config.heads,
                attention_head_dim=config.head_dim,
                in_channels=config.in_channels,
                out_channels=config.out_channels,
                text_dim=config.text_dim,
                freq_dim=config.freq_dim,
                ffn_dim=config.ffn_dim,
                num_layers=config.layers,
                cross_attn_norm=True,
                qk_norm="rms_norm_across_heads",
            )
        rng = torch.Generator(like.device).manual_seed(0)
        weights: Any = randomized(model, rng).eval().requires_grad_(False)
        self.model = weights if weights.dtype == like.dtype else weights.to(like.dtype)
        self.frames = frames
        self._clip = like.new_zeros(1, config.in_channels, frames, *latent)
        self._text = like.new_zeros(1, config.text_rows, config.text_dim)
        self._timestep = torch.full((1,), 500.0, device=like.device)
        self._now = seconds_on(like.device)

    @torch.no_grad()
    def step(self) -> float:
        """Seconds of one denoise step over the visible clip."""
        began = self._now()
        self.model(self._clip, self._timestep, self._text, return_dict=False)
        return self._now() - began

    def flops(self) -> int:
        """Operations of one."""
        with FlopCounter() as counter:
            self.step()
        return counter.get_total_flops()
