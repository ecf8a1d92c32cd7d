"""Finding and reading records of runs, for the commands that look back."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from build_tests.core.errors import BuildError
from build_tests.core.fingerprint import REASONS, Reason
from build_tests.run.places import FOLDER
from build_tests.run.record import Run, StepRecord, list_runs, read


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """One run by its id."""

    id: str
    run: Run

    @property
    def steps(self) -> dict[str, StepRecord]:
        """By label."""
        return {step.label: step for step in self.run.steps}


def folder_of(root: str) -> str:
    """Where the records lie."""
    return os.path.join(root, FOLDER, "runs")


def last(root: str) -> Recorded:
    """The newest run. Raises BuildError where there is none."""
    for recorded in newest_first(root):
        return recorded
    raise BuildError(f"nothing was built here yet ({folder_of(root)} is empty)")


def named(root: str, name: str) -> Recorded:
    """The run that a name means, as `find` has it. Raises BuildError."""
    found = find(list_runs(folder_of(root)), name)
    return Recorded(id=found, run=read(folder_of(root), found))


def find(ids: Sequence[str], name: str) -> str:
    """The run of an id, or of its beginning or end; `last`; `last~1` is the one before. Raises BuildError."""
    if name == "last" or name.startswith("last~"):
        back = name.removeprefix("last").removeprefix("~") or "0"
        found = ids[-1 - int(back) : len(ids) - int(back)] if back.isdigit() and int(back) < len(ids) else []
    else:
        found = [one for one in ids if one == name]
        found = found or [one for one in ids if one.startswith(name) or one.endswith(name)]
    if len(found) != 1:
        what = "several runs are" if found else "no run is"
        raise BuildError(f"{what} called {name!r}; there are {', '.join(ids[-5:]) or 'none'} (or last, last~1 …)")
    return found[0]


def newest_first(root: str) -> Iterator[Recorded]:
    """All runs. One that can't be read is passed over."""
    folder = folder_of(root)
    found = (_readable(folder, run) for run in reversed(list_runs(folder)))
    return (recorded for recorded in found if recorded is not None)


def _readable(folder: str, run: str) -> Recorded | None:
    try:
        return Recorded(id=run, run=read(folder, run))
    except (OSError, KeyError, TypeError, ValueError):
        return None


def reasons_of(step: StepRecord) -> tuple[Reason, ...]:
    """As the record has them; kinds of a newer release are passed over."""
    return tuple(Reason(**reason) for reason in step.reasons if reason.get("kind") in REASONS)


def fingerprints(runs: Iterator[Recorded] | list[Recorded]) -> Mapping[str, list[tuple[str, list[Any]]]]:
    """label → (the run, what the step was made from then), newest first."""
    found: dict[str, list[tuple[str, list[Any]]]] = {}
    for recorded in runs:
        for step in recorded.run.steps:
            if step.fingerprint:
                found.setdefault(step.label, []).append((f"run {recorded.id}", step.fingerprint))
    return found
