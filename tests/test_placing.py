"""A session may be watched, moved out of the way, and go on under weights loaded anew."""

import weakref
from dataclasses import replace

import pytest
import torch

from rtr_core import SessionError, Style, Stylizer, untrained
from rtr_core.parts import Placed
from rtr_core.placing import bytes_of, moved

SIZE = (32, 48)
INK = Style(prompt="ink wash painting")
META, CPU = torch.device("meta"), torch.device("cpu")


class Stop(Exception):
    pass


def clip(frames: int) -> torch.Tensor:
    return torch.rand(frames, *SIZE, 3, generator=torch.Generator().manual_seed(1))


def watched(stylizer: Stylizer, watch) -> Stylizer:
    return Stylizer(parts=stylizer.parts, recipe=stylizer.recipe, watch=watch)


def test_a_session_is_watched_before_each_pass_of_the_transformer(stylizer):
    seen = []
    session = watched(stylizer, lambda: seen.append(1)).session(INK, SIZE)
    frames = session.recipe.frames_of(2, session.parts.vae.stride)
    outs = list(session.push(clip(frames)))
    assert len(outs) == 2
    passes = len(session.recipe.timesteps) + 1  # the one at sigma 0 makes the chunk past
    assert len(seen) == 2 * passes + 1  # and once when the frames were taken in


@pytest.mark.parametrize("moment", range(1, 9))
def test_a_watch_that_stops_a_session_loses_nothing(stylizer, moment):
    frames, calls, outs = clip(21), [], []
    whole = torch.cat(list(stylizer.session(INK, SIZE).push(frames)))

    def stop():
        calls.append(1)
        if len(calls) == moment:
            raise Stop

    session = watched(stylizer, stop).session(INK, SIZE)
    with pytest.raises(Stop):
        for out in session.push(frames):
            outs.append(out)
    outs.extend(session.resume() if session.frames_in else session.push(frames))
    assert torch.equal(torch.cat(outs), whole)


def test_a_session_that_was_moved_away_goes_on_to_the_bit_when_it_is_back(stylizer):
    session = stylizer.session(INK, SIZE, history=2)
    list(session.push(clip(17)))
    session.switch(Style(prompt="oil painting"), fade=20)
    list(session.push(clip(9)))
    attributes, (intake, decoder, drift), flight, (before, *_) = moved(session.mark(), META)
    ((keys, values, *_), *_), *_ = flight[-1]
    assert all(tensor.is_meta for tensor in (keys[0], values[1], intake["pending"]))
    assert attributes["encoded"].rows.is_meta and attributes["fade"].before.rows.is_meta
    assert intake["encoder.pending"].is_meta and before.tensors["intake.pending"].is_meta
    assert decoder and all(t.is_meta for state in (decoder, drift) for t in state.values())
    twin = session.fork()
    session.move(CPU)
    assert session.nbytes > 0
    outs = [torch.cat(list(each.push(clip(25)))) for each in (session, twin)]
    assert torch.equal(*outs)


def test_the_bytes_of_a_session_are_those_of_its_cache_and_more(stylizer):
    session = stylizer.session(INK, SIZE)
    list(session.push(clip(25)))
    assert session.memory.nbytes < session.nbytes < 4 * session.memory.nbytes


def test_moving_goes_through_whatever_holds_tensors_and_shares_what_stays():
    tensor = torch.ones(3)
    state = {"a": [tensor, (tensor, "word")], "b": 3}
    assert moved(state, CPU)["a"][1][0] is tensor
    away = moved(state, META)
    assert away["a"][0].is_meta and away["a"][1][1] == "word" and away["b"] == 3
    assert bytes_of(state) == tensor.nbytes  # counted once


def test_a_session_goes_on_under_the_same_weights_loaded_anew(stylizer):
    session = stylizer.session(INK, SIZE)
    whole = torch.cat(list(stylizer.session(INK, SIZE).push(clip(21))))
    first = list(session.push(clip(21)[:9]))
    Stylizer.of(untrained.parts()).lend(session)
    assert torch.equal(torch.cat([*first, *session.push(clip(21)[9:])]), whole)


def test_other_weights_are_refused_and_change_nothing(stylizer):
    session = stylizer.session(INK, SIZE)
    with pytest.raises(SessionError, match="other weights"):
        Stylizer.of(untrained.parts(seed=1)).lend(session)
    assert session.parts is stylizer.parts


def test_a_host_says_where_its_weights_compute_and_what_they_are():
    parts = untrained.parts()
    like = torch.empty(0, dtype=torch.bfloat16)
    placed = replace(parts, placed=Placed(like=like, fingerprint="patched"))
    assert placed.fingerprint == "patched" and placed.latents_like.dtype == torch.bfloat16
    assert parts.latents_like.dtype == torch.float32


def test_a_session_whose_weights_a_host_has_freed_is_still_counted(stylizer):
    """A host lends its transformer by a weak proxy, and asks for bytes when it is gone."""

    class Housed:
        pass

    session, house = stylizer.session(INK, SIZE), Housed()
    list(session.push(clip(13)))
    whole = session.nbytes
    session.flight.past.transformer = weakref.proxy(house)
    del house
    assert session.nbytes == whole
