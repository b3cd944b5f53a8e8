"""Looks: styles drawn by rule, from which the model learns what a prompt or a reference means.

    look = looks.canonical("ink wash")    # what a prompt asks for: always the same
    look = looks.varied("ink wash", rng)  # its family in other colours: what a reference shows
    target = look(frames)                 # uint8 [t h w 3] to the same

A look reads at most ~24 pixels around each pixel, knows no time and no whole-frame statistics,
and repeats its patterns every 16 pixels from the top left corner: a small causal model can learn it
in tokens of 16 pixels, or in smaller ones that are told where in a tile of 16 they stand, and what
it draws stands still on a scene that does.
"""

import numpy as np

from ...errors import StyleError
from .celled import CrossStitch, Halftone, PixelBlocks, StainedGlass
from .drawn import Blueprint, InkWash, NeonEdges, PencilSketch, Woodcut
from .flat import CelCartoon, PaperCutout, PopPoster
from .look import SMALLEST, Look
from .painted import OilPainting, PastelChalk, StoneRelief, Watercolor
from .toned import SepiaFilm, Thermal

__all__ = ["SMALLEST", "STYLES", "Look", "canonical", "varied"]

_HANDS = {
    "ink wash": InkWash,
    "pencil sketch": PencilSketch,
    "cel cartoon": CelCartoon,
    "pixel blocks": PixelBlocks,
    "oil painting": OilPainting,
    "watercolor": Watercolor,
    "neon edges": NeonEdges,
    "halftone": Halftone,
    "blueprint": Blueprint,
    "pop poster": PopPoster,
    "thermal": Thermal,
    "sepia film": SepiaFilm,
    "woodcut": Woodcut,
    "stained glass": StainedGlass,
    "pastel chalk": PastelChalk,
    "paper cutout": PaperCutout,
    "cross stitch": CrossStitch,
    "stone relief": StoneRelief,
}
STYLES: tuple[str, ...] = tuple(_HANDS)


def canonical(style: str) -> Look:
    """The look that a prompt of this style asks for."""
    return Look(style, _hand(style)())


def varied(style: str, rng: np.random.Generator) -> Look:
    """A look of the same family with colours and parameters that only a reference can tell."""
    return Look(style, _hand(style).varied(rng))


def _hand(style: str):
    if style not in _HANDS:
        raise StyleError(f"There is no style {style!r}. The styles are {', '.join(STYLES)}.")
    return _HANDS[style]
