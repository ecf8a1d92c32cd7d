"""Kotlin sources without a build tool → `compile`, `test`, `package`, through kotlinc and the JDK's own javac and jar.

The jar runs beside `lib/`, where Kotlin's standard library and the class path's jars are put. Tests run in JUnit's
console launcher, one jar, which the component names.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from build_tests.core.builder import Component, ManifestError, Output, Step, Tool, Workspace
from build_tests.core.builder import path_from_root as at

from ._jvm import EPOCH, JAVA, NETWORK, present, without_backups
from ._manifests import from_component, output_of, path_of, patterns_of, script

if TYPE_CHECKING:
    from .kotlin import KotlinOptions

KOTLINC = Tool(
    name="kotlinc", hint="apt install kotlin; or npm install kotlin-compiler and say kotlinc: node_modules/…"
)
JDK = replace(JAVA, version=">=17")
"""Older ones can't give the files in a jar a time."""
CLASSES = "build/classes/"
LIB = "build/lib/"
REPORTS = "build/test-results/"
HOME = 'home=$(dirname "$(dirname "$(readlink -f "$(command -v {0})")")")'
JDK_BIN = "jdk=${JAVA_HOME:+$JAVA_HOME/bin/}"
STDLIB = '"$home/lib/kotlin-stdlib.jar"'
LIBRARIES = """libraries=$home/lib/kotlin-stdlib.jar
for name in kotlin-test kotlin-test-junit5; do
  [ ! -f "$home/lib/$name.jar" ] || libraries=$libraries:$home/lib/$name.jar
done"""
"""What the compiler brings along for tests; an old one has less."""


def has_sources(path: str, workspace: Workspace) -> bool:
    """Whether Kotlin files lie in a folder itself or in its src/."""
    front = f"{path}/" if path else ""
    return bool(workspace.glob(f"{front}*.kt") or workspace.glob(f"{front}src/**/*.kt"))


def plan(component: Component, workspace: Workspace) -> Iterator[Step]:
    """Raises ManifestError: there are tests, and nothing is said that runs them."""
    steps = _Steps(component, workspace)
    yield steps.compile()
    if steps.tests:
        yield steps.test()
    yield steps.package()


class _Steps:
    def __init__(self, component: Component, workspace: Workspace) -> None:
        self._component = component
        self._workspace = workspace
        self._options: KotlinOptions = component.options
        self._sources = self._options.sources or self._usual()
        self.tests = present(workspace, component.path, self._options.tests)
        self._jar = self._options.jar or f"build/{component.name}.jar"

    def compile(self) -> Step:
        """Kotlin first, which reads the Java sources; javac then sees Kotlin's classes."""
        java = self._files("java")
        resources = present(self._workspace, self._component.path, ("src/main/resources",))
        classpath = self._classpath(self._options.classpath)
        lines: list[list[str] | str] = [
            f"{self._kotlinc(classpath)} -d {CLASSES.rstrip('/')} {script(self._roots())}",
        ]
        if java:
            lines.append(f'"$jdk"javac -d {CLASSES} -cp {CLASSES}:{STDLIB}{_more(classpath)} {script(java)}')
        lines += [["cp", "-R", f"{from_component(self._component, path)}/.", CLASSES] for path in resources]
        return self._step(
            "compile",
            [["mkdir", "-p", CLASSES], *lines],
            inputs=(
                *without_backups(patterns_of(self._component, (*self._sources, *self._without_tests()))),
                *self._jars(classpath),
            ),
            outputs=(CLASSES,),
        )

    def test(self) -> Step:
        """Raises ManifestError: `junit` is not said."""
        if not self._options.junit:
            raise ManifestError(
                f"{self.tests[0]} holds tests, and nothing is said that runs them",
                hint="junit: the path of a junit-platform-console-standalone jar; or tests: []",
            )
        junit = self._near(self._options.junit)
        classpath = [CLASSES.rstrip("/"), *self._classpath((*self._options.classpath, *self._options.test_classpath))]
        roots = [from_component(self._component, path.rstrip("/")) for path in self.tests]
        libraries = ':"$libraries"'
        compiled = (
            f"{self._kotlinc([*classpath, junit], libraries)} -Xfriend-paths={CLASSES.rstrip('/')} "
            f'-d "$tmp/classes" {script(roots)}'
        )
        ran = (
            f'"$jdk"java -jar {shlex.quote(junit)} execute --disable-banner --disable-ansi-colors --details=tree '
            f'--fail-if-no-tests --scan-class-path="$tmp/classes" --reports-dir={REPORTS.rstrip("/")} '
            f'--class-path="$tmp/classes":{shlex.quote(":".join(classpath))}{libraries}'
        )
        return self._step(
            "test",
            [LIBRARIES, compiled, ran],
            inputs=(*without_backups(self.tests), *self._jars([*classpath, junit])),
            outputs=(REPORTS,),
            junit=patterns_of(self._component, (f"{REPORTS}TEST-*.xml",)),
        )

    def package(self) -> Step:
        """A jar of the classes, in the order of their names, and what it needs beside it."""
        classpath = self._classpath(self._options.classpath)
        beside = ["kotlin-stdlib.jar", *(path.rpartition("/")[2] for path in classpath)]
        manifest = [f"Class-Path: {' '.join(f'lib/{name}' for name in beside)}"]
        if self._options.main_class:
            manifest.append(f"Main-Class: {self._options.main_class}")
        jar = from_component(self._component, path_of(self._component, self._jar))
        return self._step(
            "package",
            [
                ["mkdir", "-p", LIB],
                f"cp {script([*classpath])} {STDLIB} {LIB}" if classpath else f"cp {STDLIB} {LIB}",
                script(["printf", r"%s\n", *manifest]) + ' >"$tmp/manifest"',
                f"""(cd {CLASSES} && find . -type f) | LC_ALL=C sort | sed 's|^\\./\\(.*\\)|"\\1"|' >"$tmp/files\"""",
                f"out=$PWD/{shlex.quote(jar)}; cd {CLASSES}",
                f'"$jdk"jar --create --file "$out" --date={EPOCH} --manifest "$tmp/manifest" @"$tmp/files"',
            ],
            inputs=(at(CLASSES, self._component.path), *self._jars(classpath)),
            outputs=(self._jar, LIB),
            tools=(JDK,),
        )

    def _usual(self) -> tuple[str, ...]:
        for folder in ("src/main/", "src/"):
            if self._workspace.exists(path_of(self._component, folder)):
                return (folder,)
        return ("*.kt",)

    def _roots(self) -> list[str]:
        """What kotlinc is given: folders as they are; of patterns, and of a folder with the tests in it, the files."""
        found: list[str] = []
        for text in self._sources:
            tests = [path_of(self._component, test) + "/" for test in self._options.tests if test.startswith(text)]
            if not tests and "*" not in text:
                found.append(self._near(text.rstrip("/")))
                continue
            pattern = text if "*" in text else f"{text}**/*.kt"
            files = self._workspace.glob(patterns_of(self._component, (pattern,))[0])
            found += [from_component(self._component, path) for path in files if not path.startswith(tuple(tests))]
        return found

    def _files(self, ending: str) -> list[str]:
        (*patterns,) = patterns_of(
            self._component, (f"{text}**/*.{ending}" for text in self._sources if text.endswith("/"))
        )
        return [from_component(self._component, path) for pattern in patterns for path in self._workspace.glob(pattern)]

    def _without_tests(self) -> list[str]:
        """Where the sources' folder holds the tests as well."""
        return [f"!{text}" for text in self._options.tests if any(text.startswith(source) for source in self._sources)]

    def _classpath(self, texts: Iterable[str]) -> list[str]:
        return [self._near(text) for text in texts]

    def _jars(self, classpath: Iterable[str]) -> list[str]:
        return [at(path, self._component.path) for path in classpath]

    def _near(self, text: str) -> str:
        return from_component(self._component, path_of(self._component, text))

    def _kotlinc(self, classpath: Iterable[str], more: str = "") -> str:
        joined = ":".join(classpath)
        given = f" -cp {shlex.quote(joined)}{more}" if joined or more else ""
        return f'"$kotlinc" -module-name {shlex.quote(self._component.name)}{given}'

    def _step(
        self, name: str, lines: list[Any], *, inputs: tuple[str, ...], outputs: tuple[str, ...], **fields: Any
    ) -> Step:
        component = self._component
        told = self._options.kotlinc
        compiler = told if "/" not in told else self._near(told)
        own = () if "/" not in told else (path_of(component, told),)
        tools = fields.pop("tools", (JAVA,))
        return Step(
            component=component.name,
            name=name,
            kind=component.kind,
            path=component.path,
            command=script(
                "tmp=$(mktemp -d)",
                """trap 'rm -rf "$tmp"' EXIT""",
                f"kotlinc={shlex.quote(compiler)}",
                HOME.format('"$kotlinc"'),
                JDK_BIN,
                *lines,
            ),
            inputs=(*inputs, *own),
            outputs=tuple(
                Output(path=o.path, directory=o.directory) for o in (output_of(component, text) for text in outputs)
            ),
            tools=tools if own else (*tools, KOTLINC),
            network_env=NETWORK,
            **fields,
        )


def _more(classpath: list[str]) -> str:
    return ":" + shlex.quote(":".join(classpath)) if classpath else ""
