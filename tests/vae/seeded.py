"""Weights drawn from their names, the same on every machine and with every version of torch."""

import math
import zlib
from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)


def with_seeded_weights(network: Network) -> Network:
    network.load_state_dict(seeded_weights(shapes_of(network.state_dict())))
    return network


def seeded_weights(shapes: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    return {name: seeded(name, tuple(shape)) for name, shape in shapes.items()}


def shapes_of(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def seeded(name: str, shape: tuple[int, ...]) -> Tensor:
    """A weight that keeps the size of activations: std 1 / sqrt(fan in), or 0.1 for a bias."""
    std = 0.1 if len(shape) == 1 else math.sqrt(1 / math.prod(shape[1:]))
    return torch.from_numpy(uniform(name, shape) * math.sqrt(3) * std).float()


def noise(name: str, shape: tuple[int, ...]) -> Tensor:
    return torch.from_numpy(uniform(name, shape)).float()


def uniform(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers in -1..1 from raw PCG64 bits, which numpy promises never to change."""
    bits = np.random.PCG64(zlib.crc32(name.encode())).random_raw(math.prod(shape))
    return 2 * ((bits >> np.uint64(11)).astype(np.float64) / 2**53).reshape(shape) - 1


def relative(value: Tensor, expected: Tensor) -> float:
    """Relative L2 distance."""
    return float((value - expected).norm() / expected.norm())
