"""Threads that nobody waits for: what a dead server holds up must not hold up the end of the program.

`concurrent.futures` joins its threads at exit, so that one that reads a byte a second would keep the process alive.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")
S = TypeVar("S")


class DaemonPool:
    """Runs functions on up to `limit` threads (None: as many as there are functions), started when needed."""

    def __init__(self, name: str, limit: int | None = None) -> None:
        self._name = name
        self._limit = limit
        self._lock = threading.Lock()
        self._jobs: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        self._threads = 0
        self._spare = 0  # idle threads less waiting jobs

    def submit(self, function: Callable[[], T]) -> Future[T]:
        """Run a function some time; what becomes of it."""
        future: Future[T] = Future()
        self._jobs.put((future, function))
        with self._lock:
            self._spare -= 1
            more = self._spare < 0 and (self._limit is None or self._threads < self._limit)
            if more:
                self._threads += 1
                self._spare += 1
        if more:
            threading.Thread(target=self._work, name=self._name, daemon=True).start()
        return future

    def map(self, function: Callable[[S], T], items: Iterable[S]) -> list[T]:
        """The function of each item, at once; after the first that raises, those not begun are dropped."""
        futures = [self.submit(lambda item=item: function(item)) for item in items]  # type: ignore[misc]
        try:
            return [future.result() for future in futures]
        except BaseException:
            for future in futures:
                future.cancel()
            raise

    def close(self) -> None:
        """Let idle threads end; busy ones end after what they do."""
        with self._lock:
            for _ in range(self._threads):
                self._jobs.put(None)
            self._threads = self._spare = 0

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            _run(*job)
            del job  # holds on to the arguments otherwise
            with self._lock:
                self._spare += 1


def ahead(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The pieces, each made on a thread while the one before is used: sending or receiving one, hashing the other."""
    each, pool = iter(pieces), DaemonPool("cache-ahead", 1)
    coming = pool.submit(lambda: next(each, None))
    try:
        while (piece := coming.result()) is not None:
            coming = pool.submit(lambda: next(each, None))
            yield piece
    finally:
        # What the pieces come from is closed next, and must not be in use then.
        coming.exception()
        pool.close()


def _run(future: Future[T], function: Callable[[], T]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(function())
    except BaseException as error:  # noqa: BLE001 - it is the waiter's
        future.set_exception(error)
