"""Sessions that outlive the calls which feed them."""

from fractions import Fraction

import pytest

from rtr_core import SessionError, Style
from rtr_core.registry import Kept, Registry
from rtr_core.timeline import Lead, Timeline


@pytest.fixture
def kept(stylizer):
    timeline = Timeline.of(Style(prompt="ink wash painting"))

    def begin(size: str = "24x16") -> Kept:
        lead = Lead.begin(stylizer, timeline, (16, 24), rate=Fraction(24))
        return Kept(lead=lead, signature={"size": size}, asked=timeline.fingerprint)

    return begin


def test_a_session_goes_on_while_it_stands_on_the_same(kept):
    registry = Registry()
    first, why = registry.fitting("a", {"size": "24x16"}, kept)
    assert why == ""
    assert registry.fitting("a", {"size": "24x16"}, kept) == (first, "")


def test_a_session_is_begun_anew_where_something_changed_and_says_what(kept):
    registry = Registry()
    first, _ = registry.fitting("a", {"size": "24x16"}, kept)
    second, why = registry.fitting("a", {"size": "48x32"}, lambda: kept("48x32"))
    assert second is not first and registry.get("a") is second
    assert why == "begun anew: size was 24x16, is 48x32"


def test_names_do_not_touch_each_other(kept):
    registry = Registry()
    one, two = (registry.fitting(name, {"size": "24x16"}, kept)[0] for name in ("a", "b"))
    assert one is not two and registry.drop("a") and not registry.drop("a")
    assert registry.get("b") is two


def test_a_name_that_is_not_there_is_told_with_those_that_are(kept):
    registry = Registry()
    with pytest.raises(SessionError, match="none at all"):
        registry.get("a")
    registry.keep("b", kept())
    with pytest.raises(SessionError, match="'b'"):
        registry.get("a")


def test_of_too_many_the_one_not_used_for_longest_is_let_go(kept):
    registry = Registry(most=2)
    for name in ("a", "b"):
        registry.keep(name, kept())
    registry.find("a")
    registry.keep("c", kept())
    assert registry.names() == ["a", "c"]
