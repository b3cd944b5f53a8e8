"""A session with gradient: the student makes a window chunk by chunk, out of its own past.

The sampler and the cache are those of inference. Of the steps of a chunk one, chosen at random, is
the last and has a gradient; the past is a constant (Self-Forcing).
"""

import torch
from torch import Tensor

from ..model.kv_cache import KVCache
from ..model.segments import MemoryConfig
from ..recipes import Recipe
from ..sampling import Draws, beside, denoiser, few_step
from ..shapes import Size
from .network import Network
from .pairs import Batch


def rolled_out(
    network: Network, recipe: Recipe, batch: Batch, grid: Size, exit_step: int, noise: Draws
) -> Tensor:
    """The clean latents `[b c t h w]` that a stream under `recipe` makes of the batch's source."""
    memory = begun(network, recipe, batch, grid)
    sigmas = recipe.sigmas[: exit_step + 1]
    made = []
    for source in batch.source.split(recipe.chunk, dim=2):
        denoise = denoiser(network.transformer, memory, source)

        def with_gradient_at_the_end(x: Tensor, sigma: float, denoise=denoise) -> Tensor:
            with torch.set_grad_enabled(torch.is_grad_enabled() and sigma == sigmas[-1]):
                return denoise(x, sigma)

        begins = noise.like(source[:, : batch.target.shape[1]])
        clean = few_step(with_gradient_at_the_end, begins, sigmas, noise)
        made.append(clean)
        with torch.no_grad():
            if recipe.commit == "clean":
                network.transformer.remember(beside(clean.detach(), source), memory)
            memory.commit()
    return torch.cat(made, dim=2)


def begun(network: Network, recipe: Recipe, batch: Batch, grid: Size) -> KVCache:
    """A memory before the first chunk, the batch's style in it."""
    memory = KVCache(grid, recipe.memory, network.encode(batch.prompts))
    if batch.reference is not None:
        with torch.no_grad():
            anchor = KVCache(grid, MemoryConfig(), memory.context)
            network.transformer.remember_reference(batch.reference, anchor)
        memory.replace_anchor(anchor)
    return memory
