"""Why each step of a plan will run, down to the line of the fingerprint that differs.

The reasons are those of the decision itself; what is added here says more about each: which lines of a file, which
values of a variable, which outputs of a dependency. Values of variables are for this terminal only: they are left out
of the JSON document.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from build_tests.core.digest import digest_of
from build_tests.core.errors import UnreadableError
from build_tests.core.fingerprint import Fingerprint, Reason, differences, travelling
from build_tests.core.graph import Graph
from build_tests.core.model import Step
from build_tests.core.plan import Expected, Plan, PlannedStep
from build_tests.run.build import Build
from build_tests.run.decide import Run
from build_tests.run.git import Git

VERSION = 1
"""Of the JSON document."""
LOOKED_UP = 10
"""Files whose old version is looked for in git."""
VERSIONS = 20
"""Versions of each that are looked at."""
LONGEST = 200
"""Characters of a value that are shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """One reason. `more` may travel; `values` (a variable's old and new value) may not."""

    reason: Reason
    more: tuple[str, ...] = ()
    values: str = ""

    def lines(self) -> list[str]:
        """For the terminal."""
        said = [*self.more, *([self.values] if self.values else [])]
        return [f"{self.reason}: {'; '.join(said)}" if said else str(self.reason)]

    def to_json(self) -> dict[str, Any]:
        """Without values."""
        return {**self.reason.to_json(), "text": str(self.reason), "more": list(self.more)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """One step."""

    planned: PlannedStep
    where: str
    """Its place in the build file."""
    causes: tuple[Cause, ...] = ()
    fingerprint: list[Any] | None = None
    """What it would be made from now, as it may travel; None where that can't be known."""

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        planned = self.planned
        return {
            "label": planned.label, "expected": planned.expected.value, "key": planned.key, "tier": planned.tier,
            "note": planned.note, "seconds": planned.seconds, "where": self.where,
            "reasons": [cause.to_json() for cause in self.causes], "fingerprint": self.fingerprint,
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """The selection and all that it needs, dependencies first. A chain: what changed, then label by label."""

    steps: tuple[Explained, ...]
    chains: tuple[tuple[str, ...], ...] = ()
    seconds: float | None = None
    """Predicted wall time; None = unknown."""
    context: Mapping[str, Any] = field(default_factory=dict)
    """File, target, environment, platform: for whoever compares."""

    def to_json(self) -> dict[str, Any]:
        """Plain data for `--json`, and for `--against` on another machine."""
        return {
            "version": VERSION, **self.context, "seconds": self.seconds,
            "steps": [step.to_json() for step in self.steps], "chains": [list(chain) for chain in self.chains],
        }  # fmt: skip


def explain(build: Build, plan: Plan, *, fingerprints: bool = False, context: Mapping[str, Any]) -> Explanation:
    """What a plan will do, and why. `fingerprints` are for export; making them costs a little for each step."""
    explainer = _Explainer(build)
    steps = tuple(explainer.step(planned, fingerprints=fingerprints) for planned in plan.steps)
    return Explanation(
        steps=steps, chains=tuple(chains(build.graph, plan)), seconds=plan.seconds, context=context
    )  # fmt: skip


class _Explainer:
    def __init__(self, build: Build) -> None:
        self._build = build
        self._git = Git(build.setup.config.root)
        self._left = LOOKED_UP
        self._secret = {name for step in build.graph.steps.values() for name in step.secrets}
        self._looked: dict[str, str] = {}

    def step(self, planned: PlannedStep, *, fingerprints: bool) -> Explained:
        build, label = self._build, planned.label
        step = build.graph.steps[label]
        decision = build.decisions.get(label)
        now = decision.fingerprint if isinstance(decision, Run) else None
        entry = build.memory.entries.get(label)
        old = Fingerprint.from_json(entry.fingerprint) if entry is not None and entry.fingerprint else None
        reasons = list(planned.reasons)
        waits = planned.expected is Expected.BEHIND
        if now is None and (waits or (fingerprints and planned.expected is Expected.FRESH)):
            now = self._now(label)
        if waits and old is not None and now is not None:
            # Whatever comes of what it waits for, these differ already.
            reasons += [reason for reason in differences(old, now) if reason.kind != "dependency"]
        causes = tuple(self._cause(step, reason, old, now) for reason in reasons)
        shown = travelling(now) if fingerprints and now is not None else None
        return Explained(planned=planned, where=str(step.where), causes=causes, fingerprint=shown)

    def _now(self, label: str) -> Fingerprint | None:
        try:
            return self._build.decider.fingerprint(label)
        except (UnreadableError, OSError):
            return None

    def _cause(self, step: Step, reason: Reason, old: Fingerprint | None, now: Fingerprint | None) -> Cause:
        more: tuple[str, ...] = ()
        values = ""
        if old is None or now is None:
            return Cause(reason=reason)
        match reason.kind:
            case "input-changed":
                more = self._lines(reason.subject, old)
            case "input-added":
                more = _renamed(reason.subject, old, now)
            case "env":
                values = self._values(reason.subject, old, now)
            case "dependency":
                more = _outputs(reason.subject, old, now)
            case "command" | "declaration":
                name = reason.subject or "command"
                was, is_now = dict(old.definition).get(name), dict(now.definition).get(name)
                show = _outputs_text if name == "outputs" else _short
                more = (f"{show(was)} → {show(is_now)}", f"{step.where}")
        return Cause(reason=reason, more=more, values=values)

    def _lines(self, path: str, old: Fingerprint) -> tuple[str, ...]:
        """How many lines changed, where the old version is in git."""
        if path not in self._looked:
            digest = next((digest for name, _, digest in old.inputs if name == path), "")
            self._looked[path] = self._difference(path, digest) if self._left > 0 else ""
            self._left -= 1
        found = self._looked[path]
        return (found,) if found else ()

    def _difference(self, path: str, digest: str) -> str:
        if not self._git.available:
            return ""
        commit = next((c for c, content in self._git.versions(path, VERSIONS) if digest_of(content) == digest), "")
        lines = self._git.changed_lines(commit, path) if commit else None
        return f"+{lines[0]} \N{MINUS SIGN}{lines[1]} lines since {commit}" if lines else ""

    def _values(self, name: str, old: Fingerprint, now: Fingerprint) -> str:
        if name in self._secret:
            return ""
        return f"{_short(dict(old.env).get(name))} → {_short(dict(now.env).get(name))}"


def _renamed(path: str, old: Fingerprint, now: Fingerprint) -> tuple[str, ...]:
    content = {name: digest for name, _, digest in now.inputs}
    gone = (name for name, _, digest in old.inputs if name not in content and digest == content.get(path))
    return tuple(f"it was {name}" for name in list(gone)[:1])


def _outputs(label: str, old: Fingerprint, now: Fingerprint) -> tuple[str, ...]:
    was, is_now = dict(old.dependencies), dict(now.dependencies)
    names = sorted(name for name in was.keys() | is_now.keys() if was.get(name) != is_now.get(name))
    return tuple(path for name in names if (path := name.partition(" ")[2]) and name.partition(" ")[0] == label)


def _outputs_text(value: Any) -> str:
    rows = value if isinstance(value, (list, tuple)) else ()
    named = (f"{path}{'/' if folder else ''}" for path, folder, _ in rows)
    return _short(" ".join(named)) if rows else "nothing"


def _short(value: Any) -> str:
    if value is None:
        return "nothing"
    text = value if isinstance(value, str) else _listed(value)
    text = text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
    return repr(text) if isinstance(value, str) else text


def _listed(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def chains(graph: Graph, plan: Plan) -> Iterable[tuple[str, ...]]:
    """For each step that runs for a reason of its own: that reason, then the longest way through what waits for it."""
    behind = {step.label for step in plan.steps if step.expected is Expected.BEHIND}
    length: dict[str, int] = {}
    following: dict[str, str] = {}
    for label in reversed([step.label for step in plan.steps]):
        users = [user for user in graph.needed_by[label] if user in behind]
        best = max(users, key=lambda user: length[user], default=None)
        length[label] = 1 + (length[best] if best is not None else 0)
        if best is not None:
            following[label] = best
    for step in plan.steps:
        if step.expected is Expected.BUILD and step.label in following:
            yield (_origin(step.reasons), *_way(step.label, following))


def _origin(reasons: Sequence[Reason]) -> str:
    first = reasons[0]
    return first.subject if first.kind.startswith("input-") and first.subject else str(first)


def _way(label: str, following: Mapping[str, str]) -> Iterable[str]:
    while True:
        yield label
        if label not in following:
            return
        label = following[label]
