"""Distribution matching: move what the student makes to where the teacher's score is higher than
the critic's, who scores what the student makes now (DMD).

    student:  gradient = (critic's clean - teacher's clean) / |student's clean - teacher's clean|
    critic:   flow matching on what the student makes
"""

from collections.abc import Callable

import torch
from torch import Tensor

from ..flow import add_noise

Predict = Callable[[Tensor, Tensor], Tensor]  # noisy latents, sigma [b t] -> clean


def student_loss(
    clean: Tensor, noise: Tensor, sigma: Tensor, real: Predict, fake: Predict
) -> Tensor:
    """Its gradient with respect to `clean` is the difference of two scores. Neither teacher nor
    critic gets any."""
    with torch.no_grad():
        noisy = add_noise(clean, noise, sigma[:, None, :, None, None])
        wanted, held = real(noisy, sigma), fake(noisy, sigma)
        scale = (clean - wanted).abs().mean((1, 2, 3, 4), keepdim=True).clamp_min(1e-6)
        aim = clean - (held - wanted) / scale
    return 0.5 * (clean - aim).square().mean()


def critic_loss(clean: Tensor, noise: Tensor, sigma: Tensor, fake: Predict) -> Tensor:
    """The critic learns to denoise what the student makes, which is a constant to it."""
    clean = clean.detach()
    noisy = add_noise(clean, noise, sigma[:, None, :, None, None])
    return (fake(noisy, sigma) - clean).square().mean()
