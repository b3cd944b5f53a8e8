"""How a process ends that was one of several."""

import os
import subprocess
import sys

import pytest

from rtr_core import ranks

SAYS_GOODBYE = """
import atexit
from rtr_core.ranks import end
atexit.register(print, "goodbye")
print("done")
end(3)
"""


def test_a_rank_has_said_all_and_ends_before_python_is_taken_down():
    program = [sys.executable, "-c", SAYS_GOODBYE]
    for env, said in (
        (os.environ, "done\ngoodbye\n"),
        ({**os.environ, "WORLD_SIZE": "2"}, "done\n"),
    ):
        ended = subprocess.run(program, env=env, stdout=subprocess.PIPE, text=True)
        assert (ended.returncode, ended.stdout) == (3, said)


def test_a_process_alone_ends_as_any_other():
    with pytest.raises(SystemExit) as ended:
        ranks.end(2)
    assert ended.value.code == 2
