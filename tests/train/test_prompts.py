"""Phrasings of styles: enough of them, each of one style, and a fair question held out."""

import re
from itertools import chain

import numpy as np
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


@pytest.mark.parametrize("style", looks.STYLES)
def test_a_phrase_in_a_hurry_is_of_the_same_words_and_of_none_that_is_held_out(style):
    dice = np.random.default_rng(0)
    heard = set(chain.from_iterable(cut(p) for s in looks.STYLES for p in prompts.trained(s)))
    held = set(chain.from_iterable(cut(p) for s in looks.STYLES for p in prompts.held_out(s)))
    phrases = prompts.trained(style)
    for phrase in (phrases[dice.integers(len(phrases))] for _ in range(400)):
        hurried = prompts.hurried(phrase, dice)
        assert hurried and len(hurried.split()) <= len(phrase.split())
        assert cut(hurried).isdisjoint(held - heard)


def test_a_slip_is_one_letter_lost_or_put_in():
    dice = np.random.default_rng(0)
    for word, slipped in (("pencil", prompts.slip("pencil", dice)) for _ in range(60)):
        longer, shorter = sorted((word, slipped), key=len, reverse=True)
        assert len(longer) == len(shorter) + 1
        assert shorter in {longer[:n] + longer[n + 1 :] for n in range(len(longer))}


def test_a_slip_that_would_be_a_held_out_word_is_not_made(monkeypatch):
    monkeypatch.setattr(prompts, "slip", lambda word, rng: "inked")
    made = [prompts.hurried("ink brush", np.random.default_rng(n)) for n in range(40)]
    assert any(made) and not any("inked" in cut(phrase) for phrase in made)
