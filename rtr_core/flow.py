"""Flow matching in one place: sampling and training share these five lines of arithmetic.

sigma is the noise level: 0 is clean, 1 is pure noise. The model is told timestep = 1000 sigma.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

TIMESTEPS = 1000.0
LEAST_SIGMA = 1e-3  # below it nothing is left to predict, and nothing is divided by it


def add_noise(clean: Tensor, noise: Tensor, sigma: Tensor | float) -> Tensor:
    return (1 - sigma) * clean + sigma * noise


def velocity_target(clean: Tensor, noise: Tensor) -> Tensor:
    return noise - clean


def clean_from_velocity(x: Tensor, velocity: Tensor, sigma: Tensor | float) -> Tensor:
    """The clean latents that `velocity` points back to. In fp64, as the public models do it."""
    wide = widest(x.device)
    sigma = sigma.to(wide) if isinstance(sigma, Tensor) else sigma
    return (x.to(wide) - sigma * velocity.to(wide)).to(x.dtype)


def velocity_from_clean(x: Tensor, clean: Tensor, sigma: Tensor) -> Tensor:
    """The other way round, for models that predict clean `[b c t h w]`; `sigma` is `[b t]`."""
    return (x - clean) / sigma[:, None, :, None, None].clamp_min(LEAST_SIGMA).to(x)


def widest(device: torch.device) -> torch.dtype:
    """The most exact float a device has: all but Apple's GPUs know fp64."""
    return torch.float32 if device.type == "mps" else torch.float64


def shift_sigma(sigma: float, shift: float) -> float:
    """Spend more of the schedule at high noise, as large pictures need."""
    return shift * sigma / (1 + (shift - 1) * sigma)


def shifted_sigmas(timesteps: Sequence[float], shift: float) -> tuple[float, ...]:
    """Timesteps of an unshifted schedule (1000, 750, ...) as sigmas of the shifted one."""
    return tuple(shift_sigma(t / TIMESTEPS, shift) for t in timesteps)


def randn(shape: Sequence[int], rng: torch.Generator, like: Tensor) -> Tensor:
    """Noise drawn in fp32 on the generator's device, so that a dtype never changes a take."""
    noise = torch.randn(tuple(shape), generator=rng, device=rng.device, dtype=torch.float32)
    return noise.to(like)
