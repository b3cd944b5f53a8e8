"""How much an error of pixels shows: as a value, an edge, a seam, a change in time, a texture, a
palette.

A mean error alone asks for the middle of all that could be, and that is soft and pale: a hatched
wall is best guessed gray. So texture asks that patterns come as often as they should, and palette
that colours do: as in the target or, where a picture shows the style, as in that one, which the
student sees and so need not guess. Both are sliced Wasserstein distances.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..appearance import LUMA
from ..flow import randn
from ..shapes import Stride

FAINTEST = 0.04  # standard deviation of light, and
PLAINEST = 0.1  # contrast, and share of it in an answer, below which a style has no more texture
STILLEST = 0.004  # mean change, of pixels in -1..1, below which nothing is more easily seen
HALF = 1.0  # error over contrast at which a frame is half lost: it may not outweigh all others
REACHES = (1, 2, 4)  # pixels between those that a pattern compares
PATTERNS = 4  # drawn anew for each step and reach, and as many directions of colour


@dataclass(frozen=True, kw_only=True)
class Shown:
    """Weights of what shows, beside the error of values."""

    edges: float = 0.5  # errors of edges
    change: float = 0.5  # of what changes from frame to frame
    seams: float = 0.0  # of edges where the places of two latents meet
    faint: float = 0.0  # of light, over the contrast there is to be seen
    flicker: float = 0.0  # of change that a place has too much, over what it should have
    texture: float = 0.0  # of how often local patterns come
    palette: float = 0.0  # of how often colours come


def seen(
    back: Tensor,
    target: Tensor,
    shown: Shown,
    stride: Stride,
    rng: torch.Generator,
    style: Tensor | None = None,
) -> Tensor:
    """What shows of the difference of pixels `[b 3 t h w]`; patterns are drawn by `rng`. The last
    frame of `style` shows how often they come, or that of the target."""
    style = target if style is None else style
    error = back - target
    change = error.diff(dim=2).abs().mean()
    total = error.abs().mean() + shown.edges * edges_of(error) + shown.change * change
    if shown.seams:
        total = total + shown.seams * seams_of(error, stride)
    if shown.faint:
        total = total + shown.faint * against_contrast(error, target)
    if shown.flicker:
        total = total + shown.flicker * against_flicker(back, target, stride)
    if shown.texture:
        total = total + shown.texture * against_texture(back, style, rng)
    if shown.palette:
        total = total + shown.palette * against_palette(back, style, rng)
    return total


def edges_of(error: Tensor) -> Tensor:
    """The mean step from pixel to pixel, down and across."""
    return error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()


def seams_of(error: Tensor, stride: Stride) -> Tensor:
    """The mean step from one latent's place to the next, down and across."""
    across = error.diff(dim=-1)[..., stride.width - 1 :: stride.width]
    down = error.diff(dim=-2)[..., stride.height - 1 :: stride.height, :]
    return across.abs().mean() + down.abs().mean()


def against_contrast(error: Tensor, target: Tensor) -> Tensor:
    """The square of an error of light, over the variance of the light of each frame: 0..1."""
    wrong, light = light_of(error), light_of(target)
    wrong = wrong - wrong.mean((-2, -1), keepdim=True)
    share = wrong.square().mean((-2, -1)) / (light.var((-2, -1)) + FAINTEST**2)
    return (share / (share + HALF)).mean()


def against_flicker(back: Tensor, target: Tensor, stride: Stride) -> Tensor:
    """How much more the place of each latent changes than it should, over how much it should.
    One frame alone does not change."""
    if target.shape[2] == 1:
        return back.new_zeros(())
    place = stride.height, stride.width
    ours, theirs = (
        F.avg_pool2d(side.diff(dim=2).abs().mean((1, 2))[:, None], place) for side in (back, target)
    )
    return ((ours - theirs).relu() / (theirs + STILLEST)).mean()


def against_texture(back: Tensor, style: Tensor, rng: torch.Generator) -> Tensor:
    """How far the light's answers to random patterns are from coming as often as the style's."""
    ours, theirs = (light_of(side[:, :, -1:]) for side in (back, style))  # [b 1 h w]
    contrast = theirs.std((-2, -1), keepdim=True) + PLAINEST
    far: list[Tensor] = []
    for reach in REACHES:
        patterns = patterns_of(rng, ours.float())
        with torch.autocast(ours.device.type, enabled=False):  # bf16 has few values to sort
            answers, asked = (
                F.conv2d((side / contrast).float(), patterns, dilation=reach).flatten(2)
                for side in (ours, theirs)
            )
        far.append((unlike(answers, asked) / (asked.std(-1) + PLAINEST)).mean())
    return torch.stack(far).mean()


def against_palette(back: Tensor, style: Tensor, rng: torch.Generator) -> Tensor:
    """How far colours, seen along random directions, are from coming as often as the style's."""
    ours, theirs = (side[:, :, -1].flatten(2).float() for side in (back, style))  # [b 3 places]
    drawn = randn((PATTERNS, ours.shape[1]), rng, ours)
    directions = drawn / drawn.norm(dim=1, keepdim=True)
    with torch.autocast(ours.device.type, enabled=False):
        along, asked = (torch.einsum("bcp,nc->bnp", side, directions) for side in (ours, theirs))
    return unlike(along, asked).mean()


def unlike(values: Tensor, asked: Tensor) -> Tensor:
    """How far the values of rows `[b n places]` are from those asked, wherever they are."""
    return (values.sort()[0] - asked.sort()[0]).abs().mean(-1)


def patterns_of(rng: torch.Generator, like: Tensor) -> Tensor:
    """Patterns `[n 1 3 3]` of mean 0 and length 1, all equally likely."""
    drawn = randn((PATTERNS, 1, 3, 3), rng, like)
    drawn = drawn - drawn.mean((-2, -1), keepdim=True)
    return drawn / drawn.norm(dim=(-2, -1), keepdim=True)


def light_of(pixels: Tensor) -> Tensor:
    return torch.einsum("bcthw,c->bthw", pixels, pixels.new_tensor(LUMA))


def psnr(error: Tensor) -> Tensor:
    """In dB, of an error of pixels in -1..1."""
    return -10 * (error.detach().float() / 2).square().mean().log10()
