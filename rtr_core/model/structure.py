"""Any transformer, told of the structure as well: by a projection that begins as nothing."""

import copy
from dataclasses import replace
from typing import Any

import torch

from .transformer import Transformer


def with_structure(transformer: Transformer) -> Transformer:
    """The transformer with a structure projection of zeros, over its own tensors.

    It computes the same, to the bit, until that is trained. One that has it is given back as it is.
    """
    if transformer.config.structure:
        return transformer
    config, like = transformer.config, transformer.patch_embedding.weight
    twin = copy.copy(transformer)
    twin._modules = dict(transformer._modules)
    twin.config = replace(config, structure=True)
    layer = type(transformer.patch_embedding)  # a host's, where it is one
    projection: Any = layer(
        config.out_channels,
        config.dim,
        kernel_size=config.patch,
        stride=config.patch,
        bias=False,
        device=like.device,
        dtype=like.dtype,
    )
    with torch.no_grad():
        projection.weight.zero_()
    twin.structure_embedding = projection.requires_grad_(like.requires_grad is True)
    return twin
