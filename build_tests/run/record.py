"""The record of a run: one append-only JSON-lines file that every face reads. Knows no pytest and no terminal.

Line one is the run, then a line a step as it settles, then how the run ended. Lines are versioned by the first one.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from typing import Any

from build_tests.core.model import Outcome

VERSION = 1
KEPT = 100
"""How many runs are kept."""


@dataclass(slots=True, kw_only=True)
class StepRecord:
    """How one step went. Times are seconds since the epoch, durations seconds, sizes bytes."""

    label: str
    kind: str
    outcome: Outcome
    message: str = ""
    """For people: the reason, the culprit, the tool, the failure."""
    culprit: str = ""
    """blocked: the step that failed; unavailable: the step whose own tool is missing."""
    reasons: list[dict[str, str]] = field(default_factory=list)
    key: str = ""
    ready: float | None = None
    started: float | None = None
    ended: float | None = None
    seconds: float = 0.0
    predicted: float | None = None
    needs: list[str] = field(default_factory=list)
    """The labels that it waited for, where it ran or was restored: a record tells of its run without the build file."""
    attempts: int = 0
    worker: str = ""
    exit: int | None = None
    signal: int | None = None
    cpu_seconds: float = 0.0
    max_rss_bytes: int = 0
    tier: str = ""
    """The cache tier that a restored step came from."""
    bytes: int = 0
    """Of its outputs, where it was built or restored."""
    log: str = ""
    """Relative to the root."""
    first_error: str = ""
    place: str = ""
    """The file that the first error names, `path:line:column` from the root."""
    tail: str = ""
    flaky: str = ""
    cases: str = ""
    warnings: list[str] = field(default_factory=list)
    trace: dict[str, Any] = field(default_factory=dict)
    """Where the step was traced: `status` (clean, undeclared, unverified), `why`, `reads`, `writes` … (`run.trace`)."""
    fingerprint: list[Any] = field(default_factory=list)
    """What it was made from, values of variables as digests; for `explain --against RUN`."""

    def to_json(self) -> dict[str, Any]:
        """Only what is set: a run of thousands of fresh steps stays small."""
        out: dict[str, Any] = {"label": self.label, "kind": self.kind, "outcome": self.outcome.value}
        for name in _OPTIONAL:
            value = getattr(self, name)
            if value or (name == "exit" and value is not None):
                out[name] = value
        return out

    @staticmethod
    def from_json(data: dict[str, Any]) -> StepRecord:
        """The inverse of `to_json`; fields of newer releases are passed over."""
        known = {name: value for name, value in data.items() if name in _NAMES}
        return StepRecord(**{**known, "outcome": Outcome(data["outcome"])})


_NAMES = frozenset(f.name for f in fields(StepRecord))
# The tool's own cases are in the JUnit report, which is made from the record in memory.
_OPTIONAL = tuple(f.name for f in fields(StepRecord) if f.name not in ("label", "kind", "outcome", "cases"))


def new_id() -> str:
    """Sorts by time; unique among the processes of a machine."""
    now = time.time()
    return f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(now))}.{int(now % 1 * 1000):03d}-{os.getpid()}"


class RecordWriter:
    """Appends to `runs/ID.jsonl`. A disk that fails costs the record, with one warning, never the build."""

    def __init__(self, folder: str, run: dict[str, Any]) -> None:
        """Start the record; `run` holds id, commit, argv, target, environment, versions, workers."""
        self.path = os.path.join(folder, f"{run['id']}.jsonl")
        self.warning = ""
        self._descriptor = -1
        try:
            os.makedirs(folder, exist_ok=True)
            self._descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        except OSError as error:
            self._give_up(error)
        self._write([{"type": "run", "version": VERSION, "started": time.time(), **run}])

    def steps(self, records: Iterable[StepRecord]) -> None:
        """Add steps that have settled."""
        self._write([{"type": "step", **record.to_json()} for record in records])

    def end(self, **facts: Any) -> None:
        """Say how the run ended and forget runs beyond the hundred newest."""
        self._write([{"type": "end", "ended": time.time(), **facts}])
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
            prune(os.path.dirname(self.path))

    def _write(self, lines: list[dict[str, Any]]) -> None:
        if self._descriptor < 0 or not lines:
            return
        data = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines).encode()
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        self.warning = f"the record of this run can't be written: {error.filename or self.path}: {error.strerror}"
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1


def prune(folder: str) -> None:
    """Keep the newest records, and the logs of these runs."""
    import shutil

    runs = list_runs(folder)
    for run in runs[:-KEPT]:
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(folder, f"{run}.jsonl"))
    kept = set(runs[-KEPT:])
    logs = os.path.join(os.path.dirname(folder), "logs")
    if len(runs) > KEPT and os.path.isdir(logs):
        for run in os.listdir(logs):
            if run not in kept:
                shutil.rmtree(os.path.join(logs, run), ignore_errors=True)


def list_runs(folder: str) -> list[str]:
    """The ids of the recorded runs, oldest first."""
    try:
        return sorted(name[: -len(".jsonl")] for name in os.listdir(folder) if name.endswith(".jsonl"))
    except OSError:
        return []


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A record read back. `end` is empty for a run that was cut off."""

    run: dict[str, Any]
    steps: tuple[StepRecord, ...]
    end: dict[str, Any]


def read(folder: str, run: str) -> Run:
    """Read one record. Raises OSError where there is none; torn and damaged lines are passed over."""
    head: dict[str, Any] = {}
    end: dict[str, Any] = {}
    steps: list[StepRecord] = []
    for line in _lines(os.path.join(folder, f"{run}.jsonl")):
        match line.get("type"):
            case "run":
                head = line
            case "step":
                with contextlib.suppress(KeyError, TypeError, ValueError):
                    steps.append(StepRecord.from_json(line))
            case "end":
                end = line
    return Run(run=head, steps=tuple(steps), end=end)


def _lines(path: str) -> Iterator[dict[str, Any]]:
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                found = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(found, dict):
                yield found
