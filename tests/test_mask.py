"""Outside the mask a picture is the source's, to the bit."""

import pytest
import torch

from rtr_core import ShapeError
from rtr_core.mask import Mask


@pytest.fixture
def pictures(rng):
    return torch.rand(6, 8, 3, generator=rng), torch.rand(6, 8, 3, generator=rng)


@pytest.fixture
def weights():
    half = torch.zeros(6, 8)
    half[:, 4:] = 1
    return half


def test_outside_it_is_the_source_and_inside_the_styled_picture_to_the_bit(pictures, weights):
    styled, source = pictures
    out = Mask(weights).put(styled, source, 0)
    assert torch.equal(out[:, :4], source[:, :4]) and torch.equal(out[:, 4:], styled[:, 4:])


def test_bytes_outside_come_back_as_the_same_bytes(pictures, weights):
    levels = (pictures[1] * 255).round().to(torch.uint8)
    out = Mask(weights).put(pictures[0], levels, 0)
    assert torch.equal((out[:, :4] * 255).round().to(torch.uint8), levels[:, :4])


def test_between_0_and_1_the_pictures_are_mixed(pictures):
    styled, source = pictures
    out = Mask(torch.full((6, 8), 0.5)).put(styled, source, 0)
    assert torch.allclose(out, (styled + source) / 2)


def test_several_are_one_a_frame_and_the_last_holds_on(pictures):
    styled, source = pictures
    mask = Mask(torch.stack([torch.zeros(6, 8), torch.ones(6, 8)]))
    outs = [mask.put(styled, source, index) for index in (0, 1, 7)]
    assert torch.equal(outs[0], source)
    assert torch.equal(outs[1], styled) and torch.equal(outs[2], styled)


def test_a_mask_of_another_size_is_scaled_and_still_exact_far_from_its_edge(pictures):
    styled, source = pictures
    half = torch.zeros(60, 80)
    half[:, 40:] = 1
    out = Mask(half).put(styled, source, 0)
    assert torch.equal(out[:, :3], source[:, :3]) and torch.equal(out[:, 5:], styled[:, 5:])


def test_other_masks_have_other_fingerprints(weights):
    assert Mask(weights).fingerprint == Mask(weights.clone()).fingerprint
    assert Mask(weights).fingerprint != Mask(1 - weights).fingerprint


@pytest.mark.parametrize("bad", [torch.rand(1, 2, 3, 4), torch.rand(0, 4, 4), None, "mask"])
def test_what_is_no_mask_is_refused(bad):
    with pytest.raises(ShapeError, match="mask is"):
        Mask(bad)


def test_nan_in_a_mask_is_refused():
    with pytest.raises(ShapeError, match="NaN"):
        Mask(torch.full((2, 2), float("nan")))
