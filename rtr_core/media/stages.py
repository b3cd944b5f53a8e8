"""Work that overlaps: a thread that reads ahead, and one that writes behind.

Both are joined to their user by a short queue, so that memory stays flat. An error in a thread
comes out where its user waits for it, and leaving the `with` block ends the thread.
"""

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")
POLL_SECONDS = 0.1  # how soon a thread notices that nobody waits for it any more
LAST_SECONDS = 2.0  # for what is being written when its user has failed; then it is left alone


class _End:
    """Nothing more comes; `error` says why, where it was not in peace."""

    def __init__(self, error: BaseException | None = None):
        self.error = error


class Ahead(Generic[T]):
    """An iterable drawn in a thread of its own, up to `depth` items ahead."""

    def __init__(self, items: Iterable[T], depth: int):
        self._queue: queue.Queue = queue.Queue(depth)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._draw, args=(items,), name="rtr reads ahead")

    def __enter__(self) -> "Ahead[T]":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def __iter__(self) -> Iterator[T]:
        while not isinstance(item := self._queue.get(), _End):
            yield item
        if item.error is not None:
            raise item.error

    def _draw(self, items: Iterable[T]) -> None:
        end = _End()
        iterator = iter(items)
        try:
            while not self._stop.is_set():
                try:
                    item = next(iterator)
                except StopIteration:
                    break
                self._put(item)
        except BaseException as error:
            end = _End(error)
        finally:
            close = getattr(iterator, "close", None)  # a generator's files are closed here
            if close is not None:
                close()
            self._put(end)

    def _put(self, item: object) -> None:
        while not self._stop.is_set():
            try:
                return self._queue.put(item, timeout=POLL_SECONDS)
            except queue.Full:
                continue


class Behind(Generic[T]):
    """A consumer run in a thread of its own, up to `depth` items behind. Leaving waits for it.

    After a failure it waits for the item at hand only, and not for ever: a pipe whose reader stands
    still must not hold up who gives up. The process may end with such a thread.
    """

    def __init__(self, consume: Callable[[T], None], depth: int):
        self._consume = consume
        self._queue: queue.Queue = queue.Queue(depth)
        self._error: BaseException | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="rtr writes behind", daemon=True)

    def __enter__(self) -> "Behind[T]":
        self._thread.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            self._stop.set()  # what waits is not written any more
            self._thread.join(LAST_SECONDS)
            return
        self._queue_up(_End())
        while self._thread.is_alive():
            self._thread.join(POLL_SECONDS)  # so that Ctrl-C is heard
        self._raise()

    def put(self, item: T) -> None:
        """Hand over an item; raises what an earlier one has failed with."""
        self._queue_up(item)
        self._raise()

    def _queue_up(self, item: object) -> None:
        while self._thread.is_alive():
            try:
                return self._queue.put(item, timeout=POLL_SECONDS)
            except queue.Full:
                continue

    def _raise(self) -> None:
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _work(self) -> None:
        try:
            while not self._stop.is_set():
                try:
                    item = self._queue.get(timeout=POLL_SECONDS)
                except queue.Empty:
                    continue
                if isinstance(item, _End) or self._stop.is_set():
                    return
                self._consume(item)
        except BaseException as error:
            self._error = error
