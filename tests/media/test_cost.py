"""What reading and writing a clip cost beside the model, which is what a machine is bought for."""

import time
from collections.abc import Callable

import pytest
import torch

from rtr_core import Stylizer
from rtr_core.media.codecs import pick_codec
from rtr_core.media.job import Job
from rtr_core.shapes import Size
from tests.media.clips import make_clip
from tests.media.test_job import frames_of, task_of

SIZE, FRAMES = Size(128, 224), 29
ROUNDS = 3  # of both sides by turns, so that whatever else the machine does meets both


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def processor_seconds(work: Callable[[], object]) -> float:
    """Of all threads: what it would take where nothing could overlap, on an idle machine or not."""
    began = time.process_time()
    work()
    return time.process_time() - began


def test_a_clip_costs_less_than_a_tenth_more_than_the_model_alone(one_thread, tmp_path):
    source, stylizer = tmp_path / "clip.mp4", Stylizer.load("rtr-tiny", device="cpu")
    make_clip(source, FRAMES, SIZE)
    frames = torch.stack(frames_of(source)[1])
    model, clip = [], []
    for n in range(ROUNDS):
        out = tmp_path / f"{n}.mp4"
        task = task_of(source, out, codec=pick_codec(out), segment_frames=240)
        (style,) = task.styles.values()
        session = stylizer.session(style, SIZE)
        model.append(processor_seconds(lambda s=session: [*s.push(frames), *s.flush()]))
        clip.append(processor_seconds(Job(task, stylizer, lambda styled: None).run))
    assert min(clip) < 1.1 * min(model)
