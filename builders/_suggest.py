"""What `init` can read from manifests beyond what a plan needs: where generated code is expected. Pure."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable

from build_tests.core.builder import ManifestError, Workspace

MANIFESTS = ("pom.xml", "build.gradle", "build.gradle.kts", "pyproject.toml", "tsconfig.json", "package.json")
_FOLDER = re.compile(r"""["'>]((?:[\w.-]+/)*gen(?:erated)?(?:/[\w.-]+)*)/?["'<]""")


def generated_folder(path: str, workspace: Workspace) -> str:
    """The folder for generated code that a component's manifests name, from the component; "" = none.

    It is named, and is not there: no step has made it yet, and nobody has committed it.
    """
    named = [name for text in _texts(path, workspace) for name in _FOLDER.findall(text)]
    named += _go_packages(path, workspace)
    absent = [name for name in named if not workspace.glob(posixpath.join(path, name, "**"))]
    return max(absent, key=len, default="")


def _go_packages(path: str, workspace: Workspace) -> list[str]:
    """The folders of generated packages that a Go module imports of itself."""
    manifest = posixpath.join(path, "go.mod")
    module = re.search(r"(?m)^module\s+(\S+)", workspace.read_text(manifest)) if workspace.exists(manifest) else None
    if module is None:
        return []
    imported = re.compile(rf'"{re.escape(module[1])}/((?:[\w.-]+/)*gen(?:erated)?(?:/[\w.-]+)*)"')
    files = workspace.glob(posixpath.join(path, "**/*.go"))
    return [name for file in files for name in imported.findall(workspace.read_text(file))]


def mentions(path: str, workspace: Workspace, word: str) -> bool:
    """Whether a component's manifests name something."""
    return any(word in text for text in _texts(path, workspace))


def _texts(path: str, workspace: Workspace) -> Iterable[str]:
    for name in MANIFESTS:
        manifest = posixpath.join(path, name)
        if workspace.exists(manifest):
            try:
                yield workspace.read_text(manifest)
            except ManifestError:
                continue  # the plan says what is wrong with it


def generated_sources(path: str, workspace: Workspace) -> dict[str, object]:
    """The key `sources` with the generated folder, where there is one: what others make is never taken by itself."""
    generated = generated_folder(path, workspace)
    if not generated:
        return {}
    own = [f"{name}/" for name in ("src", "lib") if workspace.glob(posixpath.join(path, name, "**"))]
    return {"sources": [*own, f"{generated}/"]}
