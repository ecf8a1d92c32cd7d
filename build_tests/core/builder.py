"""The builder API: all that a builder may import (with `model`).

A builder is pure: it reads manifests through the workspace and describes steps. It runs nothing and writes nothing,
so its unit test compares values and needs no tool.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Protocol

from build_tests.core.globs import matches
from build_tests.core.model import Component, Identity, Output, Resources, Retries, Step, Tool
from build_tests.core.paths import path_from_root, pattern_from_root

__all__ = [
    "Builder",
    "Component",
    "Identity",
    "ManifestError",
    "Output",
    "Resources",
    "Retries",
    "Step",
    "Tool",
    "Workspace",
    "matches",
    "path_from_root",
    "pattern_from_root",
]


class ManifestError(Exception):
    """A manifest (package.json, Dockerfile …) is missing or can't be read; becomes a diagnostic of the component."""

    def __init__(self, message: str, *, hint: str = "", file: str = "", line: int = 0) -> None:
        super().__init__(message)
        self.hint = hint
        self.file = file
        self.line = line


class Workspace(Protocol):
    """What a builder may see of the repository. Paths are relative to the root, POSIX."""

    @property
    def components(self) -> tuple[Component, ...]:
        """All components of the build file, in its order."""

    def exists(self, path: str) -> bool:
        """Whether a file or folder is there."""

    def read_text(self, path: str) -> str:
        """A file's text, UTF-8. Raises ManifestError when it is missing, unreadable or not UTF-8."""

    def glob(self, pattern: str) -> list[str]:
        """The files that match one pattern, sorted; outputs and caches are not seen."""


class Builder(Protocol):
    """Turns one component into steps. Found by the entry-point group `pytest_build.builders`, or `builders:`.

    For `kind: auto` it may have two things more: a static method `detect(path: str, workspace: Workspace) -> bool`
    ("is there a component of this kind in this folder?"), and `suffix`, a text put behind the folder's name where
    others may take the same folder (docker's is `-image`).
    """

    kind: ClassVar[str]
    """What `kind:` says in build.yml."""
    options: ClassVar[type[Any]]
    """A frozen dataclass: the component's own keys, with defaults. The JSON schema is made from it."""

    def plan(self, component: Component, workspace: Workspace) -> Iterable[Step]:
        """The component's steps. Raises ManifestError where a manifest makes that impossible."""
