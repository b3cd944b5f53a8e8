"""What the built-in model can do, on a clip that no training stage has seen: the cheap bars."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from rtr_core import Style, Stylizer
from rtr_core.appearance import LocalPatterns
from rtr_core.evaluate.descriptor import apart
from rtr_core.evaluate.metrics import decibel, distances, flicker, floats, psnr
from rtr_core.evaluate.takes import round_trip, side_by_side, styled
from rtr_core.frames import covering
from rtr_core.media.source import open_source
from rtr_core.shapes import Size
from rtr_core.stylizer import file_of
from rtr_core.train import looks, prompts
from tests.sample import SAMPLE

SIDE, FRAMES = 192, 9


@pytest.fixture(scope="module")
def stylizer() -> Stylizer:
    return Stylizer.load("rtr-tiny", device="cpu")


@pytest.fixture(scope="module")
def clip() -> np.ndarray:
    with open_source(SAMPLE) as source:
        taken = [f.pixels for f, _ in zip(source.frames(), range(FRAMES), strict=False)]
    cut = torch.stack([covering(frame, Size(SIDE, SIDE)) for frame in taken])
    return (cut * 255).round().byte().numpy()


@dataclass(frozen=True)
class Takes:
    outputs: list[np.ndarray]
    targets: list[np.ndarray]


@pytest.fixture(scope="module")
def takes(stylizer, clip) -> Takes:
    def take(style: str) -> np.ndarray:
        return floats(styled(stylizer, Style(prompt=prompts.plain(style)), clip))

    targets = [floats(looks.canonical(style)(clip)) for style in looks.STYLES]
    return Takes(side_by_side(take, looks.STYLES), targets)


def test_it_takes_two_steps_or_fewer_and_has_ten_styles_or_more(stylizer):
    assert len(stylizer.recipe.sigmas) <= 2 and len(looks.STYLES) >= 10
    assert file_of("rtr-tiny").stat().st_size <= 16_000_000


def test_its_autoencoder_keeps_the_picture(stylizer, clip):
    """The bar is 30 dB over clips and stills; towers at night are all edges."""
    assert psnr(floats(round_trip(stylizer.parts, clip)), floats(clip)) >= 26


def test_an_output_is_nearer_to_its_own_styles_target_than_to_any_others(takes):
    errors = distances(takes.outputs, takes.targets)
    own = errors.argmin(1) == np.arange(len(errors))
    assert own.mean() >= 0.9
    assert np.mean([decibel(float(error)) for error in errors.diagonal()]) >= 19


def test_a_reference_is_told_from_others(stylizer, clip):
    rng = np.random.default_rng(7)
    some = [looks.varied(style, rng) for style in looks.STYLES[::3]]
    scene = clip[-1:, :, ::-1]
    references = [look(np.ascontiguousarray(scene))[0] for look in some]
    outputs = side_by_side(
        lambda one: floats(styled(stylizer, Style(reference=one), clip)), references
    )
    seen, bank = (
        [LocalPatterns().color(frames) for frames in side]
        for side in (outputs, [floats(reference[None]) for reference in references])
    )
    own = np.arange(len(some))
    assert (apart(seen, bank).argmin(1) == own).mean() >= 0.8
    errors = distances(outputs, [floats(look(clip)) for look in some])
    assert (errors.argmin(1) == own).mean() >= 0.6


def test_a_style_asked_for_in_words_never_trained_is_mostly_found(stylizer, clip, takes):
    asked = looks.STYLES[::2]

    def take(style: str) -> np.ndarray:
        return floats(styled(stylizer, Style(prompt=prompts.held_out(style)[0]), clip))

    found = distances(side_by_side(take, asked), takes.targets).argmin(1)
    assert np.mean([looks.STYLES[n] == style for n, style in zip(found, asked, strict=True)]) >= 0.6


def test_a_picture_that_stands_stands_in_every_style(stylizer, clip):
    standing = np.repeat(clip[:1], FRAMES, axis=0)

    def take(style: str) -> float:
        return flicker(floats(styled(stylizer, Style(prompt=prompts.plain(style)), standing)))

    assert max(side_by_side(take, looks.STYLES[::3])) < 4.5 / 255  # levels; 1 would be none to see
