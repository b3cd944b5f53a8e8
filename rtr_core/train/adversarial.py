"""The adversarial stage: small heads on the critic's features tell real latents from made ones.

Relativistic (R3GAN): only the difference between a real window and the made one of the same source
counts, so neither can win by brightness alone. The gradient penalties R1 and R2 are approximated
by how much a little noise moves the verdict (Adversarial Post-Training).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from ..model.transformer import Transformer

Judge = Callable[[Tensor], Tensor]  # latents -> verdicts


class Discriminator(nn.Module):
    """A verdict `[b t n]` on each token, from what some blocks of a transformer made of it."""

    def __init__(self, dim: int, layers: Sequence[int], hidden: int = 64):
        super().__init__()
        self.layers = tuple(layers)
        self.heads = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(dim), nn.Linear(dim, hidden), nn.SiLU(), nn.Linear(hidden, 1)
            )
            for _ in self.layers
        )

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        verdicts = [head(seen) for head, seen in zip(self.heads, features, strict=True)]
        return rearrange(torch.stack(verdicts).mean(0), "b t n 1 -> b t n")


@contextmanager
def watched(transformer: Transformer, layers: Sequence[int]) -> Iterator[list[Tensor]]:
    """A list that fills with the tokens that these blocks give, while the transformer runs."""
    seen: list[Tensor] = []

    def see(block: nn.Module, given: tuple, tokens: Tensor) -> None:
        seen.append(tokens)

    hooks = [transformer.blocks[layer].register_forward_hook(see) for layer in layers]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def student_loss(real: Tensor, made: Tensor) -> Tensor:
    """Verdicts on made latents shall rise above those on real ones."""
    return F.softplus(real - made).mean()


def discriminator_loss(
    judge: Judge, real: Tensor, made: Tensor, shaken: tuple[Tensor, Tensor], penalty: float
) -> Tensor:
    """The other way round, and neither verdict may hang on the little noise in `shaken`."""
    on_real, on_made = judge(real), judge(made)
    loss = F.softplus(on_made - on_real).mean()
    for latents, verdict, noise in ((real, on_real, shaken[0]), (made, on_made, shaken[1])):
        moved = judge(latents + noise) - verdict
        loss = loss + penalty * (moved / noise.std()).square().mean()
    return loss
