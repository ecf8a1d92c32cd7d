"""How long the rest of a run will take. Pure: knows labels, edges and seconds; no clock, no file, no terminal.

The estimate is list scheduling of what is left over the workers. Three things make it settle: a step that is late is
expected to go on for a share of the time it has had; the pace of this run (a machine that is slow today) corrects
what earlier runs took; and what is shown moves towards the estimate instead of jumping to it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping

from build_tests.core.plan import Edges, Room, wall_time

LATE = 0.15
"""A step past its usual time is expected to need this share of what it has had, again."""
TRUST = 0.1
"""How much of the whole run's work must be done for its own pace to weigh as much as that of earlier runs."""
TAU = 2.0
"""Seconds in which what is shown goes two thirds of the way to a new estimate."""
RISE = 1.5
"""By how much what is shown may grow in a second, at the most."""
LEAST = 0.5
"""Seconds; shown as long as something is left."""
KNOWN = 0.5
"""Share of the steps left that earlier runs must have measured. With fewer there is no estimate."""


class Eta:
    """One run's estimate.

    Args:
        graph: edges between all steps.
        expected: seconds that a step will probably take, for those that earlier runs know.
        labels: the steps without an outcome.
        workers: how many run at a time.
        room: makes an empty one.
    """

    def __init__(
        self, graph: Edges, expected: Mapping[str, float], labels: Collection[str], workers: int,
        room: Callable[[], Room | None] = lambda: None,
    ) -> None:  # fmt: skip
        self._graph = graph
        self._room = room
        self._workers = max(1, workers)
        self._left = dict.fromkeys(labels)
        known = sorted(expected[label] for label in labels if label in expected)
        self._usual = known[len(known) // 2] if known else 0.0
        self._known = {label for label in labels if label in expected}
        self._expected = {label: expected.get(label, self._usual) for label in labels}
        self._all = sum(self._expected.values())
        self._done = self._took = 0.0
        self._running: dict[str, float] = {}
        self._shown: float | None = None
        self._at = 0.0

    def started(self, label: str, now: float) -> None:
        """A step runs from now on; `now` in seconds of any clock that goes forward."""
        self._running[label] = now

    def settled(self, label: str, seconds: float | None) -> None:
        """A step has its outcome; `seconds` if it was built, which is what the pace is made of."""
        self._running.pop(label, None)
        if label in self._left:
            del self._left[label]
            if seconds is not None and label in self._known:
                self._done += self._expected[label]
                self._took += seconds

    @property
    def pace(self) -> float:
        """What this run's steps take, to what they were expected to: 1.2 is a fifth slower."""
        trust = TRUST * self._all
        return (self._took + trust) / (self._done + trust) if trust else 1.0

    def estimate(self, now: float) -> float | None:
        """Seconds until the end as far as is known now; None where most of what is left was never measured."""
        if len(self._known.intersection(self._left)) < KNOWN * len(self._left):
            return None
        pace = self.pace
        running = {label: self._rest(self._expected[label] * pace, now - at) for label, at in self._running.items()}
        waiting = {label: self._expected[label] * pace for label in self._left if label not in running}
        return wall_time(self._graph, waiting, self._workers, running, self._room())

    @staticmethod
    def _rest(expected: float, had: float) -> float:
        return max(expected - had, LATE * had)

    def show(self, now: float) -> float | None:
        """The estimate for people: never negative, and never up by more than half within a second."""
        estimate = self.estimate(now)
        if estimate is None:
            self._shown = None
            return None
        if self._shown is not None:
            passed = max(0.0, now - self._at)
            counted = self._shown - passed
            moved = counted + (estimate - counted) * (1 - math.exp(-passed / TAU))
            estimate = min(moved, self._shown * RISE ** min(passed, 1.0))
        self._shown, self._at = max(estimate, LEAST), now
        return self._shown
