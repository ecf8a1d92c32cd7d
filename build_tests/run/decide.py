"""Must a step run: its fingerprint now against its last success's, and the outputs on disk. Knows no order, no worker.

One walk makes the fingerprint; the key and the reasons are both read from it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from build_tests.core.digest import FileTable, digest_of
from build_tests.core.fingerprint import SCHEMA, Fingerprint, Reason, definition_of, differences, platform_tag
from build_tests.core.globs import PathSet, Tree
from build_tests.core.graph import Graph
from build_tests.core.model import Identity, Output, Step, Strategy
from build_tests.run import outputs
from build_tests.run.state import Entry, Memory
from build_tests.run.toolchain import NOT_INSTALLED, Missing, Toolchain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from build_tests.cache.artifact import Item
    from build_tests.run.images import Engine, Unavailable


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a target and the options say about trusting what was built before."""

    strategy: Strategy = Strategy.AGGRESSIVE
    incremental: bool = True
    strict: bool = False
    accept: bool = False
    forced: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Fresh:
    """Up to date."""

    key: str
    context: str = ""
    accepted: bool = False
    """Its outputs are taken as right for a fingerprint that is only made in a new way."""
    fingerprint: Fingerprint | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Must run, for these reasons."""

    key: str
    fingerprint: Fingerprint
    reasons: tuple[Reason, ...]
    context: str = ""
    owned: bool = False
    """Nothing but our own last result lies in its outputs, so its tool's own memory still belongs to them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lacking:
    """Can't run here: a tool is missing."""

    missing: Missing


Decision = Fresh | Run | Lacking


@dataclass(slots=True)
class Decider:
    """Decides for one run over one checkout, one step at a time, dependencies first."""

    root: str
    graph: Graph
    policy: Policy
    memory: Memory
    table: FileTable
    tree: Tree
    toolchain: Toolchain
    environ: Mapping[str, str]
    empty: dict[str, list[str]] = field(default_factory=dict)
    """label → the patterns among its inputs that match nothing."""
    _owned: PathSet = field(init=False)
    _platform: str = field(init=False)
    _contexts: dict[tuple[tuple[str, str], ...], str] = field(default_factory=dict, init=False)
    _plain: set[str] = field(default_factory=set, init=False)
    """Labels whose inputs are all plain paths, and all there."""
    _digests: dict[str, dict[str, str]] = field(default_factory=dict, init=False)
    _images: dict[str, str | None] = field(default_factory=dict, init=False)
    _engine: Engine | Unavailable | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.excluded = [f"{o.path}/" if o.directory else o.path for o in self._file_outputs()]
        remembered = [path.rstrip("/") for step in self.graph.steps.values() for path in step.state]
        self.excluded += [name for path in remembered for name in (path, f"{path}/")]
        self._owned = PathSet.of(self.excluded)
        self._platform = platform_tag()

    excluded: list[str] = field(init=False)
    """What no pattern matches: the outputs of all steps, and their tools' own memory. Folders have a trailing /."""

    def decide(self, label: str) -> Decision:
        """Whether the step must run. What it needs must have settled, or not be part of this run.

        Raises:
            UnreadableError: an input is there and can't be read.
        """
        step = self.graph.steps[label]
        tools = self._tools(step)
        if isinstance(tools, Missing):
            return Lacking(missing=tools)
        if (no_engine := self._engine_problem(step)) is not None:
            return Lacking(missing=no_engine)
        entry = self.memory.entries.get(label, Entry())
        deviation = self._deviation(step, entry)
        context = self._context(step, tools)
        if deviation is None and context and context == entry.context and self._untouched(step, entry):
            return Fresh(key=entry.key, context=context)
        now = self._fingerprint(step, tools)
        if label not in self._plain:
            context = ""
        key = now.key()
        reasons = self._reasons(step, entry, now, key, deviation)
        if not reasons:
            return Fresh(key=key, context=context)
        if self._acceptable(entry, reasons, deviation):
            return Fresh(key=key, context=context, accepted=True, fingerprint=now)
        owned = deviation is None and entry.status == "ok" and not entry.restored
        return Run(key=key, context=context, fingerprint=now, reasons=reasons, owned=owned)

    def fingerprint(self, label: str) -> Fingerprint | None:
        """What the step would be made from now, its dependencies' outputs as they lie; None where a tool is missing.

        Raises:
            UnreadableError: an input is there and can't be read.
        """
        tools = self._tools(self.graph.steps[label])
        return None if isinstance(tools, Missing) else self._fingerprint(self.graph.steps[label], tools)

    def _context(self, step: Step, tools: list[tuple[str, str]]) -> str:
        """What else than files enters the step's key, told apart without making the fingerprint; "" where it can't be.

        The graph's digest stands for the step's definition and its own variables.
        """
        outside = step.pass_env or step.base_images or any(o.identity is not Identity.CONTENT for o in step.outputs)
        if outside or not self.graph.digest:
            return ""
        versions = tuple(tools)
        found = self._contexts.get(versions)
        if found is None:
            text = json.dumps([SCHEMA, self._platform, self.graph.digest, versions])
            found = self._contexts[versions] = digest_of(text.encode())
        return found

    def _untouched(self, step: Step, entry: Entry) -> bool:
        """In an equal context: whether every file that entered the key, and every dependency's output, is as it was."""
        if not entry.key or entry.status != "ok" or self._forced(step):
            return False
        _, _, _, _, _, inputs, dependencies, _ = entry.fingerprint
        return self.table.same(inputs) and [*self._dependencies(step)] == [tuple(known) for known in dependencies]

    def pulled(self, decision: Run) -> Run:
        """After its run: base images that the engine did not have, and fetched for it, enter the key as they are."""
        absent = [name for name, identity in decision.fingerprint.images if not identity]
        if not absent:
            return decision
        for name in absent:
            self._images.pop(name, None)
        images = tuple((name, identity or self._image(name) or "") for name, identity in decision.fingerprint.images)
        fingerprint = replace(decision.fingerprint, images=images)
        return replace(decision, fingerprint=fingerprint, key=fingerprint.key())

    def ran(self, label: str) -> None:
        """The step has run: what is known of its outputs is old."""
        self._digests.pop(label, None)
        for output in self.graph.steps[label].outputs:
            if output.identity is Identity.IMAGE:
                self._images.pop(output.path, None)
            else:
                self.table.forget_under(output.path)
                self.tree.forget_under(output.path)

    def note_digests(self, label: str, digests: dict[str, str]) -> None:
        """What the step's outputs are now, for its dependents."""
        self._digests[label] = digests
        for output in self.graph.steps[label].outputs:
            if output.identity is Identity.IMAGE and output.path in digests:
                self._images[output.path] = digests[output.path]

    def _file_outputs(self) -> Iterator[Output]:
        for step in self.graph.steps.values():
            for output in step.outputs:
                if output.identity is not Identity.IMAGE:
                    yield output

    def _reasons(
        self, step: Step, entry: Entry, now: Fingerprint, key: str, deviation: Reason | None
    ) -> tuple[Reason, ...]:
        if forced := self._forced(step):
            return (forced,)
        match entry.status:
            case "interrupted":
                return (Reason(kind="interrupted"),)
            case "raced":
                return (Reason(kind="input-raced"),)
        if not entry.key:
            return (Reason(kind="never"),) if entry.status == "ok" else (Reason(kind="failed"),)
        if entry.key != key:
            return differences(Fingerprint.from_json(entry.fingerprint), now) or (Reason(kind="never"),)
        return () if deviation is None else (deviation,)

    def _forced(self, step: Step) -> Reason | None:
        if not step.cache:
            return Reason(kind="uncached")
        if step.label in self.policy.forced:
            return Reason(kind="forced")
        if self.policy.strategy is Strategy.OFF:
            return Reason(kind="off")
        return None if self.policy.incremental else Reason(kind="not-incremental")

    def _acceptable(self, entry: Entry, reasons: tuple[Reason, ...], deviation: Reason | None) -> bool:
        """`--build-accept`: nothing differs but how fingerprints are made, and the outputs are as they were left."""
        if not self.policy.accept or deviation is not None or entry.status != "ok":
            return False
        kinds = {reason.kind for reason in reasons}
        new_tools = all(r.detail.startswith("none →") for r in reasons if r.kind == "tool")
        return "schema" in kinds and kinds <= {"schema", "declaration", "tool"} and new_tools

    def _deviation(self, step: Step, entry: Entry) -> Reason | None:
        """How the outputs on disk differ from what the last run left, if they do."""
        found = outputs.intact(entry.outputs, step.outputs, self.table, self.tree)
        if found is not None:
            return Reason(kind=f"output-{found.kind}", subject=found.path)
        for output in step.outputs:
            if output.identity is Identity.INSTALLED:
                if fault := outputs.stamp_fault(self.root, output.path, entry.key, self.table):
                    return Reason(kind=f"output-{fault}", subject=output.path)
            elif output.identity is Identity.IMAGE:
                there = self._image(output.path)
                if there is None or there != entry.digests.get(output.path):
                    return Reason(kind="image-other" if there else "image-missing", subject=output.path)
        self._digests.setdefault(step.label, entry.digests)
        return None

    # The fingerprint

    def _fingerprint(self, step: Step, tools: list[tuple[str, str]]) -> Fingerprint:
        return Fingerprint(
            definition=definition_of(step),
            env=tuple(self._env(step)),
            tools=tuple(tools),
            inputs=tuple(self._inputs(step)),
            dependencies=tuple(self._dependencies(step)),
            images=tuple((name, self._image(name) or "") for name in step.base_images),
            platform=self._platform,
        )

    def _env(self, step: Step) -> Iterator[tuple[str, str]]:
        yield from step.env
        for name in step.pass_env:
            if name in self.environ:
                yield name, self.environ[name]

    def _inputs(self, step: Step) -> Iterator[tuple[str, str, str]]:
        found = self.tree.find(step.inputs, exclude=self._owned.contains)
        paths = found.paths
        self.empty[step.label] = found.empty
        program = self._own_program(step)
        if found.plain and (isinstance(step.command, str) or "/" not in step.command[0]):
            self._plain.add(step.label)
        if program and program not in paths:
            paths = [*paths, program]
        for path in paths:
            state = self.table.lookup(path)
            if state is not None:
                yield path, state.mode, state.digest

    def _own_program(self, step: Step) -> str | None:
        """argv[0] where it is a file of the repository: an input that nobody should have to write down."""
        if isinstance(step.command, str) or not step.command or "/" not in step.command[0]:
            return None
        path = os.path.normpath(os.path.join(self.root, step.path, step.command[0]))
        relative = os.path.relpath(path, self.root)
        if relative.startswith("..") or self._owned.contains(relative) or not os.path.isfile(path):
            return None
        return relative

    def _dependencies(self, step: Step) -> Iterator[tuple[str, str]]:
        for edge in self.graph.edges[step.label]:
            if edge.outputs == ():
                continue
            digests = self.digests(edge.label)
            if not digests:
                yield edge.label, ""
            for path, digest in sorted(digests.items()):
                if edge.outputs is None or path in edge.outputs:
                    yield f"{edge.label} {path}", digest

    def digests(self, label: str) -> dict[str, str]:
        """Output → digest of what lies there now, also for a step that is not part of this run."""
        if label not in self._digests:
            step = self.graph.steps[label]
            entry = self.memory.entries.get(label, Entry())
            if self._deviation(step, entry) is not None:
                self._digests[label] = self._as_they_lie(step)
        return self._digests[label]

    def shared_digest(self, label: str, path: str, digest: str) -> str:
        """The digest that other machines know an output by, which has this one here; "" = there is none.

        Raises:
            ChangedError, OSError: it is not what it was a moment ago.
        """
        output = next(o for o in self.graph.steps[label].outputs if o.path == path)
        entry = self.memory.entries.get(label, Entry())
        if output.identity is Identity.IMAGE:
            return digest
        if entry.digests.get(path) != digest:
            return ""
        if path not in entry.shared and output.identity is Identity.CONTENT:
            from build_tests.run.sharing import shared_items

            items = shared_items(self.root, entry.outputs, self.table)
            entry.shared = shared_outputs(self.graph.steps[label], items, entry.shared)
        return entry.shared.get(path, "")

    def _as_they_lie(self, step: Step) -> dict[str, str]:
        digests = dict(outputs.capture(self.root, step.outputs, self.table, self.tree).digests)
        for output in step.outputs:
            if output.identity is Identity.IMAGE:
                digests[output.path] = self._image(output.path) or ""
            elif output.identity is Identity.INSTALLED:
                digests[output.path] = outputs.read_stamp(os.path.join(self.root, output.path))
        return digests

    # Tools and images

    def _tools(self, step: Step) -> list[tuple[str, str]] | Missing:
        found = []
        for tool in step.tools:
            answer = self.toolchain.find(tool, step.path)
            if isinstance(answer, Missing) and not tool.optional:
                return answer
            found.append((tool.name, _as_missing(answer) if isinstance(answer, Missing) else answer.version))
        return found

    def _engine_problem(self, step: Step) -> Missing | None:
        if not step.base_images and all(o.identity is not Identity.IMAGE for o in step.outputs):
            return None
        from build_tests.run.images import Unavailable

        engine = self._connect()
        return Missing(name="docker engine", why=engine.reason, hint=engine.hint) if isinstance(
            engine, Unavailable
        ) else None

    def _connect(self) -> Engine | Unavailable:
        if self._engine is None:
            from build_tests.run.images import Engine

            self._engine = Engine.connect(self.environ)
        return self._engine

    def _image(self, reference: str) -> str | None:
        """Asked of the engine once for every image of the build."""
        if reference not in self._images:
            from build_tests.run.images import Unavailable

            engine = self._connect()
            wanted = {reference, *self._all_images()} - self._images.keys()
            if isinstance(engine, Unavailable):
                self._images.update(dict.fromkeys(wanted))
            else:
                self._images.update(engine.identities(sorted(wanted)))
        return self._images[reference]

    def _all_images(self) -> Iterator[str]:
        for step in self.graph.steps.values():
            yield from step.base_images
            yield from (o.path for o in step.outputs if o.identity is Identity.IMAGE)


def shared_outputs(
    step: Step, items: Iterable[Item], known: Mapping[str, str] = MappingProxyType({})
) -> dict[str, str]:
    """Content output → the digest that other machines know it by, beside what is known of the others."""
    from build_tests.cache.artifact import digest_of as shared

    listed = list(items)
    return {**known, **{o.path: shared(listed, o.path) for o in step.outputs if o.identity is Identity.CONTENT}}


def _as_missing(optional: Missing) -> str:
    """What stands in a key for an optional tool that does not fit, and which the step may call all the same."""
    return "missing" if optional.why == NOT_INSTALLED else f"missing: {optional.why}"
