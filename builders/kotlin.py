"""Kind `kotlin`: pom.xml → `package` (the jar) and `test`, through Maven.

The two share Maven's `target` folder, so `test` comes after `package`: a compile error is reported once and by the step
that makes the jar, and the jar waits for no test.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from build_tests.core.builder import Component, ManifestError, Output, Resources, Retries, Step, Tool, Workspace

from ._manifests import DOWNLOAD, output_of, path_of, patterns_of, script

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

JAVA = Tool(name="java", hint="apt install openjdk-17-jdk-headless")
MAVEN = Tool(name="mvn", hint="apt install maven")
NETWORK = ("MAVEN_*", "JAVA_HOME")
REPORTS = "target/surefire-reports"


@dataclass(frozen=True, slots=True, kw_only=True)
class KotlinOptions:
    """Keys of a `kotlin` component."""

    sources: tuple[str, ...] = ("src/main/",)
    """What the jar is made of, generated folders too."""
    tests: tuple[str, ...] = ("src/test/",)
    """What only the tests read."""
    jar: str = ""
    """The jar; default: what the pom's finalName, or artifactId and version, say."""
    out: tuple[str, ...] = ()
    """What else `mvn package` leaves (`target/lib/`)."""
    offline: bool = False
    """Fetch nothing; Maven steps of several components may then run at the same time."""


class KotlinBuilder:
    """`package` and `test`."""

    kind: ClassVar[str] = "kotlin"
    options: ClassVar[type[KotlinOptions]] = KotlinOptions

    def plan(self, component: Component, workspace: Workspace) -> Iterable[Step]:
        """Raises ManifestError: no pom.xml, none that can be read, or one of several modules."""
        jar = _jar(component, workspace)
        package = _package(component, jar)
        yield package
        if any(workspace.exists(path_of(component, text)) for text in component.options.tests):
            yield _test(component, package)


def _package(component: Component, jar: str) -> Step:
    options: KotlinOptions = component.options
    outputs = tuple(output_of(component, text) for text in (jar, *options.out))
    return _step(
        component,
        "package",
        command=_maven(component, outputs, "package", "-Dmaven.test.skip=true"),
        inputs=patterns_of(component, ("pom.xml", *options.sources)),
        outputs=outputs,
    )


def _test(component: Component, package: Step) -> Step:
    options: KotlinOptions = component.options
    reports = Output(path=path_of(component, REPORTS), directory=True)
    return _step(
        component,
        "test",
        command=_maven(component, (*package.outputs, reports), "test"),
        inputs=patterns_of(component, ("pom.xml", *options.sources, *options.tests)),
        outputs=(reports,),
        depends_on=(package.label,),
        junit=patterns_of(component, (f"{REPORTS}/TEST-*.xml",)),
    )


def _step(component: Component, name: str, **fields: Any) -> Step:
    offline = component.options.offline
    return Step(
        component=component.name,
        name=name,
        kind=component.kind,
        path=component.path,
        tools=(JAVA, MAVEN),
        network_env=NETWORK,
        retries=Retries() if offline else DOWNLOAD,
        # Maven 3 does not lock the folder in the user's home that it downloads to.
        resources=Resources() if offline else Resources(locks=("maven-repository",)),
        **fields,
    )


def _maven(component: Component, outputs: Iterable[Output], *arguments: str) -> str:
    """Maven, with all in `target` that is no output removed before and after.

    The Kotlin compiler leaves classes there whose source is gone, and the next jar would hold them.
    """
    target = path_of(component, "target")
    kept = {
        path[len(target) + 1 :].split("/")[0] for path in (o.path for o in outputs) if path.startswith(target + "/")
    }
    sweep = ["find", "target", "-mindepth", "1", "-maxdepth", "1"]
    for name in sorted(kept):
        sweep += ["!", "-name", name]
    offline = ("--offline",) if component.options.offline else ()
    return script(
        ["mkdir", "-p", "target"],
        f"sweep() {{ {script(sweep)} -exec rm -rf '{{}}' +; }}",
        "sweep",
        "trap sweep EXIT",
        ["mvn", "--batch-mode", "--quiet", "--no-transfer-progress", "-Dstyle.color=never", *offline, *arguments],
    )


def _jar(component: Component, workspace: Workspace) -> str:
    """The jar's path, as the component writes it."""
    options: KotlinOptions = component.options
    pom = _pom(component, workspace)
    if pom.find("{*}modules") is not None:
        raise ManifestError(
            f"{path_of(component, 'pom.xml')} has modules, which are not supported yet",
            hint="make each module a component, or use kind: command",
        )
    if options.jar:
        return options.jar
    name = _text(pom, "build/finalName") or f"{_text(pom, 'artifactId')}-{_text(pom, 'version')}"
    if "${" in name or name.startswith("-") or name.endswith("-"):
        raise ManifestError(f"the jar's name {name!r} can't be read off the pom", hint="write jar: target/NAME.jar")
    return f"target/{name}.jar"


def _pom(component: Component, workspace: Workspace) -> Element:
    from xml.etree.ElementTree import ParseError, fromstring

    path = path_of(component, "pom.xml")
    if not workspace.exists(path) and any(
        workspace.exists(path_of(component, name)) for name in ("build.gradle.kts", "build.gradle")
    ):
        raise ManifestError("Gradle is not supported yet", hint="a pom.xml is, and any build is through kind: command")
    try:
        return fromstring(workspace.read_text(path))  # noqa: S314 - the repository's own file
    except ParseError as error:
        raise ManifestError(f"{path} is no XML: {error}", file=path, line=error.position[0]) from None


def _text(pom: Element, path: str) -> str:
    found = pom.findtext("/".join(f"{{*}}{part}" for part in path.split("/")))
    return (found or "").strip()
