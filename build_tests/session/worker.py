"""The worker's side: makes the items that the controller named, runs what it is ordered to. Decides nothing."""

from __future__ import annotations

import json
from collections.abc import Generator
from typing import Any

import pytest

from build_tests.core.globs import PathSet
from build_tests.core.model import FLAKY
from build_tests.run.process import die_with_parent
from build_tests.run.step import Order, Runner
from build_tests.session.items import (
    BuildFile,
    StepFacts,
    StepFailedError,
    StepItem,
    Turnstile,
    attach_result,
    seed_dependencies,
)

ORDER = "build_step"
"""The command that carries a step's order."""
SETTLED = "build_settled"
"""The command that carries the steps that went well, before a hand-written test that needs them."""


class Worker:
    """One xdist worker of a build; registered only where the controller sent a build."""

    def __init__(self, config: pytest.Config) -> None:
        sent: dict[str, Any] = config.workerinput["pytest_build"]  # type: ignore[attr-defined]
        # A worker must not outlive a controller that was killed, or its tool would go on.
        die_with_parent(sent["controller"])
        self._config = config
        self._facts = tuple(StepFacts(f[0], f[1], f[2], f[3], tuple(f[4]), tuple(f[5])) for f in sent["steps"])
        self._file = str(sent["file"])
        self._only_steps = bool(sent["only_steps"])
        self._runner = Runner(sent["root"], PathSet.of(sent["excluded"]))
        self._orders: dict[str, Order] = {}
        self._settled: tuple[str, ...] = ()
        self._items: list[pytest.Item] = []
        for word in sent["markers"]:
            config.addinivalue_line("markers", f"{word}: build steps (pytest-build)")

    def _make_items(self, session: pytest.Session) -> None:
        file = BuildFile.make(session, self._file, self._facts)
        self._items = [Turnstile.make(session), *file.collect()]

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self, session: pytest.Session) -> bool | None:
        """Without ordinary tests nothing has to be looked for."""
        session.config.pluginmanager.register(_Adder(self), "build-adder")
        if not self._only_steps:
            return None
        self._make_items(session)
        session.items = list(self._items)
        session.testscollected = len(session.items)
        session.config.hook.pytest_collection_finish(session=session)
        return True

    def pytest_collect_file(self, file_path: Any, parent: pytest.Collector) -> pytest.Collector | None:
        """The build file as an argument must be found here too."""
        if str(file_path) == self._file:
            return BuildFile.make(parent.session, self._file, self._facts)
        return None

    def add_items(self, session: pytest.Session, items: list[pytest.Item]) -> None:
        """All steps and the turnstile, whatever this worker's own selection left of them."""
        self._make_items(session)
        items[:] = [item for item in items if not isinstance(item, StepItem)] + self._items

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self) -> None:
        """Listen for our own commands beside xdist's."""
        interactor = self._config.pluginmanager.getplugin("workerinteractor") or next(
            plugin for plugin in self._config.pluginmanager.get_plugins() if type(plugin).__name__ == "WorkerInteractor"
        )
        theirs = interactor.handle_command

        def handle(command: Any) -> None:
            if isinstance(command, tuple) and command[0] == ORDER:
                order = Order.load(command[1]["order"])
                self._orders[order.label] = order
                theirs(("runtests", {"indices": command[1]["indices"]}))
            elif isinstance(command, tuple) and command[0] == SETTLED:
                self._settled = tuple(json.loads(command[1]["labels"]))
            else:
                theirs(command)

        interactor.handle_command = handle

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
        """The turnstile leaves no trace; a step gets its order."""
        if isinstance(item, Turnstile):
            return True
        if isinstance(item, StepItem):
            item.order, item.runner = self._orders.pop(item.name), self._runner
            return run_protocol(item, nextitem)
        return None

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """pytest-dependency knows only the results of its own process."""
        seed_dependencies(item, item.facts.needs if isinstance(item, StepItem) else self._settled)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Send the step's result along."""
        report = yield
        attach_result(item, report)
        return report

    def pytest_sessionfinish(self) -> None:
        """End the guardian, and with it whatever still runs."""
        self._runner.guardian.close()


class _Adder:
    """Outermost of all that select: registered after every other plugin, so that nothing drops what it adds."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(
        self, session: pytest.Session, items: list[pytest.Item]
    ) -> Generator[None, None, None]:
        yield
        self._worker.add_items(session, items)


def run_protocol(item: StepItem, nextitem: pytest.Item | None) -> bool | None:
    """pytest's own protocol with one report in place of six messages; None leaves it to a plugin that reruns.

    Through xdist's usual messages a step costs several milliseconds more than many a step itself.
    """
    if item.config.getoption("reruns", None) or _marked_by_others(item):
        return None
    said = _just_run(item) if nobody_minds(item.config) else _by_the_book(item, nextitem)
    said.build_alone = True  # type: ignore[attr-defined]
    item.ihook.pytest_runtest_logreport(report=said)
    return True


def _marked_by_others(item: StepItem) -> bool:
    """Whether a conftest wants a plugin to run the step again; a step with that tag is tried again by itself."""
    return item.get_closest_marker(FLAKY) is not None and FLAKY not in item.facts.tags


def _by_the_book(item: StepItem, nextitem: pytest.Item | None) -> pytest.TestReport:
    from _pytest.runner import runtestprotocol

    reports = runtestprotocol(item, log=False, nextitem=nextitem)
    return next((r for r in reports if r.failed), None) or next((r for r in reports if r.when == "call"), reports[0])


def _just_run(item: StepItem) -> pytest.TestReport:
    """Without setup, teardown and the hooks around them, which mean nothing to a step: a millisecond less."""
    failure: str | None = None
    try:
        item.runtest()
    except StepFailedError as error:
        failure = str(error)
    report = pytest.TestReport(
        nodeid=item.nodeid, location=item.location, keywords=dict.fromkeys(item.keywords, 1),
        outcome="failed" if failure else "passed", longrepr=failure, when="call",
    )  # fmt: skip
    attach_result(item, report)
    return report


HARMLESS = (
    "_pytest.", "xdist.", "build_tests.", "pytest_dependency", "_hypothesis_pytestplugin", "pytest_html",
    "pytest_metadata", "pytest_randomly", "pytest_rerunfailures", "pytest_timeout", "pytest_cov", "anyio",
)  # fmt: skip
"""Whose hooks around a test's run have nothing to do with a build step, unless an option says so."""
HOOKS = ("protocol", "setup", "call", "teardown", "makereport")
_MINDS = pytest.StashKey[bool]()


def nobody_minds(config: pytest.Config) -> bool:
    """Whether no plugin and no option wants to be there when an item is run."""
    if _MINDS not in config.stash:
        options = ("reruns", "timeout", "usepdb", "setupshow", "setuponly", "setupplan")
        hooks = [getattr(config.hook, f"pytest_runtest_{name}") for name in HOOKS]
        config.stash[_MINDS] = any(config.getoption(option, None) for option in options) or not all(
            impl.function.__module__.startswith(HARMLESS) for hook in hooks for impl in hook.get_hookimpls()
        )
    return not config.stash[_MINDS]
