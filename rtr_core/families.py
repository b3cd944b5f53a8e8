"""The public families of checkpoints, and how each is run. `rtr recipes` lists them.

A family is known by what its file contains, and where two contain the same, by the file's name.
Only ours has channels for a source. In the Wan ones it must show through the noise, so they start
below pure noise: by `strength`, which is ours where nothing else is said.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from .errors import StyleError
from .model.config import WAN_5B, WAN_14B, TransformerConfig
from .recipes import Recipe

WAN_SPAN = 21  # latent frames that all causal Wan models were trained on


class Signs(NamedTuple):
    """What tells the family of a transformer's file."""

    config: TransformerConfig
    prefix: str = ""  # before the names of its tensors
    others: tuple[str, ...] = ()  # prefixes of further networks of its kind in the file
    is_causal: bool = False  # its metadata say so, in the way of ComfyUI
    name: str = ""  # of the file and its folder
    has_loras: bool = False  # loaded beside it

    @property
    def is_trained_alone(self) -> bool:
        """A checkpoint of training that holds the generator and nothing it was trained with."""
        return self.prefix.startswith("generator.") and not self.others

    @property
    def is_14b(self) -> bool:
        return self.config.dim == WAN_14B.dim


@dataclass(frozen=True, kw_only=True)
class Family:
    recipe: Recipe
    cites: str  # where its numbers come from, as far as they are not ours
    words: str  # a pattern of file names, which decides among families that fit
    fits: Callable[[Signs], bool] = lambda signs: True  # what is in the file
    is_likely: Callable[[Signs], bool] = lambda signs: False  # where the name says nothing

    @property
    def name(self) -> str:
        return self.recipe.name


RTR = Recipe(name="rtr", timesteps=(1000, 500), shift=5.0)

SELF_FORCING = Recipe(
    name="self-forcing",
    timesteps=(1000, 750, 500, 250),
    shift=5.0,
    strength=0.7,
    window=18,
    span=WAN_SPAN,
)

CAUSVID = SELF_FORCING.override(name="causvid", timesteps=(1000, 757, 522), shift=1.0)

STREAMDIFFUSION = Recipe(
    name="streamdiffusionv2",
    timesteps=(800, 500),
    offset=100,
    motion=0.125,
    chunk=1,
    first=2,
    window=2,
    anchor=3,
    commit="last step",
    buffer=2,
    flight="apart",
    span=WAN_SPAN,
)

LONGLIVE = SELF_FORCING.override(name="longlive", window=6, anchor=3, switch="recompute")

KREA = SELF_FORCING.override(name="krea", window=3, commit="recompute", weight=0.3)

WAN = SELF_FORCING.override(
    name="wan",
    timesteps=tuple(1000 - 50 * n for n in range(20)),
    guidance=5.0,
    between="flow",
)

OURS = Family(
    recipe=RTR,
    cites="RTR-DiT gives neither steps nor window; two steps, shift and window are ours",
    words="",
)

FAMILIES = (
    OURS,
    Family(
        recipe=LONGLIVE.override(name="longlive-2"),
        cites="LongLive 2.0 is made of Wan 2.2 TI2V 5B and runs in 4 or 2 steps; window, anchor "
        "and switch are those of LongLive, its shift is Wan's",
        words="longlive.?2|5b",
        fits=lambda signs: signs.config.out_channels == WAN_5B.out_channels,
        is_likely=lambda signs: True,
    ),
    Family(
        recipe=KREA,
        cites="krea-ai/realtime-video release_server.py: 4 warped steps, 3 latent frames of past, "
        "worked out anew for each block; the weight is that of its tests",
        words="krea",
        is_likely=lambda signs: signs.is_14b and signs.prefix == "model.",
    ),
    Family(
        recipe=STREAMDIFFUSION,
        cites="StreamDiffusionV2 streamv2v/inference.py, wan_causal_dmd_v2v.yaml: noise 0.8, "
        "100 timesteps told less, motion lowers it by up to 0.1, 6 latent frames visible, 3 of "
        "them anchored, the last step's keys stay, one row of a batch for each step",
        words="stream.?diffusion|streamv2v|sdv2",
        is_likely=lambda signs: signs.is_trained_alone and not signs.has_loras,
    ),
    Family(
        recipe=CAUSVID,
        cites="CausVid configs/wan_causal_dmd.yaml: 1000, 757, 522, not warped, blocks of 3",
        words="causvid|autoregressive",
    ),
    Family(
        recipe=LONGLIVE,
        cites="LongLive configs/longlive_interactive_inference.yaml: 12 latent frames visible, 3 "
        "anchored, the cache worked out anew under a new prompt",
        words="longlive|long_live",
        is_likely=lambda signs: signs.has_loras and bool(signs.prefix),
    ),
    Family(
        recipe=SELF_FORCING.override(name="causal-forcing"),
        cites="Causal-Forcing (thu-ml) goes in Self-Forcing's place; frame by frame with chunk=1",
        words="causal.?forcing",
    ),
    Family(
        recipe=WAN,
        cites="Wan 2.1's generate.py: shift 5, guidance 5, along the flow; 20 steps for its 50. "
        "For weights that were not distilled; slow",
        words=r"wan2.?[12].*t2v|t2v.*wan2.?[12]",
        fits=lambda signs: not (signs.is_causal or signs.has_loras or "generator" in signs.prefix),
    ),
    Family(
        recipe=SELF_FORCING.override(name="wan-few-step", window=6),
        cites="lightx2v's few-step LoRAs of Wan 2.1: 4 steps at shift 5, no guidance; the window "
        "is ours",
        words="lightx2v|fusionx|accvid|distill",
        fits=lambda signs: signs.has_loras,
        is_likely=lambda signs: not signs.prefix,
    ),
    Family(
        recipe=SELF_FORCING,
        cites="Self-Forcing configs/self_forcing_dmd.yaml: four warped steps, 21 latent frames",
        words="self.?forcing",
        is_likely=lambda signs: True,
    ),
)


def family_of(signs: Signs) -> Family:
    """Of those that its contents allow the one that its name tells, else the likeliest."""
    if signs.config.takes_source:
        return OURS
    fitting = [family for family in FAMILIES if family is not OURS and family.fits(signs)]
    named = [family for family in fitting if re.search(family.words, signs.name, re.I)]
    return [*named, *(family for family in fitting if family.is_likely(signs))][0]


def recipe_called(name: str) -> Recipe:
    """That of the family with this name."""
    recipes = {family.name: family.recipe for family in FAMILIES}
    if name not in recipes:
        raise StyleError(
            f"There is no recipe {name!r}. `rtr recipes` tells of them: {', '.join(recipes)}. A "
            f"field is told as FIELD=VALUE, such as window=9."
        )
    return recipes[name]


def recipe_of(signs: Signs, own: Recipe | None = None, **fields: Any) -> Recipe:
    """How a model is run: by the recipe of its file or its family's, with some fields changed.

    `name` takes another family's recipe for a beginning. A recipe that the model cannot follow is
    refused.
    """
    chosen = own or family_of(signs).recipe
    if (name := fields.get("name", chosen.name)) != chosen.name:
        chosen = recipe_called(name)
    recipe = chosen.override(**fields)
    is_told = signs.config.takes_source or signs.config.structure
    if not is_told and recipe.sigmas[0] * recipe.strength >= 1:
        raise StyleError(
            f"Recipe {recipe.name!r} starts from noise alone, and this model has no channels for a "
            f"source, which would be lost: choose a strength below 1, such as strength=0.7."
        )
    return recipe
