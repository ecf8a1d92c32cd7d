"""What the running steps may take together: processors, memory, named capacities, locks. Knows labels, not steps."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from build_tests.core.model import Resources
from build_tests.core.plan import Room

_NONE = Resources()


def machine_memory() -> int:
    """Bytes of memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def machine_workers() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Capacity:
    """Tokens that steps take when they start and give back when they end.

    A demand above the whole capacity counts as the whole: such a step runs, alone.
    """

    def __init__(self, capacities: Iterable[tuple[str, float]], workers: int) -> None:
        self._whole: dict[str, float] = {"cpu": workers, **dict(capacities)}
        self._free = dict(self._whole)
        self._locks: set[str] = set()
        self._held: dict[str, tuple[dict[str, float], tuple[str, ...]]] = {}

    def take(self, label: str, demand: Resources) -> bool:
        """Take all of the demand, or nothing and say False."""
        wanted = self._clipped(demand)
        if any(self._free[name] < amount for name, amount in wanted.items()) or not self._locks.isdisjoint(
            demand.locks
        ):
            return False
        for name, amount in wanted.items():
            self._free[name] -= amount
        self._locks.update(demand.locks)
        self._held[label] = (wanted, demand.locks)
        return True

    def give_back(self, label: str) -> None:
        """The step has ended."""
        wanted, locks = self._held.pop(label)
        for name, amount in wanted.items():
            self._free[name] += amount
        self._locks.difference_update(locks)

    def empty(self, demands: Mapping[str, Resources]) -> Room | None:
        """The same with nothing taken, for predictions; None where no step asks for more than a processor."""
        if all(demand == _NONE for demand in demands.values()):
            return None
        return _Room(Capacity(self._whole.items(), 1), demands)

    def _clipped(self, demand: Resources) -> dict[str, float]:
        asked = {"cpu": demand.cpu, "memory": demand.memory, **dict(demand.other)}
        return {name: min(amount, self._whole[name]) for name, amount in asked.items() if name in self._whole}


@dataclass(frozen=True, slots=True)
class _Room:
    capacity: Capacity
    demands: Mapping[str, Resources]

    def take(self, label: str) -> bool:
        return self.capacity.take(label, self.demands.get(label, _NONE))

    def give_back(self, label: str) -> None:
        self.capacity.give_back(label)
