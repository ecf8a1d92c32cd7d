"""Gradle: settings.gradle, build.gradle (and .kts) → for each module `compile`, `test`, `package`.

A step asks Gradle for one task of one module. An init script keeps it to that: the tasks of other modules, and those of
this module that `compile` has run, are disabled, so that their outputs are taken as they lie there, built or restored.
Gradle's memory of the project is the step's own and goes with it; what makes a step quick is Gradle's daemon and its
build cache in the user's home.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from build_tests.core.builder import (
    Component,
    Identity,
    ManifestError,
    Output,
    Resources,
    Retries,
    Step,
    Tool,
    Workspace,
)
from build_tests.core.builder import path_from_root as at

from ._gradlefiles import BUILDS, SETTINGS, Build, Module, read
from ._jvm import JAVA, NETWORK, prefix_of, present, sweeper, without_backups
from ._manifests import DOWNLOAD, from_component, output_of, path_of, patterns_of, script

if TYPE_CHECKING:
    from .kotlin import KotlinOptions

GRADLE = Tool(name="gradle", hint="apt install gradle, or add the wrapper to the repository")
DAEMONS = ("GradleDaemon", "KotlinCompileDaemon")
"""What their command lines hold."""
FLAGS = ("--console=plain", "--build-cache", "--parallel", "-Dorg.gradle.problems.report=false")
CLASSES = ("build/classes/kotlin/main/", "build/classes/java/main/", "build/resources/main/")
FIXTURES = ("build/classes/kotlin/testFixtures/", "build/classes/java/testFixtures/", "build/resources/testFixtures/")
LIBS = "build/libs/"
DISTRIBUTIONS = ("build/distributions/", "build/scripts/")
REPORTS = "build/test-results/test/"
COVERAGE = "build/jacoco/test.exec"
STRANGE = {
    "multiplatform": "Kotlin Multiplatform",
    "com.android.application": "Android",
    "com.android.library": "Android",
}

INIT = """gradle.taskGraph.whenReady { graph ->
    if (gradle.parent != null) return
    def done = [] as Set
    def todo = graph.allTasks.findAll { it.path in %(done)s } as List
    while (todo) {
        def task = todo.remove(0)
        if (done.add(task)) todo.addAll(task.taskDependencies.getDependencies(task))
    }
    graph.allTasks.each { task ->
        if (task.project.path != %(module)s || task in done) task.enabled = false
        if (task instanceof AbstractArchiveTask) {
            task.preserveFileTimestamps = false
            task.reproducibleFileOrder = true
        }
        if (task instanceof Test) task.testLogging.exceptionFormat = 'full'
    }
}"""
"""Groovy, as any Gradle reads it, whatever language the build is written in."""


def plan(component: Component, workspace: Workspace) -> Iterator[Step]:
    """Raises ManifestError: settings that can't be read, or a kind of module that is not supported."""
    options: KotlinOptions = component.options
    build = read(component.path, workspace, options.modules)
    steps = _Steps(component, workspace, build)
    if build.included:
        yield steps.plugins()
    for module in build.modules.values():
        yield from steps.of(module)


class _Steps:
    """The steps of one Gradle build."""

    def __init__(self, component: Component, workspace: Workspace, build: Build) -> None:
        self._component = component
        self._workspace = workspace
        self._options: KotlinOptions = component.options
        self._build = build
        self._shared = tuple(dict.fromkeys(self._scripts()))

    def of(self, module: Module) -> Iterator[Step]:
        """One module's; none for a folder of modules."""
        strange = next((name for word, name in STRANGE.items() if word in module.words), "")
        if strange:
            raise ManifestError(
                f"{module.folder or 'the root'} is a module of {strange}, which is not supported",
                hint="build it through kind: command",
            )
        if not self._is_built(module):
            return
        yield self._compile(module)
        if any(self._workspace.exists(at(text, module.folder)) for text in (*self._options.tests, *module.tests)):
            yield self._test(module)
        yield self._package(module)

    def plugins(self) -> Step:
        """buildSrc and included builds: Gradle builds them before anything else, whatever it is asked for."""
        outputs = [
            Output(path=at(name, folder), directory=True, identity=Identity.INSTALLED)
            for folder in self._projects_of_plugins()
            for name in ("build", ".gradle")
        ]
        return self._step("plugins", ["help"], module=None, outputs=tuple(outputs))

    def _projects_of_plugins(self) -> list[str]:
        found: dict[str, None] = {}
        for folder in self._build.included:
            found[folder] = None
            for name in BUILDS:
                for path in self._workspace.glob(f"{folder}/*/{name}"):
                    found[path.rpartition("/")[0]] = None
        return list(found)

    def _is_built(self, module: Module) -> bool:
        folders = ("src/main", *self._options.sources) if self._options.sources else ("src/main", *module.sources)
        generated = self._options.sources if module.path == ":" and len(self._build.modules) == 1 else module.sources
        return bool(generated) or any(self._workspace.exists(at(text, module.folder)) for text in folders)

    def _compile(self, module: Module) -> Step:
        fixtures = self._has_fixtures(module)
        sources = self._options.sources or ("src/main/", *module.sources)
        return self._step(
            "compile",
            self._compiled(module),
            module=module,
            outputs=self._outputs(module, (*CLASSES, *(FIXTURES if fixtures else ()))),
            inputs=(
                *self._sources(module, (*sources, *(("src/testFixtures/",) if fixtures else ()))),
                *self._from_others(module, tests=False),
            ),
        )

    def _test(self, module: Module) -> Step:
        coverage = (COVERAGE,) if "jacoco" in module.words else ()
        return self._step(
            "test",
            [_task(module, "test")],
            module=module,
            outputs=self._outputs(module, (REPORTS, *coverage)),
            inputs=(
                *self._sources(module, (*self._options.tests, *module.tests)),
                *self._classes(module),
                *self._from_others(module, tests=True),
            ),
            junit=tuple(f"{at(REPORTS, module.folder)}/{name}" for name in ("TEST-*.xml",)),
        )

    def _package(self, module: Module) -> Step:
        more = self._options.out if module.path == ":" else ()
        distributions = DISTRIBUTIONS if "application" in module.words else ()
        return self._step(
            "package",
            [_task(module, "assemble")],
            module=module,
            outputs=self._outputs(module, (LIBS, *distributions, *more)),
            inputs=(*self._classes(module), *self._from_others(module, tests=False)),
        )

    # Inputs

    def _scripts(self) -> Iterator[str]:
        """What Gradle reads whatever it is asked for: every module's build file, since each can change the others."""
        root = self._component.path
        names = (*SETTINGS, "gradle.properties", "local.properties", "gradle/", "gradlew", "gradle.lockfile")
        yield from present(self._workspace, root, names)
        for module in self._build.modules.values():
            front = f"{module.folder}/" if module.folder else ""
            for pattern in ("*.gradle", "*.gradle.kts"):
                yield from self._workspace.glob(front + pattern)
            yield from present(self._workspace, module.folder, ("gradle.properties",))
        for folder in self._build.included:
            yield f"{folder}/"
        for folder in self._projects_of_plugins():
            yield from (f"!{folder}/{name}/" for name in ("build", ".gradle", ".kotlin"))

    def _sources(self, module: Module, texts: Iterable[str]) -> tuple[str, ...]:
        usual = [text for text in texts if not text.startswith("src/")]
        there = present(self._workspace, module.folder, (text for text in texts if text.startswith("src/")))
        locks = present(self._workspace, module.folder, ("gradle.lockfile",))
        return (*without_backups((*there, *patterns_of(_at(module), usual))), *locks)

    def _classes(self, module: Module) -> tuple[str, ...]:
        fixtures = FIXTURES if self._has_fixtures(module) else ()
        return tuple(at(text, module.folder) for text in (*CLASSES, *fixtures))

    def _from_others(self, module: Module, *, tests: bool) -> Iterator[str]:
        """Jars and classes of the projects on the class path: which of the two Gradle takes depends on its plugins."""
        seen: dict[str, Module] = {}
        todo = [*module.needs, *(module.test_needs if tests else ())]
        while todo:
            other = self._build.modules.get(todo.pop(0))
            if other is not None and other.path not in seen and other.path != module.path:
                seen[other.path] = other
                todo += other.needs
        for other in seen.values():
            if self._is_built(other):
                yield at(LIBS, other.folder)
                yield from self._classes(other)

    def _has_fixtures(self, module: Module) -> bool:
        return self._workspace.exists(at("src/testFixtures", module.folder))

    def _compiled(self, module: Module) -> list[str]:
        fixtures = ["testFixturesClasses"] if self._has_fixtures(module) else []
        return [_task(module, name) for name in ("classes", *fixtures)]

    def _outputs(self, module: Module, texts: Iterable[str]) -> tuple[Output, ...]:
        return tuple(output_of(_at(module), text) for text in texts)

    # The command

    def _step(
        self, name: str, tasks: list[str], *, module: Module | None, inputs: tuple[str, ...] = (), **fields: Any
    ) -> Step:
        component = self._component
        wrapper = self._workspace.exists(path_of(component, "gradlew"))
        prefix = prefix_of(component, module.folder) if module else ""
        return Step(
            component=component.name,
            name=f"{prefix}{name}",
            kind=component.kind,
            path=component.path,
            command=self._command(
                tasks, module, compiles=name == "compile", outputs=fields["outputs"], wrapper=wrapper
            ),
            inputs=tuple(dict.fromkeys((*self._shared, *inputs))),
            depends_on=(f"{component.name}:plugins",) if module and self._build.included else (),
            tools=(JAVA,) if wrapper else (JAVA, GRADLE),
            network_env=(*NETWORK, "GRADLE_*", "ORG_GRADLE_PROJECT_*"),
            retries=Retries() if self._options.offline else DOWNLOAD,
            # The steps of a module share its build folder.
            resources=Resources(locks=(f"gradle:{module.folder}",) if module else ()),
            daemons=DAEMONS if self._options.daemon else (),
            **fields,
        )

    def _command(
        self, tasks: list[str], module: Module | None, *, compiles: bool, outputs: tuple[Output, ...], wrapper: bool
    ) -> str:
        flags = [*FLAGS, "--daemon" if self._options.daemon else "--no-daemon"]
        if self._options.offline:
            flags.append("--offline")
        own = ' --project-cache-dir "$tmp/cache" -Pkotlin.project.persistent.dir="$tmp/kotlin"'
        gradle = script(["./gradlew" if wrapper else "gradle", *flags]) + own
        if module is None:
            return script(TEMPORARY, """trap 'rm -rf "$tmp"' EXIT""", f"{gradle} {script([*tasks])}")
        folders = [from_component(self._component, output.path) for output in outputs if output.directory]
        build = from_component(self._component, at("build", module.folder))
        done = [] if compiles else self._compiled(module)
        return script(
            TEMPORARY,
            sweeper(build, (from_component(self._component, path) for path in self._kept(module))),
            """trap 'rm -rf "$tmp"; sweep' EXIT""",
            "sweep",
            "cat >\"$tmp/init.gradle\" <<'END'",
            INIT % {"module": _groovy(module.path), "done": f"[{', '.join(map(_groovy, done))}]"},
            "END",
            f'{gradle} --init-script "$tmp/init.gradle" {script(tasks)}',
            # Gradle makes no folder for nothing.
            *([["mkdir", "-p", *folders]] if folders else []),
        )

    def _kept(self, module: Module) -> list[str]:
        """What the module's steps make, from the root: each leaves the others' alone."""
        more = self._options.out if module.path == ":" else ()
        texts = (*CLASSES, *FIXTURES, LIBS, *DISTRIBUTIONS, REPORTS, COVERAGE, *more)
        # The root's build folder holds the sign that a Kotlin compiler of another step is alive.
        return [at(text, module.folder) for text in (*texts, "build/kotlin/sessions")]


TEMPORARY = "tmp=$(mktemp -d)"


def _task(module: Module, name: str) -> str:
    return f":{name}" if module.path == ":" else f"{module.path}:{name}"


def _at(module: Module) -> Component:
    """A component in the module's folder, for paths as a module writes them."""
    return Component(name="", kind="", path=module.folder)


def _groovy(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
