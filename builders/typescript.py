"""Kind `typescript`: package.json, its workspace and its lockfile → `install`, and a step for each script.

Scripts run as the package manager would run them, without starting it. What a step reads is its package's folder, the
part of the lockfile that its package reaches (as facts, so that another's entry changes nothing), and what the packages
of the workspace that it depends on were built to. docs/typescript.md has the rules.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from build_tests.core.builder import Component, Identity, Output, Step, Tool, Workspace

from . import _inputs
from ._managers import MANAGERS, NATIVE, NETWORK, NODE, files_of
from ._manifests import DOWNLOAD, from_component, script
from ._reads import inputs_of
from ._repository import Repository, repository_of
from ._suggest import generated_sources
from ._tasks import Left, Task, command_of, left_by, tasks_of
from ._workspaces import below


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeScriptOptions:
    """Keys of a `typescript` component. Paths are relative to each of its packages."""

    sources: tuple[str, ...] = ()
    """What a build is made of, generated folders too; left out: the whole folder but for what no build reads."""
    out: tuple[str, ...] = ()
    """What a build writes; a trailing slash makes it a folder. Left out: what its tools are told, else dist/."""
    tests: tuple[str, ...] = ("test/", "tests/")
    """What only the test script reads."""
    mode: str = "production"
    """webpack's mode, where no script says one."""
    scripts: tuple[str, ...] = _inputs.USUAL
    """Scripts of package.json that become steps; those named under `steps:` do as well."""


class TypeScriptBuilder:
    """`install`, and `build` or `bundle`, `test`, `lint` … of the package; `NAME.build` … of the workspace's others."""

    kind: ClassVar[str] = "typescript"
    options: ClassVar[type[TypeScriptOptions]] = TypeScriptOptions
    nests: ClassVar[bool] = True

    @staticmethod
    def detect(path: str, workspace: Workspace) -> bool:
        """Whether a folder holds a package with a lockfile: a package of a workspace is its root's matter."""
        if not workspace.exists(below(path, "package.json")):
            return False
        locks = (name for manager in MANAGERS for name in manager.lockfiles)
        return any(workspace.exists(below(path, name)) for name in locks)

    @staticmethod
    def suggest(path: str, workspace: Workspace, others: Sequence[tuple[str, str]]) -> dict[str, object]:  # noqa: ARG004
        """What `init` writes down: the sources, where some of them are generated."""
        return generated_sources(path, workspace)

    def plan(self, component: Component, workspace: Workspace) -> Iterable[Step]:
        """Raises ManifestError: no package.json, none that can be read, no lockfile, or two managers' lockfiles."""
        repository = repository_of(component, workspace)
        yield _install(repository)
        tasks = {inside: list(tasks_of(repository, package)) for inside, package in repository.packages.items()}
        _leave_to_the_root(tasks)
        everyone = [task for found in tasks.values() for task in found]
        # A project that another package's refers to is read by tsc there, with what it remembers.
        referred = {ref for task in everyone for one in task.doings.compiles for ref in one.references
                    if not ref.startswith(below(task.package.folder, ""))}  # fmt: skip
        left = {task.label: left_by(task, referred_to=_among(task, referred)) for task in everyone}
        for task in everyone:
            inputs = inputs_of(task, repository, tasks, lambda one: left[one.label])
            yield _step(repository, task, left[task.label], inputs)


def _leave_to_the_root(tasks: dict[str, list[Task]]) -> None:
    """A project that a script of the root compiles needs no step of its own that nobody wrote down."""
    compiled = {one.path for task in tasks[""] if task.written_down for one in task.doings.compiles}
    for inside, found in tasks.items():
        tasks[inside] = [
            task for task in found if task.written_down or not compiled & {one.path for one in task.doings.compiles}
        ]


def _among(task: Task, projects: Iterable[str]) -> bool:
    front = below(task.package.folder, "")
    return any(path.startswith(front) for path in projects)


def _install(repository: Repository) -> Step:
    component, manager, root = repository.component, repository.manager, repository.root
    packages = repository.packages.values()
    folders = [below(package.folder, "node_modules") for package in packages]
    if manager.plug_and_play:
        folders = [below(root.folder, ".yarn/unplugged")]
    # Where nothing is installed into a package's own folder there is none, and an output must be there.
    made = ["mkdir", "-p", *(from_component(component, path) for path in folders)]
    surely_made = len(folders) == 1 and not manager.plug_and_play and root.dependencies
    return Step(
        component=component.name,
        name="install",
        kind=component.kind,
        path=component.path,
        command=manager.install if surely_made else script(manager.install, made),
        inputs=(
            *(below(package.folder, "package.json") for package in packages),
            repository.lockfile,
            *files_of(manager, root, repository.workspace),
            *filter(repository.workspace.exists, (below(package.folder, NATIVE) for package in packages)),
        ),
        outputs=(
            *(Output(path=path, directory=True, identity=Identity.INSTALLED) for path in folders),
            # Some keep it in git.
            *((Output(path=below(root.folder, ".pnp.cjs"), tracked=True),) if manager.plug_and_play else ()),
        ),
        env=manager.env,
        network_env=NETWORK,
        state=tuple(below(root.folder, name) for name in manager.state),
        tools=tuple(dict.fromkeys((NODE, manager.tool))),
        retries=DOWNLOAD,
    )


def _step(repository: Repository, task: Task, left: Left, inputs: Iterable[str]) -> Step:
    component, package = repository.component, task.package
    install = (f"{component.name}:install",)
    # What is installed counts by the package's own part of the lockfile, so the install's key must not.
    whole = repository.lock is None
    return Step(
        component=component.name,
        name=task.label,
        kind=component.kind,
        path=package.folder,
        command=command_of(task, left, repository),
        inputs=tuple(dict.fromkeys(inputs)),
        outputs=tuple(Output(path=path.rstrip("/"), directory=path.endswith("/")) for path in left.outputs),
        depends_on=install if whole else (),
        after=() if whole else install,
        facts=repository.facts(package),
        env=(*_env(task), *task.doings.env),
        network_env=NETWORK,
        tools=tuple(_tools(task, repository)),
        state=left.state,
        clean=not left.kept,
        junit=task.doings.junit,
    )


def _env(task: Task) -> Iterator[tuple[str, str]]:
    # CI alone makes some tools colour what they write into a file.
    yield "NO_COLOR", "1"
    if task.written_down:
        yield "npm_lifecycle_event", task.name
        yield "npm_package_name", task.package.name
        yield "npm_package_version", str(task.package.manifest.get("version", ""))
    if task.name.startswith("test"):
        yield "CI", "true"


def _tools(task: Task, repository: Repository) -> Iterator[Tool]:
    yield NODE
    started = {"npm" if name == "npx" else name.removesuffix("x") for name in task.script.managers}
    if repository.manager.plug_and_play:
        started.add(repository.manager.tool.name)
    yield from dict.fromkeys(m.tool for m in MANAGERS if m.tool.name in started and m.tool != NODE)
