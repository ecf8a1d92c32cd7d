"""What one session knows of its build, and where it tells: the build file, the checkout, options, the terminal.

The controller is made of this and of two halves that know nothing of each other: `collecting.py`, which says what runs,
and `telling.py`, which makes every report of it. `controller.py` drives.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from build_tests.checkout import Begun, Checkout, Wishes, declared_outputs, worker_count
from build_tests.core.errors import ConfigError, SelectionError
from build_tests.core.model import FLAKY
from build_tests.project import Project, load_project
from build_tests.session.items import StepFacts

if TYPE_CHECKING:
    from build_tests.run.build import Build
    from build_tests.run.record import StepRecord
    from build_tests.session.items import StepItem, Turnstile
    from build_tests.session.live import Live
    from build_tests.session.select import Selector


class Basis:
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
        self._errors: dict[tuple[str, str], str] = {}
        """Place and text of each error that was shown, and by which step first."""
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
                if tag in theirs and tag != FLAKY:
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

    def declared_outputs(self) -> dict[str, list[str]] | None:
        """label → absolute paths (or image references), for the fixture."""
        if self.project is None:
            return None
        return declared_outputs(self.project)

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
        self._started = begun.checkout.started  # what was decided then waits since then, for pytest too
        return begun.checkout

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
