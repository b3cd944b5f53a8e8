"""Shapes, pictures in and pictures out."""

import pytest
import torch
from PIL import Image

from rtr_core import Style
from rtr_core.frames import (
    checked_frames,
    covering,
    is_finite,
    picture,
    to_frames,
    to_pixels,
)
from rtr_core.shapes import Geometry, Size, Stride, frames_of, latent_frames

WAN = Stride(4, 8, 8)
PATCH = Stride(1, 2, 2)


@pytest.mark.parametrize(("frames", "latents"), [(0, 0), (1, 1), (2, 2), (5, 2), (6, 3), (81, 21)])
def test_the_first_latent_frame_covers_one_frame_and_the_others_four(frames, latents):
    assert latent_frames(frames, WAN) == latents
    assert frames_of(latents, WAN) >= frames > frames_of(max(latents - 1, 0), WAN) - (frames == 0)


def test_a_size_is_filled_up_to_whole_tokens():
    geometry = Geometry(Size(130, 250), WAN, PATCH)
    assert geometry.padded == (144, 256)
    assert geometry.latent == (18, 32)
    assert geometry.grid == (9, 16) and geometry.grid.area == 144
    assert str(geometry.size) == "250x130"


@pytest.mark.parametrize("size", [(16, 16), (17, 31), (1, 1), (50, 130)])
def test_pixels_and_back_is_the_same_picture(size):
    frames = torch.rand(3, *size, 3, generator=torch.Generator().manual_seed(1))
    geometry = Geometry(Size(*size), WAN, PATCH)
    pixels = to_pixels(checked_frames(frames), geometry, torch.zeros(1))
    assert pixels.shape == (1, 3, 3, *geometry.padded) and pixels.abs().max() <= 1
    torch.testing.assert_close(to_frames(pixels, geometry.size), frames)


def test_the_filled_up_border_repeats_the_picture():
    frames = torch.rand(1, 10, 10, 3, generator=torch.Generator().manual_seed(1))
    pixels = to_pixels(frames, Geometry(Size(10, 10), WAN, PATCH), torch.zeros(1))
    assert torch.equal(pixels[..., 9:, :10], pixels[..., 9:10, :10].expand(-1, -1, -1, 7, -1))


def test_another_size_is_resized_without_aliasing():
    stripes = torch.zeros(1, 256, 256, 3)
    stripes[:, :, ::2] = 1
    pixels = to_pixels(stripes, Geometry(Size(16, 16), WAN, PATCH), torch.zeros(1))
    assert pixels.abs().max() < 0.1


def test_a_reference_covers_the_picture_and_is_never_stretched():
    still = torch.zeros(40, 120, 3)
    still[:, 40:80] = 1  # the middle third is white, the rest black
    assert covering(still, Size(40, 40)).min() == 1
    assert covering(still, Size(20, 60)).shape == (20, 60, 3)
    assert covering(torch.rand(9, 700, 3), Size(64, 16)).shape == (64, 16, 3)


@pytest.mark.parametrize("kind", ["path", "str", "image", "gray", "array", "batch", "float"])
def test_a_reference_comes_in_many_forms(tmp_path, kind):
    gray = Image.new("L", (20, 10), 200)
    image = gray.convert("RGB")
    image.save(tmp_path / "klimt.png")
    tensor = torch.full((10, 20, 3), 200, dtype=torch.uint8)
    reference = {
        "path": tmp_path / "klimt.png",
        "str": str(tmp_path / "klimt.png"),
        "image": image,
        "gray": gray,
        "array": tensor.numpy(),
        "batch": tensor[None],
        "float": tensor.float() / 255,
    }[kind]
    assert torch.equal(picture(reference), tensor)


def test_a_style_says_what_it_is():
    assert str(Style(prompt="ink")) == "ink"
    assert str(Style(reference=torch.rand(10, 20, 3))) == "reference 20x10"
    assert str(Style(prompt="gold", reference=torch.rand(10, 20, 3))) == "gold, reference 20x10"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("where", [slice(0, 1), slice(17, 18), slice(None)])
def test_one_number_that_is_none_is_seen(dtype, bad, where):
    x = torch.randn(40, generator=torch.Generator().manual_seed(1)).to(dtype)
    assert is_finite(x) and is_finite(x[:0])
    x[where] = bad
    assert not is_finite(x)
