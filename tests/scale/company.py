"""Processes of a test that torchrun might have started, and what each of them does."""

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]


def started(module: str, count: int, *words: str) -> list[subprocess.Popen]:
    """`python -m MODULE WORDS` on so many ranks."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    meeting = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    env = {**os.environ, **meeting, "OMP_NUM_THREADS": "1"}
    return [
        subprocess.Popen(
            [sys.executable, "-X", "faulthandler", "-m", module, *words],
            cwd=ROOT,
            env={**env, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(count)
    ]


def ended(processes: Sequence[subprocess.Popen], within: float = 150) -> list[str]:
    """What they said, once all have ended well."""
    said = [process.communicate(timeout=within)[0] for process in processes]
    codes = [process.returncode for process in processes]
    assert codes == [0] * len(codes), f"{codes}\n" + "\n----\n".join(said)
    return said
