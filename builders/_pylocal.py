"""Path dependencies between Python projects: Poetry's `{path = …}`, uv's sources and workspaces, `pkg @ file:…`.

Every project that is named so must be a component, whose wheel is what its dependents get.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from build_tests.core.builder import ManifestError, Workspace

from ._pyproject import Project, load, local_requirement, normalised, poetry_tables, read_toml


def closure(workspace: Workspace, project: Project, more: Iterable[str] = ()) -> list[Project]:
    """All projects that one needs by path, itself not among them.

    Args:
        workspace: the repository.
        project: where to begin.
        more: paths from the root that its requirement files name.

    Raises:
        ManifestError: a path leads out of the repository, or a manifest can't be read.
    """
    found: dict[str, Project] = {}
    waiting = [*_direct(workspace, project), *more]
    while waiting:
        folder = waiting.pop(0)
        if folder != project.folder and folder not in found:
            found[folder] = load(workspace, folder)
            waiting += _direct(workspace, found[folder])
    return [found[folder] for folder in sorted(found)]


def from_root(project: Project, path: str) -> str:
    """A path that a manifest names, from the root. Raises ManifestError where it leads out of the repository."""
    inside = posixpath.normpath(posixpath.join(project.folder, path))
    if inside.startswith(("../", "/")) or inside == "..":
        raise ManifestError(
            f"{project.file or project.folder} depends on {path}, outside the repository",
            hint="other machines do not have it: publish it, or move it into the repository",
            file=project.file,
        )
    return "" if inside == "." else inside


def _direct(workspace: Workspace, project: Project) -> Iterator[str]:
    for path in dict.fromkeys((*_poetry(project), *_direct_references(project), *_uv(workspace, project))):
        folder = from_root(project, path)
        # A wheel in the repository is a file like another; it is no project.
        if not folder.endswith((".whl", ".tar.gz", ".zip")):
            yield folder


def _poetry(project: Project) -> Iterator[str]:
    for table in poetry_tables(project):
        for value in table.values():
            for each in value if isinstance(value, list) else [value]:
                if isinstance(each, dict) and "path" in each:
                    yield str(each["path"])


def _direct_references(project: Project) -> Iterator[str]:
    for needs in (project.requires, *project.extras().values(), *project.groups().values()):
        yield from filter(None, map(local_requirement, needs))


def _uv(workspace: Workspace, project: Project) -> Iterator[str]:
    sources = project.tool("uv", "sources")
    root = workspace_root(workspace, project.folder)
    # What the workspace's root says of sources holds for its members too.
    shared = load(workspace, root).tool("uv", "sources") if root is not None and root != project.folder else {}
    wanted = project.mentions()
    relative = posixpath.relpath(root or ".", project.folder or ".")
    for table, base in ((sources, "."), ({k: v for k, v in shared.items() if k not in sources}, relative)):
        for name, value in table.items():
            if normalised(name) in wanted:
                yield from _source(name, value, base, lambda name: _member(workspace, project.folder, root, name))


def _source(name: str, value: Any, base: str, member: Callable[[str], str]) -> Iterator[str]:
    for each in value if isinstance(value, list) else [value]:
        if not isinstance(each, dict):
            continue
        if "path" in each:
            yield posixpath.normpath(posixpath.join(base, str(each["path"])))
        elif each.get("workspace") is True and (found := member(name)):
            yield found


def workspace_root(workspace: Workspace, folder: str) -> str | None:
    """The folder, from the root, of the uv workspace that a project belongs to; None = to none."""
    for above in ancestors(folder):
        path = posixpath.join(above, "pyproject.toml")
        if workspace.exists(path) and "[tool.uv.workspace]" in workspace.read_text(path):
            return above
    return None


def members(workspace: Workspace, root: str) -> Iterator[str]:
    """The pyproject.toml of each member of a uv workspace, its root's own among them."""
    yield posixpath.join(root, "pyproject.toml")
    table = read_toml(workspace, posixpath.join(root, "pyproject.toml"))
    patterns: Mapping[str, Any] = table.get("tool", {}).get("uv", {}).get("workspace", {})
    for pattern in patterns.get("members", ()):
        yield from workspace.glob(posixpath.normpath(posixpath.join(root, pattern, "pyproject.toml")))


def _member(workspace: Workspace, folder: str, root: str | None, name: str) -> str:
    """The member of this name, relative to the project; "" = there is none."""
    for path in members(workspace, root) if root is not None else ():
        found = load(workspace, posixpath.dirname(path))
        if normalised(found.name) == normalised(name):
            return posixpath.relpath(found.folder or ".", folder or ".")
    return ""


def ancestors(folder: str) -> Iterator[str]:
    """The folder and those above it, up to the root (""), nearest first."""
    while folder:
        yield folder
        folder = posixpath.dirname(folder)
    yield ""
