"""Between a build and the artifact cache: which steps may come from there, putting one back, handing one over.

Knows a step's decision and its result; stores, trust and threads are the keeper's.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from build_tests.cache.artifact import decode, discard, place
from build_tests.core.errors import UnreadableError
from build_tests.core.fingerprint import Fingerprint
from build_tests.core.model import Identity, Step, Strategy
from build_tests.run import outputs
from build_tests.run.decide import Decider, Policy, Run, shared_outputs
from build_tests.run.fetching import Fetched, Wanted, fetched
from build_tests.run.git import Git
from build_tests.run.keeping import Found, Keeper, Leavings, storable
from build_tests.run.sharing import ChangedError, shared_fingerprint, shared_key
from build_tests.run.state import Entry, StateStore

if TYPE_CHECKING:
    from build_tests.run.step import StepResult

MUST_RUN = frozenset({"forced", "off", "not-incremental", "uncached"})
"""Reasons for which a step runs whatever the caches say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """A step that was put back."""

    found: Found
    entry: Entry
    seconds: float
    """What finding and placing took."""


@dataclass(frozen=True, slots=True)
class _Shared:
    key: str
    fingerprint: list[Any]


@dataclass(slots=True, kw_only=True)
class Exchange:
    """For one run."""

    root: str
    keeper: Keeper
    decider: Decider
    state: StateStore
    policy: Policy
    warn: Callable[[str], None]
    _shared: dict[str, _Shared] = field(default_factory=dict)
    """What other machines know a step's run by, for those that run or are restored."""

    @property
    def on(self) -> bool:
        """Whether results of this run have names that others know, and go to the cache."""
        return self.keeper.on and self.policy.strategy is not Strategy.OFF

    # Reading

    def find(self, step: Step, decided: Run) -> Found | None:
        """What a cache has for a step that must run, or None. Notes the step's key for `keep`."""
        wanted = self._wanted(step, decided)
        return self.keeper.find(wanted.key, wanted.outputs) if wanted is not None else None

    def _wanted(self, step: Step, decided: Run) -> Wanted | None:
        """What to look for; None where the step runs whatever a cache has."""
        if not self.on:
            return None
        shared = self._name(step, decided)
        may = step.cache and storable(step.outputs) and MUST_RUN.isdisjoint(reason.kind for reason in decided.reasons)
        return Wanted(key=shared.key, outputs=step.outputs) if shared and may else None

    def last(self, label: str) -> list[tuple[str, Any]]:
        """As `Keeper.last`; empty where no cache is asked."""
        return list(self.keeper.last(label)) if self.on else []

    def as_others_know(self, fingerprint: Fingerprint) -> list[Any] | None:
        """A fingerprint in the form that lies beside results in a cache; None where that can't be made now."""
        try:
            return shared_fingerprint(self.root, self.decider.table, fingerprint, self.decider.shared_digest)
        except (ChangedError, OSError):
            return None

    def _name(self, step: Step, decided: Run) -> _Shared | None:
        fingerprint = self.as_others_know(decided.fingerprint)
        if fingerprint is None:
            return None  # an input is being edited, perhaps: the step runs, and notices
        shared = self._shared[step.label] = _Shared(shared_key(fingerprint), fingerprint)
        return shared

    def restore(self, steps: Iterable[tuple[Step, Run]]) -> Iterator[tuple[str, Restored | None]]:
        """Put back what a cache has of steps that wait for nothing; label → None = the step must run.

        Never half of a step's outputs under a good name.
        """
        wanted = [(step, decided, self._wanted(step, decided)) for step, decided in steps]
        coming = fetched(self.keeper, [one for _, _, one in wanted if one is not None])
        with contextlib.closing(coming):
            for step, decided, one in wanted:
                got = next(coming) if one is not None else None
                yield step.label, self._put_back(step, decided, got) if got is not None else None

    def _put_back(self, step: Step, decided: Run, got: Fetched) -> Restored | None:
        began = time.monotonic()
        found, staging = got.found, got.staging
        if staging is None:
            return None
        placed = self._place(step, found, staging)
        if not placed:
            discard(found.record.items, staging)
        captured = self._captured(step) if placed else None
        if captured is None or captured.missing:
            return None
        seconds = got.seconds + time.monotonic() - began
        entry = Entry(
            key=decided.key, fingerprint=decided.fingerprint.to_json(), context=decided.context,
            outputs=captured.manifest, digests=dict(captured.digests), seconds=found.record.seconds,
            cases=found.record.cases, shared=shared_outputs(step, found.record.items), restored=True,
        )  # fmt: skip
        self.keeper.restored(found, seconds)
        return Restored(found=found, entry=entry, seconds=seconds)

    def _place(self, step: Step, found: Found, staging: str) -> bool:
        before = self.state.memory.entries.get(step.label, Entry())
        # From here on the outputs are what a run that was cut off left, until the entry is whole.
        self.state.started(step.label)
        try:
            wrong = outputs.clean(
                self.root, step.outputs, manifest_paths=[entry[0] for entry in before.outputs],
                interrupted=before.status in ("interrupted", "failed", "raced"), git=Git(self.root),
            )  # fmt: skip
            if wrong is None:
                place(self.root, found.record.items, staging)
        except OSError as error:
            self.warn(f"{step.label} can't be restored: {error.filename}: {error.strerror}")
            self._undo(step)
            return False
        if wrong is not None:
            self.state.ended(step.label, before)  # nothing was touched; the step itself will say what is in the way
        return wrong is None

    def _captured(self, step: Step) -> outputs.Captured | None:
        decider = self.decider
        decider.ran(step.label)
        try:
            captured = outputs.capture(self.root, step.outputs, decider.table, decider.tree)
        except (OSError, UnreadableError) as error:
            self.warn(f"{step.label} can't be restored: {error}")
            captured = None
        if captured is None or captured.missing:
            self._undo(step)
        return captured

    def _undo(self, step: Step) -> None:
        """Half a restore must not meet a tool that goes on from what lies there, nor its memory of what lay there."""
        with contextlib.suppress(OSError):  # the step itself meets it, and fails by name
            outputs.clean(self.root, step.outputs, manifest_paths=(), interrupted=True, git=Git(self.root))
            for path in step.state:
                outputs.remove(os.path.join(self.root, path))

    # Writing

    def share(self, label: str) -> bool:
        """Whether the step's worker shall name its outputs as others would."""
        return label in self._shared

    def keep(self, step: Step, result: StepResult, entry: Entry, *, own_memory: bool) -> None:
        """Note the names of a good result for its dependents, and hand it to the cache if it may go there.

        What a tool made from its own earlier state (`own_memory`) is not reproducible, so not for others.
        """
        shared = self._shared.pop(step.label, None)
        if shared is None or entry.status != "ok":
            return
        items = decode(result.items) if result.items is not None else None
        if items is not None:
            entry.shared = shared_outputs(step, items)
        entry.shared.update({o.path: shared.key for o in step.outputs if o.identity is Identity.INSTALLED})
        if items is not None and step.cache and storable(step.outputs) and not own_memory:
            self.keeper.keep(
                Leavings(
                    label=step.label, key=shared.key, items=items, seconds=result.seconds, cases=result.cases,
                    fingerprint=shared.fingerprint,
                )
            )  # fmt: skip
