"""One stream of 60 latent frames, on ranks or alone: `python -m tests.scale.streams WAY OUT`."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from rtr_core import Style, Stylizer, ranks, untrained
from rtr_core.recipes import Recipe
from rtr_core.scale.shared import Way
from rtr_core.scale.together import together
from rtr_core.weights.write import write_safetensors

SIZE = 24, 40  # 3 by 5 latents pixels: tokens that no number of ranks divides
FRAMES = 1 + 59 * 4
TRANSFORMER = replace(untrained.TRANSFORMER, heads=4)
HEADS = untrained.RECIPE.override(anchor=1, timesteps=(1000, 500))
STAGES = HEADS.override(
    timesteps=(1000, 800, 600, 400), buffer=2, flight="apart", commit="last step"
)
RECIPES = {"heads": HEADS, "stages": STAGES}


def stylizer(recipe: Recipe) -> Stylizer:
    return Stylizer.of(untrained.parts(transformer=TRANSFORMER, recipe=recipe))


def clip() -> Tensor:
    rng = torch.Generator().manual_seed(3)
    return torch.rand(FRAMES, *SIZE, 3, generator=rng)


def run(stylizer: Stylizer) -> dict[str, Tensor]:
    """Two styles and a saved session, with pushes of odd lengths."""
    reference = torch.rand(*SIZE, 3, generator=torch.Generator().manual_seed(4))
    session = stylizer.session(Style(prompt="ink", reference=reference), SIZE, seed=5)
    outs, frames = [], clip()
    for n, part in enumerate(frames.split(21)):
        if n == 6:
            session.switch(Style(prompt="oil"), fade=12)
        if n == 8:
            twin = session.fork()
            left = torch.cat([*twin.push(part), *twin.flush()])
        outs += session.push(part)
    outs += session.flush()
    return {"frames": torch.cat(outs), "twin": left}


if __name__ == "__main__":
    torch.set_num_threads(1)
    way, out = cast(Way, sys.argv[1]), sys.argv[2]
    ranks.join()
    if (made := together(stylizer(RECIPES[way]), way, run)) is not None:
        write_safetensors(Path(out), made, {})
    ranks.end(0)
