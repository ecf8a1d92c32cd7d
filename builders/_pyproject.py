"""Reads what a Python project says of itself: pyproject.toml, else setup.py. Knows no step and no component."""

from __future__ import annotations

import posixpath
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import Any

from build_tests.core.builder import ManifestError, Workspace

SETUPTOOLS = "setuptools.build_meta"
CHECK_GROUPS = ("dev", "test", "tests", "testing", "lint", "typing", "types")
"""Extras and dependency groups that are installed where nothing else is said: what checks a project."""
_NAME = re.compile(r"\s*([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)")
_LOCAL = re.compile(r"^(?:file:(?:/{0,3}\$\{PROJECT_ROOT\}/?|(?=[^/]))|\{root:uri\}/?)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """One project's manifest."""

    folder: str
    """From the root."""
    file: str
    """Its manifest, from the root; "" = it has none, only requirements."""
    table: Mapping[str, Any]
    """pyproject.toml."""
    legacy: bool = False
    """setup.py or setup.cfg lies beside or in place of it, whose answers only setuptools knows."""

    @property
    def name(self) -> str:
        """As written; "" = it does not say."""
        return str(self.metadata.get("name") or self.tool("poetry").get("name") or "")

    @property
    def metadata(self) -> Mapping[str, Any]:
        """The table `project`."""
        return _table(self.table, "project")

    def tool(self, *names: str) -> Mapping[str, Any]:
        """The table `tool.…`; empty where there is none."""
        found: Mapping[str, Any] = self.table
        for name in ("tool", *names):
            found = _table(found, name)
        return found

    def at(self, name: str) -> str:
        """A file beside the manifest, from the root."""
        return posixpath.join(self.folder, name)

    @property
    def backend(self) -> str:
        """`module:object` of what builds it; "" = it is never packaged."""
        system = _table(self.table, "build-system")
        if not (system or self.metadata or self.legacy) or self._is_virtual(bool(system)):
            return ""
        return str(system.get("build-backend", SETUPTOOLS + ":__legacy__"))

    def _is_virtual(self, has_system: bool) -> bool:
        uv, poetry = self.tool("uv"), self.tool("poetry")
        # uv's own rule: without [build-system], what uv manages is no package.
        managed = bool(uv) and not has_system and not self.legacy
        return uv.get("package") is False or poetry.get("package-mode") is False or (managed and not uv.get("package"))

    @property
    def backend_path(self) -> tuple[str, ...]:
        """Folders of the project in which its backend lies."""
        return tuple(_table(self.table, "build-system").get("backend-path", ()))

    @property
    def build_requires(self) -> tuple[str, ...]:
        """What building it needs."""
        return tuple(_table(self.table, "build-system").get("requires", ("setuptools",))) if self.backend else ()

    @property
    def requires(self) -> tuple[str, ...]:
        """What running it needs."""
        return tuple(self.metadata.get("dependencies", ()))

    @property
    def python(self) -> str:
        """The interpreter's version as our tools are asked for it (`>=3.10`); "" = any, or said in another way."""
        said = str(self.metadata.get("requires-python", "")).replace(" ", "")
        return said if re.fullmatch(r"(?:(?:>=|<=|<|>|==)\d+(?:\.\d+)*,?)+", said) else ""

    def extras(self) -> Mapping[str, tuple[str, ...]]:
        """Optional dependencies by name."""
        return {name: tuple(needs) for name, needs in _table(self.metadata, "optional-dependencies").items()}

    def groups(self) -> Mapping[str, tuple[str, ...]]:
        """Dependency groups by name, with those that they include."""
        groups = _table(self.table, "dependency-groups")
        return {name: tuple(_group(groups, name, ())) for name in groups}

    def mentions(self) -> frozenset[str]:
        """The normalised names of all that any list of the manifest asks for."""
        older = (self.tool("uv").get("dev-dependencies", ()), *self.tool("pdm", "dev-dependencies").values())
        lists = (self.requires, *self.extras().values(), *self.groups().values(), *older)
        named = {distribution(need) for needs in lists for need in needs}
        return frozenset(named | {normalised(name) for table in poetry_tables(self) for name in table})


def load(workspace: Workspace, folder: str) -> Project:
    """The project in a folder. Raises ManifestError: pyproject.toml can't be read."""
    path = posixpath.join(folder, "pyproject.toml")
    legacy = [name for name in ("setup.py", "setup.cfg") if workspace.exists(posixpath.join(folder, name))]
    if not workspace.exists(path):
        return Project(
            folder=folder, file=posixpath.join(folder, legacy[0]) if legacy else "", table={}, legacy=bool(legacy)
        )
    return Project(folder=folder, file=path, table=read_toml(workspace, path), legacy=bool(legacy))


def read_toml(workspace: Workspace, path: str) -> dict[str, Any]:
    """A TOML file. Raises ManifestError with the line where it is none."""
    try:
        return _parsed(workspace.read_text(path))
    except ValueError as error:
        line = re.search(r"at line (\d+)", str(error))
        raise ManifestError(f"{path} is no TOML: {error}", file=path, line=int(line[1]) if line else 0) from None


@lru_cache(maxsize=256)
def _parsed(text: str) -> dict[str, Any]:
    """A manifest is looked at once for each tool that it configures, and parsed once; nobody changes the result."""
    # Python 3.10 has no tomllib; there pytest brings tomli, which is the same.
    toml = import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    found: dict[str, Any] = toml.loads(text)
    return found


def normalised(name: str) -> str:
    """A distribution's name as registries compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def distribution(requirement: str) -> str:
    """The normalised name in a requirement (`Foo_Bar[x]>=1; …` → `foo-bar`); "" = it has none."""
    found = _NAME.match(requirement)
    return normalised(found[1]) if found else ""


def local_url(url: str) -> str:
    """The path in `file:../lib` and its relatives, as written; "" = it is elsewhere, or absolute."""
    found = _LOCAL.match(url)
    return url[found.end() :].partition("#")[0] if found else ""


def local_requirement(requirement: str) -> str:
    """The path in `lib @ file:../lib`; "" = it names none of the repository."""
    head, at, url = requirement.partition("@")
    return local_url(url.partition(";")[0].strip()) if at and _NAME.match(head) else ""


def poetry_tables(project: Project) -> Iterator[Mapping[str, Any]]:
    """Poetry's tables of dependencies, main first."""
    poetry = project.tool("poetry")
    yield _table(poetry, "dependencies")
    yield _table(poetry, "dev-dependencies")
    for group in _table(poetry, "group").values():
        yield _table(group, "dependencies") if isinstance(group, dict) else {}


def _table(parent: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = parent.get(name)
    return found if isinstance(found, dict) else {}


def _group(groups: Mapping[str, Any], name: str, above: tuple[str, ...]) -> Iterator[str]:
    for need in groups.get(name, ()):
        if isinstance(need, str):
            yield need
        elif isinstance(need, dict) and (inner := str(need.get("include-group", ""))) not in (*above, name):
            yield from _group(groups, inner, (*above, name))


def needs_of(project: Project, names: Iterable[str] | None) -> list[str]:
    """What the project asks for to run, with these extras and groups; None = those that check it."""
    wanted = CHECK_GROUPS if names is None else tuple(names)
    extras, groups = project.extras(), project.groups()
    named = [need for name in wanted for need in (*extras.get(name, ()), *groups.get(name, ()))]
    own = normalised(project.name)
    # `app[a,b]` among an extra of app means those extras.
    inner = [need for need in named if own and distribution(need) == own]
    more = [name for need in inner for name in re.findall(r"[\w.-]+", "".join(re.findall(r"\[(.*?)\]", need)))]
    if more and not set(more) <= set(wanted):
        return needs_of(project, (*wanted, *more))
    return list(dict.fromkeys(need for need in (*project.requires, *named) if need not in inner))


def poetry_needs(project: Project, *, checks: bool) -> list[str]:
    """The requirements in Poetry's own tables as everybody else writes them; for checks also those of its groups."""
    tables = list(poetry_tables(project))
    wanted = tables if checks else tables[:1]
    return [need for table in wanted for name, said in table.items() if (need := _poetry_need(name, said))]


def _poetry_need(name: str, said: Any) -> str:
    if isinstance(said, list):
        return ""  # one for each platform or version: only a lock says which
    spec = said if isinstance(said, dict) else {"version": said}
    if name == "python" or not isinstance(spec.get("version"), str) or spec.get("optional"):
        return ""
    extras = f"[{','.join(spec['extras'])}]" if spec.get("extras") else ""
    markers = f"; {spec['markers']}" if spec.get("markers") else ""
    return name + extras + _poetry_version(spec["version"]) + markers


def _poetry_version(text: str) -> str:
    """`^1.2` → `>=1.2,<2`; `~1.2` → `>=1.2,<1.3`; `1.2` → `==1.2`; `*` → nothing."""
    return ",".join(filter(None, (_poetry_clause(clause.strip()) for clause in text.split(","))))


def _poetry_clause(clause: str) -> str:
    if clause == "*":
        return ""
    sign, version = (clause[0], clause[1:].strip()) if clause[:1] in {"^", "~"} and clause[1:2] != "=" else ("", clause)
    numbers = [int(part) for part in re.findall(r"\d+", version)]
    if not sign or not numbers:
        return clause if re.match(r"[<>=!~]", clause) else f"=={clause}"
    last = len(numbers) - 1
    at = next((i for i, number in enumerate(numbers) if number), last) if sign == "^" else min(1, last)
    return f">={version},<{'.'.join(map(str, [*numbers[:at], numbers[at] + 1]))}"
