"""The command `pytest-build status`: every step's state now, by component. Runs nothing, imports no pytest."""

from __future__ import annotations

from build_tests.core.errors import BuildError
from build_tests.faces.common import add_build_file, build_file, count_text, plain, print_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from build_tests.run.overview import Status, StepState


def declare(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("-v", "--verbose", action="store_true", help="also a line for each step that is fresh")
    parser.add_argument("--json", action="store_true", help="one JSON document (docs/json.md)")
    add_build_file(parser)
    parser.set_defaults(run=_status)


def _status(options: argparse.Namespace, extra: Sequence[str]) -> int:
    if extra:
        raise BuildError("status takes nothing behind --")
    from build_tests.api import BuildOrchestrator

    file = build_file(options.build_file)
    status = BuildOrchestrator.load(file, target=options.target, environment=options.build_env).status()
    if options.json:
        print_json(status.to_json())
    else:
        print("\n".join(lines(status, verbose=options.verbose)))
    return 0


def lines(status: Status, *, verbose: bool) -> Iterator[str]:
    """Components, below each the steps that are not fresh, then the counts."""
    components = status.components()
    width = max(map(len, components), default=0)
    for name, steps in components.items():
        shown = [step for step in steps if verbose or step.state.value != "fresh"]
        yield f"{name:{width}}  {_counted(steps)}"
        inner = max((len(_name(step)) for step in shown), default=0)
        yield from (f"  {_name(step):{inner}}  {_state(step)}" for step in shown)
    numbers = ", ".join(f"{number} {state}" for state, number in status.counts.items())
    yield f"{count_text(len(status.steps), 'step')}: {numbers or 'none'}"


def _counted(steps: Sequence[StepState]) -> str:
    states = dict.fromkeys(step.state.value for step in steps)
    if len(states) == 1:
        return f"{next(iter(states))}" if len(steps) == 1 else f"{len(steps)} {next(iter(states))}"
    return ", ".join(f"{sum(step.state.value == state for step in steps)} {state}" for state in states)


def _name(step: StepState) -> str:
    return step.label.partition(":")[2]


def _state(step: StepState) -> str:
    from build_tests.core.fingerprint import REASONS

    asked = " (runs on request)" if step.on_request and step.state.value != "fresh" else ""
    reason = "" if step.reason in (REASONS["never"], REASONS["failed"]) else step.reason  # the state says it
    return plain(f"{step.state.value}{': ' if reason else ''}{reason}{asked}")
