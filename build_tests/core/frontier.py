"""When may a step run: labels and edges only. Reads no file, knows no step, no test, no clock.

A node is *waiting* until all it needs has settled well, then *ready* until it is taken, then settles well or badly.
What settles badly dooms everything that needs it.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Collection, Iterator, Mapping


class Frontier:
    """The moving edge of a run over an acyclic graph.

    Args:
        needs: for each node what it needs; needs outside the mapping count as settled.
        rank: the smaller the sooner among the ready; missing = 0. Ties in the mapping's order.
        levels: with these, a barrier: no node of a level is ready before all lower levels have settled.
    """

    def __init__(
        self,
        needs: Mapping[str, Collection[str]],
        rank: Mapping[str, float] | None = None,
        levels: Mapping[str, int] | None = None,
    ) -> None:
        rank = rank or {}
        self._order = {node: (rank.get(node, 0.0), i, node) for i, node in enumerate(needs)}
        self._missing = {node: {n for n in wanted if n in needs} for node, wanted in needs.items()}
        self._users: dict[str, list[str]] = {node: [] for node in needs}
        for node, wanted in self._missing.items():
            for need in wanted:
                self._users[need].append(node)
        self._taken: set[str] = set()
        self._ready: list[tuple[float, int, str]] = []
        self._released: list[str] = []
        self._levels = levels
        self._held: dict[int, list[str]] = {}
        self._open: dict[int, int] = {}
        for node in needs:
            level = self._level(node)
            self._open[level] = self._open.get(level, 0) + 1
        for node, wanted in self._missing.items():
            if not wanted:
                self._release(node)

    def __len__(self) -> int:
        """How many nodes have not settled."""
        return len(self._missing)

    def __contains__(self, node: str) -> bool:
        return node in self._missing

    def ready(self) -> Iterator[str]:
        """The nodes that may run now, best first. Take or settle none while iterating."""
        return (node for _, _, node in self._ready)

    def released(self) -> list[str]:
        """The nodes that became ready since the last call."""
        released, self._released = self._released, []
        return [node for node in released if node in self._missing]

    def unsettled(self) -> list[str]:
        """Every node without an outcome, taken ones too."""
        return list(self._missing)

    def take(self, node: str) -> None:
        """A ready node starts."""
        self._unready(node)
        self._taken.add(node)

    def put_back(self, nodes: Collection[str]) -> None:
        """Taken nodes that never began are ready again."""
        for node in nodes:
            if node in self._taken:
                self._taken.discard(node)
                insort(self._ready, self._order[node])

    def settle(self, node: str, *, well: bool) -> list[str]:
        """A node has ended. Returns the nodes this dooms (they have settled badly too), nearest first."""
        self._drop(node)
        doomed: list[str] = []
        if well:
            for user in self._users[node]:
                missing = self._missing.get(user)
                if missing is not None:
                    missing.discard(node)
                    if not missing:
                        self._release(user)
        else:
            queue = [node]
            for current in queue:
                for user in self._users[current]:
                    if user in self._missing:
                        self._drop(user)
                        doomed.append(user)
                        queue.append(user)
        self._lift_barrier()
        return doomed

    def _level(self, node: str) -> int:
        return self._levels.get(node, 0) if self._levels else 0

    def _lowest(self) -> int:
        return min(self._open, default=0)

    def _drop(self, node: str) -> None:
        self._missing.pop(node)
        if node in self._taken:
            self._taken.discard(node)
        else:
            self._unready(node)
        level = self._level(node)
        self._open[level] -= 1
        if not self._open[level]:
            del self._open[level]

    def _unready(self, node: str) -> None:
        entry = self._order[node]
        at = bisect_left(self._ready, entry)
        if at < len(self._ready) and self._ready[at] == entry:
            del self._ready[at]

    def _release(self, node: str) -> None:
        level = self._level(node)
        if level > self._lowest():
            self._held.setdefault(level, []).append(node)
        else:
            self._open_gate(node)

    def _open_gate(self, node: str) -> None:
        insort(self._ready, self._order[node])
        self._released.append(node)

    def _lift_barrier(self) -> None:
        if self._held and self._open:
            for node in self._held.pop(self._lowest(), ()):
                if node in self._missing:
                    self._open_gate(node)
