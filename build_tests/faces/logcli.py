"""The command `pytest-build log`: what the last run did, what failed, a step's whole output, two runs compared."""

from __future__ import annotations

import os
import shutil
import sys
from typing import Any

from build_tests.core.errors import BuildError, SelectionError
from build_tests.faces import runs
from build_tests.faces.common import add_build_file, build_file, count_text, plain, print_json, size_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from build_tests.core.model import Step
    from build_tests.faces.runs import Recorded
    from build_tests.run.record import StepRecord

VERSION = 1
"""Of the JSON documents."""
ORDER = ("failed", "blocked", "unavailable", "cancelled", "built", "restored", "fresh")
RUN_COUNTS = {"ran": 0, "failed": 0, "output": 1, "diff": 2}
"""How many words each question takes; ran and failed also one, a run."""


def declare(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add = parser.add_argument
    add("question", nargs="?", choices=sorted(RUN_COUNTS), default="ran", help="default: ran")
    add(
        "words", nargs="*", metavar="RUN|LABEL",
        help="ran and failed: a run (default: last); output: a step; diff: two runs (last, last~1, or ids)",
    )  # fmt: skip
    add("--json", action="store_true", help="one JSON document (docs/json.md)")
    add_build_file(parser)
    parser.set_defaults(run=_log)


def _log(options: argparse.Namespace, extra: Sequence[str]) -> int:
    if extra:
        raise BuildError("log takes nothing behind --")
    from build_tests.core.locate import root_of

    root = root_of(build_file(options.build_file))
    words: list[str] = options.words
    match options.question, words:
        case "ran" | "failed", [] | [_]:
            recorded = runs.named(root, words[0]) if words else runs.last(root)
            return _ran(recorded, options) if options.question == "ran" else _failed(root, recorded, options)
        case "output", [label]:
            return _output(root, label, options)
        case "diff", [first, second]:
            return _diff(runs.named(root, first), runs.named(root, second), options)
    raise BuildError("as in: log, log failed RUN, log output LABEL, log diff RUN RUN")


# What ran


def _ran(recorded: Recorded, options: argparse.Namespace) -> int:
    if options.json:
        print_json(_document(recorded, recorded.run.steps))
        return 0
    print(_head(recorded))
    for outcome in ORDER:
        steps = [step for step in recorded.run.steps if step.outcome.value == outcome]
        if outcome == "fresh":
            print(f"{count_text(len(steps), 'step')} up to date")
        else:
            print("\n".join(_line(step) for step in steps), end="\n" if steps else "")
    return 0


def _document(recorded: Recorded, steps: Sequence[StepRecord]) -> dict[str, Any]:
    return {
        "version": VERSION, "run": recorded.run.run, "end": recorded.run.end,
        "steps": [step.to_json() for step in steps],
    }  # fmt: skip


def _head(recorded: Recorded) -> str:
    run, end = recorded.run.run, recorded.run.end
    how = f"ended with {end['exit']} after {end.get('seconds', 0):.1f} s" if "exit" in end else "was cut off"
    commit = end.get("commit") or ["", False]
    at = f", at {commit[0][:12]}{' with changes' if commit[1] else ''}" if commit[0] else ""
    return plain(f"run {recorded.id}, target {run.get('target', '?')}{at}: {how}")


def _line(step: StepRecord) -> str:
    """From where the result came, and why."""
    match step.outcome.value:
        case "built":
            flaky = f", passed at attempt {step.attempts}" if step.flaky else ""
            what = f"built in {step.seconds:.2f} s{flaky}: {step.message}"
        case "restored":
            why = "; ".join(map(str, runs.reasons_of(step)[:1]))
            what = f"restored {step.message} ({size_text(step.bytes)}): {why}"
        case other:
            what = f"{other}: {step.message}"
    return plain(f"{step.label}  {what}")


# What failed


def _failed(root: str, recorded: Recorded, options: argparse.Namespace) -> int:
    steps = [step for step in recorded.run.steps if step.outcome.value == "failed"]
    declared = _declared(options)
    repeat = {step.label: _repeat(root, declared, step.label) for step in steps}
    if options.json:
        document = _document(recorded, steps)
        for step in document["steps"]:
            step["repeat"] = repeat[step["label"]]
        print_json(document)
        return 0
    print(_head(recorded))
    for step in steps:
        print(f"{plain(step.label)}  {plain(step.message)}")
        print("\n".join(f"    {plain(line)}" for line in (step.first_error or step.tail).splitlines()[-20:]))
        print(f"    whole output: pytest-build log output {step.label}")
        print(f"    alone: {repeat[step.label]}")
    blocked = sum(step.outcome.value == "blocked" for step in recorded.run.steps)
    print(f"{count_text(len(steps), 'step')} failed, {blocked} blocked")
    return 0


def _declared(options: argparse.Namespace) -> dict[str, Step]:
    """The steps of the build file as it is now; none where it is wrong now."""
    from build_tests.api import BuildOrchestrator

    try:
        file = build_file(options.build_file)
        project = BuildOrchestrator.load(file, target=options.target, environment=options.build_env).project
    except BuildError:
        return {}
    return dict(project.graph.steps)


def _repeat(root: str, declared: dict[str, Step], label: str) -> str:
    """One line to paste; "" where the build file has no such step any more."""
    from build_tests.run.repeat import repeat_command

    step = declared.get(label)
    return plain(repeat_command(step, root, os.environ)) if step is not None else ""


# A step's whole output


def _output(root: str, label: str, options: argparse.Namespace) -> int:
    found = next(
        (
            (recorded, step)
            for recorded in runs.newest_first(root)
            for step in recorded.run.steps
            if step.label == label and step.log
        ),
        None,
    )
    if found is None:
        from build_tests.core.graph import did_you_mean

        declared = _declared(options)
        hint = did_you_mean(label, declared) if label not in declared else ""
        raise SelectionError(f"no recorded run has run {label!r}{f'; {hint}' if hint else ''}")
    recorded, step = found
    path = os.path.join(root, step.log)
    repeat = _repeat(root, _declared(options), label)
    if options.json:
        print_json({**_document(recorded, [step]), "log": path, "output": _text(path), "repeat": repeat})
        return 0
    print(f"{_line(step)} (run {recorded.id})", file=sys.stderr)
    try:
        with open(path, "rb") as log:
            sys.stdout.flush()
            shutil.copyfileobj(log, sys.stdout.buffer)
    except OSError as error:
        raise BuildError(f"{path} can't be read ({error.strerror}): only the last runs' logs are kept") from None
    print(f"alone: {repeat}" if repeat else "", file=sys.stderr)
    return 0


def _text(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as log:
            return log.read()
    except OSError:
        return None


# Two runs


def _diff(first: Recorded, second: Recorded, options: argparse.Namespace) -> int:
    before, after = first.steps, second.steps
    both = [label for label in after if label in before]
    changed = [label for label in both if _differs(before[label], after[label])]
    if options.json:
        print_json({
            "version": VERSION, "runs": [first.id, second.id],
            "changed": [
                {"label": one, "before": before[one].to_json(), "after": after[one].to_json()} for one in changed
            ],
            "only": [[x for x in before if x not in after], [x for x in after if x not in before]],
        })  # fmt: skip
        return 0
    print(_head(first))
    print(_head(second))
    for label in changed:
        print("\n".join(_change(before[label], after[label])))
    for name, one, other in ((first.id, before, after), (second.id, after, before)):
        if only := [label for label in one if label not in other]:
            print(plain(f"only in {name}: {', '.join(only)}"))
    print(f"{len(both) - len(changed)} of {len(both)} steps went the same way")
    return 0


def _differs(before: StepRecord, after: StepRecord) -> bool:
    return before.outcome is not after.outcome or before.key != after.key or before.exit != after.exit


def _change(before: StepRecord, after: StepRecord) -> Iterator[str]:
    yield plain(f"{after.label}: {before.outcome.value} → {after.outcome.value}")
    if before.seconds and after.seconds:
        yield f"    {before.seconds:.2f} s → {after.seconds:.2f} s"
    if after.outcome.value in ("built", "restored"):
        yield from (f"    {plain(str(reason))}" for reason in runs.reasons_of(after)[:10])
    elif after.message:
        yield f"    {plain(after.message)}"
