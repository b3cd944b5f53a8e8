"""What is wrong with a rank is found, before work starts where that can be, and named."""

import pytest
import torch

from rtr_core import Stylizer, untrained
from rtr_core.errors import RankError
from rtr_core.model.offload import offloaded
from rtr_core.scale import heads
from rtr_core.scale.together import together
from tests.scale.company import started


def said_by(what: str, count: int = 2) -> tuple[list[str], list[int]]:
    running = started("tests.scale.broken", count, what)
    try:
        said = [process.communicate(timeout=150)[0] for process in running]
    finally:
        for process in running:
            process.kill()
    return said, [process.returncode for process in running]


def test_ranks_with_other_weights_are_named_before_work_starts():
    said, codes = said_by("differs")
    assert codes == [1, 1]
    assert all("Rank 1 has weights = " in each and "rank 0 has" in each for each in said)


def test_a_rank_that_dies_ends_the_others_at_once_and_is_named():
    said, codes = said_by("dies")
    assert codes == [1, 9]
    assert "On rank 0:" in said[0] and "the same command goes on" in said[0], said[0]


def test_followers_end_where_rank_0_fails_and_say_why():
    said, codes = said_by("fails")
    assert codes == [1, 1]
    assert "ValueError: the disk is full" in said[0]
    assert "Rank 0 ended: ValueError: the disk is full" in said[1]


def test_a_recipe_that_has_no_stages_is_refused_by_all_ranks():
    said, codes = said_by("odd")
    assert codes == [1, 1] and all("flight='together'" in each for each in said)


def test_heads_that_do_not_divide_are_refused_with_the_numbers_that_do(monkeypatch):
    monkeypatch.setattr(heads, "count", lambda: 3)
    with pytest.raises(RankError, match="2 heads cannot be shared by 3 ranks evenly: take 2"):
        heads.by_heads(untrained.parts().transformer)


def test_blocks_in_host_memory_are_not_split(monkeypatch):
    monkeypatch.setattr(heads, "count", lambda: 2)
    with pytest.raises(RankError, match="--offload"):
        heads.by_heads(offloaded(untrained.parts().transformer, torch.device("cpu")))


def test_one_process_has_nobody_to_share_with():
    with pytest.raises(RankError, match="torchrun"):
        together(Stylizer.of(untrained.parts()), "heads", lambda stylizer: None)
