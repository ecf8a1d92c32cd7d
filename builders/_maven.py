"""Maven: pom.xml → for each module `compile`, `test`, `package`.

A module is built alone, in its own folder, never with `--also-make`: what it needs of other modules is taken from their
outputs, laid over the user's local repository for the length of the step. So a module runs only when something of its
own changed, several run at the same time, and two checkouts do not see each other's jars.

`test` and `package` call the goals that the poms bind to their phases, and so compile nothing again. Where a parent, a
profile or an extension from outside the repository has a say in what runs, the phases themselves are run: `package`
then compiles too, and there is no `compile`.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from build_tests.core.builder import Component, ManifestError, Output, Resources, Retries, Step, Tool, Workspace
from build_tests.core.builder import path_from_root as at

from ._jvm import EPOCH, JAVA, NETWORK, prefix_of, present, sweeper, without_backups
from ._manifests import DOWNLOAD, from_component, output_of, path_of, patterns_of, script
from ._pom import Dependency, Pom, Poms

if TYPE_CHECKING:
    from .kotlin import KotlinOptions

MAVEN = Tool(name="mvn", hint="apt install maven")
FLAGS = ("--batch-mode", "--quiet", "--no-transfer-progress", "-Dstyle.color=never", "-Dkotlin.compiler.daemon=false")
REPORTS = "target/surefire-reports"
COVERAGE = "target/jacoco.exec"
BEFORE_TESTS = (
    "initialize", "generate-test-sources", "process-test-sources", "generate-test-resources",
    "process-test-resources", "test-compile", "process-test-classes", "test",
)  # fmt: skip
PACKAGING = ("initialize", "prepare-package", "package")


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """A pom that makes an archive, as one component's module."""

    component: Component
    pom: Pom
    prefix: str
    jar: str
    """From the module's folder."""

    @property
    def folder(self) -> str:
        """From the root."""
        return self.pom.folder

    @property
    def name(self) -> str:
        """What the step names begin with, for people."""
        return self.prefix.rstrip("-") or self.component.name

    def label(self, step: str) -> str:
        """The label of its step."""
        return f"{self.component.name}:{self.prefix}{step}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What a module takes from others in the repository."""

    modules: tuple[Module, ...]
    poms: tuple[Pom, ...]
    """Every pom that Maven must find in its repository: the modules', their parents', imported lists of versions."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Jars and poms, from the root."""
        jars = [at(module.jar, module.folder) for module in self.modules]
        return (*jars, *dict.fromkeys(file for pom in self.poms for file in pom.files))


def plan(component: Component, workspace: Workspace) -> Iterator[Step]:
    """Raises ManifestError: a pom.xml is missing or can't be read."""
    poms = Poms(workspace)
    own = poms.reactor(path_of(component, "pom.xml"))
    modules = [_module(component, pom) for pom in own if pom.packaging != "pom"]
    known = {module.pom.key: module for module in (*_elsewhere(component, workspace, poms), *modules)}
    everything = {**{module.pom.key: module.pom for module in known.values()}, **{pom.key: pom for pom in own}}
    for module in modules:
        yield from _Steps(module, workspace, _Lookup(poms, known, everything)).all()


def _module(component: Component, pom: Pom) -> Module:
    prefix = prefix_of(component, pom.folder)
    options: KotlinOptions = component.options
    jar = "" if prefix else options.jar
    name = pom.final_name
    if not jar and ("${" in name or name.startswith("-") or name.endswith("-")):
        raise ManifestError(
            f"{pom.files[0]}: the jar's name {name!r} can't be read off the pom",
            hint=f"{'make the module a component of its own and ' if prefix else ''}write jar: target/NAME.jar",
        )
    ending = "war" if pom.packaging == "war" else "jar"
    return Module(component=component, pom=pom, prefix=prefix, jar=jar or f"target/{name}.{ending}")


def _elsewhere(component: Component, workspace: Workspace, poms: Poms) -> Iterator[Module]:
    """The modules of other components; what is wrong with those is told there."""
    for other in workspace.components:
        if other.kind == component.kind and other.name != component.name:
            try:
                if workspace.exists(path_of(other, "pom.xml")):
                    reactor = poms.reactor(path_of(other, "pom.xml"))
                    yield from [_module(other, pom) for pom in reactor if pom.packaging != "pom"]
            except ManifestError:
                continue


@dataclass(frozen=True, slots=True)
class _Lookup:
    """Finds what a module needs among the modules of the repository."""

    poms: Poms
    modules: Mapping[str, Module]
    known: Mapping[str, Pom]

    def needs(self, module: Module, *, tests: bool) -> Needs:
        """Through other modules too. Raises ManifestError: something of a module that is no jar."""
        found: dict[str, Pom] = {}
        todo = [module.pom]
        while todo:
            pom = todo.pop(0)
            for dependency in pom.dependencies:
                other = self.known.get(dependency.artifact)
                if other is None or other.key in found or other.key == module.pom.key:
                    continue
                if not dependency.test or (tests and pom is module.pom):
                    _refuse_strange(pom, dependency)
                    found[other.key] = other
                    todo.append(other)
        modules = [self.modules[key] for key in found if key in self.modules]
        return Needs(modules=tuple(modules), poms=tuple(self._with_parents(found.values())))

    def _with_parents(self, found: Iterable[Pom]) -> list[Pom]:
        seen: dict[str, Pom] = {}
        for pom in found:
            here = pom
            while here.files[0] not in seen:
                seen[here.files[0]] = here
                if not here.parent:
                    break
                here = self.poms.load(here.parent)
        return list(seen.values())


def _refuse_strange(pom: Pom, dependency: Dependency) -> None:
    if dependency.type not in ("jar", "pom"):
        raise ManifestError(
            f"{pom.files[0]} needs {dependency.artifact} as {dependency.type!r}: only jars of other modules are known",
            file=pom.files[0],
            hint="put what both need into a module of its own, or build this one through kind: command",
        )


class _Steps:
    """One module's steps."""

    def __init__(self, module: Module, workspace: Workspace, lookup: _Lookup) -> None:
        self._module = module
        self._pom = module.pom
        self._options: KotlinOptions = module.component.options
        self._workspace = workspace
        self._lookup = lookup
        self._known = module.pom.executions is not None
        """What runs in which phase."""

    def all(self) -> Iterator[Step]:
        """Compile first."""
        if self._known:
            yield self._compile()
        tests = (*self._options.tests, *self._pom.tests)
        tested = not self._known or self._pom.goals("test")
        if tested and any(self._workspace.exists(at(text, self._module.folder)) for text in tests):
            yield self._test()
        yield self._package()

    def _compile(self) -> Step:
        needs = self._lookup.needs(self._module, tests=False)
        return self._step(
            "compile", ("process-classes",), needs, outputs=(self._output("target/classes/"),), inputs=self._sources()
        )

    def _test(self) -> Step:
        needs = self._lookup.needs(self._module, tests=True)
        outputs = [self._output(f"{REPORTS}/")]
        if "jacoco-maven-plugin" in self._pom.plugins:
            outputs.append(self._output(COVERAGE))
        made = (at("target/classes", self._module.folder),) if self._known else self._sources()
        return self._step(
            "test",
            self._pom.goals(*BEFORE_TESTS) if self._known else ("test",),
            needs,
            outputs=tuple(outputs),
            inputs=(*without_backups((*self._existing(self._options.tests), *self._patterns(self._pom.tests))), *made),
            depends_on=() if self._known else (self._module.label("package"),),
            junit=self._patterns((f"{REPORTS}/TEST-*.xml",)),
        )

    def _package(self) -> Step:
        needs = self._lookup.needs(self._module, tests=False)
        more = () if self._module.prefix else self._options.out
        if self._known:
            goals: tuple[str, ...] = self._pom.goals(*PACKAGING)
            web = ("src/main/webapp/", "src/assembly/", "src/main/assembly/")
            inputs = (at("target/classes", self._module.folder), *present(self._workspace, self._module.folder, web))
        else:
            goals, inputs = ("package", "-Dmaven.test.skip=true"), self._sources()
        outputs = tuple(self._output(text) for text in (self._module.jar, *more))
        return self._step("package", goals, needs, outputs=outputs, inputs=inputs)

    def _sources(self) -> tuple[str, ...]:
        if self._options.sources:
            return tuple(without_backups(self._patterns(self._options.sources)))
        return tuple(without_backups((*self._existing(("src/main/",)), *self._patterns(self._pom.sources))))

    def _existing(self, texts: Iterable[str]) -> list[str]:
        return present(self._workspace, self._module.folder, texts)

    def _patterns(self, texts: Iterable[str]) -> tuple[str, ...]:
        return tuple(patterns_of(_at(self._module), dict.fromkeys(texts)))

    def _output(self, text: str) -> Output:
        return output_of(_at(self._module), text)

    def _step(self, name: str, goals: tuple[str, ...], needs: Needs, *, inputs: tuple[str, ...], **fields: Any) -> Step:
        module, component = self._module, self._module.component
        configured = self._configuration()
        wrapper = path_of(component, "mvnw") in configured
        return Step(
            component=component.name,
            name=f"{module.prefix}{name}",
            kind=component.kind,
            path=module.folder,
            command=self._command(goals, needs, fields["outputs"], wrapper=wrapper),
            inputs=tuple(dict.fromkeys((*self._pom.files, *configured, *inputs, *needs.inputs))),
            tools=(JAVA,) if wrapper else (JAVA, MAVEN),
            network_env=(*NETWORK, "MAVEN_*"),
            retries=Retries() if self._options.offline else DOWNLOAD,
            # The steps of a module share its target folder.
            resources=Resources(locks=(f"maven:{module.folder}",)),
            **fields,
        )

    def _configuration(self) -> list[str]:
        """The wrapper, and the nearest `.mvn`: Maven looks for it from the module's folder upwards."""
        found = present(self._workspace, self._module.component.path, ("mvnw",))
        folder = self._module.folder
        while not (nearest := present(self._workspace, folder, (".mvn/",))) and folder:
            folder = posixpath.dirname(folder)
        return found + nearest

    def _command(self, goals: tuple[str, ...], needs: Needs, outputs: tuple[Output, ...], *, wrapper: bool) -> str:
        above = f"{self._module.folder}/" if self._module.folder else ""
        made = [output.path for output in (*outputs, *self._all_outputs())]
        maven = f"./{from_component(_at(self._module), path_of(self._module.component, 'mvnw'))}" if wrapper else "mvn"
        flags = [*FLAGS, *self._reproducible()]
        own = ' -Dmaven.repo.local="$tmp/repository"' if needs.poms else ""
        folders = [from_component(_at(self._module), output.path) for output in outputs if output.directory]
        return script(
            "tmp=$(mktemp -d)",
            sweeper("target", (path.removeprefix(above) for path in made if path.startswith(f"{above}target/"))),
            """trap 'rm -rf "$tmp"; sweep' EXIT""",
            ["mkdir", "-p", "target"],
            "sweep",
            f'maven() {{ {script([maven, *flags])}{own} "$@"; }}',
            REPOSITORY,
            *self._overlay(needs),
            script(["set", "--", *goals]),
            OFFLINE if self._options.offline else OFFLINE_FIRST,
            # Maven makes no folder for nothing.
            *([["mkdir", "-p", *folders]] if folders else []),
        )

    def _all_outputs(self) -> Iterator[Output]:
        """What the module's other steps made must outlive this one."""
        more = () if self._module.prefix else self._options.out
        names = (*(("target/classes/",) if self._known else ()), f"{REPORTS}/", COVERAGE, self._module.jar, *more)
        return (self._output(text) for text in names)

    def _reproducible(self) -> list[str]:
        return [] if self._pom.timestamp else [f"-Dproject.build.outputTimestamp={EPOCH}"]

    def _overlay(self, needs: Needs) -> Iterator[list[str] | str]:
        """The user's repository, with the modules of this one as if they had been installed."""
        if not needs.poms:
            return
        yield OVERLAY
        here = _at(self._module)
        jars = {module.pom.key: at(module.jar, module.folder) for module in needs.modules}
        folders = {pom.files[0]: f"{pom.group.replace('.', '/')}/{pom.artifact}" for pom in needs.poms}
        for layer in sorted({above for folder in folders.values() for above in _above(folder)}):
            yield ["layer", layer]
        for pom in needs.poms:
            place = f"{folders[pom.files[0]]}/{pom.version}"
            name = f"{pom.artifact}-{pom.version}"
            filled = [f"s|${{{key}}}|{value}|g" for key, value in pom.placeholders if value]
            yield ["own", place, name, from_component(here, pom.files[0]), ";".join(filled)]
            if pom.key in jars:
                jar = jars[pom.key]
                ending = posixpath.splitext(jar)[1]
                yield script(["cp", from_component(here, jar)]) + f' "$tmp/repository/{place}/{name}{ending}"'


def _above(folder: str) -> Iterator[str]:
    """`a/b/c` → "", `a`, `a/b`."""
    parts = folder.split("/")
    return ("/".join(parts[:depth]) for depth in range(len(parts)))


def _at(module: Module) -> Component:
    """The component as if the module's folder were its own, for paths as a module writes them."""
    return Component(name=module.component.name, kind=module.component.kind, path=module.folder)


REPOSITORY = r"""told='s:.*<localRepository>\(.*\)</localRepository>.*:\1:p'
repository=$(sed -n "$told" "$HOME/.m2/settings.xml" 2>/dev/null | head -n 1)
repository=${repository:-$HOME/.m2/repository}"""

OVERLAY = r"""layer() {
  rm -f "$tmp/repository/$1"
  mkdir -p "$tmp/repository/$1"
  [ ! -d "$repository/$1" ] ||
    find "$repository/$1" -mindepth 1 -maxdepth 1 -exec sh -c 'ln -s "$@" "$0"' "$tmp/repository/$1/" '{}' +
}
own() {
  rm -f "$tmp/repository/${1%/*}"
  mkdir -p "$tmp/repository/$1"
  sed "$4" "$3" >"$tmp/repository/$1/$2.pom"
  printf '%s\n' "$1" >>"$tmp/own"
}"""
"""`layer`: a folder of our own that shows all that the user's repository has there. `own`: a module of this one."""

OFFLINE = 'maven --offline "$@"'

OFFLINE_FIRST = r"""fetch() {
  mkdir -p "$repository"
  if command -v flock >/dev/null; then (flock 9 && maven "$@") 9<"$repository"; else maven "$@"; fi
}
code=0
maven --offline "$@" >"$tmp/log" 2>&1 || code=$?
lacking='in offline mode|artifacts? (is|are) missing|Could not (find|resolve|collect)'
if [ "$code" != 0 ] && grep -qE "$lacking" "$tmp/log"; then
  fetch "$@"
  if [ -f "$tmp/own" ]; then
    while read -r place; do rm -rf "$tmp/repository/$place"; done <"$tmp/own"
    cp -R -n "$tmp/repository/." "$repository/" 2>/dev/null || true
  fi
else
  cat "$tmp/log"
  [ "$code" = 0 ] || exit "$code"
fi"""
"""Maven 3 does not lock the repository that it downloads to; offline it writes nothing there, so most of the time
nobody waits. What was fetched into a folder that was new to the repository is taken over."""
