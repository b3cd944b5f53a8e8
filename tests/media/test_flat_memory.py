"""A clip's length costs time and disk, never memory."""

import sys
from pathlib import Path

import pytest

from rtr_core.media.job import Job
from rtr_core.media.render import Styled
from rtr_core.shapes import Size
from tests.media.clips import make_clip
from tests.media.test_job import task_of

SIZE = Size(48, 64)
FRAMES, EARLY = 1500, 300


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_resident_memory_at_the_end_is_that_of_the_beginning(stylizer, tmp_path):
    make_clip(tmp_path / "clip.mp4", frames=FRAMES, size=SIZE)
    at: dict[int, int] = {}

    def look(styled: Styled) -> None:
        if styled.source.index in (EARLY, FRAMES - 1):
            at[styled.source.index] = resident_bytes()

    task = task_of(tmp_path / "clip.mp4", tmp_path / "out.mp4", segment_frames=120)
    Job(task, stylizer, look).run()
    assert at[FRAMES - 1] < 1.05 * at[EARLY]
