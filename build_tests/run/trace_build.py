"""Tracing over a whole run: which steps are traced and how, what their findings mean. Runs nothing.

`--build-trace` asks for it, and `validation: strict` brings it. Nothing of it ever enters a key.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from build_tests.core.graph import Graph
from build_tests.core.model import Config, Identity, Output
from build_tests.run import trace_report
from build_tests.run.trace import Traced
from build_tests.run.trace_strace import Strace, find

if TYPE_CHECKING:
    from build_tests.run.step import Order, StepResult


class Tracing:
    """See the module's text.

    Args:
        asked: by `--build-trace`; else strict rules alone brought it.
        strict: undeclared files are failures.
    """

    def __init__(self, config: Config, graph: Graph, environ: Mapping[str, str], *, asked: bool, strict: bool) -> None:
        self._config, self._graph, self._environ = config, graph, environ
        self._asked, self._strict = asked, strict
        self.results: list[tuple[str, Traced]] = []
        self._unseen = False

    @cached_property
    def _tracer(self) -> Strace | str:
        return find(self._environ)

    def wish(self, label: str) -> dict[str, Any]:
        """What an order says of it: how to trace, or `why` not."""
        if daemons := self._graph.steps[label].daemons:
            # Whatever a daemon of an earlier run does for the step, nobody sees.
            return {"why": f"its daemons ({', '.join(daemons)}) work outside of it"}
        if isinstance(self._tracer, str):
            return {"why": self._tracer}
        # Strict rules alone want findings, and that a file was looked for is none.
        return {"strace": self._tracer.path, "looks": self._asked, "readable": sorted(self._readable(label))}

    @cached_property
    def _environments(self) -> list[str]:
        """The virtual environments on PATH that lie in the repository: what is in them are tools, known by version."""
        folders = (os.path.dirname(folder) for folder in self._environ.get("PATH", "").split(os.pathsep) if folder)
        inside = (os.path.relpath(folder, self._config.root) for folder in folders if os.path.isabs(folder))
        found = (path for path in inside if not path.startswith(os.pardir) and path != os.curdir)
        return [f"{path}/" for path in found if os.path.isfile(os.path.join(self._config.root, path, "pyvenv.cfg"))]

    def _readable(self, label: str) -> Iterator[str]:
        yield from self._environments
        step = self._graph.steps[label]
        if not step.cache or any(name.startswith("git ") for name, _ in step.facts):
            # What it reads of git is among its facts, or it always runs.
            yield ".git/"
        # Where a step comes `after` another, facts stand in its key for what it reads there.
        facts = bool(step.facts)
        for edge in self._graph.edges[label]:
            for output in self._graph.steps[edge.label].outputs:
                known = edge.outputs is None or output.path in edge.outputs or (facts and not edge.outputs)
                if known and output.identity is not Identity.IMAGE:
                    yield from _itself(output)

    def judge(self, label: str, order: Order, result: StepResult) -> None:
        """Take a result in; under strict rules a step that used undeclared files has failed."""
        # A worker that died in the step tells nothing, and an earlier attempt has a trace of its own.
        self._unseen |= result.trace is None or result.attempts > 1
        if result.trace is None:
            return
        traced = Traced.from_json(result.trace)
        self.results.append((label, traced))
        if traced.status != "undeclared":
            return
        inputs = {path for path, _, _ in order.inputs}
        lines = trace_report.finding(self._graph.steps[label], traced, inputs, self._config)
        if self._strict and result.ok:
            result.ok, result.items, result.digests = False, None, {}
            result.message = trace_report.headline(traced)
            result.first_error = "\n".join(lines)
        else:
            result.warnings += lines

    def notes(self, unrun: int) -> list[str]:
        """The end of the run, in lines; `unrun`: how many steps went well without a run, so without a trace."""
        if not self.results and not self._asked:
            return []
        lines = list(trace_report.summary(self.results, unrun))
        if self.unproven:
            lines.append("the run fails: strict rules and --build-trace ask that every step that ran is verified")
        return lines

    @property
    def told(self) -> set[str]:
        """Every file that a step was found to write undeclared."""
        return {path for _, traced in self.results for path in traced.writes}

    @property
    def whole(self) -> bool:
        """Whether steps ran, and of each it is known what it wrote."""
        if self._unseen or not self.results:
            return False
        return not any(traced.why or traced.more for _, traced in self.results)

    @property
    def unproven(self) -> bool:
        """Whether strict rules asked for a proof by name, and some step has none."""
        return self._asked and self._strict and any(traced.status == "unverified" for _, traced in self.results)


def _itself(output: Output) -> Iterator[str]:
    yield output.path
    if output.directory:
        yield f"{output.path}/"
