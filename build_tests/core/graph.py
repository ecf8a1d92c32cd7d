"""The graph of steps: edges written down and edges found, checked. Knows labels and paths; reads no file.

An edge is found where one step's input is another's output: a literal input path, or the literal prefix of a pattern,
that lies in a declared output. Every other glob never sees outputs at all (design: the input set is the same in a fresh
clone and after a build).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from build_tests.core.errors import ConfigError, Diagnostic
from build_tests.core.globs import literal_prefix, matches, reaches
from build_tests.core.model import Component, Identity, Output, Step, by_entry


@dataclass(frozen=True, kw_only=True)
class Edge:
    """One dependency: on all outputs of `label`, on those named in `outputs` (found by path), or on its success: ()."""

    label: str
    outputs: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Graph:
    """Steps and edges without a cycle. Iteration orders are those of the build file."""

    steps: Mapping[str, Step]
    edges: Mapping[str, tuple[Edge, ...]]
    """What each step needs."""
    needs: Mapping[str, tuple[str, ...]]
    """The labels of `edges`."""
    needed_by: Mapping[str, tuple[str, ...]]
    order: tuple[str, ...]
    """Topological: dependencies first, ties in file order."""
    digest: str = ""
    """Of all the bytes that it was read from; two graphs of one digest are equal. "" = not known."""

    def closure(self, labels: Iterable[str]) -> set[str]:
        """The labels and everything they need."""
        return _reach(labels, self.needs)

    def dependents(self, labels: Iterable[str]) -> set[str]:
        """The labels and everything that needs them."""
        return _reach(labels, self.needed_by)

    def sorted(self, labels: Iterable[str]) -> list[str]:
        """The labels, dependencies first."""
        wanted = set(labels)
        return [label for label in self.order if label in wanted]

    def levels(self) -> dict[str, int]:
        """Each step's longest distance from a step that needs nothing."""
        level: dict[str, int] = {}
        for label in self.order:
            level[label] = max((level[need] + 1 for need in self.needs[label]), default=0)
        return level


def _reach(labels: Iterable[str], edges: Mapping[str, tuple[str, ...]]) -> set[str]:
    seen = set(labels)
    stack = list(seen)
    while stack:
        for other in edges[stack.pop()]:
            if other not in seen:
                seen.add(other)
                stack.append(other)
    return seen


class OutputIndex:
    """Which step owns a path: exact files and folders, looked up by the path's own depth."""

    def __init__(self, steps: Iterable[Step]) -> None:
        self._owners: dict[str, tuple[str, Output]] = {}
        for step in steps:
            for output in step.outputs:
                if output.identity is not Identity.IMAGE:
                    self._owners.setdefault(output.path, (step.label, output))

    def owner(self, path: str) -> tuple[str, Output] | None:
        """The step and output that `path` is, or lies in."""
        found = self._owners.get(path)
        if found is not None:
            return found
        for parent in parents(path):
            found = self._owners.get(parent)
            if found is not None and found[1].directory:
                return found
        return None

    def within(self, patterns: Sequence[str]) -> Iterator[tuple[str, str]]:
        """The outputs (label, path) that patterns match, or may match something in."""
        for path, (label, output) in self._owners.items():
            if reaches(patterns, path) if output.directory else matches(patterns, path):
                yield label, path


def parents(path: str) -> Iterator[str]:
    """`a/b/c` → `a/b`, `a`."""
    end = path.rfind("/")
    while end > 0:
        yield path[:end]
        end = path.rfind("/", 0, end)


def build_graph(steps: Iterable[Step], components: Iterable[Component] = ()) -> Graph:
    """Find the edges and check them.

    Raises:
        ConfigError: unknown and self-dependencies, cycles (as a path), outputs that overlap or are inputs; all at once.
    """
    by_label = {step.label: step for step in steps}
    wrong = _overlaps(by_label.values())
    edges = _edges(by_label, by_entry(components), wrong)
    needs = {label: tuple(edge.label for edge in found) for label, found in edges.items()}
    order = _order(by_label, needs, wrong)
    if wrong:
        raise ConfigError(wrong)
    needed_by: dict[str, list[str]] = {label: [] for label in by_label}
    for label, wanted in needs.items():
        for need in wanted:
            needed_by[need].append(label)
    return Graph(
        steps=by_label,
        edges=edges,
        needs=needs,
        needed_by={label: tuple(users) for label, users in needed_by.items()},
        order=tuple(order),
    )


def _edges(
    steps: Mapping[str, Step], components: Mapping[str, tuple[str, ...]], wrong: list[Diagnostic]
) -> dict[str, tuple[Edge, ...]]:
    members: dict[str, list[str]] = {name: [] for name in components}
    images: dict[str, str] = {}
    for label, step in steps.items():
        members.setdefault(step.component, []).append(label)
        images.update((o.path, label) for o in step.outputs if o.identity is Identity.IMAGE)
    for name, its in components.items():
        members[name] = [label for component in its for label in members[component]]
    index = OutputIndex(steps.values())
    edges: dict[str, tuple[Edge, ...]] = {}
    for label, step in steps.items():
        found: dict[str, set[str] | None] = dict.fromkeys(
            _written_down(step, step.depends_on, steps, members, wrong)
        )
        for need in _written_down(step, step.after, steps, members, wrong):
            found.setdefault(need, set())
        for pattern, need, output in _by_path(step, index, images):
            if need == label:
                wrong += _own_output(step, pattern)
                continue
            known = found.setdefault(need, set())
            if known is not None:
                known.add(output)
        edges[label] = tuple(
            Edge(label=need, outputs=None if outputs is None else tuple(sorted(outputs)))
            for need, outputs in found.items()
        )
    return edges


def _written_down(
    step: Step,
    names: Iterable[str],
    steps: Mapping[str, Step],
    members: Mapping[str, list[str]],
    wrong: list[Diagnostic],
) -> Iterator[str]:
    for name in names:
        if name == step.label:
            wrong.append(Diagnostic(place=step.where, message=f"step {name!r} depends on itself: {name} -> {name}"))
        elif name in steps:
            yield name
        elif name in members:
            # "The rest of my own component" is what a step means that names its own component.
            yield from (label for label in members[name] if label != step.label)
        else:
            wrong.append(
                Diagnostic(
                    place=step.where,
                    message=f"step {step.label!r} depends on {name!r}, which is no step and no component",
                    hint=did_you_mean(name, [*steps, *members]),
                )
            )


def _by_path(step: Step, index: OutputIndex, images: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """The literal input ("" = another way), and the step and output that it leads to."""
    for pattern in step.inputs:
        if not pattern.startswith("!") and (found := index.owner(literal_prefix(pattern).rstrip("/"))):
            yield pattern, found[0], found[1].path
    if step.takes_outputs:
        yield from (("", *found) for found in index.within(step.inputs))
    for reference in step.base_images:
        if reference in images:
            yield "", images[reference], reference


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint for a name that nothing has, or ""."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {close[0]!r}?" if close else ""


def _overlaps(steps: Iterable[Step]) -> list[Diagnostic]:
    wrong: list[Diagnostic] = []
    seen: dict[str, tuple[Step, Output]] = {}
    all_steps = list(steps)
    for step in all_steps:
        for output in step.outputs:
            if output.path in seen:
                wrong.append(_overlap(step, output, *seen[output.path]))
            else:
                seen[output.path] = (step, output)
    for step, output in list(seen.values()):
        if output.identity is Identity.IMAGE:
            continue
        outer = [seen[parent] for parent in parents(output.path) if parent in seen]
        wrong += [_overlap(step, output, *its) for its in outer if its[1].identity is not Identity.IMAGE]
    return wrong + [found for step in all_steps if step.state for found in _own_state(step)]


def _overlap(step: Step, output: Output, other: Step, its: Output) -> Diagnostic:
    whose = "the same step" if other is step else f"step {other.label!r}"
    return Diagnostic(
        place=step.where,
        message=f"outputs overlap: {output.path!r} of step {step.label!r} and {its.path!r} of {whose}",
        hint="give every output to one step; a step that needs another's output names it under inputs",
    )


def _own_output(step: Step, pattern: str) -> Iterator[Diagnostic]:
    """A literal input that the step's own run would remove."""
    if pattern:
        message = f"step {step.label!r}: {pattern!r} is an input and lies in its own outputs"
        yield Diagnostic(place=step.where, message=message)


def _own_state(step: Step) -> Iterator[Diagnostic]:
    """A tool's memory that the step's own run would remove."""
    index = OutputIndex([step])
    for path in step.state:
        if index.owner(path.rstrip("/")):
            yield Diagnostic(
                place=step.where, message=f"step {step.label!r}: state {path!r} lies in its own outputs",
                hint="state is kept when outputs are removed: it needs a place of its own",
            )


def _order(steps: Mapping[str, Step], needs: Mapping[str, tuple[str, ...]], wrong: list[Diagnostic]) -> list[str]:
    """Dependencies first; each cycle is reported once, as a path, and then cut."""
    done: set[str] = set()
    order: list[str] = []
    for start in steps:
        # Iterative depth-first search: a chain of thousands of steps must not meet the recursion limit.
        path: list[str] = []
        on_path: set[str] = set()
        stack: list[tuple[str, bool]] = [(start, False)]
        while stack:
            label, left = stack.pop()
            if left:
                path.pop()
                on_path.discard(label)
                done.add(label)
                order.append(label)
            elif label in on_path:
                wrong.append(_cycle(steps, [*path[path.index(label) :], label]))
            elif label not in done:
                path.append(label)
                on_path.add(label)
                stack.append((label, True))
                stack.extend((need, False) for need in reversed(needs[label]))
    return order


def _cycle(steps: Mapping[str, Step], path: list[str]) -> Diagnostic:
    first = min(path[:-1], key=list(steps).index)
    at = path.index(first)
    turned = [*path[at:-1], *path[:at], first]
    takes = next((label for label in turned if steps[label].takes_outputs), None)
    hint = f"{takes!r} copies whatever lies in its context: .dockerignore takes away what must not be in it"
    message = f"the steps depend on each other: {' -> '.join(turned)}"
    return Diagnostic(place=steps[first].where, message=message, hint=hint if takes else "")
