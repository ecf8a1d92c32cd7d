"""The controller's side of a build: drives it, and answers the scheduler.

One object a session holds all state. It works alike without xdist, where the same code also runs the steps, and with
it: then xdist starts late, only if something must run, with our scheduling.
"""

from __future__ import annotations

import contextlib
import gc
import os
import time
from typing import TYPE_CHECKING, Any

import pytest

from build_tests.core.collector import collector_paused
from build_tests.core.errors import BuildError, ConfigError, LockHeldError
from build_tests.core.globs import PathSet
from build_tests.core.model import Outcome
from build_tests.run.signals import interruptible
from build_tests.session.collecting import Collecting
from build_tests.session.items import StepItem, Turnstile
from build_tests.session.telling import Telling

if TYPE_CHECKING:
    from build_tests.checkout import Checkout
    from build_tests.run.build import Build
    from build_tests.run.step import Order
    from build_tests.session.live import Live
    from build_tests.session.schedule import BuildScheduling


class Controller(Collecting, Telling):
    """See the module's text."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        """Report what is fresh; start workers only for what must run."""
        if self.config.option.collectonly:
            return None
        if not self.items:
            return self._hand_over(session)
        if session.testsfailed and not session.config.option.continue_on_collection_errors:
            return None
        with interruptible():
            try:
                if self.config.option.build_dry_run:
                    self._print_plan()
                else:
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

    def _begin(self, checkout: Checkout) -> Build:
        if self._handed is not None:
            self._pending += self._handed.settled
            return self._handed.build
        return checkout.begin(self._labels, self._needs, self._chosen)

    def _print_plan(self) -> None:
        from build_tests.core.plantext import plan_lines

        plan = self._open_checkout().plan(self._labels, self._chosen)
        reporter = self._reporter
        for line in plan_lines(plan):
            if reporter is not None:
                reporter.write_line(line)

    def _named_labels(self) -> set[str]:
        return self._selector.named if self._selector is not None else set()

    def _run(self, session: pytest.Session) -> None:
        checkout = self._open_checkout()
        self.build = build = self._begin(checkout)
        self._begun = True
        with collector_paused():
            self.advance()
            gc.freeze()  # all of it lives until the end
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
        folder = github.folder_of(build.setup.config.root, environ)
        for line in github.annotation_lines(build.records.values(), folder):
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
