"""The student's other beginning: to foresee where its teacher's flow ends (CausVid).

    rtr train student PAIRS RUN --teacher TEACHER --ode 24

A batch's noise is followed down the teacher's flow in many steps. The student meets the states at
its own noise levels, each chunk at one of them, and learns to say the end. Pairs of noise and end
lie closer together than pairs of noise and target, so the first steps of a student learn faster;
what its teacher cannot do it does not learn.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..flow import shifted_sigmas
from ..model.chunk_causal import bidirectional
from ..sampling import denoiser, euler
from .flow_stage import FlowStage, grid_of
from .loop import Turn
from .network import Network, Result
from .pairs import Batch, Pairs
from .student import Student


class OdeStage(FlowStage):
    """A student whose clean latents are the ends of its teacher's flow."""

    def __init__(
        self,
        network: Network,
        teacher: Network,
        pairs: Pairs,
        result: Result,
        way: Student,
        steps: int,
    ):
        super().__init__(network, pairs, result, way)
        self.teacher, self.steps = teacher.eval().requires_grad_(False), steps
        self.levels = way.recipe.sigmas

    @property
    def config(self) -> dict[str, Any]:
        return dict(super().config) | {"ode": self.steps}

    @property
    def frozen(self) -> Sequence[nn.Module]:
        return (*super().frozen, self.teacher)

    @torch.no_grad()
    def asked(self, turn: Turn, batch: Batch, sigma: Tensor) -> tuple[Tensor, Tensor]:
        states, end = self.followed(batch, turn.like(batch.target))
        noisy = end.clone()
        for level, state in states.items():
            at_level = torch.isclose(sigma, sigma.new_tensor(level))[:, None, :, None, None]
            noisy = torch.where(at_level, state, noisy)
        return noisy, end

    def followed(self, batch: Batch, noise: Tensor) -> tuple[dict[float, Tensor], Tensor]:
        """Noise down the teacher's flow: its states at the student's levels, and its end."""
        references = 0 if batch.reference is None else batch.reference.shape[2]
        frames = references + noise.shape[2]
        context = self.teacher.encode(batch.prompts)
        memory = bidirectional(grid_of(self.teacher, noise), frames, context)
        denoise = denoiser(self.teacher.transformer, memory, batch.source, batch.reference)
        states: dict[float, Tensor] = {}

        def watched(x: Tensor, sigma: float) -> Tensor:
            if sigma in self.levels:
                states[sigma] = x
            return denoise(x, sigma)

        evenly = shifted_sigmas([1000 * (1 - n / self.steps) for n in range(self.steps)], 1.0)
        end = euler(watched, noise, sorted({*evenly, *self.levels}, reverse=True))
        return states, end
