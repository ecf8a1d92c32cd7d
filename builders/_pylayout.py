"""Where a Python project's own code lies, src or flat: read off its manifest, else off the folders that are there."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from build_tests.core.builder import Workspace

from ._pyproject import Project

NOT_PACKAGES = frozenset(
    {
        "benchmarks", "bin", "build", "ci", "config", "dist", "doc", "docs", "example", "examples", "node_modules",
        "requirements", "scripts", "test", "testing", "tests", "tools", "venv",
    }
)  # fmt: skip
"""Folders of a flat layout that no build backend takes for the project's package."""
NOT_MODULES = frozenset({"conftest.py", "fabfile.py", "noxfile.py", "setup.py", "tasks.py"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Paths from the project's folder."""

    roots: tuple[str, ...]
    """What must be on the import path, `src` or `.` or what the manifest says."""
    code: tuple[str, ...]
    """Packages (folders) and modules (files)."""


def layout(workspace: Workspace, project: Project) -> Layout:
    """The project's layout; `code` is empty where neither the manifest nor a package says where it is."""
    said = [(posixpath.normpath(path), root) for path, root in _explicit(project) if path]
    # Whether it is there already or another step makes it: the plan must be the same in a fresh clone.
    explicit = {path: root for path, root in said if path != "."}
    source = workspace.exists(_in(project, "src"))
    found = ("src",) if source else tuple(_flat(workspace, project))
    code = tuple(dict.fromkeys((*found, *(path for path in explicit if not path.startswith("src/")))))
    outer = (path if is_root else posixpath.dirname(path) or "." for path, is_root in explicit.items())
    return Layout(roots=tuple(dict.fromkeys(("src" if source else ".", *outer))), code=code)


def _in(project: Project, path: str) -> str:
    return posixpath.normpath(posixpath.join(project.folder, path))


def _explicit(project: Project) -> Iterator[tuple[str, bool]]:
    """What the tables of the backends name, folders and modules; True = packages lie in it, it is none itself."""
    yield from _setuptools(project.tool("setuptools"))
    for package in project.tool("poetry").get("packages", ()):
        if isinstance(package, dict):
            path = posixpath.join(str(package.get("from", "")), str(package.get("include", "")))
            yield path.partition("*")[0].rstrip("/"), False
    wheel = project.tool("hatch", "build", "targets", "wheel")
    yield from ((str(path), False) for key in ("packages", "only-include") for path in wheel.get(key, ()))
    yield from ((path, False) for path in wheel.get("force-include", {}))
    yield str(project.tool("pdm", "build").get("package-dir", "")), True
    uv = project.tool("uv", "build-backend")
    if "module-root" in uv:
        yield str(uv["module-root"]), True


def _setuptools(table: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    folders = table.get("package-dir", {})
    base = folders.get("", "")
    yield base, True
    yield from ((folder, False) for package, folder in folders.items() if package)
    packages = table.get("packages", ())
    if isinstance(packages, dict):
        yield from ((folder, True) for folder in packages.get("find", {}).get("where", ()))
    else:
        yield from ((posixpath.join(base, name.replace(".", "/")), False) for name in packages if name not in folders)
    yield from ((posixpath.join(base, f"{name}.py"), False) for name in table.get("py-modules", ()))


def _flat(workspace: Workspace, project: Project) -> Iterator[str]:
    """Packages with an `__init__.py`, the one of the project's own name without, and modules beside the manifest."""
    start = len(project.folder) + 1 if project.folder else 0
    packages = {path[start:].partition("/")[0] for path in workspace.glob(_in(project, "*/__init__.py"))}
    own = project.name.replace("-", "_").replace(".", "/")
    if own and workspace.glob(_in(project, f"{own}/**/*.py")):
        packages.add(own.partition("/")[0])
    yield from sorted(name for name in packages - NOT_PACKAGES if not name.startswith((".", "_")))
    for path in workspace.glob(_in(project, "*.py")):
        if path[start:] not in NOT_MODULES:
            yield path[start:]
