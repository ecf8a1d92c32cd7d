"""Kind `kotlin`: whatever Maven, Gradle or kotlinc builds for the JVM → for each module `compile`, `test`, `package`.

Which tool it is, the files say: settings.gradle or build.gradle (also .kts), pom.xml, else Kotlin sources alone.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from build_tests.core.builder import Component, ManifestError, Step, Workspace, path_from_root

from . import _gradle, _kotlinc, _maven
from ._gradlefiles import BUILDS, SETTINGS, settings_above


@dataclass(frozen=True, slots=True, kw_only=True)
class KotlinOptions:
    """Keys of a `kotlin` component."""

    sources: tuple[str, ...] = ()
    """What the classes are made of, generated folders too, in each module; default: src/main/ and what the build
    files name."""
    tests: tuple[str, ...] = ("src/test/",)
    """What only the tests read, in each module."""
    jar: str = ""
    """The jar, where Maven builds one module or kotlinc alone; default: what the pom says, build/COMPONENT.jar."""
    out: tuple[str, ...] = ()
    """What else packaging leaves in the component's own folder (`target/lib/`)."""
    offline: bool = False
    """Fetch nothing."""
    kotlinc: str = "kotlinc"
    """The compiler, where no build tool is: on PATH, or a path (`node_modules/kotlin-compiler/bin/kotlinc`)."""
    classpath: tuple[str, ...] = ()
    """Jars for kotlinc, in the repository or another step's outputs."""
    test_classpath: tuple[str, ...] = ()
    """Further ones for the tests."""
    junit: str = ""
    """JUnit's console launcher, which runs the tests that kotlinc compiled: junit-platform-console-standalone.jar."""
    main_class: str = ""
    """What `java -jar` runs, where kotlinc builds (`shop.MainKt`)."""
    modules: tuple[str, ...] = ()
    """The folders of Gradle's modules, where the settings compute them."""
    daemon: bool = True
    """Whether Gradle's steps leave its daemon running for the next; the last of a CI run ends it."""


class KotlinBuilder:
    """`compile`, `test` and `package` of each module."""

    kind: ClassVar[str] = "kotlin"
    options: ClassVar[type[KotlinOptions]] = KotlinOptions

    @staticmethod
    def detect(path: str, workspace: Workspace) -> bool:
        """Whether a build of the JVM, or Kotlin sources without one, lie in this folder."""
        return bool(_tool(path, workspace))

    @staticmethod
    def suggest(path: str, workspace: Workspace, others: Sequence[tuple[str, str]]) -> dict[str, object]:  # noqa: ARG004
        """What `init` writes down: folders of the build that the Dockerfile beside it copies."""
        dockerfile = posixpath.join(path, "Dockerfile")
        text = workspace.read_text(dockerfile) if workspace.exists(dockerfile) else ""
        copied = re.findall(r"(?m)^COPY (?:--\S+ )*(target/[\w-]+)/? ", text)
        return {"out": [f"{folder}/" for folder in dict.fromkeys(copied)]} if copied else {}

    def plan(self, component: Component, workspace: Workspace) -> Iterable[Step]:
        """Raises ManifestError: a manifest is missing, can't be read, or means what is not supported."""
        match _tool(component.path, workspace):
            case "gradle":
                return _gradle.plan(component, workspace)
            case "maven":
                return _maven.plan(component, workspace)
            case "kotlinc":
                return _kotlinc.plan(component, workspace)
            case _:
                raise _nothing(component, workspace)


def _tool(path: str, workspace: Workspace) -> str:
    """What builds this folder, or ""."""
    if any(workspace.exists(path_from_root(name, path)) for name in SETTINGS):
        return "gradle"
    if workspace.exists(path_from_root("pom.xml", path)):
        return "maven"
    if any(workspace.exists(path_from_root(name, path)) for name in BUILDS):
        # A module's build file means nothing without the settings that include it.
        return "" if settings_above(path, workspace) else "gradle"
    return "kotlinc" if _kotlinc.has_sources(path, workspace) and not settings_above(path, workspace) else ""


def _nothing(component: Component, workspace: Workspace) -> ManifestError:
    if above := settings_above(component.path, workspace):
        return ManifestError(
            f"{component.path} is a module of the Gradle build in {above}",
            hint="make that folder the component: each of its modules has steps of its own",
        )
    return ManifestError(
        f"{path_from_root('pom.xml', component.path)} is missing",
        hint="a kotlin component has a pom.xml, a build.gradle(.kts), or Kotlin sources in src/",
    )
