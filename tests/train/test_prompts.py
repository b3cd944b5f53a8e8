"""Phrasings of styles: enough of them, each of one style, and a fair question held out."""

import re
from itertools import chain

import pytest

from rtr_core.errors import StyleError
from rtr_core.train import looks, prompts


def cut(text: str) -> set[str]:
    """Words as the built-in text encoder takes them."""
    return set(re.findall(r"\w+", text))


SAYS_NO_STYLE = cut(
    "a an the in on of by for from with and at as it into like to done come seen made upon "
    "turn make this look redraw video style effect everything scene"
)


def words(phrasing: str) -> set[str]:
    return cut(phrasing) - SAYS_NO_STYLE


def groups(word: str) -> set[str]:
    return {word[start : start + 3] for start in range(len(word) - 2)}


def trained_words(style: str) -> set[str]:
    return set(chain.from_iterable(map(words, prompts.trained(style))))


def test_every_style_has_phrasings():
    for style in looks.STYLES:
        assert len(set(prompts.trained(style))) == len(prompts.trained(style)) >= 24
        assert len(set(prompts.held_out(style))) == len(prompts.held_out(style)) >= 6


def test_a_phrasing_asks_for_one_style_only():
    everything = [
        phrasing
        for style in looks.STYLES
        for phrasing in (*prompts.trained(style), *prompts.held_out(style))
    ]
    assert len(everything) == len(set(everything))


def test_the_plain_phrasing_is_a_trained_one_without_an_article():
    assert prompts.plain("ink wash") == "ink wash painting"
    for style in looks.STYLES:
        assert prompts.plain(style) in prompts.trained(style)
        assert not prompts.plain(style).startswith(("a ", "an "))


@pytest.mark.parametrize("style", looks.STYLES)
def test_most_held_out_phrasings_share_no_whole_word_with_trained_ones(style):
    new = [p for p in prompts.held_out(style) if not words(p) & trained_words(style)]
    assert len(new) >= 6


@pytest.mark.parametrize("style", looks.STYLES)
def test_held_out_phrasings_have_kin_among_trained_words(style):
    known = set(chain.from_iterable(map(groups, trained_words(style))))
    for phrasing in prompts.held_out(style):
        kin = max(len(groups(word) & known) / len(groups(word)) for word in words(phrasing))
        assert kin >= 0.4, f"{phrasing!r} cannot be understood"


def test_an_unknown_style_is_named_with_those_there_are():
    with pytest.raises(StyleError, match=r"no style 'fresco'.*ink wash, pencil sketch"):
        prompts.trained("fresco")


def test_prompts_and_looks_know_the_same_styles():
    for style in looks.STYLES:
        assert looks.canonical(style).style == style
        assert prompts.trained(style)
