"""Threads that read ahead and write behind: in order, bounded, and gone when they should be."""

import threading
import time

import pytest

from rtr_core.media import stages
from rtr_core.media.stages import Ahead, Behind


def ours() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("rtr ")]


def test_items_come_in_order_and_no_more_than_the_queue_holds_are_drawn_ahead():
    drawn = []

    def items():
        for n in range(50):
            drawn.append(n)
            yield n

    with Ahead(items(), depth=3) as ahead:
        time.sleep(0.05)
        assert len(drawn) <= 5
        assert list(ahead) == list(range(50))
    assert not ours()


def test_an_error_while_reading_comes_after_what_was_read_before_it():
    def items():
        yield 1
        yield 2
        raise OSError("the disk is gone")

    came = []
    with Ahead(items(), depth=2) as ahead, pytest.raises(OSError, match="disk is gone"):
        for item in ahead:
            came.append(item)
    assert came == [1, 2] and not ours()


def test_leaving_early_ends_the_thread_and_closes_the_generator():
    closed = []

    def items():
        try:
            yield from range(10**9)
        finally:
            closed.append(True)

    with Ahead(items(), depth=2) as ahead:
        assert next(iter(ahead)) == 0
    assert closed == [True] and not ours()


def test_what_is_put_is_written_in_order_before_the_block_is_left():
    written = []

    def consume(item):
        time.sleep(0.001)
        written.append(item)

    with Behind(consume, depth=2) as behind:
        for n in range(30):
            behind.put(n)
    assert written == list(range(30)) and not ours()


def test_an_error_while_writing_reaches_the_one_who_puts():
    def consume(item):
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"), Behind(consume, depth=1) as behind:
        for n in range(100):
            behind.put(n)
            time.sleep(0.001)
    assert not ours()


def test_an_error_on_the_last_item_is_not_lost():
    def consume(item):
        time.sleep(0.02)
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"), Behind(consume, depth=4) as behind:
        behind.put(1)


def test_when_the_one_who_puts_fails_what_waits_is_dropped():
    written = []

    def consume(item):
        time.sleep(0.01)
        written.append(item)

    with pytest.raises(KeyboardInterrupt), Behind(consume, depth=50) as behind:
        for n in range(50):
            behind.put(n)
        raise KeyboardInterrupt
    assert len(written) < 50 and not ours()


def test_one_who_gives_up_does_not_wait_for_a_reader_that_stands_still(monkeypatch):
    monkeypatch.setattr(stages, "LAST_SECONDS", 0.1)
    goes_on = threading.Event()
    with pytest.raises(KeyboardInterrupt), Behind(lambda _: goes_on.wait(60), depth=1) as behind:
        behind.put(1)
        behind.put(2)
        raise KeyboardInterrupt
    assert [thread.daemon for thread in ours()] == [True]
    goes_on.set()
    for thread in ours():
        thread.join()
