"""One Python component with all that its files say: what is locked, where its code and tests lie, what checks it."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from build_tests.core.builder import Component, ManifestError, Step, Tool, Workspace

from . import _pylocal, _pyrequirements
from ._generated import made_inside
from ._manifests import from_component, path_of, patterns_of
from ._pylayout import Layout, layout
from ._pylock import NAMES
from ._pyproject import CHECK_GROUPS, Project, distribution, load
from ._pytools import Coverage, Found, coverage, find, words

if TYPE_CHECKING:
    from .python import PythonOptions

TAKERS = ("wheel", "sdist", "test", "types", "lint")
"""What reads the project's code."""
STEPS = ("requirements", "venv", "site", *TAKERS)
"""What the builder itself makes."""
REQUIREMENTS = ("requirements.lock", "requirements.txt", "requirements-dev.txt")


@dataclass(frozen=True, kw_only=True)
class Context:
    """One component with all that is known of its project. Without slots: what is found is kept."""

    component: Component
    workspace: Workspace

    @property
    def options(self) -> PythonOptions:
        """The component's own keys."""
        found: PythonOptions = self.component.options
        return found

    @cached_property
    def project(self) -> Project:
        """Its manifest. Raises ManifestError: there is neither one nor a requirement file."""
        project = load(self.workspace, self.component.path)
        if not project.file and not self.requirement_files:
            raise ManifestError(f"{self.at('pyproject.toml')} is missing", hint="a requirements.txt will do as well")
        return project

    @cached_property
    def requirement_files(self) -> tuple[str, ...]:
        """As the component would write them."""
        named = self.options.requirements
        return named if named is not None else tuple(name for name in REQUIREMENTS if self.has(name))

    @cached_property
    def lock(self) -> str:
        """The uv.lock, poetry.lock, pdm.lock or pylock.toml that decides what is installed; "" = none does."""
        if self.options.requirements is not None:
            return ""
        root = _pylocal.workspace_root(self.workspace, self.component.path)
        places = dict.fromkeys((self.component.path, *(() if root is None else (root,))))
        locks = [posixpath.join(place, "uv.lock") for place in places]
        return next(filter(self.workspace.exists, (*locks, *map(self.at, ("poetry.lock", *NAMES)))), "")

    @cached_property
    def shared_groups(self) -> Mapping[str, tuple[str, ...]]:
        """The dependency groups of a uv workspace's root that its members are checked with."""
        root = posixpath.dirname(self.lock)
        if not self.lock.endswith("uv.lock") or root == self.component.path:
            return {}
        groups = load(self.workspace, root).groups()
        wanted = CHECK_GROUPS if self.options.extras is None else self.options.extras
        return {name: groups[name] for name in wanted if name in groups}

    @cached_property
    def requirements(self) -> _pyrequirements.Requirements:
        """What the requirement files say; nothing where a lock decides."""
        files = () if self.lock else self.requirement_files
        return _pyrequirements.read(self.workspace, (path_of(self.component, name) for name in files))

    @cached_property
    def neighbours(self) -> list[Project]:
        """The projects that it needs by path, and those that these need. Raises ManifestError: one is no component."""
        return _pylocal.closure(self.workspace, self.project, self.requirements.projects)

    @cached_property
    def layout(self) -> Layout:
        """Where its code lies."""
        return layout(self.workspace, self.project)

    @cached_property
    def pytest(self) -> Found:
        """pytest's configuration."""
        return find(self.workspace, self.project, "pytest")

    @cached_property
    def coverage(self) -> Coverage | None:
        """How pytest-cov is used."""
        return coverage(self.project, self.pytest, depends=self.depends_on("pytest-cov"))

    @cached_property
    def tests(self) -> tuple[str, ...]:
        """What pytest is given, from the component's folder; () = there is no such step."""
        said = self.options.tests
        if said is not None:
            named = (said,) if isinstance(said, str) else said
            return tuple(name.rstrip("/") for name in named if name and self.has(name))
        if self.is_locked and self.pytest.table is None and not self.depends_on("pytest"):
            return ()
        here = self.pytest.table if self.pytest.folder == self.component.path else None
        paths = [path.rstrip("/") for path in words((here or {}).get("testpaths", ())) if self.has(path)]
        return tuple(paths or filter(self.has, ("tests", "test"))) or self._modules()

    def _modules(self) -> tuple[str, ...]:
        found = [path for name in ("test_*.py", "*_test.py") for path in self.workspace.glob(self.at(name))]
        return tuple(posixpath.basename(path) for path in sorted(set(found)))

    @property
    def is_locked(self) -> bool:
        """Files say what is installed; nothing may be added to it."""
        return bool(self.lock or self.requirement_files)

    @property
    def checks(self) -> bool:
        """Whether its environment must hold more than what builds it."""
        return bool(self.tests) or self.wants("mypy") or self.wants("ruff")

    def depends_on(self, name: str) -> bool:
        """Whether the project asks for this distribution by name."""
        shared = (distribution(need) for needs in self.shared_groups.values() for need in needs)
        return name in self.requirements.names or name in self.project.mentions() or name in shared

    def wants(self, tool: str) -> bool:
        """Whether mypy or ruff is run: as the component says, else where it is configured or depended on."""
        said = self.options.types if tool == "mypy" else self.options.lint
        if said is not None:
            return said
        found = find(self.workspace, self.project, tool)
        configured = found.table is not None and found.folder == self.component.path
        return bool(self.layout.code or self.tests) and (configured or self.depends_on(tool))

    def at(self, text: str) -> str:
        """A path of the component from the root."""
        return path_of(self.component, text)

    def has(self, text: str) -> bool:
        """Whether a file or folder of the component is there."""
        return self.workspace.exists(self.at(text))

    def near(self, text: str) -> str:
        """A path of the component as its steps must write it."""
        return from_component(self.component, self.at(text))

    @property
    def venv(self) -> str:
        """The environment, as the steps write it."""
        return self.near(self.options.venv)

    @property
    def python(self) -> str:
        """Its interpreter, as the steps write it."""
        return f"{self.venv}/bin/python"

    @property
    def interpreter(self) -> Tool:
        """What makes the environment."""
        name = self.options.python
        asked = () if name in {"python", "python3"} else (name, "--version")
        return Tool(name=name, version=self.project.python, version_command=asked, hint="apt install python3-venv")

    @property
    def site(self) -> str:
        """What this repository adds to the environment, as the steps write it; "" = nothing."""
        wanted = self.neighbours or self.options.installed or (self.project.backend and self.checks)
        return f"{self.venv}-site" if wanted else ""

    def step(self, name: str, **fields: Any) -> Step:
        """A step of the component."""
        tools = fields.pop("tools", (self.interpreter,))
        kind = self.component.kind
        folder = self.component.path
        return Step(component=self.component.name, name=name, kind=kind, path=folder, tools=tools, **fields)

    def label(self, name: str) -> str:
        """The label of a step of the component."""
        return f"{self.component.name}:{name}"


def sources(context: Context) -> tuple[str, ...]:
    """What the project's code is made of, as patterns from the root."""
    said = context.options.sources
    if said is not None:
        return patterns_of(context.component, said)
    code = context.layout.code
    own = tuple(path if path.endswith(".py") else f"{path}/" for path in code) or ("**",)
    return tuple(dict.fromkeys((*patterns_of(context.component, own), *_generated(context))))


def _generated(context: Context) -> Iterator[str]:
    """What other steps make in the packages: a wheel and the tests hold it like the rest."""
    for path in context.layout.code:
        yield from made_inside(
            context.at(path), context.component, context.workspace, takers=TAKERS, without=STEPS
        )  # fmt: skip


def metadata(context: Context) -> tuple[str, ...]:
    """What a wheel's metadata is made of, from the root."""
    single = ("pyproject.toml", "setup.py", "setup.cfg", "MANIFEST.in", "hatch.toml")
    there = (name for name in single if context.has(name))
    readme = _readme(context.project)
    licences = context.project.metadata.get("license-files", ("LICEN[CS]E*", "COPYING*", "NOTICE*", "AUTHORS*"))
    licences = licences if isinstance(licences, (list, tuple)) else ()
    known = patterns_of(context.component, (*readme, *licences))
    # A pattern without a file is a warning in every run; here most have none.
    return (*patterns_of(context.component, there), *(pattern for pattern in known if context.workspace.glob(pattern)))


def _readme(project: Project) -> tuple[str, ...]:
    """The files that the description is made of; where only the backend knows, all that may be."""
    said = project.metadata.get("readme", project.tool("poetry").get("readme"))
    if isinstance(said, dict):
        said = said.get("file", ())
    if isinstance(said, str):
        return (said,)
    if isinstance(said, (list, tuple)):
        return tuple(map(str, said))
    known = project.metadata and "readme" not in project.metadata.get("dynamic", ())
    return () if known else ("README*",)
