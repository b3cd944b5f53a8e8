"""What is examined, on what, and how thoroughly."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..errors import StyleError
from ..shapes import frames_of
from ..stylizer import Stylizer
from ..train import looks, prompts
from ..train.data import DataConfig
from ..weights.bundle import read_about
from ..weights.read import open_weights
from .descriptor import Descriptor
from .held import Held

LOOKS = 0x6578616D  # before the seeds of references' looks: no stage of training draws from these


@dataclass(frozen=True, kw_only=True)
class ExamConfig:
    side: int = 256  # pixels
    clips: int = 6
    latents: int = 7  # latent frames of a clip
    every: int = 1  # style that is looked at where all would take long
    standing: int = 2  # latent frames of a clip that stands
    coded: int = 2  # clips that go, styled, through the autoencoder alone
    phrasings: int = 1  # of each style and clip, in words held out
    phrased: int = 3  # clips that are asked for in these
    groups: int = 5  # of references, each for a clip
    references: int = 8  # in a group
    referred: int = 5  # latent frames of a clip in RV2V
    ordered: int = 3  # clips that all models are compared on, in every third style
    window: int = DataConfig().latents  # latent frames of these: what a teacher is trained on
    steps: int = 20  # that a teacher is asked in
    seconds: int = 60  # of a long clip
    span: int = 5  # seconds that are compared at both its ends
    rate: int = 24  # frames a second of it
    timed: int = 24  # chunks


FULL = ExamConfig()
QUICK = replace(
    FULL,
    clips=2,
    latents=2,
    every=3,
    coded=1,
    phrased=1,
    groups=1,
    referred=2,
    ordered=1,
    steps=8,
    seconds=10,
    rate=8,
    timed=8,
)
IN_ORDER = 3  # every so manyth style is asked of all models


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A model, others to compare it with, and all that they are examined on."""

    stylizer: Stylizer
    styles: Sequence[str]  # the looks it says it has learned
    held: Held
    config: ExamConfig
    descriptor: Descriptor
    folder: Path  # for pictures
    teacher: Stylizer | None = None
    causal: Stylizer | None = None  # the model before post-training

    @property
    def size(self) -> tuple[int, int]:
        return self.config.side, self.config.side

    @property
    def some_styles(self) -> Sequence[str]:
        return self.styles[:: self.config.every]

    def frames(self, latents: int) -> int:
        return frames_of(latents, self.stylizer.parts.vae.stride)

    def rng(self, *seed: int) -> np.random.Generator:
        """For looks that training has not seen."""
        return np.random.default_rng((LOOKS, *seed))


def styles_of(files: Sequence[Path]) -> tuple[str, ...]:
    """The looks that a model's own list names; all there are where it lists nothing."""
    about = next(filter(None, (read_about(open_weights(file)) for file in files)), None)
    listed = about.styles if about else ()
    by_prompt = {prompts.plain(style): style for style in looks.STYLES}
    known = tuple(by_prompt.get(style, style) for style in listed)
    known = tuple(style for style in known if style in looks.STYLES)
    if listed and not known:
        raise StyleError(
            f"None of the model's styles has a look to be measured against: {', '.join(listed)}. "
            f"Looks are {', '.join(looks.STYLES)}."
        )
    return known or looks.STYLES
