"""What a task reads: its package's folder, configurations above it, and the packages of the workspace behind it."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from build_tests.core.builder import Component

from . import _inputs
from ._generated import made_inside
from ._managers import files_of
from ._manifests import patterns_of
from ._repository import Repository
from ._tasks import Left, Task, within
from ._tools import keeps_to_itself
from ._workspaces import Package, below, entry_points


def inputs_of(
    task: Task, repository: Repository, tasks: Mapping[str, Sequence[Task]], left: Callable[[Task], Left]
) -> Iterator[str]:
    """The step's patterns, in their order.

    Args:
        task: of which package and script.
        repository: all packages.
        tasks: of all packages, by folder.
        left: what each leaves behind.
    """
    package, workspace = task.package, repository.workspace
    yield from _own_folder(task, repository)
    yield from _tests(task, repository)
    yield from repository.shared(package)
    if package is not repository.root:
        yield from repository.shared(repository.root)
    yield from files_of(repository.manager, repository.root, workspace)
    if repository.lock is None:
        yield repository.lockfile
    yield from task.doings.reads
    yield from _patterns(package, ["!**/node_modules/"])
    if not keeps_to_itself(task.script, repository.look(package)):
        yield from _other_packages(task, repository, tasks, left)
    if not task.builds:
        yield from _own_build(task, list(_made_in(package, task, repository, tasks, left)))


def _own_folder(task: Task, repository: Repository) -> Iterator[str]:
    package, component, workspace = task.package, repository.component, repository.workspace
    if component.options.sources:
        yield from _patterns(package, component.options.sources)
        return
    others = [other.path for other in workspace.components if other.name != component.name]
    yield from _inputs.everything(package, others=others, workspace=workspace)
    usual = task.name in _inputs.USUAL
    takers = [f"{package.prefix}{name}" for name in _inputs.USUAL] if usual else [task.label]
    without = _inputs.USUAL if usual else None
    yield from made_inside(package.folder, component, workspace, takers=takers, without=without)


def _tests(task: Task, repository: Repository) -> Iterator[str]:
    """Tests belong to those who read them: a bundler does not, tsc does unless it is told what to include."""
    options, package, compiles = repository.component.options, task.package, task.doings.compiles
    folders = _patterns(package, options.tests)
    if not task.builds:
        if options.sources:
            yield from (path for path in folders if repository.workspace.exists(path.rstrip("/")))
        return
    if not compiles and not options.sources:
        yield from (f"!{pattern}" for pattern in _patterns(package, _inputs.TEST_FILES))
    own = [one for one in compiles if one.path.startswith(below(package.folder, ""))]
    if all(one.include is not None and not _names_tests(one.include, options.tests) for one in own):
        yield from (f"!{pattern}" for pattern in folders)


def _names_tests(include: Iterable[str], tests: tuple[str, ...]) -> bool:
    front = ("*", *(name.rstrip("/") for name in tests))
    return any(text.removeprefix("./").startswith(front) for text in include)


def _patterns(package: Package, texts: Iterable[str]) -> tuple[str, ...]:
    return patterns_of(Component(name=package.name, kind="typescript", path=package.folder), texts)


def _other_packages(
    task: Task, repository: Repository, tasks: Mapping[str, Sequence[Task]], left: Callable[[Task], Left]
) -> Iterator[str]:
    for other in _needed(task, repository):
        # Vite and esbuild look for the tsconfig.json of whatever they bundle.
        yield from (path for path in repository.shared(other) if path.endswith(".json"))
        outputs = list(_made_in(other, task, repository, tasks, left))
        if not outputs or _entered_past(other, outputs) or compiled_by(task, other):
            yield from _inputs.everything(other, others=(), workspace=repository.workspace)
            yield from _patterns(other, ["!**/node_modules/"])
        yield from outputs


def _needed(task: Task, repository: Repository) -> list[Package]:
    """The workspace's packages behind this one; for a build none that needs it in turn."""
    package = task.package
    referred = [
        other
        for other in repository.packages.values()
        if other is not repository.root and other is not package and compiled_by(task, other)
    ]
    found = repository.below(package, *referred)
    return [other for other in found if not repository.needs(other, package)] if task.builds else found


def compiled_by(task: Task, other: Package) -> bool:
    """Whether tsc is led to the other's own project, and reads its sources."""
    front = below(other.folder, "")
    return any(one.path.startswith(front) for one in task.doings.compiles)


def _entered_past(other: Package, outputs: Iterable[str]) -> bool:
    """Whether others come into the package past what its build makes."""
    entries = list(entry_points(other.manifest)) or ["index.js"]
    paths = (posixpath.normpath(below(other.folder, text)) for text in entries if not text.endswith("package.json"))
    return not all(within(path, outputs) for path in paths)


def _made_in(
    package: Package,
    task: Task,
    repository: Repository,
    tasks: Mapping[str, Sequence[Task]],
    left: Callable[[Task], Left],
) -> Iterator[str]:
    """What is built of a package: by itself, or by the workspace's own `tsc -b`."""
    yield from (path for one in tasks[package.inside] if one.builds for path in left(one).outputs)
    root = repository.root
    if package is not root and task.package is not root and not repository.needs(root, task.package):
        made = (path for one in tasks[root.inside] if one.builds for path in left(one).outputs)
        yield from (path for path in made if path.startswith(below(package.folder, "")))


def _own_build(task: Task, outputs: Iterable[str]) -> Iterator[str]:
    """What the package's own build makes, where a script names it, or where a test may import its package by name."""
    folder = below(task.package.folder, "")
    words = [word.removeprefix("./") for call in task.script.calls for word in call.arguments]
    entries = list(entry_points(task.package.manifest)) if task.name.startswith("test") else []
    for path in outputs:
        name = path.removeprefix(folder)
        if any(word.startswith(name.rstrip("/")) for word in words) or any(text.startswith(name) for text in entries):
            yield path
