"""The controller's own lane: steps run in a thread of it, for builds that are over before a worker would be up.

A worker takes half a second to start, more than most rebuilds after an edit. Where what is left is predicted to be
short, it runs here, one step after the other; when it takes longer than predicted, workers join in. Knows no frontier
and no report.
"""

from __future__ import annotations

from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Thread

from build_tests.run.step import Order, Runner, StepResult

START_UP = 0.5
"""Seconds that workers take to start."""
SAVED = 0.001
"""Seconds that a step costs less here than by way of a worker, whatever runs beside it."""

class Lane:
    """One thread with one runner. `label` is what runs now, or ""."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._orders: SimpleQueue[Order | None] = SimpleQueue()
        self._results: SimpleQueue[tuple[str, StepResult]] = SimpleQueue()
        self._call: Callable[[], None] | None = None
        self.label = ""
        self._thread = Thread(target=self._work, name="build-lane", daemon=True)
        self._thread.start()

    def send(self, order: Order) -> None:
        """Run this step next; only when nothing runs."""
        self.label = order.label
        self._orders.put(order)

    def wait(self, seconds: float | None) -> tuple[str, StepResult] | None:
        """The result of what runs, or None after this time (None = as long as it takes)."""
        try:
            # A wait without end would not hear Ctrl-C.
            found = self._results.get(timeout=seconds if seconds is not None else 3600.0)
        except Empty:
            return None
        self.label = ""
        return found

    def wake(self, call: Callable[[], None]) -> None:
        """From now on call this, from the lane's thread, when a result is there."""
        self._call = call
        if not self._results.empty():
            call()

    def close(self) -> None:
        """End what still runs, and the thread."""
        self._runner.guardian.cancel()
        self._orders.put(None)
        self._thread.join()
        self._runner.guardian.close()

    def _work(self) -> None:
        while (order := self._orders.get()) is not None:
            try:
                result = self._runner.run(order)
            except Exception as error:  # noqa: BLE001 - a mistake of ours must not leave the build waiting for ever
                result = StepResult(ok=False, message=f"internal error: {error!r}")
            self._results.put((order.label, result))
            if self._call is not None:
                self._call()


def patience(predicted: float | None, steps: int, workers: int) -> float:
    """How many seconds the lane has before workers are started; 0 = they are started at once.

    Args:
        predicted: seconds that the steps took the last time, all together; None = not known of each.
        steps: how many they are.
        workers: how many could share them.
    """
    if predicted is None:
        return 0.0
    lost = predicted * (1 - 1 / workers)
    return 0.3 + 1.5 * predicted if lost <= START_UP + steps * SAVED else 0.0
