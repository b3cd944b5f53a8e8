"""A thread that has computed and ended leaves no team of threads behind to slow down the worker."""

import subprocess
import sys
from pathlib import Path

import pytest

from rtr_core.live.apart import apart

COUNTS = """
import time
from pathlib import Path
import torch
from rtr_core.live.apart import apart

torch.set_num_threads(2)

def threads():
    time.sleep(0.5)  # until those that end have ended
    return len(list(Path("/proc/self/task").iterdir()))

def work():
    values = torch.ones(2**20)
    return float((values + values)[0])

before = threads()
assert apart(work) == 2
print(threads() - before)
work()
print(threads() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="counts threads in /proc")
def test_what_is_done_apart_leaves_no_team_and_what_is_done_here_does():
    said = subprocess.run([sys.executable, "-c", COUNTS], stdout=subprocess.PIPE, text=True)
    ended, here = map(int, said.stdout.split())
    assert ended == 0 < here


def test_an_error_comes_out_as_itself():
    with pytest.raises(ZeroDivisionError):
        apart(lambda: 1 / 0)
