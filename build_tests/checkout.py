"""One run in one checkout: lock, state, record, reports, and what a target promises beyond its steps.

Everything here is the same whether pytest, a plan printer or the Python API asks. Knows no pytest.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import build_tests
from build_tests.core.model import Identity, Outcome
from build_tests.core.plan import Plan
from build_tests.project import Project
from build_tests.run import junit
from build_tests.run.build import Build, Setup
from build_tests.run.decide import Policy
from build_tests.run.locks import CheckoutLock
from build_tests.run.places import prepare
from build_tests.run.record import RecordWriter, StepRecord, new_id
from build_tests.run.resources import machine_workers
from build_tests.run.state import StateStore

if TYPE_CHECKING:
    from build_tests.run.undeclared import Watcher


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What the command line asks of a run."""

    accept: bool = False
    force: bool = False
    """Run the selection (not what it needs) whatever the caches say."""
    shuffle: int | None = None
    no_wait: bool = False
    workers: int = 1
    dry: bool = False
    cache: str | None = None
    """`--build-cache`."""
    trace: bool = False
    """`--build-trace`."""
    argv: tuple[str, ...] = ()
    forget: bool = False
    """`--cache-clear`."""


@dataclass(slots=True, kw_only=True)
class Checkout:
    """See the module's text.

    Attributes:
        state_folder: pytest's cache folder for us; None (`-p no:cacheprovider`) keeps hashes in `.build`.
        say: takes one line for people, now. `warnings` are for the end.
    """

    project: Project
    wishes: Wishes
    say: Callable[[str], None]
    state_folder: str | None = None
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """Lines for the end that are no warnings."""
    facts: dict[str, Any] = field(default_factory=dict)
    """More for the last line of the record: whatever a session knows that faces show."""
    started: float = field(default_factory=time.time)
    """Seconds since the epoch."""
    _build: Build | None = None
    _lock: CheckoutLock | None = None
    _record: RecordWriter | None = None
    _watcher: Watcher | None = None
    _state: StateStore | None = None
    _run_id: str = field(default_factory=new_id)
    _ran: bool = False

    def __post_init__(self) -> None:
        self.places = prepare(self.project.config.root)
        if self.places.warning:
            self.warnings.append(self.places.warning)
        self.warnings += self.project.config.unused

    places: Any = field(init=False)

    # Reading

    def _store(self) -> StateStore:
        """The state, under the lock; read once."""
        if self._state is None:
            if not self.wishes.dry:
                self._take_lock()
            self._state = StateStore(
                self.state_folder or os.path.join(self.places.folder, "state"), self.places.journal,
                self.warnings.append,
            )  # fmt: skip
            if self.wishes.forget:
                self._state.forget()
            self._state.load()
        return self._state

    def _take_lock(self) -> None:
        self._lock = CheckoutLock(self.places.lock)
        try:
            self._lock.acquire(wait=not self.wishes.no_wait, say=self.say)
        except OSError as error:
            self.warnings.append(f"{self.places.lock} can't be locked ({error.strerror}): two builds may meet")

    def unfinished(self) -> set[str]:
        """Steps that failed, were blocked or cancelled, and have not gone well since."""
        return set(self._store().memory.unfinished)

    def open(self, forced: frozenset[str] = frozenset()) -> Build:
        """The build of this run, over the state. Raises LockHeldError."""
        if self._build is None:
            target = self.project.target
            policy = Policy(
                strategy=target.cache_strategy, incremental=target.incremental, strict=target.strict,
                accept=self.wishes.accept, forced=forced,
            )  # fmt: skip
            self._build = Build(
                Setup(
                    config=self.project.config, graph=self.project.graph, policy=policy, places=self.places,
                    state=self._store(), environ=self.environ, run_id=self._run_id, workers=self.wishes.workers,
                    shuffle=self.wishes.shuffle, cache=self.wishes.cache, trace=self.wishes.trace,
                    warn=self.warnings.append, note=self.notes.append,
                )
            )  # fmt: skip
        return self._build

    def plan(self, labels: Collection[str], forced: Collection[str] = ()) -> Plan:
        """What a run over these labels would do."""
        return self.open(frozenset(forced) if self.wishes.force else frozenset()).plan(labels)

    # Running

    def begin(
        self, labels: Collection[str], others: Mapping[str, Collection[str]], forced: Collection[str] = ()
    ) -> Build:
        """Start the run.

        Raises:
            LockHeldError: another build holds the checkout and we were told not to wait.
            ConfigError: an output holds files that git tracks.
        """
        build = self.open(frozenset(forced) if self.wishes.force else frozenset())
        build.begin(labels, others)
        return build

    def about_to_run(self) -> None:
        """Something will run: note what lies in the touched components, to tell undeclared writes afterwards."""
        from build_tests.run.undeclared import Watcher

        build = self.open()
        self._ran = True
        manifests = {self.project.config.file, *self.project.manifests}
        self._watcher = Watcher(self.project.config.root, build.graph, build.decider.excluded, manifests)
        self._watcher.snapshot(
            {build.graph.steps[label].path for label in build.frontier.unsettled() if label in build.graph.steps}
        )

    def may_run(self) -> None:
        """Wait for what must be known before the first step runs."""
        if self._watcher is not None:
            self._watcher.wait()

    def note(self, records: Iterable[StepRecord]) -> None:
        """Steps have settled: they enter the record."""
        if self._record is None:
            self._record = RecordWriter(self.places.runs, self._facts())
        self._record.steps(records)

    def _facts(self) -> dict[str, Any]:
        config = self.project.config
        return {
            "id": self._run_id, "argv": list(self.wishes.argv), "target": self.project.target.name,
            "environment": config.environment, "workers": self.wishes.workers, "file": config.file,
            "versions": {"pytest-build": build_tests.__version__, "python": sys.version.split()[0]},
        }  # fmt: skip

    def failed_otherwise(self, build: Build, named: Collection[str]) -> bool:
        """Whether the run fails although no step did: a tool was missing for a step that was named, or strict rules."""
        missing = {r.label for r in build.records.values() if r.outcome is Outcome.UNAVAILABLE}
        if missing & set(named) or (missing and self.project.target.strict):
            return True
        self._look_for_undeclared()
        if build.tracing is not None and build.tracing.unproven:
            return True
        strict = self.project.target.strict
        return strict and bool(self.warnings or any(record.warnings for record in build.records.values()))

    def _look_for_undeclared(self) -> None:
        if self._watcher is not None:
            tracing = self.open().tracing
            # Where every step's trace is whole, whatever else changed is somebody else's work.
            if tracing is None or not tracing.whole:
                lines, edited = self._watcher.changes(tracing.told if tracing is not None else ())
                self.warnings += lines
                if edited:
                    self.notes.append(f"inputs were edited during the run, for the next build: {', '.join(edited[:5])}")
            self._watcher = None

    def close(self, status: int, started: float) -> None:
        """Save the state, end the record, write the JUnit report."""
        if self._build is None:
            return
        self._look_for_undeclared()
        build = self._build
        if not self.wishes.dry:
            self._finish(build, status, started)

    def _finish(self, build: Build, status: int, started: float) -> None:
        build.close()
        if build.tracing is not None:
            unrun = (Outcome.FRESH, Outcome.RESTORED)
            self.notes += build.tracing.notes(sum(record.outcome in unrun for record in build.records.values()))
        records = list(build.records.values())
        flaky = [record for record in records if record.flaky] if self._ran else []
        self.notes += [f"{one.label} is flaky: it passed at attempt {one.attempts}, after {one.flaky}" for one in flaky]
        counts = {outcome.value: n for outcome in Outcome if (n := sum(r.outcome is outcome for r in records))}
        if Outcome.UNAVAILABLE.value in counts:
            from build_tests.run import unavailable

            self.notes += unavailable.lines(records)
        facts: dict[str, Any] = {"exit": status, "counts": counts, "seconds": max(0.0, time.time() - started)}
        facts.update(self.facts)
        if self._ran:
            from build_tests.run.git import Git

            facts["commit"] = Git(self.project.config.root).head()
        if self._record is not None:
            self._record.end(**facts, warnings=self.warnings)
            if self._record.warning:
                self.warnings.append(self._record.warning)
        self._report(records, started)
        if self.project.target.artifacts and not status:
            self._collect_artifacts(build)

    def _report(self, records: list[StepRecord], started: float) -> None:
        document = junit.render(
            records, name=f"build {self.project.target.name}", seconds=max(0.0, time.time() - started),
            timestamp=time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(started)),
        )  # fmt: skip
        try:
            junit.write(os.path.join(self.places.reports, "junit.xml"), document)
        except OSError as error:
            self.warnings.append(f"{self.places.reports}/junit.xml can't be written ({error.strerror})")

    def _collect_artifacts(self, build: Build) -> None:
        from build_tests.run.artifacts import collect

        good = [label for label, record in build.records.items() if record.outcome.ok]
        try:
            collect(self.project.config.root, self.places.artifacts, build, good)
        except OSError as error:
            self.warnings.append(f"artifacts can't be collected: {error.filename}: {error.strerror}")

    def abandon(self) -> None:
        """Somebody else begins anew: what was restored meanwhile is in the journal, where he finds it."""
        if self._build is not None:
            self._build.leave()
        self.release()

    def release(self) -> None:
        """Let the next build in."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Begun:
    """A run that was begun before pytest was started: what has settled by then is not decided again."""

    checkout: Checkout
    build: Build
    labels: frozenset[str]
    settled: list[StepRecord] = field(default_factory=list)
    """Not in the record yet."""


def worker_count(project: Project, asked: int) -> int:
    """What -n gives, capped by the build file; 1 in one process."""
    if not asked or not project.target.parallel:
        return 1
    return min(asked, project.config.parallelism.max_workers or max(machine_workers(), asked))


def declared_outputs(project: Project) -> dict[str, list[str]]:
    """label → absolute paths of its declared outputs (an image's reference as it is)."""
    root = project.config.root
    return {
        label: [o.path if o.identity is Identity.IMAGE else os.path.join(root, o.path) for o in step.outputs]
        for label, step in project.graph.steps.items()
    }
