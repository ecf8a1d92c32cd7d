"""Which worker runs what, and when: xdist's Scheduling protocol over the frontier. Makes no decision about freshness.

A worker never starts its last queued item until it knows the next one, so each step is sent with the turnstile behind
it. Ordinary tests of the same session are sent a file at a time, so that their module fixtures live as one expects.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from build_tests.session.items import Turnstile
from build_tests.session.worker import ORDER, SETTLED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from build_tests.session.controller import Controller


class BuildScheduling:
    """xdist's `Scheduling`, driven by the controller's build."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self.config = controller.config  # rerunfailures asks a crashed worker's scheduler for it
        self._index: dict[Any, dict[str, int]] = {}
        self._running: dict[Any, list[str]] = {}
        """Per worker the node ids sent and not yet complete."""

    @property
    def nodes(self) -> list[Any]:
        """Workers that have been added and not removed."""
        return list(self._running)

    @property
    def collection_is_completed(self) -> bool:
        """One worker is enough to begin: a late one joins when it is up."""
        return bool(self._index)

    @property
    def has_pending(self) -> bool:
        """Whether a worker has something to do."""
        return any(self._running.values())

    @property
    def tests_finished(self) -> bool:
        """Whether nothing is left to send or to wait for."""
        return bool(self._index) and not self.has_pending and self._controller.exhausted

    def add_node(self, node: Any) -> None:
        """A worker has started."""
        self._running[node] = []

    def add_node_collection(self, node: Any, collection: Sequence[str]) -> None:
        """A worker says what it knows."""
        self._index[node] = {nodeid: i for i, nodeid in enumerate(collection)}
        self._controller.recount()

    def schedule(self) -> None:
        """Give every idle worker the most urgent thing that may run now."""
        self._controller.advance()
        for node, sent in self._running.items():
            if not sent and node in self._index:
                self._feed(node)

    def _feed(self, node: Any) -> None:
        index = self._index[node]
        turnstile = next(i for nodeid, i in index.items() if nodeid.endswith(Turnstile.NAME))
        if (taken := self._controller.take_step(node.gateway.id)) is not None:
            item, order = taken
            self._running[node] = [item.nodeid]
            # The order goes with xdist's own command to run it: each message costs as much as a short step.
            node.sendcommand(ORDER, order=order.dump(), indices=[index[item.nodeid], turnstile])
        elif group := self._controller.take_tests():
            known = [test.nodeid for test in group if test.nodeid in index]
            for test in group:
                if test.nodeid not in index:
                    self._controller.lost_test(test, "the worker did not collect it")
            if known:
                node.sendcommand(SETTLED, labels=json.dumps(self._controller.went_well))
                self._running[node] = known
                node.send_runtest_some([*(index[nodeid] for nodeid in known), turnstile])

    def mark_test_complete(self, node: Any, item_index: int, duration: float = 0) -> None:  # noqa: ARG002
        """A worker is through with an item."""
        nodeid = next((n for n in self._running[node] if self._index[node][n] == item_index), None)
        if nodeid is not None:
            self._running[node].remove(nodeid)
            self._controller.complete(nodeid)
            self.schedule()

    def remove_node(self, node: Any) -> str | None:
        """A worker is gone; returns the node id that it died in, which xdist reports as failed."""
        self._index.pop(node, None)
        sent = self._running.pop(node)
        if not sent:
            return None
        self._controller.put_back(sent[1:])
        return sent[0]

    def mark_test_pending(self, item: str) -> None:
        """rerunfailures: a test that crashed its worker is to run again."""
        self._controller.put_back([item])

    def remove_pending_tests_from_node(self, node: Any, indices: Sequence[int]) -> None:  # noqa: ARG002
        """Only work stealing asks for this."""
        raise RuntimeError("build steps are not stolen from workers")
