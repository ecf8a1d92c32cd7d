"""What GitHub's CI shows beside the code and on the page of a run, made from the records of steps. Knows no pytest."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from build_tests.core.model import Outcome
from build_tests.run.record import StepRecord
from build_tests.run.text import scrub

MOST = 10
"""Annotations: what GitHub shows of one kind in one step of a job."""
LONGEST = 2_000
"""Characters of one error."""


def in_github(environ: Mapping[str, str]) -> bool:
    """Whether this is a job of GitHub's CI."""
    return environ.get("GITHUB_ACTIONS") == "true"


def folder_of(root: str, environ: Mapping[str, str]) -> str:
    """Where the build's root lies in the repository that the job has checked out; "" = it is its top, or elsewhere."""
    top = environ.get("GITHUB_WORKSPACE", "")
    found = os.path.relpath(os.path.realpath(root), os.path.realpath(top)) if top else "."
    return "" if found == "." or found.startswith("..") else found


def annotation_lines(records: Iterable[StepRecord], folder: str = "") -> Iterator[str]:
    """Lines that GitHub takes from a job's output: an error a failed step, at its place; a warning a flaky one.

    `folder`: as `folder_of` gives it; GitHub takes places from the repository's top.
    """
    listed = list(records)
    for record in [one for one in listed if one.outcome is Outcome.FAILED][:MOST]:
        path, _, numbers = record.place.partition(":")
        line, _, column = numbers.partition(":")
        file = os.path.join(folder, path) if path else ""
        where = [("file", file), ("line", line), ("col", column), ("title", f"{record.label} failed")]
        yield _command("error", where, _error(record))
    for record in [one for one in listed if one.flaky][:MOST]:
        text = f"passed at attempt {record.attempts}: {record.flaky}"
        yield _command("warning", [("title", f"{record.label} is flaky")], text)


def step_summary(records: Iterable[StepRecord]) -> str:
    """Markdown for the page of the run: how many of each outcome, then what failed, in its own words."""
    listed = list(records)
    counts = Counter(record.outcome for record in listed)
    told = ", ".join(f"{counts[outcome]} {outcome.value}" for outcome in Outcome if counts[outcome])
    return "\n".join([f"### Build: {told or 'no steps'}", *_failures(listed), *_others(listed), ""])


def _failures(records: Iterable[StepRecord]) -> Iterator[str]:
    for record in records:
        if record.outcome is Outcome.FAILED:
            place = f" at `{scrub(record.place)}`" if record.place else ""
            # A fence longer than any in the text can't be closed by it.
            fence = "`" * max(3, _longest_ticks(record.first_error) + 1)
            yield f"\n**{record.label}** failed{place}: {_plain(record.message)}\n\n{fence}\n{_error(record)}\n{fence}"


def _others(records: Iterable[StepRecord]) -> Iterator[str]:
    for record in records:
        if record.outcome in (Outcome.BLOCKED, Outcome.UNAVAILABLE):
            yield f"- {record.label}: {record.outcome.value} ({_plain(record.message)})"
        elif record.flaky:
            yield f"- {record.label}: flaky, passed at attempt {record.attempts} ({_plain(record.flaky)})"


def _error(record: StepRecord) -> str:
    return scrub(record.first_error.strip() or record.message)[:LONGEST]


def _plain(text: str) -> str:
    return scrub(text).replace("\n", " ").replace("<", "&lt;")


def _longest_ticks(text: str) -> int:
    longest = run = 0
    for letter in text:
        run = run + 1 if letter == "`" else 0
        longest = max(longest, run)
    return longest


def _command(name: str, properties: Iterable[tuple[str, str]], text: str) -> str:
    given = ",".join(f"{key}={_property(value)}" for key, value in properties if value)
    return f"::{name} {given}::{_data(text)}"


def _data(text: str) -> str:
    return scrub(text).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
