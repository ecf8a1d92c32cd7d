"""The controller's side of a build: collects, selects, drives the build, makes every report of a step.

One object a session holds all state. It works alike without xdist, where the same code also runs the steps, and with
it: then xdist starts late, only if something must run, with our scheduling.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import sys
import time
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Literal

import pytest

from build_tests.checkout import Begun, Checkout, Wishes, declared_outputs, worker_count
from build_tests.core.collector import collector_paused
from build_tests.core.errors import BuildError, ConfigError, LockHeldError, SelectionError
from build_tests.core.globs import PathSet
from build_tests.core.graph import did_you_mean
from build_tests.core.model import Outcome
from build_tests.project import Project, load_project
from build_tests.run.build import Build
from build_tests.run.record import StepRecord
from build_tests.run.signals import interruptible
from build_tests.session import reporting
from build_tests.session.items import BuildFile, StepFacts, StepItem, Turnstile, attach_result, seed_dependencies
from build_tests.session.outputs import marked_labels
from build_tests.session.select import Selector

if TYPE_CHECKING:
    from build_tests.run.step import Order
    from build_tests.session.live import Live
    from build_tests.session.schedule import BuildScheduling

OUTER = ("_pytest.", "xdist.", "build_tests.", "pytest_dependency")
"""Whose report hooks do well without setup and teardown reports of a step."""


class Controller:
    """See the module's text. `named`: the run was asked to build; else only `build_step` markers bring it in."""

    def __init__(self, config: pytest.Config, file: str, *, named: bool) -> None:
        self.config = config
        self.file = file
        self.named = named
        self.project: Project | None = None
        self.checkout: Checkout | None = None
        self.build: Build | None = None
        self.items: dict[str, StepItem] = {}
        self.tests: dict[str, pytest.Item] = {}
        self.went_well: list[str] = []
        self._selector: Selector | None = None
        self._turnstile: Turnstile | None = None
        self._pending: list[StepRecord] = []
        self._said: set[str] = set()
        self._workers: dict[str, str] = {}
        self._live: Live | None = None
        self._labels: set[str] = set()
        self._chosen: set[str] = set()
        self._needs: dict[str, list[str]] = {}
        self._started = time.time()
        self._maxfail_hit = False
        self._begun = False
        self._phases: bool | None = None
        self._total: tuple[pytest.Session, int] | None = None
        self._handed = next((p for p in config.pluginmanager.get_plugins() if isinstance(p, Begun)), None)
        # xdist registers nothing at configure time: pytest collects and selects here, as without it.
        option = config.option
        self._dist, self._tx = getattr(option, "dist", "no"), list(getattr(option, "tx", None) or [])
        if hasattr(option, "dist") and not option.collectonly:
            option.dist, option.tx = "no", []

    # Collection

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Read the build file before anything is collected."""
        if self.named:
            self._load()
        kept: list[StepItem] = []
        session.config.pluginmanager.register(Observer(kept), "build-observer")
        session.config.pluginmanager.register(Chooser(self, kept), "build-chooser")

    def _load(self) -> Project:
        if self.project is None:
            option = self.config.option
            if self._handed is not None:
                self.project = self._handed.checkout.project
                self._register_markers(self.project)
                return self.project
            try:
                self.project = load_project(self.file, target=option.build_target, environment=option.build_env)
            except ConfigError as error:
                raise pytest.UsageError(f"the build file is wrong\n\n{error}") from None
            except SelectionError as error:
                raise pytest.UsageError(str(error)) from None
            self._register_markers(self.project)
        return self.project

    def _register_markers(self, project: Project) -> None:
        theirs = {line.partition(":")[0].partition("(")[0].strip() for line in self.config.getini("markers")}
        words = self._words(project)
        for step in project.graph.steps.values():
            for tag in step.tags:
                if tag in theirs:
                    raise pytest.UsageError(f"{step.where}: tag {tag!r} is the name of a pytest marker; choose another")
        for word in sorted(words - theirs):
            self.config.addinivalue_line("markers", f"{word}: build steps (pytest-build)")

    @staticmethod
    def _words(project: Project) -> set[str]:
        return {word for step in project.graph.steps.values() for word in (step.kind, *step.tags)}

    def facts(self) -> tuple[StepFacts, ...]:
        """Every step of the build file, as items need them."""
        graph = self._load().graph
        return tuple(
            StepFacts(label, step.kind, step.component, step.name, step.tags, graph.needs[label])
            for label, step in graph.steps.items()
        )

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
        return self._open_checkout().unfinished()

    def declared_outputs(self) -> dict[str, list[str]] | None:
        """label → absolute paths (or image references), for the fixture."""
        if self.project is None:
            return None
        return declared_outputs(self.project)

    # Running

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        """Report what is fresh; start workers only for what must run."""
        if self.config.option.collectonly:
            return None
        if not self.items:
            return self._hand_over(session)
        if session.testsfailed and not session.config.option.continue_on_collection_errors:
            return None
        if self.config.option.build_dry_run:
            return self._print_plan()
        with interruptible():
            try:
                self._run(session)
            except ConfigError as error:
                raise pytest.UsageError(f"the build file is wrong\n\n{error}") from None
            except LockHeldError as error:
                raise pytest.UsageError(str(error)) from None
        return True

    def _hand_over(self, session: pytest.Session) -> bool | None:
        """No step in this run: xdist and pytest go on as if we were not there."""
        if self._dist == "no" or not self._tx or (self.named and not session.items):
            return None
        return self._start_workers(session, len(self._tx))

    def _open_checkout(self) -> Checkout:
        if self.checkout is None:
            option = self.config.option
            wishes = Wishes(
                accept=option.build_accept, force=option.build_force, shuffle=option.build_shuffle,
                no_wait=option.build_no_wait, workers=self._worker_count(), dry=option.build_dry_run,
                cache=option.build_cache, trace=option.build_trace,
                argv=tuple(self.config.invocation_params.args), forget=bool(getattr(option, "cacheclear", False)),
            )  # fmt: skip
            folder = self._state_folder()
            self.checkout = self._taken_over(wishes, folder) or Checkout(
                project=self._load(), state_folder=folder, wishes=wishes, say=self._say
            )
        return self.checkout

    def _taken_over(self, wishes: Wishes, folder: str | None) -> Checkout | None:
        """The checkout of a run that was begun before this session, if it is the very run that is wanted here."""
        begun = self._handed
        if begun is None:
            return None
        same = begun.checkout.wishes == wishes and begun.checkout.state_folder == folder
        if not same or begun.labels != self._labels or self._needs:
            self._handed = None
            begun.checkout.abandon()
            return None
        begun.checkout.say = self._say
        return begun.checkout

    def _begin(self, checkout: Checkout) -> Build:
        if self._handed is not None:
            self._pending += self._handed.settled
            return self._handed.build
        return checkout.begin(self._labels, self._needs, self._chosen)

    def _state_folder(self) -> str | None:
        """pytest's cache folder for us; None where there is none, or it can't be made."""
        cache = getattr(self.config, "cache", None)
        try:
            return str(cache.mkdir("build")) if cache is not None else None
        except OSError as error:
            self._say(f"pytest's cache folder can't be used ({error.strerror}): hashes go to .build")
            return None

    def _worker_count(self) -> int:
        """What -n gives, capped by the build file; 1 in one process."""
        return worker_count(self._load(), 0 if self._dist == "no" else len(self._tx))

    @property
    def tx_count(self) -> int:
        """How many workers -n asks for."""
        return len(self._tx)

    @property
    def _reporter(self) -> Any:
        return self.config.pluginmanager.getplugin("terminalreporter")

    def _say(self, line: str) -> None:
        reporter = self._reporter
        if reporter is not None:
            reporter.ensure_newline()
            reporter.write_line(f"build: {line}", yellow=True)
        else:
            print(f"build: {line}", file=sys.stderr)

    def _print_plan(self) -> bool:
        from build_tests.core.plantext import plan_lines

        plan = self._open_checkout().plan(self._labels, self._chosen)
        reporter = self._reporter
        for line in plan_lines(plan):
            if reporter is not None:
                reporter.write_line(line)
        return True

    def _named_labels(self) -> set[str]:
        return self._selector.named if self._selector is not None else set()

    def _run(self, session: pytest.Session) -> None:
        checkout = self._open_checkout()
        self.build = build = self._begin(checkout)
        self._begun = True
        with collector_paused():
            self.advance()
        if not len(build.frontier):
            return
        checkout.about_to_run()
        self._live = self._make_live(build)
        self._live.start()
        try:
            if self._worker_count() > 1 or (self._tx and self._dist != "no" and self._load().target.parallel):
                self._in_parallel(session, build)
            else:
                self._serial(session)
        finally:
            self._live.stop()
            if samples := self._live.samples():
                checkout.facts["eta"] = samples

    def _make_live(self, build: Build) -> Live:
        # What is needed only now is imported only now: most builds find nothing to do.
        from functools import partial

        from build_tests.session.live import Live
        from build_tests.session.progress import Progress, forecast_of

        left = [node for node in build.frontier.unsettled() if node in build.graph.steps]
        progress = Progress(
            total=len(left), forecast=partial(forecast_of, build, left, self._worker_count()),
            began=time.monotonic() - max(0.0, time.time() - self._started),
        )  # fmt: skip
        return Live(self.config, self.config.option.build_output, progress)

    def _in_parallel(self, session: pytest.Session, build: Build) -> None:
        """In workers; where they would gain nothing, or less than they cost to start, in threads of our own."""
        from build_tests.session.lane import are_enough
        from build_tests.session.worker import nobody_minds

        count = max(1, min(self._worker_count(), len(build.frontier)))
        short = self.config.option.build_lanes or build.one_after_other or are_enough(build.predicted(), count)
        if short and not self.tests and nobody_minds(self.config):
            self._in_lanes(session, build, count)
        else:
            self._start_workers(session, count)

    def _in_lanes(self, session: pytest.Session, build: Build, count: int) -> None:
        from build_tests.run.step import Runner
        from build_tests.session.lane import Lanes

        root, excluded = build.setup.config.root, PathSet.of(build.decider.excluded)
        with contextlib.closing(Lanes(lambda: Runner(root, excluded), count)) as lanes:
            while len(build.frontier):
                while lanes.free and (taken := self.take_step("")) is not None:
                    lanes.send(taken[1])
                if lanes.idle:
                    raise BuildError(f"nothing can run, and these wait: {build.frontier.unsettled()[:5]}")
                label, result = lanes.wait()
                if self._live is not None:
                    self._live.ended(label)
                self._pending += build.finish(label, result)
                self.advance()
                self._stop_if_asked(session)

    def _start_workers(self, session: pytest.Session, count: int) -> bool:
        from xdist.dsession import DSession, Interrupted

        self.config.option.dist, self.config.option.tx = self._dist, self._tx[:count]
        dsession = DSession(self.config)
        if self._live is not None and self._live.viewing:
            # xdist's count of workers is a line without an end, which the next report would be written behind.
            dsession.trdist._isatty = False  # noqa: SLF001
            dsession.trdist.ensure_show_status = lambda: None
        self.config.pluginmanager.register(dsession, "dsession")
        reporter = self._reporter
        if reporter is not None:
            reporter.showfspath = False
        dsession.pytest_sessionstart(session)
        self._total = (session, session.testscollected)
        try:
            dsession.pytest_runtestloop()
        except Interrupted as interrupted:
            # pytest ends -x with 1, xdist alone with 2.
            if session.shouldfail or "stopping after" in str(interrupted):
                self._maxfail_hit = True
                raise session.Failed(str(session.shouldfail or interrupted)) from None
            raise
        finally:
            self.recount()
        return True

    def recount(self) -> None:
        """pytest's percentages are of what we collected; xdist takes what its last worker knows of for all."""
        if self._total is not None:
            self._total[0].testscollected = self._total[1]

    def _serial(self, session: pytest.Session) -> None:
        from build_tests.run.step import Runner

        assert self.build is not None and self.project is not None  # noqa: S101, PT018
        self._turnstile = Turnstile.make(session)
        runner = Runner(self.project.config.root, PathSet.of(self.build.decider.excluded))
        with contextlib.closing(runner.guardian):
            while len(self.build.frontier):
                if (taken := self.take_step("")) is not None:
                    item, order = taken
                    item.order, item.runner = order, runner
                    self._protocol(item, self._following())
                elif group := self.take_tests():
                    for test, following in zip(group, [*group[1:], None], strict=True):
                        with self._terminal_for_test():
                            self._protocol(test, following or self._following())
                        self.complete(test.nodeid)
                        self._stop_if_asked(session)
                else:
                    raise BuildError(f"nothing can run, and these wait: {self.build.frontier.unsettled()[:5]}")
                self._stop_if_asked(session)
                self.advance()

    def _terminal_for_test(self) -> contextlib.AbstractContextManager[None]:
        """A hand-written test may print to the terminal itself (`-s`)."""
        return self._live.aside() if self._live is not None else contextlib.nullcontext()

    def _following(self) -> pytest.Item | None:
        """What pytest is told comes next: only the last item may tear the session's fixtures down."""
        last = self.build is None or len(self.build.frontier) <= 1
        return None if last else self._turnstile

    def _protocol(self, item: pytest.Item, following: pytest.Item | None) -> None:
        if isinstance(item, StepItem):
            from build_tests.session.worker import run_protocol

            self.config.hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
            if run_protocol(item, following):
                self.config.hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
                return
        self.config.hook.pytest_runtest_protocol(item=item, nextitem=following)

    @staticmethod
    def _stop_if_asked(session: pytest.Session) -> None:
        if session.shouldfail:
            raise session.Failed(session.shouldfail)
        if session.shouldstop:
            raise session.Interrupted(session.shouldstop)

    # What the scheduler asks

    @property
    def exhausted(self) -> bool:
        """Whether nothing is left that could still be started."""
        return self.build is None or not len(self.build.frontier)

    def advance(self) -> None:
        """Decide what became ready, and report what settled."""
        if self.build is None:
            return
        self._pending += self.build.advance()
        if self._begun:
            self._report_pending()

    def take_step(self, worker: str) -> tuple[StepItem, Order] | None:
        """The most urgent step that may start now."""
        if self.checkout is not None:
            self.checkout.may_run()
        order = self.build.take() if self.build is not None else None
        if order is None:
            return None
        item = self.items[order.label]
        self._workers[item.nodeid] = worker
        if self._live is not None:
            self._live.started(order.label, order.log)
        return item, order

    def take_tests(self) -> list[pytest.Item]:
        """Ordinary tests that may run now: those of one file."""
        if self.build is None:
            return []
        ready = [node for node in self.build.frontier.ready() if node in self.tests]
        if not ready:
            return []
        path = self.tests[ready[0]].path
        group = [node for node in ready if self.tests[node].path == path]
        for node in group:
            self.build.frontier.take(node)
        return [self.tests[node] for node in group]

    def complete(self, nodeid: str) -> None:
        """An item is through on its worker."""
        if self.build is None or nodeid not in self.tests:
            return
        if nodeid in self.build.frontier:
            self.build.node_settled(nodeid)

    def put_back(self, nodeids: list[str]) -> None:
        """These were sent to a worker that is gone before it began with them."""
        if self.build is not None:
            self.build.frontier.put_back([nodeid for nodeid in nodeids if nodeid in self.tests])

    def lost_test(self, item: pytest.Item, why: str) -> None:
        """A test that can't be run: never silent."""
        report = pytest.TestReport(
            nodeid=item.nodeid, location=item.location, keywords={}, outcome="failed", longrepr=why, when="call"
        )
        self.config.hook.pytest_runtest_logreport(report=report)
        self.complete(item.nodeid)

    # Reports

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
            reporting.name_junit_case(self.config, report, record)

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

    def pytest_report_header(self) -> str | None:
        """One line on what is built."""
        if self.project is None:
            return None
        config = self.project.config
        environment = f", environment {config.environment}" if config.environment else ""
        return f"build: {config.file}, target {self.project.target.name}{environment}"

    # xdist

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """What a worker needs: plain data, so that it reads no configuration."""
        if self.build is None or self.project is None:
            return
        node.workerinput["pytest_build"] = {
            "controller": os.getpid(),
            "file": self.file,
            "root": self.project.config.root,
            "excluded": self.build.decider.excluded,
            "only_steps": not self.tests,
            "markers": sorted(self._words(self.project)),
            "outputs": self.declared_outputs(),
            "steps": [
                [*item.facts[:4], list(item.facts.tags), list(item.facts.needs)]
                for item in self.items.values()
                if item.name in self.build.frontier
            ],
        }

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_make_scheduler(self) -> BuildScheduling | None:
        """Ours where there are steps; xdist's own otherwise."""
        from build_tests.session.schedule import BuildScheduling

        return BuildScheduling(self) if self.build is not None else None

    # The end

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Every step gets an outcome; what was learned is saved; the exit status says it all."""
        if self.checkout is None:
            return
        if self.build is not None:
            why = "the run was stopped" if exitstatus == pytest.ExitCode.INTERRUPTED else "the run ended early"
            for record in self.build.cancel(why):
                self._pending.append(record)
            self._report_pending()
            session.exitstatus = self._exit_status(session)
        self.checkout.close(int(session.exitstatus), self._started)
        for line in (*self.checkout.warnings, *self.checkout.notes):
            self._say(line)
        if self.build is not None and self._begun:
            self._tell_github(self.build)
        gc.freeze()

    def _tell_github(self, build: Build) -> None:
        from build_tests.run import github

        environ = build.setup.environ
        if not github.in_github(environ) or self._reporter is None:
            return
        self._reporter.ensure_newline()
        for line in github.annotation_lines(build.records.values()):
            self._reporter.write_line(line)
        if path := environ.get("GITHUB_STEP_SUMMARY"):
            try:
                with open(path, "a", encoding="utf-8") as file:
                    file.write(github.step_summary(build.records.values()))
            except OSError as error:
                self._say(f"{path}: the step summary can't be written ({error.strerror})")

    def _exit_status(self, session: pytest.Session) -> int:
        assert self.build is not None and self.checkout is not None  # noqa: S101, PT018
        status = int(session.exitstatus)
        lost = self.items.keys() - self.build.records.keys()
        unsaid = self.build.records.keys() - self._said
        if lost or unsaid:
            self._say(f"internal error: steps without an outcome: {', '.join(sorted(lost | unsaid))}")
            return int(pytest.ExitCode.INTERNAL_ERROR)
        if status == pytest.ExitCode.OK and self.checkout.failed_otherwise(self.build, self._named_labels()):
            return int(pytest.ExitCode.TESTS_FAILED)
        if status == pytest.ExitCode.OK and any(r.outcome is Outcome.FAILED for r in self.build.records.values()):
            return int(pytest.ExitCode.TESTS_FAILED)
        return status

    @pytest.hookimpl(trylast=True)
    def pytest_unconfigure(self) -> None:
        """pytest has written its `--junitxml` by now: add what it can't hold."""
        path = getattr(self.config.option, "xmlpath", None)
        if path and self.build is not None:
            from build_tests.run.junit import add_own_cases

            try:
                add_own_cases(os.path.expanduser(os.path.expandvars(path)), self.build.records.values())
            except OSError as error:
                self._say(f"{path}: tools' own cases can't be added ({error.strerror})")
        if self.checkout is not None:
            self.checkout.release()


class Chooser:
    """Outermost of all plugins that select, since it is registered last: what it adds nobody drops."""

    def __init__(self, controller: Controller, kept: list[StepItem]) -> None:
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
