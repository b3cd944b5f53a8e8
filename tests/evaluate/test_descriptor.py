"""Descriptors tell styles apart whatever is shown, and the one with weights is what it says."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from rtr_core.appearance import LocalPatterns, style_distance
from rtr_core.errors import WeightsError
from rtr_core.evaluate.descriptor import apart, closeness
from rtr_core.evaluate.metrics import floats
from rtr_core.evaluate.vgg import STAGES, VggGram
from rtr_core.train import looks
from tests.train.scenes import scene

STYLES = ("ink wash", "pixel blocks", "neon edges", "cross stitch", "stained glass", "thermal")


def shown(style: str, seed: int) -> np.ndarray:
    return floats(looks.canonical(style)(scene(128, 128, seed)[None]))


@pytest.mark.parametrize("kind", ["gray", "color"])
def test_the_nearest_of_six_styles_is_the_own_whatever_is_shown(kind):
    describe = getattr(LocalPatterns(), kind)
    bank = [describe(shown(style, 1)) for style in STYLES]
    seen = [describe(shown(style, 2)) for style in STYLES]
    assert closeness(seen, bank).argmax(1).tolist() == list(range(len(STYLES)))


def test_gray_knows_no_colour_and_colour_does():
    frames, eye = shown("cel cartoon", 1), LocalPatterns()
    other = frames[..., ::-1] * 0.7 + 0.1
    light = np.repeat((frames @ np.array([0.299, 0.587, 0.114], np.float32))[..., None], 3, -1)
    assert style_distance(eye.gray(frames), eye.gray(light)) < 0.05
    assert style_distance(eye.color(frames), eye.color(other)) > 0.3
    assert style_distance(eye.color(frames), eye.color(frames)) == 0


def test_closeness_looks_past_what_all_in_the_bank_have():
    bank = np.eye(4) + 5
    others = np.full((4, 4), -1 / 3)
    np.testing.assert_allclose(closeness(bank, bank), others + 4 / 3 * np.eye(4))


def test_what_all_queries_have_does_not_count_and_a_faint_style_is_none():
    strength = np.linspace(0.5, 2, 8)[:, None]
    bank = strength * np.random.default_rng(0).normal(size=(8, 40))
    scene_of_all = np.random.default_rng(1).normal(size=40)
    own = np.arange(8)
    assert (apart(bank + 3 * scene_of_all, bank).argmin(1) == own).all()
    faint = bank.mean(0) + 0.1 * (bank - bank.mean(0))
    assert (apart(faint, bank).argmin(1) == own).mean() < 0.4


def vgg_file(path, left_out: int | None = None):
    rng, width, tensors = torch.Generator().manual_seed(0), 3, {}
    for stage in STAGES:
        for number in stage:
            shape = 4, width, 3, 3
            tensors[f"features.{number}.weight"] = torch.randn(shape, generator=rng) / 5
            tensors[f"features.{number}.bias"] = torch.randn(4, generator=rng) / 5
            width = 4
    if left_out is not None:
        del tensors[f"features.{left_out}.bias"]
    save_file(tensors, path)
    return path


def test_gram_matrices_equal_a_plain_vgg(tmp_path):
    eye, frame = VggGram(vgg_file(tmp_path / "vgg.safetensors")), shown("thermal", 1)
    layers = []
    for number in range(23):
        name = f"features.{number}.weight"
        if name in eye.weights:
            conv = torch.nn.Conv2d(*eye.weights[name].shape[1::-1], 3, padding=1)
            conv.load_state_dict(
                {k: eye.weights[f"features.{number}.{k}"] for k in ("weight", "bias")}
            )
            layers.append(conv)
        else:  # torchvision halves where neither a convolution nor a ReLU stands
            layers.append(torch.nn.MaxPool2d(2) if number in (4, 9, 16) else torch.nn.ReLU())
    x = torch.from_numpy(frame).permute(0, 3, 1, 2)
    x = (x - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor(
        [0.229, 0.224, 0.225]
    )[:, None, None]
    grams = []
    with torch.no_grad():
        for number, layer in enumerate(layers):
            x = layer(x)
            if number in (3, 8, 15, 22):
                gram = torch.einsum("bihw,bjhw->ij", x, x)
                grams.append((gram / gram.norm()).flatten())
    np.testing.assert_allclose(eye.color(frame), torch.cat(grams).numpy(), rtol=1e-4, atol=1e-6)


def test_a_file_that_is_no_vgg16_is_refused(tmp_path):
    with pytest.raises(WeightsError, match=r"features.7.bias is missing"):
        VggGram(vgg_file(tmp_path / "vgg.safetensors", left_out=7))
