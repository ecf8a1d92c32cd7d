"""Build steps as pytest nodes. Knows labels and how a step's result becomes a report; not when anything runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

if TYPE_CHECKING:
    from build_tests.run.step import Order, Runner, StepResult


class StepFacts(NamedTuple):
    """What pytest must know of a step; plain, since workers get it through xdist."""

    label: str
    kind: str
    component: str
    name: str
    tags: tuple[str, ...]
    needs: tuple[str, ...]


class StepFailedError(Exception):
    """A step's run ended badly; only carries that to pytest's report."""


class BuildFile(pytest.Collector):
    """The build file as a collector.

    Its parent is the session and its name is empty, since names of folders and files are keywords for `-k`: `-k build`
    would select everything. It is no `pytest.File`, since `--lf` prunes those by what pytest remembers, not we.
    """

    steps: tuple[StepFacts, ...] = ()
    _relative: str | None = None
    _marks: dict[str, pytest.MarkDecorator]

    @classmethod
    def make(cls, session: pytest.Session, path: str, steps: tuple[StepFacts, ...]) -> BuildFile:
        """The one collector of a session."""
        where = Path(path)
        try:
            nodeid = where.relative_to(session.config.rootpath).as_posix()
        except ValueError:
            nodeid = where.as_posix()
        made: BuildFile = cls.from_parent(session, name="", path=where, nodeid=nodeid)
        made.steps, made._marks = steps, {}
        return made

    def collect(self) -> Iterator[pytest.Item]:
        """One item a step, in the build file's order."""
        for facts in self.steps:
            yield self.item(facts)

    def item(self, facts: StepFacts) -> StepItem:
        """A step's item with its markers."""
        item: StepItem = StepItem.from_parent(self, name=facts.label)
        item.facts = facts
        if self._relative is None:
            self._relative = item.location[0]
        # What pytest would work out for each item alone; it is the same for all.
        item.location = (self._relative, None, domain_of(facts.label))
        for word in dict.fromkeys((facts.kind, *facts.tags)):
            if word not in self._marks:
                self._marks[word] = getattr(pytest.mark, word)
            item.add_marker(self._marks[word])
        item.extra_keyword_matches.update((facts.component, facts.name))
        if self.config.pluginmanager.hasplugin("dependency"):
            item.add_marker(pytest.mark.dependency(name=facts.label, depends=list(facts.needs), scope="session"))
        return item


class StepItem(pytest.Item):
    """One build step."""

    facts: StepFacts
    order: Order | None = None
    runner: Runner | None = None
    result: StepResult | None = None

    def runtest(self) -> None:
        """Run the step; its result stays on the item for the report."""
        if self.order is None or self.runner is None:
            raise RuntimeError(f"{self.name} was started without an order")
        self.result = self.runner.run(self.order)
        # Should a plugin run the item again, whatever lies in the outputs is our own half-done work.
        self.order.interrupted = True
        if not self.result.ok:
            raise StepFailedError(self.result.message)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:  # noqa: ARG002
        """The failure in one line; the controller makes the long form from the record."""
        if isinstance(excinfo.value, StepFailedError):
            return str(excinfo.value)
        return super().repr_failure(excinfo)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Where it is from, for pytest's reports."""
        return self.path, None, domain_of(self.name)


def domain_of(label: str) -> str:
    """What pytest takes for a test's dotted name: at the end of a node id it would write `::` for each dot."""
    return f" {label}" if "." in label else label


class Turnstile(pytest.Item):
    """Does nothing. A worker starts a queued item only when it knows the next one, and this is that next one.

    Its parent is the session itself: as `nextitem` it keeps session fixtures and nothing else.
    """

    NAME = "::turnstile"

    @classmethod
    def make(cls, session: pytest.Session) -> Turnstile:
        """The one of a session."""
        made: Turnstile = cls.from_parent(session, name=cls.NAME)
        return made

    def runtest(self) -> None:
        """Never called: the worker's protocol passes over it."""
        raise AssertionError("the turnstile must not run")


def attach_result(item: pytest.Item, report: pytest.TestReport) -> None:
    """Put a step's result on its report, in a form that survives the trip from a worker."""
    import json

    if isinstance(item, StepItem) and item.result is not None and report.when == "call":
        report.build_result = json.dumps(item.result.to_json())  # type: ignore[attr-defined]
        report.duration = item.result.seconds


def seed_dependencies(item: pytest.Item, labels: tuple[str, ...]) -> None:
    """Tell pytest-dependency, whose results are those of one process, that these steps went well."""
    if not labels or not item.config.pluginmanager.hasplugin("dependency"):
        return
    import pytest_dependency

    manager = pytest_dependency.DependencyManager.getManager(item, scope="session")
    for label in labels:
        status = manager.results.setdefault(label, pytest_dependency.DependencyItemStatus())
        status.results.update({"setup": "passed", "call": "passed", "teardown": "passed"})
