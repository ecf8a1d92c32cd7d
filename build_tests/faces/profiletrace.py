"""A run as Chrome trace events, which Perfetto (ui.perfetto.dev) and chrome://tracing open. Pure.

A track a worker, a slice a step, arrows along dependencies, and counters of the steps that run and that wait.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from typing import Any

from build_tests.core.model import Outcome
from build_tests.faces.profiledata import timed, waited
from build_tests.run.record import Run, StepRecord

CACHE = "cache"
"""The track of what was restored."""
_PROCESS = 1


def trace(run: Run) -> dict[str, Any]:
    """The document. Times are microseconds since the first thing that happened."""
    steps = timed(run)
    zero = min((min(step.ready or step.started or 0.0, step.started or 0.0) for step in steps), default=0.0)
    tracks = _tracks(steps)
    numbers = {name: i for i, name in enumerate(sorted(set(tracks.values()), key=lambda n: (n == CACHE, n)), start=1)}
    identity = str(run.run.get("id", ""))
    events: list[dict[str, Any]] = [_named("process_name", 0, f"pytest-build {run.run.get('target', '')} {identity}")]
    for name, number in numbers.items():
        events += [_named("thread_name", number, name), _sorted(number)]
    ends = {step.label: step for step in steps}
    for step in steps:
        events.append(_slice(step, numbers[tracks[step.label]], zero))
    events += _arrows(steps, ends, {label: numbers[track] for label, track in tracks.items()}, zero)
    events += _counters(steps, zero)
    return {"traceEvents": events, "displayTimeUnit": "ms", "otherData": {"run": identity}}


def _micros(at: float | None, zero: float) -> int:
    return round(((at or zero) - zero) * 1e6)


def _named(what: str, thread: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "name": what, "pid": _PROCESS, "tid": thread, "args": {"name": name}}


def _sorted(thread: int) -> dict[str, Any]:
    return {"ph": "M", "name": "thread_sort_index", "pid": _PROCESS, "tid": thread, "args": {"sort_index": thread}}


def _tracks(steps: Iterable[StepRecord]) -> dict[str, str]:
    """label → track. Steps that ran in one process overlap, in lanes: each gets the first track that is free."""
    tracks: dict[str, str] = {}
    free: list[int] = []
    busy: list[tuple[float, int]] = []
    for step in sorted(steps, key=lambda step: step.started or 0.0):
        if step.outcome is Outcome.RESTORED:
            tracks[step.label] = CACHE
        elif step.worker:
            tracks[step.label] = f"worker {step.worker}"
        else:
            while busy and busy[0][0] <= (step.started or 0.0):
                heapq.heappush(free, heapq.heappop(busy)[1])
            lane = heapq.heappop(free) if free else len(busy) + 1
            heapq.heappush(busy, (step.ended or 0.0, lane))
            tracks[step.label] = f"lane {lane}"
    return tracks


def _slice(step: StepRecord, thread: int, zero: float) -> dict[str, Any]:
    facts = {
        "outcome": step.outcome.value, "why": step.message, "waited_s": round(waited(step), 3),
        "cpu_s": step.cpu_seconds, "max_rss_bytes": step.max_rss_bytes, "predicted_s": step.predicted,
        "attempts": step.attempts, "tier": step.tier, "log": step.log,
    }  # fmt: skip
    start = _micros(step.started, zero)
    return {
        "ph": "X", "name": step.label, "cat": step.kind, "pid": _PROCESS, "tid": thread, "ts": start,
        "dur": max(1, _micros(step.ended, zero) - start), "args": {name: v for name, v in facts.items() if v},
    }  # fmt: skip


def _arrows(
    steps: Iterable[StepRecord], ends: dict[str, StepRecord], threads: dict[str, int], zero: float
) -> Iterator[dict[str, Any]]:
    number = 0
    for step in steps:
        for need in step.needs:
            if need in ends:
                number += 1
                common = {"cat": "needs", "name": "needs", "id": number, "pid": _PROCESS}
                # A flow begins inside a slice: one microsecond before its end.
                end = max(_micros(ends[need].started, zero), _micros(ends[need].ended, zero) - 1)
                yield {"ph": "s", **common, "tid": threads[need], "ts": end}
                yield {
                    "ph": "f", "bp": "e", **common, "tid": threads[step.label], "ts": _micros(step.started, zero),
                }  # fmt: skip


def _counters(steps: Iterable[StepRecord], zero: float) -> Iterator[dict[str, Any]]:
    changes: list[tuple[int, int, int]] = []
    for step in steps:
        start = _micros(step.started, zero)
        changes += [(start, 1, 0), (_micros(step.ended, zero), -1, 0)]
        if waited(step) > 0:
            changes += [(_micros(step.ready, zero), 0, 1), (start, 0, -1)]
    running = waiting = 0
    for at, more_running, more_waiting in sorted(changes):
        running, waiting = running + more_running, waiting + more_waiting
        yield {
            "ph": "C", "name": "steps", "pid": _PROCESS, "tid": 0, "ts": at,
            "args": {"running": running, "waiting": waiting},
        }  # fmt: skip
