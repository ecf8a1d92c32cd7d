"""The controller's first half: what is collected and selected. Decides nothing of what must run."""

from __future__ import annotations

import gc
import os
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import pytest

from build_tests.core.errors import LockHeldError
from build_tests.core.graph import did_you_mean
from build_tests.session.basis import Basis
from build_tests.session.items import BuildFile, StepItem
from build_tests.session.outputs import marked_labels
from build_tests.session.select import Selector

if TYPE_CHECKING:
    from build_tests.project import Project


class Collecting(Basis):
    """Collects steps, and puts together what runs."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Read the build file before anything is collected."""
        if self.named:
            self._load()
        kept: list[StepItem] = []
        session.config.pluginmanager.register(Observer(kept), "build-observer")
        session.config.pluginmanager.register(Chooser(self, kept), "build-chooser")

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self, session: pytest.Session) -> bool | None:
        """Where only the build file is named, nothing is looked for: pytest would list the folders beside it."""
        labels = self._only_build() if self.named else None
        if labels is None:
            return None
        file = BuildFile.make(session, self.file, self.facts())
        items: list[pytest.Item] = list(file.collect())
        if labels:
            known = {item.name for item in items}
            if missing := sorted(labels - known):
                hint = did_you_mean(missing[0], known)
                raise pytest.UsageError(
                    f"there is no step {missing[0]!r} in {file.nodeid}" + (f"; {hint}" if hint else "")
                )
            items = [item for item in items if item.name in labels]
        report = pytest.CollectReport(nodeid=file.nodeid, outcome="passed", longrepr=None, result=list(items))
        self.config.hook.pytest_collectreport(report=report)
        session.items = items
        self.config.hook.pytest_collection_modifyitems(session=session, config=self.config, items=items)
        self.config.hook.pytest_collection_finish(session=session)
        session.testscollected = len(items)
        return True

    def _only_build(self) -> set[str] | None:
        """The labels that node ids name, where every argument is the build file; else None."""
        invoked = str(self.config.invocation_params.dir)
        labels, whole = set(), False
        for argument in self.config.args:
            path, _, label = str(argument).partition("::")
            if os.path.abspath(os.path.join(invoked, path)) != self.file:
                return None
            labels.add(label)
            whole = whole or not label
        return set() if whole else labels

    def pytest_collect_file(self, file_path: Any, parent: pytest.Collector) -> pytest.Collector | None:
        """The build file, where this run names it."""
        if self.named and str(file_path) == self.file:
            return BuildFile.make(parent.session, self.file, self.facts())
        return None

    def choose(self, session: pytest.Session, items: list[pytest.Item], kept: list[StepItem]) -> None:
        """Put together what runs: the steps selected, all that they need, and the ordinary tests.

        Raises:
            pytest.UsageError: a selector, or a marker of a test, names no step.
        """
        tests = [item for item in items if not isinstance(item, StepItem)]
        wanted = {item: self._wanted_by(item) for item in tests}
        needed = {label for labels in wanted.values() for label in labels}
        if not self.named and not needed:
            return
        project = self._load()
        self._check_labels(wanted, project)
        selector = Selector(self.config, project, self.file)
        self._selector = selector
        chosen = selector.choose({item.name for item in kept}, self._unfinished) if self.named else set()
        self._chosen = chosen
        self._labels = chosen | needed
        if not self.config.option.build_no_deps:
            self._labels = project.graph.closure(self._labels)
        elif not self.named:
            self._labels = set()
        made = {item.name: item for item in kept}
        file = BuildFile.make(session, self.file, self.facts())
        facts = {fact.label: fact for fact in file.steps}
        order = project.graph.sorted(self._labels)
        self.items = {label: made.get(label) or file.item(facts[label]) for label in order}
        self.tests = {item.nodeid: item for item in tests}
        self._needs = {
            item.nodeid: [label for label in labels if label in self.items] for item, labels in wanted.items()
        }
        items[:] = [*self.items.values(), *tests]
        # All of this lives until the end: no collection of garbage need look at it, pytest's own least of all.
        gc.freeze()
        if gone := [item for item in kept if item.name not in self.items]:
            self.config.hook.pytest_deselected(items=gone)

    def _wanted_by(self, item: pytest.Item) -> list[str]:
        """The steps that a hand-written test says it needs."""
        labels = marked_labels(item)
        for marker in item.iter_markers("dependency"):
            if marker.kwargs.get("scope") == "session" and self.project is not None:
                known = self.project.graph.steps
                labels.update((name, None) for name in marker.kwargs.get("depends", ()) if name in known)
        return list(labels)

    def _check_labels(self, wanted: dict[pytest.Item, list[str]], project: Project) -> None:
        for item, labels in wanted.items():
            for label in labels:
                if label not in project.graph.steps:
                    hint = did_you_mean(label, project.graph.steps)
                    raise pytest.UsageError(f"{item.nodeid}: build_step names {label!r}, which is no step; {hint}")

    def _unfinished(self) -> set[str]:
        """What failed, was blocked or cancelled and has not gone well since."""
        try:
            return self._open_checkout().unfinished()
        except LockHeldError as error:
            raise pytest.UsageError(str(error)) from None


class Chooser:
    """Outermost of all plugins that select, since it is registered last: what it adds nobody drops."""

    def __init__(self, controller: Collecting, kept: list[StepItem]) -> None:
        self._controller = controller
        self._kept = kept

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(
        self, session: pytest.Session, items: list[pytest.Item]
    ) -> Generator[None, None, None]:
        """After `-k`, `-m`, node ids and `--lf` have chosen among tests, choose among steps."""
        self._kept.clear()
        yield
        self._controller.choose(session, items, self._kept)


class Observer:
    """Innermost of all that select: takes out the steps that `-k` and `-m` left, so that `--lf` can't drop them."""

    def __init__(self, kept: list[StepItem]) -> None:
        self._kept = kept

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Set the steps apart."""
        self._kept += [item for item in items if isinstance(item, StepItem)]
        items[:] = [item for item in items if not isinstance(item, StepItem)]
