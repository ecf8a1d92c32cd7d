"""How far a run is: what runs and since when, how many are done, when it will be over. Draws nothing, reads no log."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from build_tests.core.model import Outcome
from build_tests.run.record import StepRecord
from build_tests.run.text import duration
from build_tests.session.screen import cells, cut

if TYPE_CHECKING:
    from build_tests.core.eta import Eta
    from build_tests.run.build import Build

SAMPLES = 64
"""Of the estimate, kept for the record."""
COST = 50
"""An estimate is made again after so many times what the last one took; at least a second."""
LINES = 8
"""Running steps that are shown."""
NARROW = 60
"""Columns, below which there is no room for a step's last line."""


@dataclass(slots=True)
class Running:
    """A step that runs. `last` is the end of its log, made by whoever reads it."""

    label: str
    log: str
    started: float
    last: str = ""


@dataclass(slots=True)
class Progress:
    """The state that a view shows. Told by one thread and shown by another. Times are `time.monotonic()`'s.

    Args:
        total: steps that had no outcome when it began.
        forecast: makes the estimate, when it is wanted for the first time: it reads records.
        began: when the run began, which is a little earlier.
    """

    total: int
    forecast: Callable[[], Eta]
    began: float = field(default_factory=time.monotonic)
    done: int = 0
    failed: int = 0
    running: dict[str, Running] = field(default_factory=dict)
    samples: list[tuple[float, float]] = field(default_factory=list)
    """(seconds since it began, seconds left that were shown)."""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _eta: Eta | None = None
    _events: list[tuple[str, float | None, float | None]] = field(default_factory=list)
    _left: float | None = None
    _next: float = 0.0
    _asked: float = 0.0

    def started(self, label: str, log: str) -> None:
        """A step runs from now on."""
        now = time.monotonic()
        with self._lock:
            self.running[label] = Running(label, log, now)
            self._events.append((label, now, None))

    def ended(self, label: str) -> None:
        """It runs no more; its outcome may follow."""
        with self._lock:
            self.running.pop(label, None)

    def now_running(self) -> list[Running]:
        """The steps that run, the oldest first."""
        with self._lock:
            return sorted(self.running.values(), key=lambda step: step.started)

    def settled(self, records: Iterable[StepRecord]) -> None:
        """These have their outcome."""
        with self._lock:
            for record in records:
                self.running.pop(record.label, None)
                self.done += 1
                self.failed += record.outcome is Outcome.FAILED
                self._events.append((record.label, None, record.seconds if record.outcome is Outcome.BUILT else None))

    def left(self) -> float | None:
        """Seconds until the end, as they are shown; None while nothing is known of most of it. For one thread."""
        now = time.monotonic()
        if now >= self._next:
            with self._lock:
                events, self._events = self._events, []
            self._left = self._estimate(events, now)
            self._asked = now
            self._next = now + max(1.0, COST * (time.monotonic() - now))
            if self._left is not None:
                self._sample(now - self.began, self._left)
        return None if self._left is None else max(0.0, self._left - (now - self._asked))

    def _estimate(self, events: Iterable[tuple[str, float | None, float | None]], now: float) -> float | None:
        if self._eta is None:
            self._eta = self.forecast()
        for label, started, seconds in events:
            if started is not None:
                self._eta.started(label, started)
            else:
                self._eta.settled(label, seconds)
        return self._eta.show(now)

    def _sample(self, at: float, left: float) -> None:
        self.samples.append((round(at, 3), round(left, 3)))
        if len(self.samples) > SAMPLES:
            del self.samples[1::2]

    # Words

    def summary(self) -> list[str]:
        """The parts of the one line that says it all, the most important first."""
        parts = [f"{self.done} of {self.total} done"]
        if self.failed:
            parts.append(f"{self.failed} failed")
        left = self.left()
        if left is not None:
            parts.append(f"about {rough(left)} left")
        return [*parts, f"{len(self.running)} running"]


def forecast_of(build: Build, labels: Collection[str], workers: int) -> Eta:
    """The estimate for a build's steps, from the records of earlier runs and, where those say nothing, its state."""
    from build_tests.core.eta import Eta
    from build_tests.run import history

    past = history.read(build.setup.places.runs, labels, build.graph.needs)
    certain = build.certain
    expected = {}
    for label in labels:
        seconds = past[label].expected(must_run=label in certain)
        if seconds is None:
            seconds = build.seconds.get(label)
        if seconds is not None:
            expected[label] = seconds
    return Eta(build.graph, expected, labels, workers, lambda: build.room(labels))


def rough(seconds: float) -> str:
    """A time nobody can know exactly: `3 s`, `1 min 20 s`, `2 h 05 min`."""
    if seconds < 100:  # noqa: PLR2004 - two digits
        return f"{max(1, round(seconds))} s"
    if seconds < 3600:  # noqa: PLR2004 - an hour
        return f"{int(seconds) // 60} min {int(seconds) % 60 // 10 * 10:02d} s"
    return f"{int(seconds) // 3600} h {int(seconds) % 3600 // 60:02d} min"


def area(progress: Progress, columns: int, rows: int, *, colour: bool) -> list[str]:
    """The view's lines, none wider than the terminal less one: the summary, then the running steps, oldest first."""
    width = columns - 1
    lines = [_styled(_fitting("build: ", progress.summary(), width), "1", colour=colour)]
    running = progress.now_running()
    shown = running[: max(1, min(LINES, rows // 3))]
    now = time.monotonic()
    label_width = max((cells(step.label) for step in shown), default=0)
    lines += [_running(step, now, min(label_width, width // 2), width, colour=colour) for step in shown]
    if len(running) > len(shown) and len(lines) < rows - 1:
        lines.append(cut(f"  ... and {len(running) - len(shown)} more", width))
    return lines


def _running(step: Running, now: float, label_width: int, width: int, *, colour: bool) -> str:
    label = cut(step.label, label_width)
    head = cut(f"  {label}{' ' * (label_width - cells(label))} {duration(now - step.started):>8}", width)
    room = width - cells(head) - 2
    if width < NARROW or not step.last or room <= 0:
        return head
    return f"{head}  {_styled(cut(step.last, room), '2', colour=colour)}"


def _fitting(start: str, parts: list[str], width: int) -> str:
    line = start + parts[0]
    for part in parts[1:]:
        if cells(line) + 2 + cells(part) <= width:
            line += f", {part}"
    return cut(line, width)


def _styled(text: str, code: str, *, colour: bool) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if colour else text
