"""The command `pytest-build explain`: what will be built and why; why it was; how it differs from another machine's."""

from __future__ import annotations

import json
import os
from typing import Any

from build_tests.core.errors import BuildError
from build_tests.faces.common import add_build_file, build_file, plain, print_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping, Sequence

    from build_tests.api import BuildOrchestrator
    from build_tests.run.against import Compared
    from build_tests.run.build import Build
    from build_tests.run.explaining import Explained, Explanation
    from build_tests.run.record import StepRecord

VERSION = 1
"""Of the JSON document of --last."""
SHOWN = 20
"""Reasons of a step, and chains, that are listed."""


def declare(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("selectors", nargs="*", metavar="SELECTOR", help="a target, a component or a step")
    parser.add_argument("--last", action="store_true", help="why each step ran, or did not, in the last run")
    parser.add_argument(
        "--against", metavar="FILE|RUN|SCOPE",
        help="compare with another machine's `explain --json`, an earlier run here, or a scope of the artifact cache",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="one JSON document (docs/json.md), also for --against")
    add_build_file(parser)
    parser.set_defaults(run=_explain)


def _explain(options: argparse.Namespace, extra: Sequence[str]) -> int:
    if extra:
        raise BuildError("explain takes nothing behind --")
    if options.last and options.against:
        raise BuildError("--last and --against are two questions")
    from build_tests.api import BuildOrchestrator

    file = build_file(options.build_file)
    orchestrator = BuildOrchestrator.load(file, target=options.target, environment=options.build_env)
    if options.last:
        return _last(orchestrator, options)
    explanation, build = orchestrator.explained(
        options.selectors, fingerprints=options.json or options.against is not None
    )
    if options.against is not None:
        return _against(orchestrator, explanation, build, options)
    if options.json:
        print_json(explanation.to_json())
    else:
        print("\n".join(lines(explanation, orchestrator.selected(options.selectors))))
    return 0


# What will happen


def lines(explanation: Explanation, asked: set[str]) -> Iterator[str]:
    """The steps that will not simply stay, with their reasons; the chains; then how many stay."""
    stay = 0
    for step in explanation.steps:
        if step.planned.expected.value == "up to date" and (step.planned.label not in asked or len(asked) > 1):
            stay += 1
            continue
        yield from _step(step)
    yield from (f"chain: {plain(' → '.join(chain))}" for chain in explanation.chains[:SHOWN])
    if stay:
        yield f"{stay} of {len(explanation.steps)} steps {'is' if stay == 1 else 'are'} up to date"


def _step(step: Explained) -> Iterator[str]:
    planned = step.planned
    what = {
        "build": "will be built", "restore": f"will be restored from {planned.tier}", "depends": "waits",
        "fail": "will fail",
    }  # fmt: skip
    said = what.get(planned.expected.value, planned.expected.value)
    yield plain(f"{planned.label} {said}{': ' if planned.note else ''}{planned.note}")
    if planned.expected.value == "up to date":
        yield "    nothing changed"
    reasons = [line for cause in step.causes for line in cause.lines()]
    yield from (f"    {plain(line)}" for line in reasons[:SHOWN])
    if len(reasons) > SHOWN:
        yield f"    and {len(reasons) - SHOWN:,} more"


# What happened


def _last(orchestrator: BuildOrchestrator, options: argparse.Namespace) -> int:
    from build_tests.faces import runs

    recorded = runs.last(orchestrator.project.config.root)
    graph, steps = orchestrator.project.graph, recorded.steps
    wanted = graph.sorted(graph.closure(orchestrator.selected(options.selectors)))
    if options.json:
        found = [steps[label].to_json() for label in wanted if label in steps]
        absent = [label for label in wanted if label not in steps]
        print_json({"version": VERSION, "run": recorded.id, "steps": found, "not_part": absent})
        return 0
    print(f"run {recorded.id}, ended with {recorded.run.end.get('exit', 'no status: it was cut off')}")
    print("\n".join(told(recorded.steps, wanted)))
    return 0


def told(steps: Mapping[str, StepRecord], wanted: Sequence[str]) -> Iterator[str]:
    """What a run did with these steps, and why."""
    from build_tests.faces.runs import reasons_of

    fresh = 0
    for label in wanted:
        step = steps.get(label)
        if step is None:
            yield f"{label} was not part of it"
        elif step.outcome.value == "fresh" and len(wanted) > 1:
            fresh += 1
        else:
            yield plain(f"{label} {step.outcome.value}{_how(step.outcome.value, step.message)}")
            yield from (f"    {plain(str(reason))}" for reason in reasons_of(step)[:SHOWN])
    if fresh:
        yield f"{fresh} of {len(wanted)} steps {'was' if fresh == 1 else 'were'} up to date"


def _how(outcome: str, message: str) -> str:
    """A built step's message is its reasons, which follow."""
    return f": {message}" if message and outcome != "built" else ""


# Against another machine


def _against(
    orchestrator: BuildOrchestrator, explanation: Explanation, build: Build, options: argparse.Namespace
) -> int:
    from build_tests.run.against import compare

    theirs, shared = _theirs(orchestrator, explanation, build, options.against)
    ours = {step.planned.label: step.fingerprint for step in explanation.steps}
    if shared:
        ours = {label: _as_others_know(build, label) for label in ours}
    compared = compare(ours, theirs)
    if options.json:
        from build_tests.run.explaining import VERSION as VERSION_OF_EXPLANATION

        document = {"version": VERSION_OF_EXPLANATION, "against": options.against, **explanation.context}
        print_json({**document, "steps": [one.to_json() for one in compared]})
    else:
        print("\n".join(_compared(compared, options.against)))
    return 0


def _theirs(
    orchestrator: BuildOrchestrator, explanation: Explanation, build: Build, name: str
) -> tuple[Mapping[str, list[tuple[str, list[Any]]]], bool]:
    """label → fingerprints there, newest first; and whether they are in the form of the artifact cache."""
    from build_tests.faces import runs

    if os.path.exists(name):
        return _exported(name), False
    root, cache = orchestrator.project.config.root, orchestrator.project.config.cache
    if name in {*cache.read_scopes, *(scope for scope, _ in cache.keys)}:
        there = {step.planned.label: build.exchange.last(step.planned.label) for step in explanation.steps}
        return {
            label: [(whence, data) for whence, data in found if whence.startswith(f"scope {name},")]
            for label, found in there.items()
        }, True  # fmt: skip
    limit = runs.named(root, name).id
    return runs.fingerprints([one for one in runs.newest_first(root) if one.id <= limit]), False


def _exported(path: str) -> dict[str, list[tuple[str, list[Any]]]]:
    try:
        with open(path, encoding="utf-8") as file:
            data = json.load(file)
        steps = {step["label"]: step.get("fingerprint") for step in data["steps"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BuildError(f"{path} is no `pytest-build explain --json` ({type(error).__name__}: {error})") from None
    return {label: [(path, made)] for label, made in steps.items() if made}


def _as_others_know(build: Build, label: str) -> list[Any] | None:
    fingerprint = build.decider.fingerprint(label)
    return None if fingerprint is None else build.exchange.as_others_know(fingerprint)


def _compared(compared: Sequence[Compared], name: str) -> Iterator[str]:
    same = [one for one in compared if one.same]
    for one in compared:
        if not one.there:
            yield f"{one.label}: nothing to compare with in {plain(name)}"
        elif not one.same:
            yield plain(f"{one.label} is made from something else ({one.whence}):")
            yield from (f"    {plain(str(reason))}" for reason in one.reasons[:SHOWN])
    yield f"{len(same)} of {len(compared)} steps are made from the same"
