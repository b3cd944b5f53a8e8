"""A long stream does not darken, pale or blur: its last ten seconds look like its first ten."""

from statistics import fmean

import pytest
import torch
from torch import Tensor

from rtr_core import Style, Stylizer, untrained
from rtr_core.families import KREA, LONGLIVE, RTR, SELF_FORCING, STREAMDIFFUSION
from tests.sample import sample
from tests.test_flight import TEXT_TO_VIDEO

RATE = 24
SECONDS = 40
LOOP = 40  # frames of the sample clip, over and over: what is shown first is shown last
BOUND = 0.05  # of each figure, as a share of itself


def figures(frames: Tensor) -> dict[str, float]:
    """Brightness, contrast, saturation and sharpness."""
    x = frames.float()
    spread = x.amax(-1) - x.amin(-1)
    return {
        "brightness": float(x.mean()),
        "contrast": float(x.std()),
        "saturation": float(spread.mean()),
        "sharpness": float(x.diff(dim=1).abs().mean() + x.diff(dim=2).abs().mean()),
    }


def drift(stylizer: Stylizer, size: tuple[int, int], style: Style) -> dict[str, float]:
    session, frames = stylizer.session(style, size), sample(LOOP, *size)
    ten, total, outs = 10 * RATE, SECONDS * RATE, []
    for _ in range(0, total, LOOP):
        for out in session.push(frames):
            outs.append(figures(out) | {"frames": len(out)})
    count = sum(out["frames"] for out in outs)
    assert count > total - 2 * LOOP
    first = [out for n, out in enumerate(outs) if n * count / len(outs) < ten]
    last = outs[-len(first) :]
    return {
        name: fmean(o[name] for o in last) / fmean(o[name] for o in first) - 1
        for name in figures(torch.rand(1, 4, 4, 3))
    }


@pytest.mark.parametrize(
    "recipe", [RTR, SELF_FORCING, LONGLIVE, KREA, STREAMDIFFUSION], ids=lambda recipe: recipe.name
)
def test_no_way_of_remembering_drifts_under_random_weights(recipe):
    config = untrained.TRANSFORMER if recipe is RTR else TEXT_TO_VIDEO
    stylizer = Stylizer(parts=untrained.parts(transformer=config), recipe=recipe)
    found = drift(stylizer, (64, 64), Style(prompt="ink wash painting"))
    assert all(abs(share) < BOUND for share in found.values()), found


def test_the_built_in_model_does_not_drift():
    found = drift(
        Stylizer.load("rtr-tiny", device="cpu"), (64, 96), Style(prompt="ink wash painting")
    )
    assert all(abs(share) < BOUND for share in found.values()), found
