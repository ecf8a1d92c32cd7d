"""The strongest claim of a builder, put to the real tool: it reads what the step declares, and writes what it declares.

`check` builds a workspace under `--build-trace` and looks at every step's trace; `judge` looks at that of a build which a
test has anyway. What is excepted is named with its
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
from build_tests.core.globs import escape, matches
from build_tests.project import load_project

NOTHING: Mapping[str, str] = MappingProxyType({})


def check(ws, component, *, steps, options=(), **exceptions):
    """Build all of `ws` under the trace, and `judge` what it saw."""
    result = ws.build("--build-trace", *options)
    assert result.status == 0, result.output
    judge(ws, result, component, steps=steps, **exceptions)
    return result


def judge(
    ws,
    result,
    component,
    *,
    steps,
    excepted: Mapping[str, str] = NOTHING,
    in_facts: Mapping[str, str] = NOTHING,
    unmade: Mapping[str, str] = NOTHING,
):
    """Every fault of a component's steps in a traced build, at once.

    Args:
        ws: as the build left it.
        result: of the build.
        component: its name, which is its folder.
        steps: the steps that must have run and been traced, by name.
        excepted: pattern → why it may be read or written although it is not declared.
        in_facts: pattern → what of a file that is read whole stands among the step's facts, in its own folder too.
        unmade: pattern → why what is looked for there, and absent, need not be declared.
    """
    labels = [f"{component}:{name}" for name in steps]
    assert set(labels) <= set(result.steps), sorted(result.steps)
    # Of what was restored or up to date nothing is known.
    assert set(labels) <= set(result.ran), result.outcomes()
    unmade = {f"**{escape(str(ws.root))}/**": "an absolute path laid below the folder: Maven's plugins do it", **unmade}
    before = planned(ws)
    wrong = []
    for label, record in result.steps.items():
        if label.startswith(f"{component}:"):
            known = in_facts if before[label].facts else NOTHING
            wrong += faults(component, label, record.trace, excepted, known)
            wrong += blind_spots(ws, before[label], record.trace.get("missing", ()), unmade)
    assert not wrong, "\n".join(wrong)


def faults(component, label, trace, excepted, in_facts: Mapping[str, str] = NOTHING) -> Iterator[str]:
    """What a step used and does not declare, in lines."""
    if trace.get("status") not in ("clean", "undeclared"):
        yield f"{label} is not verified: {trace.get('why')}"
    for kind in ("reads", "writes"):
        for path in trace.get(kind, ()):
            own = path.startswith(f"{component}/")
            if not (kind == "reads" and matches(in_facts, path)) and (own or not matches(excepted, path)):
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


JVM = {
    "**/.hotspotrc": "the virtual machine's debug builds read it",
    "**/.hotspot_compiler": "the virtual machine's debug builds read it",
}
MAVEN = {
    "**/profiles.xml": "Maven 2 read it; Maven 3 looks only to warn",
    "**/some/non/existent/path/**": "a name that a library made up to be absent",
    "**/META-INF/maven/**": "names inside the jar",
    "**/META-INF/maven": "a name inside the jar",
    "**/module-info.java": "the component's folder is no source folder",
    "**/src/test/kotlin": "a folder; what is written in it is declared",
}

PYTHON = {
    "app/http*:/**": "pip asks whether an index's address is a path",
    "app/rust-toolchain*": "pip tells the index which Rust is there, which rustup answers",
    "*/.python-version": "uv is told the interpreter by --python, which goes before",
    "*/.pdm-build": "another back end's leavings, which are removed",
    "app/-c": "python's own argument, taken for a script",
    "app/pybuilddir.txt": "marks a folder in which Python itself was built",
    "app/README*": "listed in SOURCES.txt, which no wheel holds; the one that pyproject.toml names is declared",
    "app/test": "setuptools lists tests for source distributions",
    "app/**/pyvenv.cfg": "pytest asks of each folder whether it is an environment",
    "app/**/conda-meta/history": "pytest asks of each folder whether it is an environment",
    "app/setup.cfg": "pytest's settings stand in pyproject.toml, which goes before",
    "app/tox.ini": "pytest's settings stand in pyproject.toml, which goes before",
    "app/.reports/coverage.data*": "SQLite's own files beside the data, which are gone when it is closed",
    "app/<frozen runpy>": "python's own code, taken for a file",
    "app/app": "an empty file of that name is no package",
    "app/lib": "an empty file of that name is no package",
    "app/HEAD": "git asks whether the folder is a repository without a working tree",
    "app/.poetry/plugins": "holds the plugins that pyproject.toml requires, and it requires none",
    "app/-l*": "a library's arguments for the linker, taken for paths",
    "*/.hg": "another version control, whose ignored files are asked for where git has none",
    "*/.hgignore": "another version control, whose ignored files are asked for where git has none",
    "*/PKG-INFO": "marks an unpacked source distribution",
    "app/libgcc_s.so.1": "the loader looks in the current folder for a library",
}
"""What Python's tools look for in a component `app`, or in another, and why nobody has to declare it."""
