"""The strongest claim of a builder, put to the real tool: it reads what the step declares, and writes what it declares.

`check` builds a workspace under `--build-trace` and looks at every step's trace. What is excepted is named with its
reason, and nothing in the component's own folder may be. Beyond that, each file that a tool looks for in its own folder
and does not find is written, and the component planned again: the step must be another one, or mean the file by its
inputs, or the day somebody writes it the step would not run. This, too, has named exceptions.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType

from build_tests.core.errors import ConfigError
from build_tests.core.globs import matches
from build_tests.project import load_project

NOTHING: Mapping[str, str] = MappingProxyType({})


def check(
    ws, component, *, steps, excepted: Mapping[str, str] = NOTHING, unmade: Mapping[str, str] = NOTHING, options=()
):
    """Build all of `ws`; every fault of the component's steps at once.

    Args:
        component: its name, which is its folder.
        steps: the steps that must have run and been traced, by name.
        excepted: pattern → why it may be read or written although it is not declared.
        unmade: pattern → why what is looked for there, and absent, need not be declared.
    """
    result = ws.build("--build-trace", *options)
    assert result.status == 0, result.output
    labels = [f"{component}:{name}" for name in steps]
    assert set(labels) <= set(result.steps), sorted(result.steps)
    # Of what was restored or up to date nothing is known.
    assert set(labels) <= set(result.ran), result.outcomes()
    before = planned(ws)
    wrong = []
    for label, record in result.steps.items():
        if label.startswith(f"{component}:"):
            wrong += faults(component, label, record.trace, excepted)
            wrong += blind_spots(ws, before[label], record.trace.get("missing", ()), unmade)
    assert not wrong, "\n".join(wrong)
    return result


def faults(component, label, trace, excepted) -> Iterator[str]:
    """What a step used and does not declare, in lines."""
    if trace.get("status") not in ("clean", "undeclared"):
        yield f"{label} is not verified: {trace.get('why')}"
    for kind in ("reads", "writes"):
        for path in trace.get(kind, ()):
            if path.startswith(f"{component}/") or not matches(excepted, path):
                yield f"{label} {kind} {path}"


def blind_spots(ws, step, missing, unmade) -> Iterator[str]:
    """What a step looks for in its own folder and would not run again for, in lines."""
    for path in missing:
        if not path.startswith(f"{step.path}/") or matches(unmade, path):
            continue
        with written(ws.root, path) as there:
            if there and not notices(ws, step, path):
                yield f"{step.label} looks for {path}, and would not run again for it"


def planned(ws):
    """The steps as they are derived now, by label."""
    return load_project(str(ws.root / "build.yml")).graph.steps


def notices(ws, before, path) -> bool:
    """Whether the step runs again now that the file is there. A plan that fails is noticed by everybody."""
    try:
        step = planned(ws).get(before.label)
    except ConfigError:
        return True
    return step != before or matches(step.inputs, path)


@contextmanager
def written(root, path) -> Iterator[bool]:
    """An empty file, while it lasts; False = nothing can be written there."""
    file = root / path
    new = [folder for folder in file.parents if not folder.exists()]
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(exist_ok=False)
    except OSError:
        yield False
        return
    yield True
    file.unlink()
    if new:
        shutil.rmtree(new[-1])
