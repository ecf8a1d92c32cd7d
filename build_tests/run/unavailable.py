"""What was missing in a run, once each, with the steps that it kept from being built."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from build_tests.core.model import Outcome
from build_tests.run.record import StepRecord

SHOWN = 6
"""Labels that are named of those that one thing is missing for."""


def lines(records: Iterable[StepRecord]) -> Iterator[str]:
    """For people: a line for each missing tool or engine."""
    without = [record for record in records if record.outcome is Outcome.UNAVAILABLE]
    causes = {record.label: record.message for record in without if not record.culprit}
    kept: dict[str, list[str]] = {}
    for record in without:
        kept.setdefault(causes.get(record.culprit or record.label, record.message), []).append(record.label)
    for cause, labels in kept.items():
        more = f" and {len(labels) - SHOWN} more" if len(labels) > SHOWN else ""
        yield f"{cause}; so not built: {', '.join(labels[:SHOWN])}{more}"
