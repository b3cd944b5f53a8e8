"""A small random Wan transformer as diffusers has it."""

import torch
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel


def small_wan(layers: int) -> WanTransformer3DModel:
    torch.manual_seed(3)
    return WanTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=64,
        in_channels=16,
        out_channels=16,
        text_dim=32,
        freq_dim=64,
        ffn_dim=192,
        num_layers=layers,
    )
