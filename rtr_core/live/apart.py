"""Work in a thread that ends, so that it leaves no threads of its own behind."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Made = TypeVar("Made")


def apart(work: Callable[[], Made]) -> Made:
    """What `work` makes.

    OpenMP keeps a team of threads for every thread that has computed. Where all teams together
    are more than the cores, no member stays awake until the next piece of work (libgomp's
    throttled spin), and a stream whose weights another thread has merely read is a fifth slower.
    """
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()
