"""One run of a build, as a machine that others drive: it decides, hands out orders, takes results, keeps the record.

It never waits and starts no step itself: the session's scheduler (or a plan printer) calls it. Knows no pytest.

    advance()  decide what became ready; what needs no run settles at once
    take()     the best step that may run now, as an Order
    finish()   a result came back: the step settles, dependents are freed or blocked
    cancel()   whatever has no outcome gets one
    close()    state saved, record ended, lock released
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from build_tests.core.digest import FileTable, UnreadableError
from build_tests.core.errors import ConfigError, Diagnostic
from build_tests.core.fingerprint import Reason, travelling
from build_tests.core.frontier import Frontier
from build_tests.core.globs import Tree
from build_tests.core.graph import Graph, parents
from build_tests.core.model import Config, Identity, Outcome, Step, Strategy
from build_tests.core.plan import Expected, Plan, PlannedStep, Room, remaining, wall_time
from build_tests.run import outputs
from build_tests.run.decide import Decider, Decision, Fresh, Lacking, Policy
from build_tests.run.decide import Run as MustRun
from build_tests.run.places import Places
from build_tests.run.record import StepRecord
from build_tests.run.resources import Capacity
from build_tests.run.state import Entry, StateStore
from build_tests.run.toolchain import HINTS, Toolchain

if TYPE_CHECKING:
    from random import Random

    from build_tests.run.exchange import Exchange, Restored
    from build_tests.run.step import Order, StepResult
    from build_tests.run.trace_build import Tracing


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """All that a run is made from."""

    config: Config
    graph: Graph
    policy: Policy
    places: Places
    state: StateStore
    environ: Mapping[str, str]
    run_id: str = ""
    workers: int = 1
    shuffle: int | None = None
    cache: str | None = None
    """`--build-cache`."""
    trace: bool = False
    """`--build-trace`."""
    warn: Callable[[str], None]
    note: Callable[[str], None] = lambda _: None
    """Takes a line that is worth reading and no warning: a cache that can't be reached fails no strict build."""


class Build:
    """See the module's text. Create it with the checkout's lock held (a dry run needs none)."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.graph = setup.graph
        self.records: dict[str, StepRecord] = {}
        memory = setup.state.memory
        trust = setup.policy.strategy is not Strategy.CONSERVATIVE
        self.table = FileTable(setup.config.root, memory.files, trust=trust, shared=setup.config.cache.enabled)
        self.tree = Tree(setup.config.root, memory.folders, trust=trust, files=self.table)
        self.decider = Decider(
            root=setup.config.root, graph=setup.graph, policy=setup.policy, memory=memory, table=self.table,
            tree=self.tree, toolchain=Toolchain(setup.config.root, memory.tools, setup.environ), environ=setup.environ,
        )  # fmt: skip
        self._tools_before = dict(memory.tools)
        self.memory = memory
        self.seconds = {label: entry.seconds for label, entry in memory.entries.items() if entry.seconds}
        self.frontier = Frontier({})
        self.capacity = Capacity(setup.config.parallelism.resources, setup.workers)
        self._decided: dict[str, MustRun] = {}
        self._running: dict[str, Order] = {}
        self._reasons: dict[str, MustRun] = {}
        self._doomed_nodes: list[tuple[str, str]] = []
        self._ready_at: dict[str, float] = {}
        self._exchange: Exchange | None = None
        self.tracing: Tracing | None = None
        if setup.trace or setup.policy.strict:
            from build_tests.run.trace_build import Tracing

            self.tracing = Tracing(
                setup.config, setup.graph, setup.environ, asked=setup.trace, strict=setup.policy.strict
            )
        self._failing: set[str] = set()
        self.decisions: dict[str, Decision] = {}
        """What a plan decided of each step that waits for nothing."""

    @property
    def exchange(self) -> Exchange:
        """The way to the artifact cache; where nothing must run it is never taken. Raises ConfigError at first."""
        if self._exchange is None:
            from build_tests.run.exchange import Exchange
            from build_tests.run.keeping import Keeper

            setup = self.setup
            keeper = Keeper(
                setup.config.root, setup.config.cache, setup.environ, setup.cache, folder=setup.places.staging,
                warn=setup.note,
            )  # fmt: skip
            self._exchange = Exchange(
                root=setup.config.root, keeper=keeper, decider=self.decider, state=setup.state, policy=setup.policy,
                warn=setup.note,
            )  # fmt: skip
        return self._exchange

    # Driving a run

    def begin(self, labels: Collection[str], others: Mapping[str, Collection[str]] | None = None) -> None:
        """Fix what this run is: steps by label, and other nodes (ordinary tests) with the labels they need."""
        others = others or {}
        self._ask_git(labels)
        order = self.graph.sorted(labels)
        needs: dict[str, Collection[str]] = {label: self.graph.needs[label] for label in order}
        needs.update(others)
        longest = remaining(self.graph, order, self.seconds)
        ties = self._ties()
        # Steps before tests: most tests wait for them anyway, and the longest path decides when all is done.
        rank = {label: -round(longest[label], 3) + (ties.random() * 1e-4 if ties else 0.0) for label in order}
        rank.update(dict.fromkeys(others, 1.0))
        levels = None
        if not self.setup.config.parallelism.dependency_aware:
            levels = self.graph.levels()
            levels.update({node: 1 + max((levels[n] for n in wanted), default=-1) for node, wanted in others.items()})
        self.frontier = Frontier(needs, rank, levels)

    def _ties(self) -> Random | None:
        if self.setup.shuffle is None:
            return None
        from random import Random

        return Random(self.setup.shuffle)  # noqa: S311

    def advance(self) -> list[StepRecord]:
        """Decide every step that became ready. Returns those that settled without a run, and whom that doomed."""
        settled: list[StepRecord] = []
        while released := [node for node in self.frontier.released() if node in self.graph.steps]:
            now = time.time()
            for label in released:
                if label in self.frontier:
                    self._ready_at[label] = now
                    settled += self._decide(label)
            settled += self._restore([label for label in released if label in self._decided])
        return settled

    def _decide(self, label: str) -> list[StepRecord]:
        """Settle the step, or note that it must run."""
        step = self.graph.steps[label]
        if problem := self._unmaskable(step):
            return self._settle(self._new(step, Outcome.FAILED, message=problem, first_error=problem))
        try:
            decision = self.decider.decide(label)
        except (UnreadableError, OSError) as error:
            return self._settle(self._new(step, Outcome.FAILED, message=str(error), first_error=str(error)))
        match decision:
            case Fresh():
                self._accept(label, decision)
                return self._settle(self._new(step, Outcome.FRESH, message="nothing changed", key=decision.key))
            case Lacking(missing=missing):
                return self._settle(self._new(step, Outcome.UNAVAILABLE, message=str(missing)))
        self._decided[label] = decision
        return []

    def _restore(self, labels: Collection[str]) -> list[StepRecord]:
        """Settle those of the steps that must run which a cache has."""
        settled: list[StepRecord] = []
        if labels:
            steps = [(self.graph.steps[label], self._decided[label]) for label in labels]
            for label, restored in self.exchange.restore(steps):
                if restored is not None:
                    decision = self._decided.pop(label)
                    settled += self._settle(self._put_back(self.graph.steps[label], decision, restored))
        return settled

    def _put_back(self, step: Step, decision: MustRun, restored: Restored) -> StepRecord:
        """The step came from a cache."""
        self.setup.state.ended(step.label, restored.entry)
        self.decider.note_digests(step.label, restored.entry.digests)
        now = time.time()
        return self._new(
            step, Outcome.RESTORED, message=f"from {restored.found.tier}", key=decision.key, tier=restored.found.tier,
            needs=self._needs(step),
            reasons=[reason.to_json() for reason in decision.reasons], bytes=restored.found.bytes,
            seconds=restored.seconds, started=now - restored.seconds, ended=now,
            fingerprint=travelling(decision.fingerprint),
        )  # fmt: skip

    def _unmaskable(self, step: Step) -> str:
        """A secret so short that masking it would mask half of every log, or ""."""
        if not step.secrets:
            return ""
        from build_tests.run.masking import MINIMUM, can_be_masked

        for name in step.secrets:
            if (value := self.setup.environ.get(name, "")) and not can_be_masked(value):
                return f"secret {name} is shorter than {MINIMUM} characters and can't be masked: the step is not run"
        return ""

    def _accept(self, label: str, decision: Fresh) -> None:
        entry = self.memory.entries[label]
        if decision.fingerprint is not None:
            entry.key, entry.fingerprint = decision.key, decision.fingerprint.to_json()
            self.setup.state.changed = True
        if decision.context != entry.context:
            entry.context = decision.context
            self.setup.state.changed = True
        self.decider.note_digests(label, entry.digests)

    @property
    def idle(self) -> bool:
        """Whether no step is running or ready to run."""
        return not self._decided and not self._running

    @property
    def runnable(self) -> int:
        """How many steps wait for nothing but a worker."""
        return len(self._decided)

    @property
    def certain(self) -> set[str]:
        """The steps that are known to be built: running ones, and those that wait for a worker only."""
        return {*self._running, *self._decided}

    def predicted(self) -> float | None:
        """Seconds that the steps without an outcome took the last time, all together; None = not known of each."""
        left = [node for node in self.frontier.unsettled() if node in self.graph.steps]
        known = [self.seconds.get(label) for label in left]
        return None if None in known else sum(seconds for seconds in known if seconds)

    @property
    def one_after_other(self) -> bool:
        """Whether of the steps without an outcome no two could ever run at a time, and none went wrong the last time.

        What ended badly may have taken its worker with it, and shall not take the controller.
        """
        length: dict[str, int] = {}
        left = set(self.frontier.unsettled())
        if any(self.memory.entries.get(label, Entry()).status in ("failed", "interrupted") for label in left):
            return False
        for label in self.graph.sorted(left):
            length[label] = 1 + max((length[need] for need in self.graph.needs[label] if need in length), default=0)
        return max(length.values(), default=0) == len(left)

    def take(self) -> Order | None:
        """The most urgent step whose demands fit, marked as started; None when none may start now."""
        for node in self.frontier.ready():
            decided = self._decided.get(node)
            if decided is not None and self.capacity.take(node, self.graph.steps[node].resources):
                break
        else:
            return None
        self.frontier.take(node)
        del self._decided[node]
        order = self.order(node, decided)
        self.setup.state.started(node)
        self._running[node] = order
        self._reasons[node] = decided
        return order

    def finish(self, label: str, result: StepResult, worker: str = "") -> list[StepRecord]:
        """A step's result came back. Returns its record and those of whom it doomed."""
        order = self._running.pop(label)
        decided = self._reasons.pop(label)
        step = self.graph.steps[label]
        self.capacity.give_back(label)
        self.decider.ran(label)
        if self.tracing is not None:
            self.tracing.judge(label, order, result)
        if result.ok:
            decided = self.decider.pulled(decided)
        if result.daemons:
            from build_tests.run import daemons

            daemons.note(self.setup.places.daemons, result.daemons)
        entry = self._entry(decided, result)
        self.exchange.keep(step, result, entry, own_memory=bool(step.state) and not order.drop_state)
        self.setup.state.ended(label, entry)
        record = self._ran(step, order, decided, result)
        record.worker = worker
        if result.ok:
            self.decider.note_digests(label, result.digests)
        return self._settle(record)

    def lost(self, label: str, message: str, worker: str = "") -> list[StepRecord]:
        """The worker died in the step: it failed, and what it left is not trusted."""
        from build_tests.run.step import StepResult

        return self.finish(label, StepResult(ok=False, message=message, first_error=message), worker)

    def node_settled(self, node: str) -> None:
        """A node that is no step (an ordinary test) has ended; nothing waits for it."""
        self.frontier.settle(node, well=True)

    def doomed_nodes(self) -> list[tuple[str, str]]:
        """The nodes that are no steps and can't run any more, with the step that is to blame; each is told once."""
        doomed, self._doomed_nodes = self._doomed_nodes, []
        return doomed

    def cancel(self, why: str) -> list[StepRecord]:
        """Every step without an outcome is `cancelled`."""
        left = [node for node in self.frontier.unsettled() if node in self.graph.steps]
        records = [self._new(self.graph.steps[label], Outcome.CANCELLED, message=why) for label in left]
        for record in records:
            self.records[record.label] = record
            self.memory.unfinished[record.label] = record.outcome.value
            self.setup.state.changed = True
        self._decided.clear()
        return records

    def leave(self) -> None:
        """Another build takes over, from the state and the journal."""
        if self._exchange is not None:
            self._exchange.keeper.close()
        self.setup.state.leave()

    def close(self) -> None:
        """Save what this run learned; in CI, end the daemons that steps left behind."""
        if self.setup.environ.get("CI") and os.path.exists(self.setup.places.daemons):
            from build_tests.run import daemons

            daemons.stop(self.setup.places.daemons)
        if self._exchange is not None:
            self._exchange.keeper.close()
            if line := self._exchange.keeper.summary():
                self.setup.note(line)
        memory, state = self.memory, self.setup.state
        try:
            self.table.settle()
        except UnreadableError as error:
            self.setup.warn(str(error))
        for label, record in self.records.items():
            if record.outcome in (Outcome.BUILT, Outcome.RESTORED):
                outputs.settle(memory.entries[label].outputs, self.table)
        if self.table.dirty or self.tree.dirty or memory.tools != self._tools_before:
            memory.files, memory.folders = self.table.export(), self.tree.export()
            state.changed = True
        state.save()

    # Settling

    def _settle(self, record: StepRecord) -> list[StepRecord]:
        """Give the step its outcome; returns its record and those of the steps that this dooms."""
        doomed = self.frontier.settle(record.label, well=record.outcome.ok)
        records = [record]
        for node in doomed:
            if node in self.graph.steps:
                records.append(self._doomed(self.graph.steps[node], record))
            else:
                self._doomed_nodes.append((node, record.label))
        for settled in records:
            self.records[settled.label] = settled
            self._decided.pop(settled.label, None)
            self._remember_unfinished(settled)
        return records

    def _doomed(self, step: Step, culprit: StepRecord) -> StepRecord:
        if culprit.outcome is Outcome.UNAVAILABLE:
            message = f"{culprit.message} (needed by {culprit.label})"
            return self._new(step, Outcome.UNAVAILABLE, message=message, culprit=culprit.label)
        return self._new(step, Outcome.BLOCKED, message=f"blocked by {culprit.label}", culprit=culprit.label)

    def _remember_unfinished(self, record: StepRecord) -> None:
        unfinished = self.memory.unfinished
        if record.outcome.ok:
            if unfinished.pop(record.label, None) is not None:
                self.setup.state.changed = True
        elif record.outcome is not Outcome.UNAVAILABLE and unfinished.get(record.label) != record.outcome.value:
            unfinished[record.label] = record.outcome.value
            self.setup.state.changed = True

    def _new(self, step: Step, outcome: Outcome, **facts: Any) -> StepRecord:
        ready = self._ready_at.get(step.label)
        entry = self.memory.entries.get(step.label)
        cases = entry.cases if entry is not None and outcome is Outcome.RESTORED else ""
        return StepRecord(
            label=step.label, kind=step.kind, outcome=outcome, ready=ready, predicted=self.seconds.get(step.label),
            cases=cases, **facts,
        )  # fmt: skip

    def _needs(self, step: Step) -> list[str]:
        """What it waited for in this run."""
        return [need for need in self.graph.needs[step.label] if need in self.records]

    def _ran(self, step: Step, order: Order, decided: MustRun, result: StepResult) -> StepRecord:
        record = self._new(
            step,
            Outcome.BUILT if result.ok else Outcome.FAILED,
            message=result.message if not result.ok else summary(decided.reasons),
            reasons=[reason.to_json() for reason in decided.reasons],
            key=decided.key,
            started=result.started,
            ended=result.ended,
            seconds=result.seconds,
            needs=self._needs(step),
            attempts=result.attempts,
            exit=result.exit,
            signal=result.signal,
            cpu_seconds=result.cpu_seconds,
            max_rss_bytes=result.max_rss_bytes,
            bytes=outputs.total_size(result.manifest),
            log=os.path.relpath(order.log, self.setup.config.root),
            first_error=result.first_error,
            place=result.place,
            tail=result.tail,
            flaky=result.flaky,
            warnings=list(result.warnings),
            trace=result.trace or {},
            fingerprint=travelling(decided.fingerprint),
        )
        record.cases = result.cases
        record.warnings += [f"input {pattern!r} matches nothing" for pattern in self.decider.empty.get(step.label, ())]
        if result.raced:
            names = ", ".join(result.raced[:3])
            record.warnings.append(f"inputs changed while it ran ({names}): it will be built again next time")
        return record

    def _entry(self, decided: MustRun, result: StepResult) -> Entry:
        status = "failed" if not result.ok else "raced" if result.raced else "ok"
        good = status == "ok"
        return Entry(
            key=decided.key if good else "",
            status=status,
            fingerprint=decided.fingerprint.to_json() if good else [],
            outputs=result.manifest,
            digests=result.digests,
            context=decided.context if good else "",
            seconds=result.seconds if result.ok else 0.0,
            cases=result.cases,
        )

    def _ask_git(self, labels: Collection[str]) -> None:
        """Before a step's first run: outputs that hold files of git's are refused, or a clean would remove sources.

        Raises:
            ConfigError: naming each such output.
        """
        unasked = {
            label: paths for label in labels if (paths := self._untracked(label)) != self.memory.checked.get(label, [])
        }
        if not unasked:
            return
        from build_tests.run.git import Git

        owners = {path: label for label, paths in unasked.items() for path in paths}
        wrong = []
        for file in sorted(Git(self.setup.config.root).tracked(sorted(owners))):
            path = next((p for p in (file, *parents(file)) if p in owners), None)
            if path is not None:
                step = self.graph.steps[owners.pop(path)]
                wrong.append(
                    Diagnostic(
                        place=step.where, message=f"output {path!r} of step {step.label!r} is tracked by git: {file}",
                        hint="take it out of git, or say {path: …, tracked: true}",
                    )
                )
        if wrong:
            raise ConfigError(wrong)
        self.memory.checked.update(unasked)
        self.setup.state.changed = True

    def _untracked(self, label: str) -> list[str]:
        declared = self.graph.steps[label].outputs
        return [o.path for o in declared if o.identity is not Identity.IMAGE and not o.tracked]

    # The plan

    def plan(self, labels: Collection[str]) -> Plan:
        """What `begin(labels)` and running it all would do, as far as that is known now."""
        steps: list[PlannedStep] = []
        will_run: set[str] = set()
        restored: set[str] = set()
        no_tool: dict[str, str] = {}
        selected = set(labels)
        for label in self.graph.sorted(labels):
            planned = self._planned(label, selected, will_run, no_tool)
            steps.append(planned)
            if planned.expected not in (Expected.FRESH, Expected.UNAVAILABLE, Expected.FAIL):
                will_run.add(label)
            if planned.expected is Expected.RESTORE:
                restored.add(label)
        measured = {label: self.seconds[label] for label in will_run - restored if label in self.seconds}
        known = len(measured) == len(will_run - restored)
        wall = wall_time(self.graph, measured, self.setup.workers, room=self.room(measured)) if known else None
        return Plan(steps=tuple(steps), workers=self.setup.workers, seconds=wall)

    def room(self, labels: Collection[str]) -> Room | None:
        """What these steps have beside workers while nothing runs; None where they ask for nothing."""
        return self.capacity.empty({label: self.graph.steps[label].resources for label in labels})

    def _planned(self, label: str, selected: set[str], will_run: set[str], no_tool: dict[str, str]) -> PlannedStep:
        needs = [need for need in self.graph.needs[label] if need in selected]
        if (waits := self._planned_behind(label, needs, will_run, no_tool)) is not None:
            return waits
        try:
            problem = self._unmaskable(self.graph.steps[label])
            decision: Decision = self.decider.decide(label)
        except (UnreadableError, OSError) as error:
            problem = str(error)
        if problem:
            self._failing.add(label)
            return PlannedStep(label=label, expected=Expected.FAIL, note=problem)
        self.decisions[label] = decision
        seconds = self.seconds.get(label)
        match decision:
            case Fresh(key=key):
                return PlannedStep(label=label, expected=Expected.FRESH, key=key, seconds=seconds)
            case Lacking(missing=missing):
                no_tool[label] = f"{missing.name} (needed by {label})"
                return PlannedStep(label=label, expected=Expected.UNAVAILABLE, note=str(missing))
        found = self.exchange.find(self.graph.steps[label], decision)
        there = found is not None and self.exchange.keeper.complete(found)
        return PlannedStep(
            label=label, expected=Expected.RESTORE if there else Expected.BUILD, reasons=decision.reasons,
            key=decision.key, seconds=seconds, tier=found.tier if found is not None and there else "",
        )  # fmt: skip

    def _planned_behind(
        self, label: str, needs: list[str], will_run: set[str], no_tool: dict[str, str]
    ) -> PlannedStep | None:
        """Where the answer lies with what the step needs."""
        if culprit := next((no_tool[need] for need in needs if need in no_tool), None):
            no_tool[label] = culprit
            return PlannedStep(label=label, expected=Expected.UNAVAILABLE, note=culprit)
        doomed = [need for need in needs if need in self._failing]
        self._failing.update([label] if doomed else [])
        # What it only comes after gives it nothing that its key could depend on.
        taken = {edge.label for edge in self.graph.edges[label] if edge.outputs != ()}
        if behind := doomed or [need for need in needs if need in will_run and need in taken]:
            reason = Reason(kind="behind", subject=", ".join(behind))
            seconds = self.seconds.get(label)
            return PlannedStep(label=label, expected=Expected.BEHIND, reasons=(reason,), seconds=seconds)
        return None

    # Orders

    def order(self, label: str, decided: MustRun) -> Order:
        """All that a worker needs for the step."""
        from build_tests.run.process import strict_environment
        from build_tests.run.step import Order

        step, setup = self.graph.steps[label], self.setup
        entry = self.memory.entries.get(label, Entry())
        environment = strict_environment(
            dict(step.env), pass_env=step.pass_env, network_env=step.network_env, secrets=step.secrets,
            caller=setup.environ,
        )  # fmt: skip
        retries = step.retries
        return Order(
            label=label,
            argv=self._argv(step),
            folder=step.path,
            environment=environment,
            secrets=list(step.secrets),
            key=decided.key,
            log=setup.places.log(setup.run_id, label),
            outputs=[[o.path, o.directory, o.identity.value, o.tracked] for o in step.outputs],
            patterns=list(step.inputs),
            inputs=[list(item) for item in decided.fingerprint.inputs],
            known=self.table.entries([path for path, _, _ in decided.fingerprint.inputs]),
            manifest=entry.outputs,
            interrupted=entry.status in ("interrupted", "failed", "raced"),
            # Outputs that are not our last run's own would be mixed with the new ones.
            clean=step.clean or not decided.owned or setup.policy.strategy is Strategy.CONSERVATIVE,
            state=list(step.state),
            drop_state=not decided.owned or setup.policy.strategy is Strategy.CONSERVATIVE,
            timeout=step.timeout,
            retries=[retries.count, retries.backoff, list(retries.when)],
            daemons=list(step.daemons),
            junit=list(step.junit),
            share=self.exchange.share(label),
            trace=None if self.tracing is None else self.tracing.wish(label),
            hints={**HINTS, **{tool.name: tool.hint for tool in step.tools if tool.hint}},
        )

    def _argv(self, step: Step) -> list[str]:
        return ["sh", "-e", "-c", step.command] if isinstance(step.command, str) else list(step.command)


def summary(reasons: tuple[Reason, ...]) -> str:
    """Why a step ran, in one line."""
    first, others = str(reasons[0]), len(reasons) - 1
    return f"{first} (and {others} more)" if others else first
