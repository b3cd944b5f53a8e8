"""A session led by styles over time: broken off anywhere, nothing is lost."""

from fractions import Fraction

import pytest
import torch

from rtr_core import Style, Stylizer
from rtr_core.cues import CueSheet
from rtr_core.timeline import Lead, Timeline

SIZE = (16, 24)
INK, OIL = Style(prompt="ink wash painting"), Style(prompt="oil painting")


class Stop(Exception):
    pass


def clip(frames: int, seed: int = 1) -> torch.Tensor:
    return torch.rand(frames, *SIZE, 3, generator=torch.Generator().manual_seed(seed))


def ignored(_: torch.Tensor) -> None:
    pass


def lead(stylizer: Stylizer, *styles: Style, sheet: str | None = None) -> Lead:
    timeline = Timeline.of(styles[0] if styles else INK)
    if sheet is not None:
        cues = CueSheet.parse(sheet)
        timeline = Timeline(sheet=cues, styles=cues.styles())
    return Lead.begin(stylizer, timeline, SIZE, rate=Fraction(8))


def test_a_clip_fed_whole_or_in_pieces_is_what_its_session_gives(stylizer):
    session = stylizer.session(INK, SIZE)
    expected = torch.cat([*session.push(clip(21)), *session.flush()])
    whole = lead(stylizer).feed(clip(21), ignored, ends=True)
    assert torch.equal(torch.cat(whole), expected)
    one, outs = lead(stylizer), []
    for part in clip(21).split(4):
        outs += one.feed(part, ignored)
    outs += one.feed(clip(0), ignored, ends=True)
    assert torch.equal(torch.cat(outs), expected)


def test_each_chunk_is_shown_when_it_comes(stylizer):
    shown = []
    outs = lead(stylizer).feed(clip(25), shown.append)
    assert len(shown) == len(outs) > 1 and all(map(torch.equal, shown, outs))


@pytest.mark.parametrize("moment", range(1, 14))
def test_a_feed_that_was_broken_off_goes_on_when_it_is_fed_the_same_again(stylizer, moment):
    calls = []

    def stop(*_):
        calls.append(1)
        if len(calls) == moment:
            raise Stop

    whole = lead(stylizer).feed(clip(21), ignored, ends=True)
    broken = Lead.begin(
        Stylizer(parts=stylizer.parts, recipe=stylizer.recipe, watch=stop), Timeline.of(INK), SIZE
    )
    with pytest.raises(Stop):
        broken.feed(clip(21), stop, ends=True)
    outs = broken.feed(clip(21), ignored, ends=True)
    assert torch.equal(torch.cat(outs), torch.cat(whole))
    again = broken.feed(clip(21), ignored, ends=True)  # and what comes next is a clip of its own
    assert torch.equal(torch.cat(again), torch.cat(whole))


def test_a_feed_broken_off_when_its_last_chunk_is_made_past_hands_all_over_again(stylizer):
    session = stylizer.session(INK, SIZE)
    frames = session.frames_to_chunk
    passes = len(session.recipe.timesteps) + 2  # one when frames are taken in, one at sigma 0
    calls = []

    def stop():
        calls.append(1)
        if len(calls) == passes:
            raise Stop

    watched = Stylizer(parts=stylizer.parts, recipe=stylizer.recipe, watch=stop)
    one = Lead.begin(watched, Timeline.of(INK), SIZE)
    with pytest.raises(Stop):
        one.feed(clip(frames), ignored)
    (out,) = one.feed(clip(frames), ignored)
    assert torch.equal(out, lead(stylizer).feed(clip(frames), ignored)[0])
    assert one.session.frames_in == frames


def test_after_a_break_other_frames_follow_those_that_were_taken_in(stylizer):
    calls = []

    def stop(_):
        calls.append(1)
        if len(calls) == 1:
            raise Stop

    one = lead(stylizer)
    with pytest.raises(Stop):
        one.feed(clip(13), stop)
    outs = one.feed(clip(12, seed=2), ignored, ends=True)
    expected = lead(stylizer).feed(torch.cat([clip(13), clip(12, seed=2)]), ignored, ends=True)
    assert torch.equal(torch.cat(outs), torch.cat(expected))


def test_cues_come_at_the_chunk_that_begins_at_or_after_them_as_in_a_clip_on_disk(stylizer):
    text = "00:00 ink wash painting\n00:02 oil painting seed=5\n"
    led = lead(stylizer, sheet=text)
    outs = torch.cat(led.feed(clip(33), ignored, ends=True))
    plain = torch.cat(lead(stylizer, INK).feed(clip(33), ignored, ends=True))
    same = (outs == plain).flatten(1).all(1)
    assert same[:16].all() and not same[-1] and str(led.session.style) == "oil painting"
    assert led.switch(led.timeline) is False


def test_a_sheet_fed_in_pieces_is_the_same_to_the_bit(stylizer):
    text = "00:00 ink wash painting\n00:01 oil painting\nf20 neon city\n"
    whole = lead(stylizer, sheet=text).feed(clip(33), ignored, ends=True)
    one, outs = lead(stylizer, sheet=text), []
    for part in clip(33).split(5):
        outs += one.feed(part, ignored)
    outs += one.feed(clip(0), ignored, ends=True)
    assert torch.equal(torch.cat(outs), torch.cat(whole))


def test_a_switch_happens_once_however_often_it_is_asked_for(stylizer):
    one = lead(stylizer)
    one.feed(clip(9), ignored)
    assert one.switch(Timeline.of(OIL)) and not one.switch(Timeline.of(Style(prompt=OIL.prompt)))
    one.feed(clip(9), ignored)
    assert one.session.switching is None and one.facts()["style"] == "oil painting"


def test_a_fork_goes_on_by_itself(stylizer):
    one = lead(stylizer)
    one.feed(clip(9), ignored)
    twin = one.fork()
    twin.switch(Timeline.of(OIL))
    outs = [each.feed(clip(17), ignored, ends=True) for each in (one, twin)]
    assert not torch.equal(*map(torch.cat, outs))
    alone = lead(stylizer)
    alone.feed(clip(9), ignored)
    assert torch.equal(torch.cat(alone.feed(clip(17), ignored, ends=True)), torch.cat(outs[0]))


def test_timelines_and_styles_that_ask_for_the_same_have_one_fingerprint():
    assert Timeline.of(INK).fingerprint == Timeline.of(Style(prompt=INK.prompt)).fingerprint
    rows = torch.ones(2, 4)
    styles = [
        INK,
        OIL,
        Style(prompt=INK.prompt, strength=0.5),
        Style(reference=torch.zeros(8, 8, 3)),
        Style(reference=torch.ones(8, 8, 3)),
        Style(embedding=rows),
        Style(embedding=rows * 2),
    ]
    assert len({Timeline.of(style).fingerprint for style in styles}) == len(styles)


def test_a_prompt_of_several_lines_is_a_cue_as_well():
    assert Timeline.of(Style(prompt="ink\n wash")).sheet.cues[0].prompt == "ink wash"
