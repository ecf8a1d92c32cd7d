"""What a run is expected to do: order, weights, and for each step the outcome and why. Pure; knows no file, no clock.

The plan that `--build-dry-run` prints is made by the very decisions that a run makes, so each expectation comes true,
except behind a step that is built: there the honest answer is "depends on the result of X".
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

from build_tests.core.fingerprint import Reason


class Edges(Protocol):
    """As much of a graph as times need: a Graph, or what a record of a run tells."""

    @property
    def needs(self) -> Mapping[str, tuple[str, ...]]:
        """What each step needs."""

    @property
    def needed_by(self) -> Mapping[str, tuple[str, ...]]:
        """The same, the other way round."""

    @property
    def order(self) -> tuple[str, ...]:
        """Dependencies first."""


class Expected(str, Enum):
    """What a plan says of a step."""

    FRESH = "up to date"
    RESTORE = "restore"
    """From a cache, where everything it needs is now."""
    BUILD = "build"
    BEHIND = "depends"
    """On the result of a step that is built before it."""
    UNAVAILABLE = "unavailable"
    FAIL = "fail"
    """Without being run: an input can't be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStep:
    """One step's line of the plan. `seconds` is None where no run has measured it."""

    label: str
    expected: Expected
    reasons: tuple[Reason, ...] = ()
    key: str = ""
    seconds: float | None = None
    note: str = ""
    """For `unavailable`: the tool and how to get it; for `fail`: what is wrong."""
    tier: str = ""
    """For `restore`: the cache tier that has it."""

    def to_json(self) -> dict[str, Any]:
        """Plain data for `--json`."""
        return {
            "label": self.label, "expected": self.expected.value, "reasons": [r.to_json() for r in self.reasons],
            "key": self.key, "seconds": self.seconds, "note": self.note, "tier": self.tier,
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The selected steps, dependencies first."""

    steps: tuple[PlannedStep, ...]
    workers: int = 1
    seconds: float | None = None
    """Predicted wall time; None where a step that will run was never measured."""
    notes: tuple[str, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """Plain data for `--json`; `version` is that of this form."""
        return {
            "version": 1, "workers": self.workers, "seconds": self.seconds, "notes": list(self.notes),
            "steps": [s.to_json() for s in self.steps],
        }  # fmt: skip


def remaining(graph: Edges, labels: Iterable[str], seconds: Mapping[str, float]) -> dict[str, float]:
    """Each step's longest path to the end of the build, itself included, in seconds: the critical path comes first.

    A step that was never measured counts as the mean of those that were, or one second.
    """
    wanted = set(labels)
    known = [seconds[label] for label in wanted if label in seconds]
    usual = sum(known) / len(known) if known else 1.0
    longest: dict[str, float] = {}
    for label in reversed(graph.order):
        if label in wanted:
            users = (longest[user] for user in graph.needed_by[label] if user in longest)
            longest[label] = seconds.get(label, usual) + max(users, default=0.0)
    return longest


def critical_path(graph: Edges, labels: Iterable[str], seconds: Mapping[str, float]) -> tuple[str, ...]:
    """The steps, each needed by the next, that take longest together: no number of workers builds these faster."""
    longest = remaining(graph, labels, seconds)
    path: list[str] = []
    following = list(longest)
    while following:
        path.append(max(following, key=lambda label: longest[label]))
        following = [user for user in graph.needed_by[path[-1]] if user in longest]
    return tuple(path)


class Room(Protocol):
    """What there is beside workers: memory, docker, locks. Empty, it has room for any one step."""

    def take(self, label: str) -> bool:
        """Take all that the step asks for, or nothing and say False."""

    def give_back(self, label: str) -> None:
        """The step has ended."""


PASSED_OVER = 20
"""So many steps for which there is no room are passed over in a prediction, to see whether a later one has it."""


def wall_time(
    graph: Edges, seconds: Mapping[str, float], workers: int, running: Mapping[str, float] | None = None,
    room: Room | None = None,
) -> float:  # fmt: skip
    """List scheduling, longest remaining path first: the predicted wall time of running these steps, in seconds.

    Args:
        graph: edges; needs that are neither in `seconds` nor `running` count as met.
        seconds: what each step that waits will take.
        workers: how many run at a time.
        running: steps that run by now, and how long each will go on.
        room: an empty one, where steps ask for more than a worker.
    """
    going = {label: left for label, left in (running or {}).items() if room is None or room.take(label)}
    longest = remaining(graph, seconds, seconds)
    missing = {label: sum(need in seconds or need in going for need in graph.needs[label]) for label in seconds}
    ready = [(-longest[label], label) for label, count in missing.items() if not count]
    heapq.heapify(ready)
    busy = [(left, label) for label, left in going.items()]
    heapq.heapify(busy)
    now = 0.0
    while ready or busy:
        aside: list[tuple[float, str]] = []
        while ready and len(busy) < workers and len(aside) < PASSED_OVER:
            label = ready[0][1]
            if room is None or room.take(label):
                heapq.heappush(busy, (now + seconds[label], label))
                heapq.heappop(ready)
            else:
                aside.append(heapq.heappop(ready))
        for one in aside:
            heapq.heappush(ready, one)
        now, ended = heapq.heappop(busy)
        if room is not None:
            room.give_back(ended)
        for user in graph.needed_by[ended]:
            if user in missing:
                missing[user] -= 1
                if not missing[user]:
                    heapq.heappush(ready, (-longest[user], user))
    return now
