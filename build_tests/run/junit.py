"""The JUnit report of a run's steps (xunit2), written without pytest. Knows records, no session."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable

from build_tests.core.model import Outcome
from build_tests.run.record import StepRecord
from build_tests.run.state import write_atomically
from build_tests.run.text import scrub

_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
_IN_ATTRIBUTES = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\n": "&#10;", "\r": "&#13;", "\t": "&#9;"}
)

MESSAGE_LIMIT = 500
"""Characters of a message attribute."""


def render(records: Collection[StepRecord], *, name: str, timestamp: str, seconds: float) -> str:
    """The whole document: one suite for the steps, one for each step whose own tool reported cases."""
    failures = sum(record.outcome is Outcome.FAILED for record in records)
    skipped = sum(not _passes(record) and record.outcome is not Outcome.FAILED for record in records)
    head = (
        f'<testsuite name={_quoted(name)} errors="0" failures="{failures}" skipped="{skipped}" '
        f'tests="{len(records)}" time="{seconds:.3f}" timestamp={_quoted(timestamp)}>'
    )
    cases = "".join(case(record) for record in records)
    suites = "".join(own_cases(record) for record in records)
    return (
        f'<?xml version="1.0" encoding="utf-8"?>\n<testsuites name={_quoted(name)}>{head}{cases}</testsuite>'
        f"{suites}</testsuites>\n"
    )


def case(record: StepRecord) -> str:
    """One step's `<testcase>`."""
    component = record.label.partition(":")[0]
    head = f'<testcase classname="{record.kind}.{component}" name="{record.label}" time="{record.seconds:.3f}"'
    body = _body(record)
    return f"{head}>{body}</testcase>" if body else f"{head} />"


def own_cases(record: StepRecord) -> str:
    """The `<testsuite>` of the cases that the step's own tool reported, or ""."""
    if not record.cases or record.outcome not in (Outcome.BUILT, Outcome.RESTORED, Outcome.FAILED):
        return ""
    count = record.cases.count("<testcase ")
    failures, errors = record.cases.count("<failure"), record.cases.count("<error")
    return (
        f'<testsuite name="{record.label}" tests="{count}" failures="{failures}" errors="{errors}" '
        f'skipped="{record.cases.count("<skipped")}" time="{record.seconds:.3f}">{record.cases}</testsuite>'
    )


def flaky(record: StepRecord) -> str:
    """The element of a step that passed only on a retry, or ""."""
    return f'<flakyFailure message={_attribute(record.flaky)} type="retry" />' if record.flaky else ""


def traced(record: StepRecord) -> str:
    """The element that tells of a trace which is not clean, or ""."""
    status = record.trace.get("status", "clean")
    if status == "clean":
        return ""
    lines = [f"trace: {status}", *record.trace.get("why", ()), *record.warnings]
    return f"<system-out>{escape(scrub(chr(10).join(lines)))}</system-out>"


def _body(record: StepRecord) -> str:
    match record.outcome:
        case Outcome.BUILT | Outcome.RESTORED:
            return flaky(record) + traced(record) + _why(record)
        case Outcome.FAILED:
            first = record.first_error.strip() or record.message
            text = "\n".join(part for part in (record.message, record.first_error, record.tail) if part)
            return f"<failure message={_attribute(first)}>{escape(scrub(text))}</failure>{traced(record)}"
        case Outcome.FRESH:
            return f'<skipped type="pytest.skip" message={_attribute(f"up to date: {record.message}")} />'
        case Outcome.BLOCKED:
            return f'<skipped type="pytest.skip" message={_attribute(record.message)} />'
        case Outcome.UNAVAILABLE:
            return f'<skipped type="pytest.skip" message={_attribute(f"unavailable: {record.message}")} />'
        case Outcome.CANCELLED:
            return f'<skipped type="pytest.skip" message={_attribute(f"cancelled: {record.message}")} />'


def _why(record: StepRecord) -> str:
    """A case that passed has no message: its reasons are its output."""
    if not record.reasons:
        return ""
    from build_tests.core.fingerprint import Reason

    reasons = "; ".join(str(Reason(**reason)) for reason in record.reasons[:10])
    came = record.message if record.outcome is Outcome.RESTORED else "built"
    return f"<system-out>{escape(scrub(f'{came}: {reasons}'[:MESSAGE_LIMIT]))}</system-out>"


def _passes(record: StepRecord) -> bool:
    return record.outcome in (Outcome.BUILT, Outcome.RESTORED)


def _attribute(text: str) -> str:
    text = scrub(text)
    if len(text) > MESSAGE_LIMIT:
        text = text[: MESSAGE_LIMIT - 1] + "…"
    return _quoted(text)


def escape(text: str) -> str:
    """For element content. (xml.sax.saxutils does this too, and imports urllib and http for it.)"""
    return text.translate(_ESCAPES)


def _quoted(text: str) -> str:
    """A quoted attribute value."""
    return f'"{text.translate(_IN_ATTRIBUTES)}"'


def write(path: str, document: str) -> None:
    """Write the report in one piece. Raises OSError."""
    # Waiting for the disk is half of what a build of a thousand unchanged steps would cost.
    write_atomically(path, document.encode("utf-8", "replace"), durable=False)


def add_own_cases(path: str, records: Iterable[StepRecord]) -> None:
    """Add what pytest's own `--junitxml` can't hold to the file that it wrote: tools' cases, flaky steps, traces.

    Raises OSError.
    """
    suites = "".join(own_cases(record) for record in records)
    beside = {record.label: said for record in records if (said := flaky(record) + traced(record))}
    if (not suites and not beside) or not os.path.exists(path):
        return
    with open(path, encoding="utf-8") as file:
        text = file.read()
    for label, element in beside.items():
        text = _into_case(text, label, element)
    write(path, text.replace("</testsuites>", f"{suites}</testsuites>"))


def _into_case(text: str, label: str, element: str) -> str:
    import re

    # In texts, where a step may have printed anything, no `<` is left.
    found = re.search(rf'<testcase [^<>]*\bname="{re.escape(label)}"[^<>]*>', text)
    if found is None:
        return text
    end = found.end() - 1
    if text[end - 1] == "/":
        return f"{text[: end - 1].rstrip()}>{element}</testcase>{text[end + 1 :]}"
    # Behind what pytest wrote: the schema has an order.
    end = text.find("</testcase>", end)
    return f"{text[:end]}{element}{text[end:]}"
