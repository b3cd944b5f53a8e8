"""Tiles: the same picture, nearly, and the same streams exactly."""

from itertools import pairwise

import pytest
import torch

from rtr_core.errors import ShapeError
from rtr_core.shapes import Size
from rtr_core.vae.stream import DecoderStream, EncoderStream
from rtr_core.vae.tiled import Canvas, spans, tiled
from tests.vae.conftest import small
from tests.vae.seeded import noise, relative


def test_a_picture_in_one_tile_is_the_same_to_the_bit(vae, clip):
    whole = tiled(vae, Size(32, 64), overlap=16)
    latents = EncoderStream(vae).push(clip)
    assert torch.equal(EncoderStream(whole).push(clip), latents)
    assert torch.equal(DecoderStream(whole).push(latents), DecoderStream(vae).push(latents))


@pytest.fixture
def wide_clip():
    return noise("wide clip", (1, 3, 5, 64, 320))


def test_tiles_come_close_to_the_whole(vae, wide_clip):
    """Noise through random weights, a third of each tile shared: much harder than a real clip.

    Wan is bound to differ more: its attention sees a whole frame, but only its own tile.
    """
    parts = tiled(vae, Size(256, 192), overlap=64)
    latents = EncoderStream(vae).push(wide_clip)
    pixels = DecoderStream(vae).push(latents)
    assert relative(EncoderStream(parts).push(wide_clip), latents) < 0.1
    assert relative(DecoderStream(parts).push(latents), pixels) < 0.2


def test_out_of_reach_of_a_seam_tiles_change_nothing(wide_clip):
    vae = small("tiny")
    parts = tiled(vae, Size(256, 192), overlap=64)
    latents = EncoderStream(vae).push(wide_clip[:, :, :1])
    pixels, whole = DecoderStream(parts).push(latents), DecoderStream(vae).push(latents)
    torch.testing.assert_close(pixels[..., :128], whole[..., :128])
    torch.testing.assert_close(pixels[..., 192:], whole[..., 192:])


def test_tiles_fade_into_each_other_linearly():
    canvas = Canvas(Size(1, 10), fade=Size(0, 4))
    canvas.lay(torch.zeros(1, 1, 1, 1, 7), slice(0, 1), slice(0, 7))
    canvas.lay(torch.ones(1, 1, 1, 1, 7), slice(0, 1), slice(3, 10))
    expected = torch.tensor([0, 0, 0, 0.2, 0.4, 0.6, 0.8, 1, 1, 1])
    torch.testing.assert_close(canvas.picture().flatten(), expected)


def test_no_cut_changes_a_bit_with_tiles_either(either_vae, clip):
    parts = tiled(either_vae, Size(16, 32), overlap=8)
    encoder, decoder = EncoderStream(parts), DecoderStream(parts)
    latents = [made for frame in clip.split(1, dim=2) if (made := encoder.push(frame)) is not None]
    latents = torch.cat(latents, dim=2)
    assert torch.equal(latents, EncoderStream(parts).push(clip))
    pixels = [decoder.push(latent) for latent in latents.split(1, dim=2)]
    assert torch.equal(torch.cat(pixels, dim=2), DecoderStream(parts).push(latents))


@pytest.mark.parametrize(
    ("length", "tile", "overlap"),
    [(9, 4, 1), (10, 4, 0), (7, 4, 3), (4, 4, 2), (60, 32, 8), (104, 56, 8)],
)
def test_tiles_cover_everything_and_share_hardly_more_than_the_overlap(length, tile, overlap):
    places = spans(length, tile, overlap)
    assert places[0].start == 0
    assert places[-1].stop == length
    assert all(right.start + overlap <= left.stop for left, right in pairwise(places))
    (side,) = {place.stop - place.start for place in places}
    assert side <= tile
    assert (side - 1) * len(places) - overlap * (len(places) - 1) < length  # no smaller ones do


@pytest.mark.parametrize(("tile", "overlap"), [((32, 36), 16), ((32, 32), 32), ((32, 32), 4)])
def test_tiles_that_do_not_fit_are_refused(either_vae, tile, overlap):
    with pytest.raises(ShapeError, match="multiples of 8"):
        tiled(either_vae, tile, overlap)
