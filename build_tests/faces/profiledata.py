"""Where the time of one run went, as data made from its record. Pure: reads no file, prints nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from build_tests.core.model import Outcome
from build_tests.core.plan import critical_path, wall_time
from build_tests.run.record import Run, StepRecord

VERSION = 1
"""Of the `--json` document."""
CANDIDATES = 40
"""So many of the slowest steps are tried for what would gain most."""
WORTH_ESTIMATING = 1.0
"""Seconds that were left when an estimate was shown; with fewer nobody asks how good it was."""
TINY = 0.005
"""Seconds; a smaller gain or difference is not worth a line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edges:
    """What waited for what, among the steps that took time. See `core.plan.Edges`."""

    needs: Mapping[str, tuple[str, ...]]
    needed_by: Mapping[str, tuple[str, ...]]
    order: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """By how many seconds the run would be shorter."""

    what: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One step in this run and in the one before, in seconds."""

    label: str
    before: float
    now: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Against an earlier run; only steps that were built in both."""

    run: str
    seconds: float
    """How long that one took."""
    ran: int
    """Steps that took time in it."""
    steps: tuple[Difference, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Seconds everywhere."""

    run: str
    target: str
    workers: int
    counts: Mapping[str, int]
    seconds: float
    """The whole run, from pytest's start of the session to its end."""
    before_steps: float
    """Until the first step started: reading, deciding, starting workers."""
    span: float
    """From the first step's start to the last one's end."""
    after_steps: float
    working: float
    """All steps' own time together."""
    cpu: float
    waiting: float
    """Between ready and started, all steps together: for a worker, for memory, for a lock."""
    achieved: float
    """How many steps ran at a time, on average over `span`."""
    possible: float
    """The same with workers without end."""
    saved: float
    """What the steps that were up to date or restored took when they were built, without what restoring took."""
    critical: tuple[StepRecord, ...]
    """The longest chain by the steps' own time, first to last."""
    slowest: tuple[StepRecord, ...]
    gains: tuple[Gain, ...]
    estimate_errors: Mapping[str, float]
    """How far the shown end of the build was off, as a share of what was left: at the `start` and at `half` time."""
    comparison: Comparison | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain data for `--json`."""
        skipped = {"critical", "slowest", "comparison", "gains"}
        plain = {name: getattr(self, name) for name in self.__slots__ if name not in skipped}
        return {
            "version": VERSION, **plain, "critical": [_step_json(step) for step in self.critical],
            "slowest": [_step_json(step) for step in self.slowest], "gains": [asdict(gain) for gain in self.gains],
            "comparison": asdict(self.comparison) if self.comparison is not None else None,
        }  # fmt: skip


def _step_json(step: StepRecord) -> dict[str, Any]:
    return {
        "label": step.label, "outcome": step.outcome.value, "seconds": step.seconds, "waited": waited(step),
        "cpu_seconds": step.cpu_seconds, "max_rss_bytes": step.max_rss_bytes, "worker": step.worker,
    }  # fmt: skip


def timed(run: Run) -> list[StepRecord]:
    """The steps that took time, by their end, which is an order with dependencies first."""
    took = [step for step in run.steps if step.started is not None and step.ended is not None]
    return sorted(took, key=lambda step: (step.ended or 0.0, step.started or 0.0))


def waited(step: StepRecord) -> float:
    """Seconds between ready and started; 0 for a step that was restored, which waits for nobody."""
    if step.ready is None or step.started is None or step.outcome is Outcome.RESTORED:
        return 0.0
    return max(0.0, step.started - step.ready)


def edges_of(steps: list[StepRecord]) -> Edges:
    """The edges among these steps."""
    needs: dict[str, tuple[str, ...]] = {}
    users: dict[str, list[str]] = {step.label: [] for step in steps}
    for step in steps:
        # A clock that was set back may turn an order round; such an edge is left out.
        needs[step.label] = tuple(need for need in step.needs if need in needs)
        for need in needs[step.label]:
            users[need].append(step.label)
    return Edges(needs=needs, needed_by={label: tuple(found) for label, found in users.items()}, order=tuple(needs))


def profile(run: Run, earlier: Run | None = None) -> Profile:
    """A run's profile; `earlier` is the one that it is compared with."""
    steps = timed(run)
    edges = edges_of(steps)
    by_label = {step.label: step for step in steps}
    seconds_of = {step.label: step.seconds for step in steps}
    critical = [by_label[label] for label in critical_path(edges, by_label, seconds_of)]
    seconds = float(run.end.get("seconds", 0.0))
    began = float(run.end.get("ended", 0.0)) - seconds if run.end else float(run.run.get("started", 0.0))
    first = min((step.started or 0.0 for step in steps), default=began)
    last = max((step.ended or 0.0 for step in steps), default=first)
    working = sum(step.seconds for step in steps)
    span, longest = max(0.0, last - first), sum(step.seconds for step in critical)
    workers = int(run.run.get("workers", 1) or 1)
    return Profile(
        run=str(run.run.get("id", "")), target=str(run.run.get("target", "")), workers=workers,
        counts={o.value: n for o in Outcome if (n := sum(step.outcome is o for step in run.steps))},
        seconds=seconds or max(0.0, last - began), before_steps=max(0.0, first - began), span=span,
        after_steps=max(0.0, seconds - (last - began)) if seconds and steps else 0.0, working=working,
        cpu=sum(step.cpu_seconds for step in steps), waiting=sum(map(waited, steps)),
        achieved=working / span if span else 0.0, possible=working / longest if longest else 0.0,
        saved=sum(map(_saved, run.steps)), critical=tuple(critical),
        slowest=tuple(sorted(steps, key=lambda step: -step.seconds)), gains=tuple(_gains(steps, edges, workers)),
        estimate_errors=estimate_errors(run), comparison=_compared(steps, earlier) if earlier is not None else None,
    )  # fmt: skip


def _saved(step: StepRecord) -> float:
    match step.outcome:
        case Outcome.FRESH:
            return step.predicted or 0.0
        case Outcome.RESTORED:
            return max(0.0, (step.predicted or 0.0) - step.seconds)
        case _:
            return 0.0


def _gains(steps: list[StepRecord], edges: Edges, workers: int) -> list[Gain]:
    """What would make the steps' part of the run shorter, by list scheduling of what they took; the best first."""
    seconds = {step.label: step.seconds for step in steps}
    now = wall_time(edges, seconds, workers)
    gains = [
        Gain(what=f"{label} took no time", seconds=now - wall_time(edges, {**seconds, label: 0.0}, workers))
        for label in sorted(seconds, key=lambda label: -seconds[label])[:CANDIDATES]
    ]
    more = Gain(what=f"{workers * 2} workers", seconds=now - wall_time(edges, seconds, workers * 2))
    return sorted((gain for gain in (*gains, more) if gain.seconds > TINY), key=lambda gain: -gain.seconds)


def estimate_errors(run: Run) -> dict[str, float]:
    """How far what was shown was off, from the record's own samples of (seconds since the start, seconds left)."""
    samples = [(float(at), float(left)) for at, left in run.end.get("eta") or ()]
    steps = timed(run)
    if not samples or not steps:
        return {}
    end = (steps[-1].ended or 0.0) - (float(run.end["ended"]) - float(run.end["seconds"]))
    half = min(samples, key=lambda sample: abs(sample[0] - (samples[0][0] + end) / 2))
    found = {}
    for name, (at, left) in (("start", samples[0]), ("half", half)):
        if end - at >= WORTH_ESTIMATING:
            found[name] = (left - (end - at)) / (end - at)
    return found


def _compared(steps: list[StepRecord], earlier: Run) -> Comparison:
    before = {step.label: step.seconds for step in timed(earlier) if step.outcome is Outcome.BUILT}
    both = [
        Difference(label=step.label, before=before[step.label], now=step.seconds)
        for step in steps
        if step.outcome is Outcome.BUILT and step.label in before
    ]
    both.sort(key=lambda one: -abs(one.now - one.before))
    seconds = float(earlier.end.get("seconds", 0.0))
    return Comparison(
        run=str(earlier.run.get("id", "")), seconds=seconds, ran=len(timed(earlier)), steps=tuple(both)
    )
