"""How a node describes itself, on every version of the host, and inputs that nodes share."""

from dataclasses import fields
from typing import Any

from comfy_api.latest import io

from .types import RtrStyle

KNOWN = {field.name for field in fields(io.Schema)}
MOST_SEED = 2**64 - 1


def schema(node_id: str, display_name: str, **told: Any) -> io.Schema:
    """A schema without what this version of the host does not know, such as search words."""
    told = {name: value for name, value in told.items() if name in KNOWN}
    return io.Schema(node_id=node_id, display_name=display_name, category="RTR", **told)


def model_input(**more: Any) -> io.Model.Input:
    return io.Model.Input("model", tooltip="The transformer, from RTR Load Model.", **more)


def vae_input(**more: Any) -> io.Vae.Input:
    return io.Vae.Input(
        "vae",
        tooltip="From RTR Load Model, or a Wan VAE from Load VAE: of the family that the model "
        "was trained with.",
        **more,
    )


def style_input(**more: Any) -> io.Input:
    return RtrStyle.Input(
        "style", tooltip="What it is to look like: from RTR Style or RTR Cue Sheet.", **more
    )


def images_input() -> io.Image.Input:
    return io.Image.Input(
        "images", tooltip="Frames in the order of time, of any number and any size."
    )


def clip_input() -> io.Clip.Input:
    return io.Clip.Input(
        "clip",
        optional=True,
        tooltip="Reads the text. Not needed where the model brings a text encoder of its own, as "
        "the built-in one does; for Wan it is umT5 (Load CLIP, type wan).",
    )


def prompt_input(tooltip: str, default: str = "ink wash painting") -> io.String.Input:
    return io.String.Input("prompt", default=default, multiline=True, tooltip=tooltip)


def strength_input() -> io.Float.Input:
    return io.Float.Input(
        "strength",
        default=1.0,
        min=0.0,
        max=1.0,
        step=0.05,
        tooltip="How much noise the source is given: less keeps more of it.",
    )


def seed_input(tooltip: str, changes: bool = False, least: int = 0) -> io.Int.Input:
    """A seed; `changes`: with the host's choice to take another one after each run, which it else
    makes for every widget of this name, and which would begin a broken job anew."""
    return io.Int.Input(
        "seed",
        default=least,
        min=least,
        max=MOST_SEED,
        control_after_generate=changes,
        tooltip=tooltip,
    )


def fps_input() -> io.Float.Input:
    return io.Float.Input(
        "fps",
        default=24.0,
        min=0.1,
        max=1000.0,
        step=0.01,
        tooltip="Frames a second of the images. Only the times in a cue sheet need it.",
    )


def mask_input() -> io.Mask.Input:
    return io.Mask.Input(
        "mask",
        optional=True,
        tooltip="Where it is styled (white). Outside of it (black) every pixel stays the source's, "
        "to the bit. One mask holds for all frames; of several, each for its frame.",
    )
