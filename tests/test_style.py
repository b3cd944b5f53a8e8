"""Styles between styles."""

import math

import pytest
import torch
from torch.testing import assert_close

from rtr_core import Style, StyleError
from rtr_core.style import slerp

INK, NEON = Style(prompt="ink wash painting"), Style(prompt="neon city", strength=0.6)
GEOMETRY = (32, 48)


def picture(seed: int) -> torch.Tensor:
    return torch.rand(32, 48, 3, generator=torch.Generator().manual_seed(seed))


def rendered(session) -> torch.Tensor:
    frames = torch.rand(13, *GEOMETRY, 3, generator=torch.Generator().manual_seed(1))
    return torch.cat([*session.push(frames), *session.flush()])


def test_slerp_turns_at_an_even_pace_and_keeps_lengths_in_proportion():
    rng = torch.Generator().manual_seed(1)
    a, b = torch.randn(2, 3, 5, 16, generator=rng)
    b = 3 * b
    for weight in (0.0, 0.25, 0.5, 1.0):
        between = slerp(a, b, weight)
        size = torch.lerp(a.norm(dim=-1), b.norm(dim=-1), weight)
        assert_close(between.norm(dim=-1), size)
        whole = torch.cosine_similarity(a, b, dim=-1).acos()
        turned = torch.cosine_similarity(a, between, dim=-1).clamp(-1, 1).acos()
        assert_close(turned, weight * whole, atol=2e-3, rtol=1e-3)
    assert_close(slerp(a, b, 1.0), b, rtol=1e-4, atol=1e-5)


def test_slerp_is_a_straight_line_where_there_is_no_arc():
    a = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    b = torch.tensor([[1.0, 1.0], [2.0, 0.0], [0.0, 0.0]])
    assert_close(slerp(a, b, 0.25), a.lerp(b, 0.25))
    assert_close(slerp(torch.eye(2), torch.eye(2).flip(0), 0.5), torch.full((2, 2), math.sqrt(0.5)))


@pytest.mark.parametrize("way", ["linear", "slerp"])
def test_a_mix_goes_from_one_style_to_the_other(stylizer, way):
    geometry = stylizer.parts.geometry(GEOMETRY)
    ink, neon = (stylizer.parts.encode(style, geometry) for style in (INK, NEON))
    ends = [stylizer.parts.encode(INK.mixed(NEON, w, way), geometry) for w in (0.0, 1.0)]
    for end, style in zip(ends, (ink, neon), strict=True):
        assert_close(end.rows, style.rows, rtol=1e-4, atol=1e-5)
        assert end.strength == pytest.approx(style.strength)
    half = stylizer.parts.encode(INK.mixed(NEON, 0.5, way), geometry)
    assert half.strength == pytest.approx(0.8)
    linear = ink.rows.lerp(neon.rows, 0.5)
    assert torch.allclose(half.rows, linear, rtol=1e-4) == (way == "linear")


def test_two_references_are_mixed_as_their_latents(stylizer):
    geometry = stylizer.parts.geometry(GEOMETRY)
    one, other = (Style(reference=picture(seed)) for seed in (1, 2))
    latents = [stylizer.parts.encode(style, geometry).latent for style in (one, other)]
    mixed = stylizer.parts.encode(one.mixed(other, 0.25), geometry).latent
    assert_close(mixed, latents[0].lerp(latents[1], 0.25))


def test_three_styles_are_a_mix_of_a_mix(stylizer):
    mix = INK.mixed(NEON.mixed(Style(prompt="oil"), 0.5), 0.5)
    assert rendered(stylizer.session(mix, GEOMETRY)).isfinite().all()
    assert str(mix) == "ink wash painting + 0.5 neon city + 0.5 oil"


def test_a_mixed_style_is_saved_with_its_session(stylizer, tmp_path):
    mix = Style(reference=picture(1)).mixed(Style(prompt="oil", avoid="text"), 0.4, "slerp")
    session = stylizer.session(mix, GEOMETRY)
    session.switch(INK.mixed(Style(reference=picture(2)), 0.7))
    session.save(tmp_path / "mixed.safetensors")
    loaded = stylizer.load_session(tmp_path / "mixed.safetensors")
    assert loaded.style.fingerprint == mix.fingerprint
    assert torch.equal(rendered(loaded), rendered(session))


def test_mixes_that_ask_for_the_same_are_the_same():
    assert INK.mixed(NEON).fingerprint == INK.mixed(NEON).fingerprint
    others = INK.mixed(NEON, 0.4), INK.mixed(NEON, way="slerp"), NEON.mixed(INK), INK
    assert len({style.fingerprint for style in (INK.mixed(NEON), *others)}) == 5


@pytest.mark.parametrize(
    ("other", "weight", "way", "message"),
    [
        ("neon", 0.5, "linear", "with a Style, not str"),
        (NEON, 1.5, "linear", "between 0 and 1"),
        (NEON, 0.5, "cubic", "'linear', 'slerp'; not 'cubic'"),
    ],
)
def test_a_mix_that_cannot_be_is_refused(other, weight, way, message):
    with pytest.raises(StyleError, match=message):
        INK.mixed(other, weight, way)
