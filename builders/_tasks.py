"""The scripts of a package that become steps: which ones, what they leave behind, and the command that runs them."""

from __future__ import annotations

import posixpath
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from ._incremental import NAMES, incremental, settings_of
from ._managers import Manager
from ._manifests import script
from ._repository import Repository
from ._scripts import Script, script_of
from ._tools import Doings, doings_of, fallback_outputs, implied_scripts, webpack_command
from ._workspaces import Package, below, step_name

BUILD = ("build", "bundle")
NO_TEST = "no test specified"
"""Stands in the test script that `npm init` writes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A script on its way to a step."""

    package: Package
    name: str
    """Without the package's prefix."""
    script: Script
    doings: Doings
    texts: tuple[str, ...]
    """What runs: the script with those before and after it."""
    written_down: bool = True
    """It stands in package.json."""

    @property
    def builds(self) -> bool:
        """Whether others need what it makes."""
        return self.name in BUILD

    @property
    def label(self) -> str:
        """The step's name."""
        return f"{self.package.prefix}{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """What a step leaves behind. Paths are from the root, folders end with /."""

    outputs: tuple[str, ...]
    state: tuple[str, ...]
    kept: bool = False
    """Both are there again at the next run: tsc goes on from them."""
    stale: tuple[str, ...] = ()
    """What must be gone before tsc runs, or it would take removed outputs for written."""


def tasks_of(repository: Repository, package: Package) -> Iterator[Task]:
    """The package's tasks, builds first as written. Raises ManifestError."""
    look = repository.look(package)
    scripts = package.scripts
    for name, text in _wanted(repository, package).items():
        read = script_of(text, scripts)
        if read.elsewhere and package is repository.root:
            continue
        doings = doings_of(read, look)
        told = repository.component.options.out
        if name in BUILD and told:
            doings = replace(doings, outputs=tuple(look.path(out) + "/" * out.endswith("/") for out in told))
        elif name in BUILD and not doings.outputs:
            doings = replace(doings, outputs=fallback_outputs(look))
        around = tuple(_with_hooks(repository.manager, name, scripts)) if name in scripts else (text,)
        yield Task(
            package=package,
            name=step_name(name),
            script=read,
            doings=doings,
            texts=around,
            written_down=name in scripts,
        )


def _wanted(repository: Repository, package: Package) -> dict[str, str]:
    """Script → its text, written down or implied by a configuration."""
    scripts, look, options = package.scripts, repository.look(package), repository.component.options
    named = {step.name for step in repository.component.steps if not dict(step.fields).get("command")}
    chosen = {
        name: text
        for name, text in scripts.items()
        if (name in options.scripts or f"{package.prefix}{step_name(name)}" in named) and NO_TEST not in text
    }
    implied = implied_scripts(look)
    if look.config("webpack.config"):
        build = script_of(chosen["build"], scripts) if "build" in chosen else None
        if build is None:
            implied["bundle"] = webpack_command(options.mode)
        elif build.simple and build.calls[0].program == "webpack":
            implied["bundle"] = chosen.pop("build")
    if "build" in chosen or "bundle" in implied:
        # What compiles is what checks the types.
        implied = {name: text for name, text in implied.items() if name not in {"build", "typecheck"}}
    if chosen.keys() & {"type-check", "check-types"}:
        implied.pop("typecheck", None)
    return {**implied, **chosen}


def _with_hooks(manager: Manager, name: str, scripts: Mapping[str, str]) -> Iterator[str]:
    around = (f"pre{name}", name, f"post{name}") if manager.hooks else (name,)
    yield from (scripts[each] for each in around if each in scripts)


def within(path: str, outputs: Iterable[str]) -> bool:
    """Whether a path is one of the outputs or lies in one."""
    return any(path == output or (output.endswith("/") and path.startswith(output)) for output in outputs)


def left_by(task: Task, *, referred_to: bool) -> Left:
    """Outputs, and what tsc remembers of them. `referred_to`: another package's project refers to this one."""
    doings = task.doings
    outside = [(path, sure) for path, sure in doings.memory if not within(path, doings.outputs)]
    state = tuple(path for path in doings.state if not within(path, doings.outputs))
    if not outside:
        return Left(outputs=doings.outputs, state=state)
    alone = task.script.simple and len(task.texts) == 1 and doings.outputs
    if alone and all(sure for _, sure in outside) and len(outside) == len(doings.memory) and not referred_to:
        infos = tuple(path for path, _ in outside)
        return Left(outputs=doings.outputs, state=(*state, *infos, _names(infos)), kept=True)
    # Whoever refers to the project reads it as well, so it must come and go with the outputs.
    files = tuple(path for path, sure in outside if sure)
    stale = tuple(path for path, sure in outside if not sure)
    return Left(outputs=(*doings.outputs, *files), state=(*state, *stale), stale=stale)


def _names(infos: tuple[str, ...]) -> str:
    return f"{posixpath.dirname(infos[0])}/{NAMES}".lstrip("/")


def command_of(task: Task, left: Left, repository: Repository) -> str:
    """The step's command, a text for `sh -e` in the package's folder."""
    told = task.doings.command or task.script.text
    first = [["mkdir", "-p", "reports"]] if task.doings.junit else []
    if repository.manager.plug_and_play and task.written_down:
        run = shlex.join([*_yarn(repository, task.package), "run", task.name])
        return script(*first, run + told.removeprefix(task.script.text))
    lines: list[list[str] | str] = [f'export PATH="{":".join(_programs(task.package))}:$PATH"', *first]
    if left.stale:
        lines.append(["rm", "-f", *(_here(task, path) for path in left.stale)])
    if left.kept:
        return script(*lines, _kept(task, repository))
    if task.script.simple and len(task.texts) == 1:
        return script(*lines, told)
    # npm's own way: each by a shell of its own, without -e.
    return script(*lines, *(["sh", "-c", told if text == task.script.text else text] for text in task.texts))


def _programs(package: Package) -> Iterator[str]:
    yield "$PWD/node_modules/.bin"
    if package.inside:
        yield "$PWD/" + "../" * (package.inside.count("/") + 1) + "node_modules/.bin"


def _yarn(repository: Repository, package: Package) -> tuple[str, ...]:
    """How yarn is started in the package's folder."""
    program = repository.manager.program
    if program == ("yarn",):
        return program
    return program[0], posixpath.relpath(below(repository.root.folder, program[1]), package.folder or ".")


def _kept(task: Task, repository: Repository) -> str:
    infos = tuple(path for path, _ in task.doings.memory)
    return incremental(
        task.script.calls[0],
        settings_of(task.doings.compiles, repository.workspace),
        memory=_here(task, _names(infos)),
        outputs=[_here(task, path.rstrip("/")) for path in task.doings.outputs],
        infos=[_here(task, path) for path in infos],
    )


def _here(task: Task, path: str) -> str:
    return posixpath.relpath(path, task.package.folder or ".")
