"""Builds from Python. Importing this needs no pytest; running a build does.

    orchestrator = BuildOrchestrator.load("config/build.yml")
    plan = orchestrator.plan(["web"])
    run = orchestrator.run(["web"])
    assert run.ok, [step.label for step in run.steps if not step.outcome.ok]
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from build_tests.checkout import Checkout, Wishes
from build_tests.core.errors import BuildError, ConfigError, LockHeldError, SelectionError
from build_tests.core.locate import find_build_file
from build_tests.core.model import Outcome
from build_tests.core.plan import Plan
from build_tests.project import Project, load_project
from build_tests.pytestside import state_folder
from build_tests.run import record
from build_tests.run.places import FOLDER
from build_tests.run.resources import machine_workers

if TYPE_CHECKING:
    from build_tests.cacheapi import BuildArtifacts, BuildCache
    from build_tests.run.build import Build
    from build_tests.run.explaining import Explanation
    from build_tests.run.overview import Status

__all__ = [
    "BuildArtifacts", "BuildCache", "BuildError", "BuildOrchestrator", "BuildRun", "ConfigError", "LockHeldError",
    "Outcome", "Plan", "SelectionError",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """The cache's classes, imported when asked for: stores cost more to import than deciding a hundred steps."""
    if name in ("BuildArtifacts", "BuildCache"):
        from build_tests import cacheapi

        return getattr(cacheapi, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRun:
    """How a run ended: pytest's exit status, its output, and the record of each step."""

    status: int
    output: str
    steps: tuple[record.StepRecord, ...]

    @property
    def ok(self) -> bool:
        """Whether everything that was asked for is there."""
        return self.status == 0

    def outcomes(self) -> dict[str, Outcome]:
        """label → outcome."""
        return {step.label: step.outcome for step in self.steps}


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOrchestrator:
    """One build file with a target and an environment."""

    project: Project
    file: str

    @staticmethod
    def load(
        file: str | os.PathLike[str] | None = None, *, target: str | None = None, environment: str | None = None
    ) -> BuildOrchestrator:
        """Read a build file; None looks for `build.yml` and `config/build.yml` in the current folder.

        Raises:
            ConfigError: the file is wrong: all its diagnostics.
            SelectionError: no such file, target or environment.
        """
        path = os.path.abspath(file) if file is not None else find_build_file(os.getcwd())
        if path is None or not os.path.isfile(path):
            raise SelectionError(f"there is no build file: {path or os.getcwd()}")
        return BuildOrchestrator(project=load_project(path, target=target, environment=environment), file=path)

    @property
    def labels(self) -> tuple[str, ...]:
        """Every step of the build file, dependencies first."""
        return self.project.graph.order

    def plan(self, selectors: Iterable[str] = (), *, force: bool = False) -> Plan:
        """What a run would do and why, without running anything.

        Args:
            selectors: targets, components or steps; none = the target.
            force: as `--build-force`.

        Raises:
            SelectionError: a selector names nothing.
        """
        chosen = self._chosen(selectors)
        return self._checkout(force=force).plan(self.project.graph.closure(chosen), chosen)

    def status(self) -> Status:
        """The state of every step now, those on request too. Runs nothing."""
        from build_tests.run import overview

        project = self.project
        checkout = self._checkout()
        plan = checkout.plan(project.graph.order)
        memory = checkout.open().memory
        built = (label for label, entry in memory.entries.items() if entry.key)
        return overview.Status(
            file=project.config.file, target=project.target.name, environment=project.config.environment,
            steps=overview.states(project.graph, plan, built, memory.unfinished),
        )  # fmt: skip

    def explain(self, selectors: Iterable[str] = (), *, fingerprints: bool = False) -> Explanation:
        """What a run would do with each step that is selected or needed, and why, to the line of the fingerprint.

        Args:
            selectors: as for `plan`.
            fingerprints: with what each step would be made from, for a comparison on another machine.

        Raises:
            SelectionError: a selector names nothing.
        """
        return self.explained(selectors, fingerprints=fingerprints)[0]

    def explained(self, selectors: Iterable[str], *, fingerprints: bool) -> tuple[Explanation, Build]:
        """As `explain`, with the build that it was read from."""
        from build_tests.core.fingerprint import platform_tag
        from build_tests.run import explaining

        project = self.project
        chosen = self._chosen(selectors)
        checkout = self._checkout()
        plan = checkout.plan(project.graph.closure(chosen), chosen)
        context = {
            "file": project.config.file, "target": project.target.name, "environment": project.config.environment,
            "platform": platform_tag(),
        }  # fmt: skip
        build = checkout.open()
        return explaining.explain(build, plan, fingerprints=fingerprints, context=context), build

    def selected(self, selectors: Iterable[str]) -> set[str]:
        """The labels that selectors name; none = those of the target. Raises SelectionError."""
        return set(self._chosen(selectors))

    def durations(self) -> dict[str, float]:
        """label → seconds of its last good run here."""
        return dict(self._checkout().open().seconds)

    def _checkout(self, *, force: bool = False) -> Checkout:
        """For looking only."""
        workers = self.project.config.parallelism.max_workers or machine_workers()
        return Checkout(
            project=self.project, state_folder=self._state_folder(), say=_no_one,
            wishes=Wishes(dry=True, force=force, workers=workers),
        )  # fmt: skip

    def run(self, selectors: Iterable[str] = (), *, workers: int | None = None, args: Sequence[str] = ()) -> BuildRun:
        """Build, as one pytest run in a process of its own.

        Args:
            selectors: as for `plan`.
            workers: xdist workers; 0 = one process; None = the build file's `max_workers`.
            args: more arguments for pytest.

        Raises:
            SelectionError: a selector names nothing.
        """
        import subprocess

        wanted = list(selectors)
        self._chosen(wanted)
        root = self.project.config.root
        before = set(record.list_runs(self._runs()))
        arguments = [
            sys.executable, "-m", "pytest", "-n", "auto" if workers is None else str(workers), self.file,
            "--build-target", self.project.target.name,
        ]  # fmt: skip
        if self.project.target.name not in {target.name for target in self.project.config.targets}:
            arguments = arguments[:-2]
        if self.project.config.environment:
            arguments += ["--build-env", self.project.config.environment]
        for selector in wanted:
            arguments += ["--build-select", selector]
        done = subprocess.run(
            [*arguments, *args], cwd=root, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, errors="replace", check=False,
        )  # fmt: skip
        new = sorted(set(record.list_runs(self._runs())) - before)
        steps = record.read(self._runs(), new[-1]).steps if new else ()
        return BuildRun(status=done.returncode, output=done.stdout, steps=steps)

    def _chosen(self, selectors: Iterable[str]) -> Collection[str]:
        wanted = list(selectors)
        return self.project.select(wanted) if wanted else self.project.members(self.project.target)

    def _runs(self) -> str:
        return os.path.join(self.project.config.root, FOLDER, "runs")

    def _state_folder(self) -> str:
        root = self.project.config.root
        return state_folder(os.path.join(root, FOLDER), root)


def _no_one(_line: str) -> None:
    """A plan is silent."""
