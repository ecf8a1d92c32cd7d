"""The state of every step now, made from a plan and from what the last builds left. Runs nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from build_tests.core.fingerprint import Reason
from build_tests.core.graph import Graph
from build_tests.core.plan import Expected, Plan, PlannedStep

VERSION = 1
"""Of the JSON document."""
WRECKED = ("failed", "interrupted", "input-raced")
"""Reasons that are about the last run itself."""


class State(str, Enum):
    """A closed set."""

    FRESH = "fresh"
    STALE = "stale"
    NEVER = "never built"
    FAILED = "failed last time"
    RESTORABLE = "restorable"
    """Not here as it should be, but a cache has it."""
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepState:
    """One step. `reason` is the shortest of `reasons`, in words; seconds are those of its last good run."""

    label: str
    kind: str
    state: State
    reason: str = ""
    reasons: tuple[Reason, ...] = ()
    seconds: float | None = None
    on_request: bool = False

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "label": self.label, "kind": self.kind, "state": self.state.value, "reason": self.reason,
            "reasons": [reason.to_json() for reason in self.reasons], "seconds": self.seconds,
            "on_request": self.on_request,
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """All steps, in the order of the build file."""

    file: str
    target: str
    environment: str | None
    steps: tuple[StepState, ...]

    @property
    def counts(self) -> dict[str, int]:
        """How many steps are in each state; those with none left out."""
        numbers = {state.value: sum(step.state is state for step in self.steps) for state in State}
        return {state: number for state, number in numbers.items() if number}

    def components(self) -> dict[str, list[StepState]]:
        """By component."""
        found: dict[str, list[StepState]] = {}
        for step in self.steps:
            found.setdefault(step.label.partition(":")[0], []).append(step)
        return found

    def to_json(self) -> dict[str, Any]:
        """Plain data for `--json`."""
        return {
            "version": VERSION, "file": self.file, "target": self.target, "environment": self.environment,
            "counts": self.counts,
            "components": [
                {"name": name, "kind": steps[0].kind, "steps": [step.to_json() for step in steps]}
                for name, steps in self.components().items()
            ],
        }  # fmt: skip


def states(graph: Graph, plan: Plan, built: Iterable[str], unfinished: Mapping[str, str]) -> tuple[StepState, ...]:
    """Each step of a plan.

    Args:
        graph: of the build file.
        plan: over all the steps.
        built: the labels that have a good result here, old or not.
        unfinished: label → how its last run ended, where that was badly.
    """
    known = set(built)
    planned = {step.label: step for step in plan.steps}
    return tuple(
        StepState(
            label=label, kind=step.kind, state=_state(one, known, unfinished), reason=_shortest(one),
            reasons=one.reasons, seconds=one.seconds, on_request=step.on_request,
        )
        for label, step in graph.steps.items()
        if (one := planned.get(label)) is not None
    )  # fmt: skip


def _state(step: PlannedStep, built: set[str], unfinished: Mapping[str, str]) -> State:
    match step.expected:
        case Expected.FRESH:
            return State.FRESH
        case Expected.RESTORE:
            return State.RESTORABLE
        case Expected.UNAVAILABLE:
            return State.UNAVAILABLE
        case Expected.BUILD | Expected.BEHIND | Expected.FAIL:
            wrecked = any(reason.kind in WRECKED for reason in step.reasons)
            if wrecked or unfinished.get(step.label) == "failed" or step.expected is Expected.FAIL:
                return State.FAILED
            return State.STALE if step.label in built else State.NEVER


def _shortest(step: PlannedStep) -> str:
    return step.note or min((str(reason) for reason in step.reasons), key=len, default="")
