"""The controller's other half: every report of a step, for the terminal, JUnit and other plugins."""

from __future__ import annotations

import json
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Literal

import pytest

from build_tests.core.model import Outcome
from build_tests.session import reporting
from build_tests.session.basis import Basis
from build_tests.session.items import StepItem, attach_result, seed_dependencies

if TYPE_CHECKING:
    from build_tests.run.record import StepRecord

OUTER = ("_pytest.", "xdist.", "build_tests.", "pytest_dependency")
"""Whose report hooks do well without setup and teardown reports of a step."""


class Telling(Basis):
    """Takes results, settles steps with them, and tells everyone."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """pytest-dependency asks for results that no item of this process has left."""
        seed_dependencies(item, item.facts.needs if isinstance(item, StepItem) else tuple(self.went_well))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Put the step's result on its report."""
        report = yield
        attach_result(item, report)
        return report

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> Generator[None, object, object]:
        """A step's report comes in: it settles, and is dressed before anyone else sees it."""
        label = report.nodeid.rpartition("::")[2]
        item = self.items.get(label)
        ours = item is not None and item.nodeid == report.nodeid and self.build is not None
        if ours:
            self._dress(label, report)
        whole = ours and self._wants_phases() and getattr(report, "build_alone", False)
        if whole:
            self._phase(report, "setup")
        result = yield
        if whole:
            self._phase(report, "teardown")
        return result

    def _wants_phases(self) -> bool:
        """Whether a plugin listens that counts on the setup and teardown reports, which steps do without."""
        if self._phases is None:
            listeners = self.config.hook.pytest_runtest_logreport.get_hookimpls()
            self._phases = any(not impl.function.__module__.startswith(OUTER) for impl in listeners)
        return self._phases

    def _phase(self, report: pytest.TestReport, when: Literal["setup", "teardown"]) -> None:
        if report.when != when:
            phase = pytest.TestReport(
                nodeid=report.nodeid, location=report.location, keywords=report.keywords, outcome="passed",
                longrepr=None, when=when,
            )  # fmt: skip
            if (node := getattr(report, "node", None)) is not None:
                # pytest's JUnit file has a case for each node id *and* worker.
                phase.node = node  # type: ignore[attr-defined]
            self.config.hook.pytest_runtest_logreport(report=phase)

    def _dress(self, label: str, report: pytest.TestReport) -> None:
        record: StepRecord | None = getattr(report, "build", None)
        if record is None and label not in self._said and (report.when == "call" or report.failed):
            record = self._settle(label, report)
            if record is not None:
                reporting.dress(report, record)
        if record is not None:
            self._said.add(label)
            shown: Any = report.longrepr
            if isinstance(shown, reporting.StepFailure):
                shown.twin = self._twin_of(record)
            reporting.name_junit_case(self.config, report, record)

    def _twin_of(self, record: StepRecord) -> str:
        """The step that was the first to show this error of this place; "" = this one."""
        first = self._errors.setdefault((record.place, record.first_error), record.label) if record.place else ""
        return first if first != record.label else ""

    def _settle(self, label: str, report: pytest.TestReport) -> StepRecord | None:
        assert self.build is not None  # noqa: S101
        if str(report.outcome) == "rerun":
            return None
        text: str | None = getattr(report, "build_result", None)
        worker = self._workers.get(report.nodeid, "")
        if text is not None:
            from build_tests.run.step import StepResult

            result = StepResult(**json.loads(text))
            if result.ok and report.failed:
                result.ok, result.message = False, str(report.longrepr)
            records = self.build.finish(label, result, worker)
        else:
            why = str(report.longrepr) if report.longrepr else "the worker gave no result"
            crashed = "crashed" in why
            records = self.build.lost(label, f"worker {worker} crashed" if crashed else why, worker)
        if self._live is not None:
            self._live.ended(label)
        self._note(records[:1])
        self._pending += records[1:]
        return records[0]

    def _note(self, records: list[StepRecord]) -> None:
        assert self.checkout is not None  # noqa: S101
        self.checkout.note(records)
        if self._live is not None:
            self._live.settled(records)
        self.went_well += [record.label for record in records if record.outcome.ok]
        for record in records:
            for warning in record.warnings:
                self._say(f"{record.label}: {warning}")

    def _report_pending(self) -> None:
        pending, self._pending = self._pending, []
        self._note([record for record in pending if record.label not in self._said])
        if self._briefly():
            fresh = [record for record in pending if record.outcome is Outcome.FRESH]
            pending = [record for record in pending if record.outcome is not Outcome.FRESH]
            self._report_fresh(fresh)
        for record in pending:
            self._report(record)
        self._report_doomed_tests()

    def _briefly(self) -> bool:
        """Whether nobody wants to hear of each step that is up to date: they are counted for the summary line."""
        if self._reporter is None or self.config.get_verbosity() > 0 or self._wants_phases():
            return False
        return reporting.junit_of(self.config) is None

    def _report_fresh(self, records: list[StepRecord]) -> None:
        items = [self.items[record.label] for record in records]
        reports = reporting.alike([*zip(items, records, strict=True)])
        self._said.update(item.name for item in items)
        self._reporter.stats.setdefault(reporting.WORDS[Outcome.FRESH][0], []).extend(reports)
        # pytest's percentages count these.
        counted: set[str] = getattr(self._reporter, "_progress_nodeids_reported", set())
        counted.update(item.nodeid for item in items)

    def _report(self, record: StepRecord) -> None:
        item = self.items[record.label]
        report = reporting.make_report(item, record)
        alone = self.config.pluginmanager.getplugin("dsession") is None
        if alone:
            self.config.hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        self.config.hook.pytest_runtest_logreport(report=report)
        if alone:
            self.config.hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)

    def _report_doomed_tests(self) -> None:
        """Hand-written tests whose step did not go well are blocked with it."""
        assert self.build is not None  # noqa: S101
        for node, culprit in self.build.doomed_nodes():
            item = self.tests[node]
            report = pytest.TestReport(
                nodeid=node, location=item.location, keywords=dict.fromkeys(item.keywords, 1), outcome="skipped",
                longrepr=(str(item.path), 0, f"Skipped: blocked by {culprit}"), when="setup",
            )  # fmt: skip
            self.config.hook.pytest_runtest_logreport(report=report)

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: Any, config: pytest.Config) -> tuple[str, str, Any] | None:
        """The summary words."""
        if getattr(report, "build", None) is None:
            known = getattr(report, "nodeid", "").rpartition("::")[2] in self.items
            return ("", "", "") if known and getattr(report, "when", "") in ("setup", "teardown") else None
        return reporting.status(report, verbose=config.get_verbosity() > 0)

    @pytest.hookimpl(wrapper=True)
    def pytest_report_collectionfinish(self) -> Generator[None, list[Any], list[Any]]:
        """pytest's own line about `--lf` knows nothing of steps, which were put aside before it looked."""
        lines = yield
        again = len(self._selector.again) if self._selector is not None else 0
        return [_with_steps(line, again) if again else line for line in lines]

    def pytest_report_header(self) -> str | None:
        """One line on what is built."""
        if self.project is None:
            return None
        config = self.project.config
        environment = f", environment {config.environment}" if config.environment else ""
        return f"build: {config.file}, target {self.project.target.name}{environment}"


def _with_steps(line: Any, again: int) -> Any:
    if not isinstance(line, str) or not line.startswith("run-last-failure: "):
        return line
    steps = f"{again} step{'s' if again > 1 else ''} without a good result"
    return f"{line} and {steps}" if "rerun previous" in line else f"run-last-failure: rerun {steps}"
