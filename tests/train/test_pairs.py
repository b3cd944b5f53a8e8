"""Shards of pairs: read as they were written, and a broken one is left out and told."""

import pytest
import torch

from rtr_core.errors import WeightsError
from rtr_core.style import REFERENCE_PROMPT
from rtr_core.train.loop import Dice, Turn
from rtr_core.train.pairs import Pairs
from tests.train.toys import CHANNELS, FRAMES, SIDE, make_pairs


def turn(step=0, rows=8):
    return Turn("look", Dice(step), [Dice(step, row) for row in range(rows)])


def test_rows_come_back_as_they_were_written(tmp_path):
    pairs = make_pairs(tmp_path)
    assert pairs.shape == (CHANNELS, FRAMES, SIDE, SIDE)
    batch = pairs.batch(turn(), by_reference=1.0)
    sign = torch.tensor([1.0 if style == "ink" else -1.0 for style in batch.styles])
    assert batch.target.equal(batch.source * sign[:, None, None, None, None])
    assert batch.reference is not None and batch.reference.equal(batch.target[:, :, :1])
    assert set(batch.prompts) == {REFERENCE_PROMPT}


def test_prompts_are_drawn_from_rows_that_have_some(tmp_path):
    pairs = make_pairs(tmp_path)
    assert (len(pairs.rows), len(pairs.prompted)) == (16, 8)
    batch = pairs.batch(turn(), by_reference=0.0)
    assert batch.reference is None
    for prompt, style in zip(batch.prompts, batch.styles, strict=True):
        assert prompt in (style, f"{style} painting")


def test_the_same_dice_give_the_same_batch_and_others_another(tmp_path):
    pairs = make_pairs(tmp_path)
    one, same, other = (pairs.batch(turn(step), 0.5) for step in (3, 3, 4))
    assert one.source.equal(same.source) and one.prompts == same.prompts
    assert not one.source.equal(other.source)


def test_a_share_of_prompts_is_left_out_for_guidance(tmp_path):
    batch = make_pairs(tmp_path).batch(turn(rows=200), by_reference=0.0, unprompted=0.3)
    assert 30 < batch.prompts.count("") < 90


def test_a_shard_cut_off_in_the_middle_is_left_out_and_told(tmp_path):
    make_pairs(tmp_path)
    whole = (tmp_path / "pairs-00000.safetensors").read_bytes()
    (tmp_path / "pairs-00001.safetensors").write_bytes(whole[: len(whole) // 2])
    pairs = Pairs(tmp_path)
    assert len(pairs.rows) == 16
    assert len(pairs.refused) == 1 and "pairs-00001" in pairs.refused[0]


def test_an_empty_folder_and_another_autoencoder_are_refused(tmp_path):
    with pytest.raises(WeightsError, match=r"no pairs in .*rtr train data"):
        Pairs(tmp_path)
    make_pairs(tmp_path, vae="one")
    with pytest.raises(WeightsError, match=r"latents of .*one"):
        Pairs(tmp_path, vae="another")
