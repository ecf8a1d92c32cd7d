"""The command `pytest-build graph`: which step needs which, with the critical path by the last durations."""

from __future__ import annotations

from build_tests.core.errors import BuildError
from build_tests.faces.common import add_build_file, build_file, plain, print_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from build_tests.core.graph import Graph

VERSION = 1
"""Of the JSON document."""


def declare(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("selectors", nargs="*", metavar="SELECTOR", help="a target, a component or a step; all if none")
    parser.add_argument("--format", choices=("text", "dot", "mermaid", "json"), default="text", help="default: text")
    add_build_file(parser)
    parser.set_defaults(run=_graph)


class Drawing:
    """The steps to be shown, dependencies first, with their edges, durations and the critical path."""

    def __init__(self, graph: Graph, labels: set[str], seconds: Mapping[str, float]) -> None:
        from build_tests.core.plan import critical_path

        self.labels = graph.sorted(labels)
        self.needs = {label: [need for need in graph.needs[label] if need in labels] for label in self.labels}
        self.seconds = {label: seconds[label] for label in self.labels if label in seconds}
        self.critical = critical_path(graph, labels, self.seconds)
        self.on_path = set(zip(self.critical, self.critical[1:], strict=False))

    @property
    def length(self) -> float | None:
        """Seconds of the critical path; None where a step of it was never measured."""
        known = [self.seconds.get(label) for label in self.critical]
        return None if None in known else sum(one for one in known if one)

    def edges(self) -> Iterator[tuple[str, str]]:
        """(needed, user)."""
        return ((need, label) for label in self.labels for need in self.needs[label])


def _graph(options: argparse.Namespace, extra: Sequence[str]) -> int:
    if extra:
        raise BuildError("graph takes nothing behind --")
    from build_tests.api import BuildOrchestrator

    file = build_file(options.build_file)
    orchestrator = BuildOrchestrator.load(file, target=options.target, environment=options.build_env)
    project = orchestrator.project
    wanted = project.select(options.selectors) if options.selectors else set(project.graph.order)
    drawing = Drawing(project.graph, project.graph.closure(wanted), orchestrator.durations())
    if options.format == "json":
        print_json(document(drawing))
    else:
        forms: dict[str, Callable[[Drawing], Iterator[str]]] = {"text": text, "dot": dot, "mermaid": mermaid}
        print("\n".join(forms[options.format](drawing)))
    return 0


def text(drawing: Drawing) -> Iterator[str]:
    """A line a step; `*` marks the critical path."""
    width = max(map(len, drawing.labels), default=0)
    for label in drawing.labels:
        mark = "*" if label in drawing.critical else " "
        took = f"{drawing.seconds[label]:7.2f} s" if label in drawing.seconds else "        ?"
        after = f"  after {', '.join(drawing.needs[label])}" if drawing.needs[label] else ""
        yield plain(f"{mark} {label:{width}} {took}{after}")
    length = "not measured yet" if drawing.length is None else f"{drawing.length:.2f} s"
    yield f"critical path (*): {length}, {len(drawing.critical)} of {len(drawing.labels)} steps"


def dot(drawing: Drawing) -> Iterator[str]:
    """For Graphviz."""
    yield "digraph build {"
    yield "  rankdir=LR; node [shape=box];"
    for label in drawing.labels:
        style = ", color=red, penwidth=2" if label in drawing.critical else ""
        yield f'  "{label}" [label="{label}{_seconds(drawing, label, chr(92) + "n")}"{style}];'
    for edge in drawing.edges():
        yield f'  "{edge[0]}" -> "{edge[1]}"{" [color=red, penwidth=2]" if edge in drawing.on_path else ""};'
    yield "}"


def mermaid(drawing: Drawing) -> Iterator[str]:
    """For Markdown that draws it."""
    number = {label: f"s{at}" for at, label in enumerate(drawing.labels)}
    yield "graph LR"
    yield from (f'  {number[label]}["{label}{_seconds(drawing, label, "<br>")}"]' for label in drawing.labels)
    for need, label in drawing.edges():
        yield f"  {number[need]} {'==>' if (need, label) in drawing.on_path else '-->'} {number[label]}"
    yield "  classDef critical stroke:#d00,stroke-width:3px"
    if drawing.critical:
        yield f"  class {','.join(number[label] for label in drawing.critical)} critical"


def document(drawing: Drawing) -> dict[str, object]:
    """For programs."""
    return {
        "version": VERSION,
        "steps": [
            {"label": label, "needs": drawing.needs[label], "seconds": drawing.seconds.get(label),
             "critical": label in drawing.critical}
            for label in drawing.labels
        ],
        "critical_path": list(drawing.critical), "critical_seconds": drawing.length,
    }  # fmt: skip


def _seconds(drawing: Drawing, label: str, before: str) -> str:
    return f"{before}{drawing.seconds[label]:.2f} s" if label in drawing.seconds else ""
