"""Kind `typescript`: package.json, its workspace and its lockfile → `install`, and a step for each script.

Scripts run as the package manager would run them, without starting it. What a step reads is its package's folder, the
part of the lockfile that its package reaches (as facts, so that another's entry changes nothing), and what the packages
of the workspace that it depends on were built to. docs/typescript.md has the rules.
"""

from __future__ import annotations

import posixpath
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

from build_tests.core.builder import Component, Identity, ManifestError, Output, Step, Tool, Workspace

from . import _inputs, _lockfiles
from ._incremental import NAMES, incremental, settings_of
from ._managers import MANAGERS, NETWORK, NODE, Manager, files_of, manager_of
from ._manifests import DOWNLOAD, from_component, patterns_of, script
from ._scripts import Script, script_of
from ._tools import Doings, Look, doings_of, fallback_outputs, implied_scripts, webpack_command
from ._workspaces import Package, below, entry_points, members_of, package_at, step_name

BUILD = ("build", "bundle")
TEST = "test"
NO_TEST = "no test specified"
"""Stands in the test script that `npm init` writes."""


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

    @staticmethod
    def detect(path: str, workspace: Workspace) -> bool:
        """Whether a folder holds a package with a lockfile, or is the root of a workspace."""
        if not workspace.exists(below(path, "package.json")):
            return False
        locks = (name for manager in MANAGERS for name in manager.lockfiles)
        return any(workspace.exists(below(path, name)) for name in locks)

    def plan(self, component: Component, workspace: Workspace) -> Iterable[Step]:
        """Raises ManifestError: no package.json, none that can be read, no lockfile, or two managers' lockfiles."""
        return _Planner(component, workspace).steps()


@dataclass(slots=True, kw_only=True)
class _Task:
    """A script on its way to a step."""

    package: Package
    name: str
    script: Script
    doings: Doings
    hooks: tuple[str, ...] = ()
    """Texts of the scripts before and after it, itself among them."""
    from_script: bool = True

    @property
    def builds(self) -> bool:
        return self.name in BUILD

    @property
    def outputs(self) -> tuple[str, ...]:
        return self.doings.outputs


@dataclass(slots=True)
class _Planner:
    """One component's plan."""

    component: Component
    workspace: Workspace
    root: Package = field(init=False)
    manager: Manager = field(init=False)
    lockfile: str = field(init=False)
    lock: _lockfiles.Lock | None = field(init=False)
    packages: dict[str, Package] = field(init=False)
    """By folder from the workspace's own; the component's own package first."""
    by_name: dict[str, Package] = field(init=False)
    tasks: dict[str, list[_Task]] = field(default_factory=dict)
    """By the package's folder."""

    def __post_init__(self) -> None:
        self.root = package_at(self.component.path, self.workspace)
        self.manager, self.lockfile = manager_of(self.root, self.workspace)
        members = members_of(self.root, self.workspace)
        self.packages = {package.inside: package for package in (self.root, *members)}
        self.by_name = {package.name: package for package in members if package.name}
        self.lock = self._lock()

    def steps(self) -> Iterator[Step]:
        yield self._install()
        for package in self.packages.values():
            self.tasks[package.inside] = list(self._tasks(package))
        for tasks in self.tasks.values():
            for task in tasks:
                yield self._step(task)

    def _lock(self) -> _lockfiles.Lock | None:
        if self.lockfile.endswith(".lockb"):
            return None
        manifests = {inside: package.manifest for inside, package in self.packages.items()}
        try:
            return _lockfiles.read(self.lockfile, self.workspace.read_text(self.lockfile), manifests)
        except ValueError as error:
            raise ManifestError(str(error), file=self.lockfile, hint=self.manager.make_lock) from None

    # -- install

    def _install(self) -> Step:
        folders = [below(package.folder, "node_modules") for package in self.packages.values()]
        manager = self.manager
        if manager.plug_and_play:
            folders = [below(self.root.folder, ".yarn/unplugged")]
        # Without a package of its own a folder has none, and an output must be there.
        made = ["mkdir", "-p", *(from_component(self.component, path) for path in folders)]
        alone = len(folders) == 1 and not manager.plug_and_play and self.root.dependencies
        manifests = [below(package.folder, "package.json") for package in self.packages.values()]
        return Step(
            component=self.component.name,
            name="install",
            kind=self.component.kind,
            path=self.component.path,
            command=manager.install if alone else script(manager.install, made),
            inputs=(*manifests, self.lockfile, *files_of(manager, self.root, self.workspace)),
            outputs=tuple(Output(path=path, directory=True, identity=Identity.INSTALLED) for path in folders),
            env=manager.env,
            network_env=NETWORK,
            tools=tuple(dict.fromkeys((NODE, manager.tool))),
            retries=DOWNLOAD,
        )

    # -- scripts

    def _tasks(self, package: Package) -> Iterator[_Task]:
        look = self._look(package)
        scripts = package.scripts
        for name, text in self._wanted(package, look).items():
            read = script_of(text, scripts)
            if read.elsewhere and package is self.root:
                continue
            doings = doings_of(read, look)
            builds = name in BUILD
            if builds and self.component.options.out:
                doings = _with_outputs(doings, self._declared_out(package))
            elif builds and not doings.outputs:
                doings = _with_outputs(doings, fallback_outputs(look))
            yield _Task(
                package=package,
                name=name,
                script=read,
                doings=doings,
                hooks=tuple(self._with_hooks(name, scripts)) if name in scripts else (),
                from_script=name in scripts,
            )

    def _wanted(self, package: Package, look: Look) -> dict[str, str]:
        """Step's own name → text of the script."""
        scripts = package.scripts
        named = {step.name for step in self.component.steps if not dict(step.fields).get("command")}
        chosen = {
            name: text
            for name, text in scripts.items()
            if (name in self.component.options.scripts or f"{package.prefix}{step_name(name)}" in named)
            and NO_TEST not in text
        }
        implied = implied_scripts(look)
        if look.config("webpack.config"):
            build = script_of(chosen["build"], scripts) if "build" in chosen else None
            if build is None:
                implied["bundle"] = webpack_command(self.component.options.mode)
                implied.pop("build", None)
            elif build.simple and build.calls[0].program == "webpack":
                implied["bundle"] = chosen.pop("build")
        if "build" in chosen or "bundle" in implied:
            # What compiles is what checks the types.
            for name in ("build", "typecheck"):
                implied.pop(name, None)
        if any(name in chosen for name in ("typecheck", "type-check", "check-types")):
            implied.pop("typecheck", None)
        return {step_name(name): text for name, text in ({**implied, **chosen}).items()}

    def _with_hooks(self, name: str, scripts: Mapping[str, str]) -> Iterator[str]:
        around = (f"pre{name}", name, f"post{name}") if self.manager.hooks else (name,)
        yield from (scripts[each] for each in around if each in scripts)

    def _declared_out(self, package: Package) -> tuple[str, ...]:
        look = self._look(package)
        return tuple(look.path(text) + ("/" if text.endswith("/") else "") for text in self.component.options.out)

    def _look(self, package: Package) -> Look:
        return Look(package=package, root=self.root, workspace=self.workspace, find=self._folder_of)

    def _folder_of(self, name: str) -> str | None:
        found = self.by_name.get(name)
        return found.folder if found else None

    # -- one step

    def _step(self, task: _Task) -> Step:
        package, doings = task.package, task.doings
        outputs, state, kept = self._written(task)
        locked = self.lock is not None
        install = f"{self.component.name}:install"
        return Step(
            component=self.component.name,
            name=f"{package.prefix}{task.name}",
            kind=self.component.kind,
            path=package.folder,
            command=self._command(task, kept=kept),
            inputs=tuple(dict.fromkeys(self._inputs(task))),
            outputs=tuple(Output(path=path.rstrip("/"), directory=path.endswith("/")) for path in outputs),
            depends_on=() if locked else (install,),
            after=(install,) if locked else (),
            facts=tuple(self._facts(package)),
            env=(*self._env(task), *doings.env),
            network_env=NETWORK,
            tools=tuple(self._tools(task)),
            state=state,
            clean=not kept,
            junit=doings.junit,
        )

    def _written(self, task: _Task) -> tuple[tuple[str, ...], tuple[str, ...], bool]:
        """Outputs, state, and whether both are kept for the next run of tsc."""
        outputs, doings = task.outputs, task.doings
        outside = [(path, sure) for path, sure in doings.memory if not _within(path, outputs)]
        state = [path for path in doings.state if not _within(path, outputs)]
        if not outside:
            return outputs, tuple(state), False
        shared = any(self._refers(task.package, other) for other in self.packages.values())
        sure = all(sure for _, sure in outside)
        alone = task.script.simple and len(task.hooks) < 2 and outputs  # noqa: PLR2004 - no hook around it
        if sure and alone and len(outside) == len(doings.memory) and not shared:
            names = f"{posixpath.dirname(outside[0][0])}/{NAMES}".lstrip("/")
            return outputs, (*state, *(path for path, _ in outside), names), True
        # Whoever refers to the project reads it as well, so it must come and go with the outputs.
        files = tuple(path for path, sure in outside if sure)
        return (*outputs, *files), (*state, *(path for path, sure in outside if not sure)), False

    def _refers(self, package: Package, other: Package) -> bool:
        if other is package:
            return False
        front = below(package.folder, "")
        return any(
            reference.startswith(front)
            for task in self.tasks[other.inside]
            for one in task.doings.compiles
            for reference in one.references
        )

    def _command(self, task: _Task, *, kept: bool) -> str:
        package = task.package
        texts = list(task.hooks) or [task.script.text]
        told = task.doings.command or task.script.text
        texts[texts.index(task.script.text)] = told
        if self.manager.plug_and_play and task.from_script:
            return self._through_yarn(task, told)
        depth = package.inside.count("/") + 1 if package.inside else 0
        folders = ["$PWD/node_modules/.bin"] + (["$PWD/" + "../" * depth + "node_modules/.bin"] if depth else [])
        lines = [f'export PATH="{":".join(folders)}:$PATH"']
        if task.doings.junit:
            lines.append("mkdir -p reports")
        stale = [path for path, sure in task.doings.memory if not sure and not _within(path, task.outputs)]
        if stale:
            lines.append(shlex.join(["rm", "-f", *(posixpath.relpath(path, package.folder or ".") for path in stale)]))
        if kept:
            return script(*lines, self._kept(task))
        # npm's own way: each by a shell of its own, without -e.
        plain = len(texts) == 1 and task.script.simple
        return script(*lines, *(text if plain else shlex.join(["sh", "-c", text]) for text in texts))

    def _through_yarn(self, task: _Task, told: str) -> str:
        more = told.removeprefix(task.script.text)
        run = shlex.join([*self._yarn(task.package), "run", task.name])
        return script(*(["mkdir -p reports"] if task.doings.junit else []), run + more)

    def _yarn(self, package: Package) -> tuple[str, ...]:
        program = self.manager.install[: -len(MANAGERS[3].install[1:])]
        if program == ("yarn",):
            return program
        return program[0], posixpath.relpath(below(self.root.folder, program[1]), package.folder or ".")

    def _kept(self, task: _Task) -> str:
        def here(path: str) -> str:
            return posixpath.relpath(path, task.package.folder or ".")

        infos = [path for path, _ in task.doings.memory]
        return incremental(
            task.script.calls[0],
            settings_of(task.doings.compiles, self.workspace),
            memory=here(f"{posixpath.dirname(infos[0])}/{NAMES}".lstrip("/")),
            outputs=[here(path.rstrip("/")) for path in task.outputs],
            infos=[here(path) for path in infos],
        )

    def _env(self, task: _Task) -> Iterator[tuple[str, str]]:
        if task.from_script:
            yield "npm_lifecycle_event", task.name
            yield "npm_package_name", task.package.name
            yield "npm_package_version", str(task.package.manifest.get("version", ""))
        if task.name.startswith(TEST):
            yield "CI", "true"

    def _tools(self, task: _Task) -> Iterator[Tool]:
        yield NODE
        started = {name.removesuffix("x") if name != "npx" else "npm" for name in task.script.managers}
        if self.manager.plug_and_play:
            started.add("yarn")
        yield from dict.fromkeys(m.tool for m in MANAGERS if m.tool.name in started and m.tool != NODE)

    # -- what a step is made of

    def _facts(self, package: Package) -> Iterator[tuple[str, str]]:
        if self.lock is None:
            return
        found = self.lock.facts("", self.root.dependencies)
        if package is not self.root:
            # The tools that all packages use are the workspace's own.
            found |= self.lock.facts(package.inside, package.dependencies)
        file = posixpath.basename(self.lockfile)
        yield from ((f"{name} in {file}", value) for name, value in sorted(found.items()))

    def _inputs(self, task: _Task) -> Iterator[str]:
        package, options = task.package, self.component.options
        generated = list(
            _inputs.made_inside(package, self.component, self.workspace, generators=task.name in _inputs.USUAL)
        )
        if options.sources:
            yield from self._patterns(package, options.sources)
        else:
            others = [other.path for other in self.workspace.components if other.name != self.component.name]
            yield from _inputs.everything(package, others=others, workspace=self.workspace)
            yield from generated
        yield from self._tests(task)
        yield from _inputs.shared(package, self.workspace)
        if package is not self.root:
            yield from _inputs.shared(self.root, self.workspace)
        yield from files_of(self.manager, self.root, self.workspace)
        if self.lock is None:
            yield self.lockfile
        yield from task.doings.reads
        yield from self._patterns(package, ["!**/node_modules/"])
        yield from self._from_others(task)

    def _tests(self, task: _Task) -> Iterator[str]:
        """Tests belong to those who read them: a bundler does not, tsc does unless it is told what to include."""
        tests: tuple[str, ...] = self.component.options.tests
        package = task.package
        if not task.builds:
            if self.component.options.sources:
                yield from (p for p in self._patterns(package, tests) if self.workspace.exists(p.rstrip("/")))
            return
        if not task.doings.compiles and not self.component.options.sources:
            yield from (f"!{pattern}" for pattern in self._patterns(package, _inputs.TEST_FILES))
        folder = below(package.folder, "")
        elsewhere = all(
            one.include is not None and not any(text.lstrip("./").startswith((*tests, "*")) for text in one.include)
            for one in task.doings.compiles
            if one.path.startswith(folder)
        )
        if elsewhere:
            yield from (f"!{pattern}" for pattern in self._patterns(package, tests))

    def _patterns(self, package: Package, texts: Iterable[str]) -> tuple[str, ...]:
        return patterns_of(Component(name=package.name, kind=self.component.kind, path=package.folder), texts)

    def _from_others(self, task: _Task) -> Iterator[str]:
        for other in self._needed(task):
            yield below(other.folder, "package.json")
            built = [one for one in self.tasks[other.inside] if one.builds]
            outputs = [path for one in built for path in self._written(one)[0]]
            yield from outputs
            if not outputs or self._enters_sources(other, outputs) or self._compiled_by(task, other):
                yield from _inputs.everything(other, others=(), workspace=self.workspace)
                yield from self._patterns(other, ["!**/node_modules/"])
                yield from outputs
        if not task.builds:
            yield from self._own_build(task)

    def _own_build(self, task: _Task) -> Iterator[str]:
        """A test that names what the package's own build makes comes after it."""
        folder = below(task.package.folder, "")
        words = [word for call in task.script.calls for word in call.arguments]
        for one in self.tasks[task.package.inside]:
            for path in one.outputs if one.builds and one is not task else ():
                name = path.removeprefix(folder)
                if any(word.removeprefix("./").startswith(name.rstrip("/")) for word in words):
                    yield path

    def _enters_sources(self, other: Package, outputs: Iterable[str]) -> bool:
        """Whether others come into the package past what its build makes."""
        entries = list(entry_points(other.manifest)) or ["index.js"]
        paths = (posixpath.normpath(below(other.folder, text)) for text in entries if not text.endswith("package.json"))
        return not all(_within(path, outputs) for path in paths)

    def _compiled_by(self, task: _Task, other: Package) -> bool:
        """Whether tsc is led to the other's own project, and reads its sources."""
        front = below(other.folder, "")
        return any(one.path.startswith(front) for one in task.doings.compiles)

    def _needed(self, task: _Task) -> list[Package]:
        """The workspace's packages behind this one, however far. For a build none that needs it in turn."""
        package = task.package
        found: dict[str, Package] = {}
        waiting = [*self._internal(package, package.dependencies), *self._referred(task)]
        while waiting:
            other = waiting.pop(0)
            if other is not package and other.inside not in found:
                found[other.inside] = other
                waiting += self._internal(other, _runtime(other))
        if not task.builds:
            return list(found.values())
        return [other for other in found.values() if package not in self._behind(other)]

    def _behind(self, package: Package) -> list[Package]:
        found: dict[str, Package] = {}
        waiting = [package]
        while waiting:
            for other in self._internal(package := waiting.pop(), package.dependencies):
                if other.inside not in found:
                    found[other.inside] = other
                    waiting.append(other)
        return list(found.values())

    def _referred(self, task: _Task) -> list[Package]:
        return [
            other
            for other in self.packages.values()
            if other is not self.root and other is not task.package and self._compiled_by(task, other)
        ]

    def _internal(self, package: Package, dependencies: Mapping[str, str]) -> list[Package]:
        """Those of the dependencies that are packages of the workspace."""
        found = []
        for name, text in dependencies.items():
            other = self.by_name.get(name)
            if other is None or other is package:
                continue
            locked = self.lock.find(package.inside, name, text) if self.lock else None
            if locked is None or locked == other.inside:
                found.append(other)
        return found


def _runtime(package: Package) -> dict[str, str]:
    found: dict[str, str] = {}
    for kind in _lockfiles.RUNTIME:
        listed = package.manifest.get(kind)
        found |= listed if isinstance(listed, dict) else {}
    return found


def _within(path: str, outputs: Iterable[str]) -> bool:
    return any(path == output or (output.endswith("/") and path.startswith(output)) for output in outputs)


def _with_outputs(doings: Doings, outputs: tuple[str, ...]) -> Doings:
    return replace(doings, outputs=outputs)
