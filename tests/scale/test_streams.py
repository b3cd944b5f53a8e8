"""A stream on several ranks is the stream of one process."""

import pytest
import torch

from rtr_core.weights.read import open_weights
from tests.scale import streams
from tests.scale.company import ended, started


@pytest.mark.parametrize(("way", "count"), [("heads", 2), ("heads", 4), ("stages", 2)])
def test_a_stream_on_ranks_equals_the_stream_of_one_process(way, count, tmp_path):
    running = started("tests.scale.streams", count, way, str(tmp_path / "out.safetensors"))
    alone = streams.run(streams.stylizer(streams.RECIPES[way]))
    ended(running)
    made = open_weights(tmp_path / "out.safetensors").tensors
    assert len(alone["frames"]) == streams.FRAMES and alone["frames"].std() > 0.1
    for name, frames in alone.items():
        # a twin of a late session has what was late when it was made
        torch.testing.assert_close(made[name][-len(frames) :], frames, rtol=0, atol=1e-5)
