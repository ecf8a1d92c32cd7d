"""What is started again after each build that went well: a program, or a service of Compose. Knows no build."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from typing import Any

GRACE = 5.0
"""Seconds between SIGTERM and SIGKILL."""


class Companion:
    """One program at a time; the next one begins when the last one has ended.

    Args:
        argv: the program.
        stays: it runs until it is ended (a server); else it is awaited (`docker compose up --detach`).
        start: starts it in a session of its own and returns the number of the job.
        say: takes a line for people.
    """

    def __init__(
        self, argv: list[str], *, stays: bool, start: Callable[[list[str]], int], say: Callable[[str], None]
    ) -> None:
        self._argv = argv
        self._stays = stays
        self._start = start
        self._say = say
        self._job: int | None = None
        self._pid: int | None = None
        self._again = False
        self._kill_at: float | None = None

    @property
    def running(self) -> bool:
        """Whether it has been started and has not ended."""
        return self._job is not None

    def restart(self) -> None:
        """End it if it runs, and start it."""
        if self._job is None:
            self._job = self._start(self._argv)
            return
        self._again = True
        if self._stays:
            self._end()

    def _end(self) -> None:
        if self._pid is not None and self._kill_at is None:
            self._signal(signal.SIGTERM)
            self._kill_at = time.monotonic() + GRACE

    def _signal(self, number: signal.Signals) -> None:
        assert self._pid is not None  # noqa: S101
        try:
            os.killpg(self._pid, number)
        except ProcessLookupError:  # no session of its own yet, or gone
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, number)

    def news(self, said: dict[str, Any]) -> None:
        """Something was said of a job; perhaps of this one."""
        if said["id"] != self._job:
            return
        if "pid" in said:
            self._pid = said["pid"]
            if self._again and self._stays:
                self._end()
            return
        asked_for = self._kill_at is not None
        self._job = self._pid = self._kill_at = None
        if self._again:
            self._again = False
            self.restart()
        elif not asked_for and (self._stays or said["status"]):
            self._say(f"{' '.join(self._argv[:4])} … ended with {said['status']}")

    def wait(self) -> float | None:
        """Seconds until `tick` is wanted; None = never."""
        return None if self._kill_at is None else max(0.0, self._kill_at - time.monotonic())

    def tick(self) -> None:
        """Whoever does not hear SIGTERM is killed."""
        if self._kill_at is not None and time.monotonic() >= self._kill_at:
            self._signal(signal.SIGKILL)
            self._kill_at = time.monotonic() + GRACE
