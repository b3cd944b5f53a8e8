"""Names of Wan VAE tensors: from those of diffusers to the original ones of Wan2.1_VAE, Wan2.2_VAE.

Wan 2.1 counts all layers of the encoder or decoder in one row (`upsamples.7`), Wan 2.2 within each
level (`upsamples.1.upsamples.3`). diffusers counts within levels, and only the encoder of Wan 2.1
in one row. How many levels and layers there are is read off the names.
"""

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

from ..errors import WeightsError

OUTSIDE_LEVELS = {
    "quant_conv": "conv1",
    "post_quant_conv": "conv2",
    "encoder.conv_in": "encoder.conv1",
    "encoder.norm_out": "encoder.head.0",
    "encoder.conv_out": "encoder.head.2",
    "decoder.conv_in": "decoder.conv1",
    "decoder.norm_out": "decoder.head.0",
    "decoder.conv_out": "decoder.head.2",
}
INSIDE_A_LAYER = {
    "norm1": "residual.0",
    "conv1": "residual.2",
    "norm2": "residual.3",
    "conv2": "residual.6",
    "conv_shortcut": "shortcut",
}
SAMPLES = {"encoder": "downsamples", "decoder": "upsamples"}

MIDDLE = re.compile(r"(encoder|decoder)\.mid_block\.(resnets|attentions)\.(\d+)\.(.+)")
RESIDUAL = re.compile(r"(encoder|decoder)\.(?:down|up)_blocks\.(\d+)\.resnets\.(\d+)\.(.+)")
RESAMPLE = re.compile(
    r"(encoder|decoder)\.(?:down|up)_blocks\.(\d+)\.(?:downsampler|upsamplers\.0|upsampler)\.(.+)"
)
IN_A_ROW = re.compile(r"encoder\.down_blocks\.(\d+)\.(.+)")

Depths = dict[tuple[str, int], int]  # residual layers of each (encoder or decoder, level)


def is_diffusers(names: Iterable[str]) -> bool:
    """Whether these are diffusers' names of a Wan VAE."""
    return "decoder.conv_in.weight" in names


def from_diffusers(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors under their original Wan names."""
    depths = residual_depths(tensors)
    nested = any(".upsampler." in name for name in tensors)  # Wan 2.2; 2.1 has `.upsamplers.0.`
    return {original_name(name, depths, nested): tensor for name, tensor in tensors.items()}


def residual_depths(names: Iterable[str]) -> Depths:
    depths: Depths = {}
    for name in names:
        if match := RESIDUAL.fullmatch(name):
            level = match[1], int(match[2])
            depths[level] = max(depths.get(level, 0), int(match[3]) + 1)
    return depths


def original_name(name: str, depths: Depths, nested: bool) -> str:
    layer, _, parameter = name.rpartition(".")
    if layer in OUTSIDE_LEVELS:
        return f"{OUTSIDE_LEVELS[layer]}.{parameter}"
    if match := MIDDLE.fullmatch(name):
        number = 2 * int(match[3]) + (match[2] == "attentions")
        return f"{match[1]}.middle.{number}.{inside(match[4])}"
    if match := RESIDUAL.fullmatch(name):
        place = place_of(match[1], int(match[2]), int(match[3]), depths, nested)
        return f"{place}.{inside(match[4])}"
    if match := RESAMPLE.fullmatch(name):
        level = match[1], int(match[2])
        return f"{place_of(*level, depths.get(level, 0), depths, nested)}.{match[3]}"
    if match := IN_A_ROW.fullmatch(name):
        return f"encoder.downsamples.{match[1]}.{inside(match[2])}"
    raise WeightsError(
        f"'{name}' is no tensor of a Wan VAE as diffusers saves it. "
        "Choose the file diffusion_pytorch_model.safetensors of a Wan VAE folder."
    )


def place_of(side: str, level: int, number: int, depths: Depths, nested: bool) -> str:
    """Where Wan keeps the layer of this number in this level."""
    samples = SAMPLES[side]
    if nested:
        return f"{side}.{samples}.{level}.{samples}.{number}"
    before = sum(depths[side, earlier] + 1 for earlier in range(level))  # 1: its resampling
    return f"{side}.{samples}.{before + number}"


def inside(name: str) -> str:
    """A name inside a layer; attention and resampling have theirs in common with Wan."""
    first, dot, rest = name.partition(".")
    return INSIDE_A_LAYER.get(first, first) + dot + rest
