"""How a step's record looks in pytest: words, letters, failure texts, JUnit attributes. Decides nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from build_tests.core.fingerprint import Reason
from build_tests.core.model import Outcome
from build_tests.run.record import StepRecord
from build_tests.run.text import duration, scrub
from build_tests.session.items import StepItem

_STATUS = re.compile(r"exit status \d+")
WORDS: dict[Outcome, tuple[str, str, dict[str, bool]]] = {
    Outcome.BUILT: ("built", ".", {"green": True}),
    Outcome.RESTORED: ("restored", "r", {"green": True}),
    Outcome.FRESH: ("up to date", "", {"green": True}),
    Outcome.FAILED: ("failed", "F", {"red": True}),
    Outcome.BLOCKED: ("blocked", "B", {"yellow": True}),
    Outcome.UNAVAILABLE: ("unavailable", "U", {"yellow": True}),
    Outcome.CANCELLED: ("cancelled", "C", {"yellow": True}),
}
"""Each outcome's word in the summary, its letter (a step with nothing to do has none), and its colour."""


class StepFailure:
    """A failed step as pytest shows it: the first real error, the bounded tail, where the whole log lies."""

    class Crash:
        """What pytest puts on the short summary line and in JUnit's message."""

        def __init__(self, message: str, place: str) -> None:
            self.message = message
            self.path, _, numbers = place.partition(":")
            self.lineno = int(numbers.partition(":")[0] or 0)

    def __init__(self, record: StepRecord) -> None:
        self._record = record
        self.twin = ""
        """A step that was shown before with the same error at the same place: one mistake, seen by several."""
        headline = scrub(record.first_error.strip() or record.message)
        # That it failed says the line already; its place is short.
        told = record.message in headline or _STATUS.fullmatch(record.message) is not None
        told_whole = headline if told else f"{scrub(record.message)}: {headline}"
        self.reprcrash = StepFailure.Crash(told_whole, scrub(record.place))

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        record = self._record
        yield scrub(record.message)
        if record.first_error and record.first_error != record.message:
            yield ""
            yield from scrub(record.first_error).splitlines()
        if record.place and record.place not in record.first_error:
            yield f"at {scrub(record.place)}"
        if record.tail and record.tail.strip() != record.first_error.strip():
            yield ""
            yield "the end of its output:"
            yield from ("  " + line for line in scrub(record.tail).splitlines())
        yield from self._where()

    def _where(self) -> Iterator[str]:
        if self._record.log:
            yield f"whole log: {self._record.log}"
            yield f"run it alone: pytest-build build {self._record.label}"

    def toterminal(self, tw: Any) -> None:
        """Write it for people."""
        if self.twin:
            tw.line(f"the same error as {self.twin}, at {scrub(self._record.place)}", red=True)
            for line in self._where():
                tw.line(line)
            return
        lines = str(self).splitlines()
        head = 1 + len(self._record.first_error.splitlines()) + 1 if self._record.first_error else 1
        for number, line in enumerate(lines):
            tw.line(line, red=number < head)


def make_report(item: StepItem, record: StepRecord) -> pytest.TestReport:
    """A report for a step that no worker reported."""
    outcome: Any = "skipped"
    if record.outcome in (Outcome.RESTORED, Outcome.BUILT):
        outcome = "passed"
    elif record.outcome is Outcome.FAILED:
        outcome = "failed"
    when: Any = "setup" if outcome == "skipped" else "call"
    longrepr: Any = None
    if outcome == "skipped":
        longrepr = (str(item.path), 0, f"Skipped: {skip_message(record)}")
    report = pytest.TestReport(
        nodeid=item.nodeid, location=item.location, keywords=dict.fromkeys(item.keywords, 1), outcome=outcome,
        longrepr=longrepr, when=when, duration=record.seconds,
    )  # fmt: skip
    report.build_alone = True  # type: ignore[attr-defined]
    dress(report, record)
    return report


def alike(steps: list[tuple[StepItem, StepRecord]]) -> list[pytest.TestReport]:
    """The reports of steps of one outcome, made by the thousand: all but names is taken from the first."""
    reports: list[pytest.TestReport] = []
    for item, record in steps:
        if not reports:
            reports.append(make_report(item, record))
            continue
        report = pytest.TestReport.__new__(pytest.TestReport)
        report.__dict__.update(
            reports[0].__dict__, nodeid=item.nodeid, location=item.location, keywords=dict.fromkeys(item.keywords, 1),
            sections=[], user_properties=[], build=record,
        )  # fmt: skip
        reports.append(report)
    return reports


def skip_message(record: StepRecord) -> str:
    """The message of JUnit's `<skipped>`."""
    match record.outcome:
        case Outcome.BLOCKED:
            return scrub(record.message)
        case Outcome.UNAVAILABLE:
            return scrub(f"unavailable: {record.message}")
        case _:
            return scrub(f"{WORDS[record.outcome][0]}: {record.message}")


def dress(report: pytest.TestReport, record: StepRecord) -> None:
    """Give a report its record, and a failed one its text."""
    report.build = record  # type: ignore[attr-defined]
    if record.outcome is Outcome.FAILED:
        report.outcome = "failed"
        report.longrepr = StepFailure(record)  # type: ignore[assignment]
        if report.when not in ("setup", "call", "teardown"):  # a crashed worker's
            report.when = "call"
            report.location = (report.location[0], None, record.label)


def status(report: Any, *, verbose: bool) -> tuple[str, str, Any] | None:
    """pytest's (category, letter, word) for a step's report."""
    record: StepRecord | None = getattr(report, "build", None)
    if record is None:
        return None
    word, letter, colour = WORDS[record.outcome]
    # The failed word also heads pytest's short summary lines, where people grep for it.
    shown = "FAILED" if record.outcome is Outcome.FAILED else verbose_word(record) if verbose else word
    return word, letter, (shown, colour)


def verbose_word(record: StepRecord) -> str:
    """What `-v` shows: the outcome with its time and its reason."""
    word = WORDS[record.outcome][0]
    match record.outcome:
        case Outcome.BUILT:
            flaky = f", flaky: passed at attempt {record.attempts}" if record.flaky else ""
            return scrub(f"{word} in {duration(record.seconds)} ({record.message}{flaky})")
        case Outcome.RESTORED:
            why = f"; {Reason(**record.reasons[0])}" if record.reasons else ""
            return scrub(f"{word} in {duration(record.seconds)} ({record.message}{why})")
        case _:
            return word


def name_junit_case(config: pytest.Config, report: pytest.TestReport, record: StepRecord) -> None:
    """pytest's own `--junitxml` makes class and name from the node id; ours are KIND.COMPONENT and the label."""
    xml = junit_of(config)
    if xml is not None:
        reporter = xml.node_reporter(report)
        reporter.add_attribute("classname", f"{record.kind}.{record.label.partition(':')[0]}")
        reporter.add_attribute("name", record.label)


def junit_of(config: pytest.Config) -> Any:
    """pytest's own `--junitxml` writer, or None."""
    from _pytest.junitxml import xml_key

    return config.stash.get(xml_key, None)
