"""Lanes: steps run in threads of the controller, for builds that are over before a worker would be up.

A worker takes half a second to start, more than most rebuilds after an edit. Where what is left is predicted to be
short, it runs here, as many steps at a time as there would be workers. Knows no frontier and no report.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Thread

from build_tests.run.step import Order, Runner, StepResult

SHORT = 1.0
"""Seconds. What is predicted to take no longer runs in lanes: workers would gain less than they cost."""

LISTEN = 0.5
"""Seconds after which a wait looks whether a signal has come."""


class Lanes:
    """Threads, each with a runner of its own, started when there is something for them.

    Args:
        make: a new runner.
        count: how many steps may run at a time.
    """

    def __init__(self, make: Callable[[], Runner], count: int) -> None:
        self._make = make
        self._count = count
        self._orders: SimpleQueue[Order | None] = SimpleQueue()
        self._results: SimpleQueue[tuple[str, StepResult]] = SimpleQueue()
        self._runners: list[Runner] = []
        self._threads: list[Thread] = []
        self._running = 0

    @property
    def free(self) -> bool:
        """Whether one more step may run."""
        return self._running < self._count

    @property
    def idle(self) -> bool:
        """Whether nothing runs."""
        return not self._running

    def send(self, order: Order) -> None:
        """Run this step; only when there is a free lane."""
        if self._running == len(self._threads):
            runner = self._make()
            self._runners.append(runner)
            self._threads.append(Thread(target=self._work, args=(runner,), name="build-lane", daemon=True))
            self._threads[-1].start()
        self._running += 1
        self._orders.put(order)

    def wait(self) -> tuple[str, StepResult]:
        """The next result; only when something runs."""
        # Not for ever: a signal that comes just before the wait begins is heard only after it.
        while True:
            with suppress(Empty):
                found = self._results.get(timeout=LISTEN)
                self._running -= 1
                return found

    def close(self) -> None:
        """End what still runs, and the threads."""
        for runner in self._runners:
            runner.guardian.cancel()
            self._orders.put(None)
        for thread in self._threads:
            thread.join()
        for runner in self._runners:
            runner.guardian.close()

    def _work(self, runner: Runner) -> None:
        while (order := self._orders.get()) is not None:
            try:
                result = runner.run(order)
            except Exception as error:  # noqa: BLE001 - a mistake of ours must not leave the build waiting for ever
                result = StepResult(ok=False, message=f"internal error: {error!r}")
            self._results.put((order.label, result))


def are_enough(predicted: float | None, workers: int) -> bool:
    """Whether lanes are quicker than workers.

    Args:
        predicted: seconds that the steps took the last time, all together; None = not known of each.
        workers: how many would share them.
    """
    return predicted is not None and predicted / workers <= SHORT
