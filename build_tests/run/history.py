"""What earlier runs took, step by step, from their records. Reads a bounded part of them; knows no running build."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from statistics import median

from build_tests.run.record import list_runs

RUNS = 30
"""Records that are looked at, newest first."""
BYTES = 8 << 20
"""Of all records together."""
ENOUGH = 5
"""Times a step was built, after which older runs say nothing new."""
_STEP = '{"type":"step","label":"'
_FRESH = '"outcome":"fresh"'


@dataclass(slots=True)
class Past:
    """One step in earlier runs: seconds by outcome, newest first, and how often it turned out to be up to date.

    Only runs count in which something that it needs was built or restored: there it stood before the same question.
    """

    built: list[float] = field(default_factory=list)
    restored: list[float] = field(default_factory=list)
    fresh: int = 0

    def expected(self, *, must_run: bool) -> float | None:
        """Seconds that it will probably take; None where it was never built. `must_run`: it is known to be built."""
        if not self.built:
            return None
        if must_run:
            return median(self.built)
        count = len(self.built) + len(self.restored) + self.fresh
        total = median(self.built) * len(self.built)
        if self.restored:
            total += median(self.restored) * len(self.restored)
        return total / count


def read(folder: str, wanted: Collection[str], needs: Mapping[str, Collection[str]]) -> dict[str, Past]:
    """What the newest records say of the `wanted` steps. Damaged and missing records are passed over.

    Args:
        folder: `.build/runs`.
        wanted: labels.
        needs: what each step needs.
    """
    past: dict[str, Past] = {label: Past() for label in wanted}
    bytes_left = BYTES
    for run in reversed(list_runs(folder)[-RUNS:]):
        try:
            path = os.path.join(folder, f"{run}.jsonl")
            bytes_left -= os.path.getsize(path)
            if bytes_left < 0:
                break
            with open(path, encoding="utf-8", errors="replace") as file:
                _add(past, file.read().splitlines(), needs)
        except OSError:
            continue
        if all(len(one.built) >= ENOUGH for one in past.values()):
            break
    return past


def _add(past: Mapping[str, Past], lines: list[str], needs: Mapping[str, Collection[str]]) -> None:
    """One run."""
    fresh: set[str] = set()
    took: dict[str, tuple[str, float]] = {}
    for line in lines:
        if not line.startswith(_STEP):
            continue
        if _FRESH in line[:300]:
            fresh.add(line[len(_STEP) : line.index('"', len(_STEP))])
        elif (found := _timed(line)) is not None:
            took[found[0]] = found[1:]
    for label, (outcome, seconds) in took.items():
        if label in past:
            (past[label].built if outcome == "built" else past[label].restored).append(seconds)
    if took:
        for label in fresh:
            if label in past and any(need in took for need in needs.get(label, ())):
                past[label].fresh += 1


def _timed(line: str) -> tuple[str, str, float] | None:
    try:
        step = json.loads(line)
        label, outcome, seconds = step["label"], step["outcome"], float(step.get("seconds", 0.0))
    except (ValueError, KeyError, TypeError):
        return None
    return (label, outcome, seconds) if outcome in ("built", "restored") and seconds >= 0 else None
