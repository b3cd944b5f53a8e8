"""What a graph begins with: weights, and a clip to try them on."""

from pathlib import Path
from typing import Any

import comfy.model_management as mm
import comfy.sd
import folder_paths
import torch
from comfy_api.latest import InputImpl, io

from ..rtr_core import Stylizer, WeightsError
from ..rtr_core.families import recipe_of
from ..rtr_core.frames import picture
from ..rtr_core.model.text import remembered
from ..rtr_core.recipes import told_fields
from ..rtr_core.stylizer import BUILT_IN, file_of, prompt_folder
from ..rtr_core.weights.bundle import read_about
from ..rtr_core.weights.load import (
    find_parts,
    load_text,
    load_transformer,
    load_vae,
)
from ..rtr_core.weights.read import open_weights
from ..rtr_core.weights.signs import signs_of
from .model import WEIGHT_DTYPES, Origin, Precision, housed, patcher
from .schema import schema
from .text import clip_of
from .vae import HostedVae

FROM_CHECKPOINT = "from the checkpoint"
FOLDERS = ("diffusion_models", "checkpoints")
ASSETS = Path(__file__).parents[1] / "rtr_core" / "assets"
REFERENCES = {path.stem: path for path in sorted(ASSETS.glob("*.jpg"))}


class LoadModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        files = [name for folder in FOLDERS for name in folder_paths.get_filename_list(folder)]
        return schema(
            "RTRLoadModel",
            "RTR Load Model",
            description="Loads what RTR runs on: an RTR checkpoint or a causal Wan transformer.",
            search_aliases=["rtr", "restyle", "video to video", "causal wan", "self forcing"],
            inputs=[
                io.Combo.Input(
                    "checkpoint",
                    options=[BUILT_IN, *dict.fromkeys(files)],
                    tooltip="The built-in model needs no download. Others are files in "
                    "models/diffusion_models or models/checkpoints.",
                ),
                io.Combo.Input(
                    "weight_dtype",
                    options=WEIGHT_DTYPES,
                    tooltip="How the transformer's matrices are kept: fp8 halves their memory.",
                ),
                io.Combo.Input(
                    "vae_file",
                    options=[FROM_CHECKPOINT, *folder_paths.get_filename_list("vae")],
                    tooltip="Where the VAE comes from: Wan2.1_VAE, Wan2.2_VAE, taew2_1, taew2_2. "
                    "Or leave it, and wire Load VAE.",
                ),
                io.Combo.Input(
                    "text_encoder_file",
                    options=[FROM_CHECKPOINT, *folder_paths.get_filename_list("text_encoders")],
                    tooltip="Where the text encoder comes from: umT5 for Wan. Or leave it, and "
                    "wire Load CLIP, type wan.",
                ),
                io.String.Input(
                    "recipe",
                    default="",
                    tooltip="Overrides of how the model is run, such as: window=9 chunk=3. Empty: "
                    "as its family is run best.",
                ),
            ],
            outputs=[
                io.Model.Output(display_name="model"),
                io.Clip.Output(display_name="clip"),
                io.Vae.Output(display_name="vae"),
            ],
        )

    @classmethod
    def execute(
        cls,
        checkpoint: str,
        weight_dtype: str,
        vae_file: str,
        text_encoder_file: str,
        recipe: str,
    ) -> io.NodeOutput:
        fields = told_fields(recipe)
        if checkpoint == BUILT_IN:
            model, vae, text = _built_in(weight_dtype, fields)
        else:
            model, vae, text = _from_file(_path(FOLDERS, checkpoint), weight_dtype, fields)
        clip = clip_of(text) if text is not None else None
        if vae_file != FROM_CHECKPOINT:
            vae = load_vae(_path(["vae"], vae_file), dtype=vae_dtype())
        if text_encoder_file != FROM_CHECKPOINT:
            clip = _host_clip(_path(["text_encoders"], text_encoder_file))
        return io.NodeOutput(model, clip, None if vae is None else HostedVae(vae))


class Sample(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "RTRSample",
            "RTR Sample",
            description="A short clip and a painting to try things on, without any download.",
            inputs=[
                io.Combo.Input(
                    "painting",
                    options=list(REFERENCES),
                    tooltip="Which painting comes out as the reference. Both are in the public "
                    "domain.",
                ),
            ],
            outputs=[
                io.Video.Output(display_name="video"),
                io.Image.Output(display_name="reference"),
                io.String.Output(display_name="folder"),
            ],
        )

    @classmethod
    def execute(cls, painting: str) -> io.NodeOutput:
        still = picture(REFERENCES[painting]).float()[None] / 255
        clip = InputImpl.VideoFromFile(str(ASSETS / "sample.mp4"))
        return io.NodeOutput(clip, still, str(ASSETS))


def vae_dtype() -> torch.dtype:
    return mm.vae_dtype(mm.vae_device(), [torch.bfloat16, torch.float32])


def _built_in(weight_dtype: str, fields: dict[str, Any]) -> tuple[Any, Any, Any]:
    stylizer = Stylizer.load(BUILT_IN, device="cpu", dtype=torch.float32, **fields)
    parts = stylizer.parts
    count = sum(weight.numel() for weight in parts.transformer.parameters())
    precision = Precision.pick(weight_dtype, count)
    about = read_about(open_weights(file_of(BUILT_IN)))
    styles = about.styles if about else ()
    origin = Origin(name=BUILT_IN, recipe=stylizer.recipe, text=parts.text, styles=styles)
    vae: Any = parts.vae
    vae = vae.to(vae_dtype())
    return patcher(housed(parts.transformer, precision), origin, precision), vae, parts.text


def _from_file(path: Path, weight_dtype: str, fields: dict[str, Any]) -> tuple[Any, Any, Any]:
    file = open_weights(path)
    found = find_parts([file])
    if "transformer" not in found:
        raise WeightsError(f"{path.name} holds no transformer: choose a causal Wan or RTR model.")
    count = sum(meta.numel() for meta in file.tensors.meta.values())
    precision = Precision.pick(weight_dtype, count)
    transformer = load_transformer(
        file,
        dtype=precision.weights,
        matrices=precision.matrices,
        operations=precision.operations,
    )
    about = read_about(file)
    signs = signs_of(file, found["transformer"][1], transformer.config)
    recipe = recipe_of(signs, about.recipe if about else None, **fields)
    vae = load_vae(file, dtype=vae_dtype()) if "vae" in found else None
    text = remembered(load_text(file), prompt_folder()) if "text" in found else None
    styles = about.styles if about else ()
    origin = Origin(name=path.stem, recipe=recipe, text=text, styles=styles)
    return patcher(transformer, origin, precision), vae, text


def _host_clip(path: Path) -> Any:
    return comfy.sd.load_clip(
        ckpt_paths=[str(path)],
        embedding_directory=folder_paths.get_folder_paths("embeddings"),
        clip_type=comfy.sd.CLIPType.WAN,
    )


def _path(folders: Any, name: str) -> Path:
    for folder in folders:
        found = folder_paths.get_full_path(folder, name)
        if found is not None:
            return Path(found)
    raise WeightsError(
        f"{name} is not in models/{' or models/'.join(folders)} any more: put it back, or press R "
        f"and choose another."
    )
