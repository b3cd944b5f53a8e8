"""The paper's metrics equal straightforward ones on small random weights of the same kind."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from rtr_core.errors import WeightsError
from rtr_core.evaluate.by_weights import Seers, Weights
from rtr_core.evaluate.clip_model import MEAN, SPREAD, ClipModel, squared
from rtr_core.evaluate.csd import CsdModel
from rtr_core.evaluate.depth import depth_error
from rtr_core.evaluate.musiq import MusiqModel
from rtr_core.evaluate.passages import Pair
from tests.train.scenes import scene

SIDE, PATCH, WIDTH, LAYERS, HEADS = 32, 8, 128, 2, 2
WORDS = {
    "<|startoftext|>": 0,
    "<|endoftext|>": 1,
    "i": 2,
    "n": 3,
    "k</w>": 4,
    "in": 5,
    "ink</w>": 6,
}


class Showing:
    prompt, reference, unasked = "ink ink", torch.from_numpy(scene(48, 64, 9)), ""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A small CLIP as transformers saves it, with a tokenizer of one word."""
    from transformers import CLIPConfig, CLIPModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    path = tmp_path_factory.mktemp("clip")
    text = {"vocab_size": 8, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
    text |= {
        "num_attention_heads": 2,
        "max_position_embeddings": 12,
        "eos_token_id": 1,
        "bos_token_id": 0,
    }
    vision = {"hidden_size": WIDTH, "intermediate_size": 256, "num_hidden_layers": LAYERS}
    vision |= {"num_attention_heads": HEADS, "image_size": SIDE, "patch_size": PATCH}
    torch.manual_seed(0)
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=48))
    model.save_pretrained(path)
    (path / "vocab.json").write_text(json.dumps(WORDS))
    (path / "merges.txt").write_text("#version: 0.2\ni n\nin k</w>\n")
    (path / "tokenizer_config.json").write_text('{"tokenizer_class": "CLIPTokenizer"}')
    return path


@pytest.fixture(scope="module")
def frames() -> list[Tensor]:
    return [torch.from_numpy(scene(48, 64, seed)) for seed in range(3)]


def reference_vectors(folder: Path, frames: list[Tensor]) -> Tensor:
    from transformers import CLIPModel

    model = CLIPModel.from_pretrained(folder, local_files_only=True).eval()
    pixels = torch.cat([squared(frame, SIDE) for frame in frames])
    with torch.no_grad():
        return F.normalize(model.get_image_features(pixel_values=pixels).pooler_output, dim=-1)


def test_frames_are_brought_in_as_pillow_would(frames):
    image = Image.fromarray(frames[0].numpy()).resize((42, SIDE), Image.Resampling.BICUBIC)
    image = np.asarray(image)[:, 5 : 5 + SIDE]
    expected = (image / 255 - np.array(MEAN)) / np.array(SPREAD)
    ours = squared(frames[0], SIDE)[0].permute(1, 2, 0).numpy()
    assert np.abs(ours - expected).mean() < 0.01


def test_clip_scores_and_the_aesthetic_equal_those_by_transformers(folder, frames, tmp_path):
    from transformers import CLIPModel

    head = nn.Linear(48, 1)
    torch.save(head.state_dict(), tmp_path / "head.pth")
    seers = Seers.load(Weights(clip=folder, aesthetic=tmp_path / "head.pth"))
    assert not seers.refused
    gauges = seers.gauges(Showing())
    for number, frame in enumerate(frames):
        for gauge in gauges:
            gauge.see(number, Pair(frame, frame))
    bars = {name: bar for gauge in gauges for name, bar in gauge.bars().items()}
    seen = reference_vectors(folder, frames)
    model = CLIPModel.from_pretrained(folder, local_files_only=True).eval()
    with torch.no_grad():
        rows = torch.tensor([[0, 6, 6, 1]])
        text = F.normalize(model.get_text_features(input_ids=rows).pooler_output, dim=-1)[0]
    assert bars["CLIP-T"].value == pytest.approx(float((seen @ text).mean()), abs=1e-5)
    steady = float((seen[1:] * seen[:-1]).sum(-1).mean())
    assert bars["CLIP-F"].value == pytest.approx(steady, abs=1e-5)
    with torch.no_grad():
        plain = torch.cat([squared(frame, SIDE, antialias=False) for frame in frames])
        vectors = F.normalize(model.get_image_features(pixel_values=plain).pooler_output, dim=-1)
        expected = float(head(vectors).mean()) / 10
    assert bars["aesthetic"].value == pytest.approx(expected, abs=1e-5)
    assert "ViT-2x128/8 at 32" in bars["CLIP-F"].claim


def openai_names(folder: Path) -> dict[str, Tensor]:
    """The vision half of a folder as CSD's checkpoint has it."""
    from transformers import CLIPModel

    old = CLIPModel.from_pretrained(folder, local_files_only=True).vision_model.state_dict()
    new = {
        "class_embedding": old["embeddings.class_embedding"],
        "positional_embedding": old["embeddings.position_embedding.weight"],
        "conv1.weight": old["embeddings.patch_embedding.weight"],
    }
    for kind in ("weight", "bias"):
        new[f"ln_pre.{kind}"] = old[f"pre_layrnorm.{kind}"]
        new[f"ln_post.{kind}"] = old[f"post_layernorm.{kind}"]
        for n in range(LAYERS):
            block, was = f"transformer.resblocks.{n}", f"encoder.layers.{n}"
            parts = [old[f"{was}.self_attn.{part}_proj.{kind}"] for part in "qkv"]
            new[f"{block}.attn.in_proj_{kind}"] = torch.cat(parts)
            for to, of in (
                ("attn.out_proj", "self_attn.out_proj"),
                *(("ln_1", "layer_norm1"), ("ln_2", "layer_norm2")),
                *(("mlp.c_fc", "mlp.fc1"), ("mlp.c_proj", "mlp.fc2")),
            ):
                new[f"{block}.{to}.{kind}"] = old[f"{was}.{of}.{kind}"]
    return {f"module.backbone.{name}": value for name, value in new.items()}


def test_the_csd_score_equals_transformers_trunk_and_a_matrix(folder, frames, tmp_path):
    from transformers import CLIPModel

    matrix = torch.randn(WIDTH, 24, generator=torch.Generator().manual_seed(1))
    state = openai_names(folder) | {"module.last_layer_style": matrix}
    torch.save({"model_state_dict": state, "epoch": 3}, tmp_path / "csd.pth")
    trunk = CLIPModel.from_pretrained(folder, local_files_only=True).vision_model.eval()

    def style(frame: Tensor) -> Tensor:
        with torch.no_grad():
            seen = trunk(pixel_values=squared(frame, SIDE)).pooler_output
        return F.normalize(seen @ matrix, dim=-1)[0]

    seers = Seers.load(Weights(csd=tmp_path / "csd.pth"))
    (gauge,) = seers.gauges(Showing())
    for number, frame in enumerate(frames):
        gauge.see(number, Pair(frame, frame))
    expected = np.mean([float(style(frame) @ style(Showing.reference)) for frame in frames])
    assert gauge.bars()["CSD"].value == pytest.approx(expected, abs=1e-5)


def test_weights_of_another_model_are_refused_by_name(folder, tmp_path):
    torch.save({"weight": torch.zeros(1, 768), "bias": torch.zeros(1)}, tmp_path / "head.pth")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    seers = Seers.load(Weights(clip=folder, aesthetic=tmp_path / "head.pth"))
    assert "vectors of 768" in seers.refused["aesthetic"] and "clip" in seers.loaded
    assert "vectors of 768" in seers.absent()["aesthetic"].reason
    with pytest.raises(WeightsError, match="bert"):
        ClipModel(tmp_path)
    for model in (CsdModel, MusiqModel):
        with pytest.raises(WeightsError, match="is missing"):
            model(tmp_path / "head.pth")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_what_asks_for_one_has_a_reason_and_the_rest_goes_on(folder):
    seers = Seers.load(Weights(clip=folder), "cuda")
    assert "torch cannot run on 'cuda' here" in seers.refused["clip"]
    assert "torch cannot run" in seers.absent()["CLIP-F"].reason and not seers.gauges(Showing())


def test_a_copy_keeps_its_depth_and_another_scene_has_another(depth_folder):
    seers = Seers.load(Weights(depth_model=depth_folder))
    assert not seers.refused
    frames = [torch.from_numpy(scene(48, 64, seed)) for seed in (1, 2)]

    def error(output: Tensor) -> float:
        (gauge,) = seers.gauges(Showing())  # type: ignore[arg-type]  # what it asks of a showing
        gauge.see(0, Pair(frames[0], output))
        return gauge.bars()["depth"].value

    assert error(frames[0]) == pytest.approx(0, abs=1e-9)
    assert error(frames[1]) > 1e-3 and error(frames[0][::2, ::2]) < error(frames[1])


def test_depth_is_the_same_in_any_measure():
    depth = torch.rand(12, 16, generator=torch.Generator().manual_seed(0))
    assert depth_error(depth, depth) == pytest.approx(0, abs=1e-9)
    assert depth_error(3 - 2 * (1 - depth), depth) == pytest.approx(0, abs=1e-9)
    assert depth_error(depth.flip(0), depth) > 0.01
