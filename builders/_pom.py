"""Maven's poms, read as far as a plan needs: who a module is, what it needs, which goals run in which phase.

Only files of the repository are read. Where something else takes part (a parent that lies elsewhere, a profile, an
extension), nobody can say from here what runs, and `executions` is None.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from build_tests.core.builder import ManifestError, Workspace

from ._mavenphases import APACHE, KOTLIN, LATER, LIFECYCLES, OWN_PHASE, PHASES, WITH_KOTLIN

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependency:
    """Another module, perhaps: only the repository can tell."""

    artifact: str
    """`group:artifact`."""
    test: bool = False
    type: str = "jar"


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """One goal as the command line names it, `group:plugin:goal@id`, and its phase."""

    goal: str
    phase: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pom:
    """One module."""

    files: tuple[str, ...]
    """Its pom.xml and its parents in the repository, nearest first."""
    group: str
    artifact: str
    version: str
    packaging: str
    final_name: str
    """The packaged file's, without ending; with `${` in it where it can't be known."""
    parent: str
    """The parent's pom.xml in the repository, or ""."""
    modules: tuple[str, ...]
    """Their pom.xml, from the root."""
    dependencies: tuple[Dependency, ...]
    sources: tuple[str, ...]
    """Folders besides src/main, as the pom writes them."""
    tests: tuple[str, ...]
    executions: tuple[Execution, ...] | None
    plugins: frozenset[str]
    """Artifact ids of those declared."""
    placeholders: tuple[tuple[str, str], ...]
    """`${revision}` and its like in a version, which nobody but the build itself would fill in."""
    timestamp: bool
    """Whether it says which time files in archives shall have."""

    @property
    def folder(self) -> str:
        """From the root."""
        return posixpath.dirname(self.files[0])

    @property
    def key(self) -> str:
        """`group:artifact`."""
        return f"{self.group}:{self.artifact}"

    def goals(self, *phases: str) -> tuple[str, ...]:
        """What is bound to these phases, in Maven's order."""
        return tuple(e.goal for e in self.executions or () if e.phase in phases)


class Poms:
    """Reads each pom once."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._elements: dict[str, Element] = {}
        self._poms: dict[str, Pom] = {}

    def load(self, path: str) -> Pom:
        """The pom at this path from the root. Raises ManifestError: missing, or no XML."""
        if path not in self._poms:
            self._poms[path] = self._read(path)
        return self._poms[path]

    def reactor(self, path: str) -> list[Pom]:
        """This module and all below it, each once. Raises ManifestError."""
        found: dict[str, Pom] = {}
        todo = [path]
        while todo:
            here = todo.pop(0)
            if here not in found:
                found[here] = self.load(here)
                todo += found[here].modules
        return list(found.values())

    def _read(self, path: str) -> Pom:
        chain, complete = self._chain(path)
        files = tuple(file for file, _ in chain)
        model = _Model([element for _, element in chain])
        packaging = model.own("packaging") or "jar"
        executions = model.executions(packaging) if complete and packaging in LIFECYCLES else None
        return Pom(
            files=files,
            group=model.group,
            artifact=model.own("artifactId"),
            version=model.version,
            packaging=packaging,
            final_name=model.inherited("build/finalName") or f"{model.own('artifactId')}-{model.version}",
            parent=files[1] if len(files) > 1 else "",
            modules=tuple(self._module(path, name) for name in model.modules()),
            dependencies=tuple(model.dependencies()),
            sources=tuple(model.folders(tests=False)),
            tests=tuple(model.folders(tests=True)),
            executions=executions,
            plugins=frozenset(model.plugins()),
            placeholders=tuple((name, model.properties.get(name, "")) for name in ("revision", "sha1", "changelist")),
            timestamp="project.build.outputTimestamp" in model.properties,
        )

    def _element(self, path: str) -> Element:
        from xml.etree.ElementTree import ParseError, fromstring

        if path not in self._elements:
            try:
                self._elements[path] = fromstring(self._workspace.read_text(path))  # noqa: S314 - the repository's own
            except ParseError as error:
                raise ManifestError(f"{path} is no XML: {error}", file=path, line=error.position[0]) from None
        return self._elements[path]

    def _chain(self, path: str) -> tuple[list[tuple[str, Element]], bool]:
        """The pom and its parents in the repository; whether these are all its parents."""
        chain = [(path, self._element(path))]
        while (parent := chain[-1][1].find("{*}parent")) is not None:
            above = self._parent(chain[-1][0], parent)
            if not above or above in (file for file, _ in chain):
                return chain, False
            chain.append((above, self._element(above)))
        return chain, True

    def _parent(self, path: str, parent: Element) -> str:
        """The parent's pom.xml, or "" where it is not in the repository."""
        relative = parent.find("{*}relativePath")
        text = "../pom.xml" if relative is None else (relative.text or "").strip()
        above = self._inside(path, text) if text else ""
        if not above or not self._workspace.exists(above):
            return ""
        return above if _text(self._element(above), "artifactId") == _text(parent, "artifactId") else ""

    def _inside(self, path: str, text: str) -> str:
        """`text` as the pom at `path` means it, "" outside the repository."""
        target = posixpath.normpath(posixpath.join(posixpath.dirname(path), text))
        if target.startswith(("../", "/")) or target == "..":
            return ""
        return target if target.endswith(".xml") else posixpath.normpath(f"{target}/pom.xml")

    def _module(self, path: str, name: str) -> str:
        module = self._inside(path, name)
        if not module or not self._workspace.exists(module):
            raise ManifestError(f"{path} has the module {name!r}, which has no pom.xml", file=path)
        return module


@dataclass(slots=True)
class _Plugin:
    executions: dict[str, tuple[list[str], str]] = field(default_factory=dict)
    """id → goals, phase ("" = each goal's own)."""

    def add(self, ident: str, goals: Iterable[str], phase: str) -> None:
        known, before = self.executions.get(ident, ([], ""))
        self.executions[ident] = ([*known, *(goal for goal in goals if goal not in known)], phase or before)


class _Model:
    """What a chain of poms says together.

    Args:
        chain: the pom's own root element, then its parents'.
    """

    def __init__(self, chain: list[Element]) -> None:
        self._chain = chain
        self.properties: dict[str, str] = {}
        for element in reversed(chain):
            for child in element.find("{*}properties") or ():
                self.properties[_tag(child)] = (child.text or "").strip()
        own = chain[0]
        self._project("groupId", _text(own, "groupId") or _text(own, "parent/groupId"))
        self._project("version", _text(own, "version") or _text(own, "parent/version"))
        self._project("artifactId", _text(own, "artifactId"))
        self._project("parent.version", _text(own, "parent/version"))
        self._project("parent.groupId", _text(own, "parent/groupId"))
        for name in ("project.basedir", "basedir"):
            self.properties[name] = "."
        self.group = self.resolve("${project.groupId}")
        self.version = self.resolve("${project.version}")

    def _project(self, name: str, text: str) -> None:
        self.properties[f"project.{name}"] = text

    def resolve(self, text: str) -> str:
        """With its `${…}` filled in, as far as they are known."""
        for _ in range(8):
            filled = re.sub(r"\$\{([^{}]+)\}", lambda m: self.properties.get(m[1], m[0]), text)
            if filled == text:
                break
            text = filled
        return text

    def own(self, path: str) -> str:
        return self.resolve(_text(self._chain[0], path))

    def inherited(self, path: str) -> str:
        return self.resolve(next((found for element in self._chain if (found := _text(element, path))), ""))

    def modules(self) -> list[str]:
        return [self.resolve((each.text or "").strip()) for each in self._chain[0].findall("{*}modules/{*}module")]

    def dependencies(self) -> Iterator[Dependency]:
        scopes = self._managed_scopes()
        for element in self._chain:
            for each in element.findall("{*}dependencies/{*}dependency"):
                key = self._key(each)
                scope = _text(each, "scope") or scopes.get(key, "")
                yield Dependency(artifact=key, test=scope == "test", type=_text(each, "type") or "jar")
            for each in element.findall("{*}dependencyManagement/{*}dependencies/{*}dependency"):
                if _text(each, "scope") == "import":
                    yield Dependency(artifact=self._key(each), type="pom")

    def _managed_scopes(self) -> dict[str, str]:
        path = "{*}dependencyManagement/{*}dependencies/{*}dependency"
        managed = [each for element in reversed(self._chain) for each in element.findall(path)]
        return {self._key(each): _text(each, "scope") for each in managed}

    def _key(self, element: Element) -> str:
        return f"{self.resolve(_text(element, 'groupId'))}:{self.resolve(_text(element, 'artifactId'))}"

    def folders(self, *, tests: bool) -> Iterator[str]:
        """Source folders as the poms name them, the usual ones and those in target/ left out."""
        usual = "src/test/" if tests else "src/main/"
        for text in dict.fromkeys(self._folders(tests=tests)):
            path = posixpath.normpath(text) + "/"
            if "${" not in path and not path.startswith(("target/", "./", "/", "../", usual)):
                yield path

    def _folders(self, *, tests: bool) -> Iterator[str]:
        names = ("testSourceDirectory", "testResources/testResource/directory") if tests else (
            "sourceDirectory", "resources/resource/directory",
        )  # fmt: skip
        for element in self._chain:
            for name in names:
                found = element.findall("/".join(f"{{*}}{part}" for part in ["build", *name.split("/")]))
                yield from (self.resolve((each.text or "").strip()) for each in found)
            for execution in element.iterfind(".//{*}execution"):
                goals = [(goal.text or "").strip() for goal in execution.iterfind("{*}goals/{*}goal")]
                if any("test" in goal for goal in goals) is tests:
                    found = [*execution.iterfind(".//{*}sourceDir"), *execution.iterfind(".//{*}sources/{*}source")]
                    yield from (self.resolve((each.text or "").strip()) for each in found)

    def plugins(self) -> Iterator[str]:
        for element in self._chain:
            for plugin in element.findall("{*}build/{*}plugins/{*}plugin"):
                yield _text(plugin, "artifactId")

    # What runs when

    def executions(self, packaging: str) -> tuple[Execution, ...] | None:
        """Every goal and its phase, in Maven's order; None = something from outside has a say."""
        extensions = self._extensions()
        strange = extensions - {KOTLIN} or (extensions and packaging != "jar")
        if strange or any(element.find("{*}profiles/{*}profile/{*}build") is not None for element in self._chain):
            return None
        bindings = WITH_KOTLIN if extensions else LIFECYCLES[packaging]
        table = {key: _Plugin() for key in (*self._declared(), *(key for key, _, _ in bindings))}
        for key, goal, phase in bindings:
            table[key].add(f"default-{goal}", [goal], phase)
        for element in reversed(self._chain):
            for path in ("{*}build/{*}pluginManagement/{*}plugins/{*}plugin", "{*}build/{*}plugins/{*}plugin"):
                for plugin in self._inherited(element, element.findall(path)):
                    self._take(table.get(self._plugin_key(plugin)), element, plugin)
        return _in_order(table, [(key, f"default-{goal}") for key, goal, _ in bindings])

    def _declared(self) -> list[str]:
        """The plugins that the chain names, farthest parent's first."""
        return list(dict.fromkeys(self._plugin_key(plugin) for plugin in self._own_plugins()))

    def _extensions(self) -> set[str]:
        """The plugins that extend Maven itself."""
        return {self._plugin_key(plugin) for plugin in self._own_plugins() if _text(plugin, "extensions") == "true"}

    def _own_plugins(self) -> Iterator[Element]:
        for element in reversed(self._chain):
            yield from self._inherited(element, element.findall("{*}build/{*}plugins/{*}plugin"))

    def _inherited(self, element: Element, found: Iterable[Element]) -> Iterator[Element]:
        return (each for each in found if element is self._chain[0] or _text(each, "inherited") != "false")

    def _take(self, plugin: _Plugin | None, element: Element, declared: Element) -> None:
        for execution in self._inherited(element, declared.findall("{*}executions/{*}execution")):
            if plugin is not None:
                goals = [(goal.text or "").strip() for goal in execution.findall("{*}goals/{*}goal")]
                plugin.add(_text(execution, "id") or "default", goals, self.resolve(_text(execution, "phase")))

    def _plugin_key(self, plugin: Element) -> str:
        return f"{_text(plugin, 'groupId') or APACHE}:{_text(plugin, 'artifactId')}"


def _in_order(table: Mapping[str, _Plugin], first: list[tuple[str, str]]) -> tuple[Execution, ...] | None:
    """By phase; in each, what Maven itself binds comes first (`first`: plugin, id), then the plugins as they stand."""
    rest = [(key, ident) for key, plugin in table.items() for ident in plugin.executions if (key, ident) not in first]
    found: list[Execution] = []
    for key, ident in (*first, *rest):
        goals, told = table[key].executions[ident]
        for goal in goals:
            phase = told or OWN_PHASE.get(f"{key.partition(':')[2]}:{goal}", "")
            if phase not in PHASES and phase not in LATER:
                return None
            found.append(Execution(goal=f"{key}:{goal}@{ident}", phase=phase))
    bound = [execution for execution in found if execution.phase in PHASES]
    return tuple(sorted(bound, key=lambda execution: PHASES.index(execution.phase)))


def _text(element: Element, path: str) -> str:
    found = element.findtext("/".join(f"{{*}}{part}" for part in path.split("/")))
    return (found or "").strip()


def _tag(element: Element) -> str:
    return str(element.tag).rpartition("}")[2]
