"""Which files matter to a build, and to which of its steps. Knows paths; watches nothing.

`look` reads the build file (in a process of its own, since builders of a repository are code that may change) and says
it in plain data; an `Interest` made of that judges every path that changes.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from build_tests.core.globs import NEVER, PathSet, matches, reaches

if TYPE_CHECKING:
    from build_tests.core.graph import Graph

MANY = 400
"""Paths that changed at once; beyond that everything counts as affected: to ask of each step would take longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Affected:
    """What some changes mean."""

    paths: tuple[str, ...]
    """Those that matter, from the root."""
    labels: frozenset[str] | None
    """The steps that they are inputs of; None = any, since what the steps are made from has changed."""


class Interest:
    """What one look at the build file found. `data` is what `look` gave."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.steps: dict[str, list[str]] = data["steps"]
        """Label → its patterns."""
        self._needed_by: dict[str, list[str]] = data["needed_by"]
        self._config = frozenset(data["config"])
        self._globs: list[str] = data["globs"]
        self._own = PathSet.of(data["own"])

    def affected(self, paths: Collection[str], folders: Collection[str]) -> Affected:
        """What changes mean. `folders` are those of the paths that are folders, or are gone and may have been."""
        of_interest = [path for path in paths if not self.ignores(path)]
        if len(of_interest) > MANY:
            return Affected(paths=tuple(of_interest), labels=None)
        labels: set[str] | None = set()
        seen: list[str] = []
        for path in of_interest:
            if self._is_config(path, folder=path in folders):
                labels = None
                seen.append(path)
            elif found := self._users(path, folder=path in folders):
                seen.append(path)
                if labels is not None:
                    labels |= found
        return Affected(paths=tuple(seen), labels=None if labels is None else frozenset(labels))

    def ignores(self, path: str) -> bool:
        """Whether a path is nobody's input: our own, git's, and what steps are declared to write."""
        return not NEVER.isdisjoint(path.split("/")) or self._own.contains(path)

    def behind(self, labels: Iterable[str]) -> set[str]:
        """The steps, and all that need them."""
        found = {label for label in labels if label in self.steps}
        stack = list(found)
        while stack:
            for user in self._needed_by[stack.pop()]:
                if user not in found:
                    found.add(user)
                    stack.append(user)
        return found

    def _is_config(self, path: str, *, folder: bool) -> bool:
        """Whether the steps themselves may be others now."""
        if path in self._config or any(matches((glob,), path) for glob in self._globs):
            return True
        return folder and any(name.startswith(f"{path}/") for name in self._config)

    def _users(self, path: str, *, folder: bool) -> set[str]:
        asked = reaches if folder else matches
        return {label for label, patterns in self.steps.items() if asked(patterns, path)}


def look(file: str, target: str | None, environment: str | None) -> dict[str, Any]:
    """What an `Interest` is made of, as plain data.

    Raises:
        ConfigError: the build file is wrong.
        SelectionError: there is no such target or environment.
    """
    from build_tests.core.assemble import read
    from build_tests.project import load_project
    from build_tests.registry import Registry

    project = load_project(file, target=target, environment=environment)
    root, chosen = project.config.root, project.config.environment
    shown: list[Any] = []
    _, graph = read(file, registry=Registry(), environment=chosen, shown=shown)
    overlays = [f"config/environments/{name}" for name in _names(os.path.join(root, "config", "environments"))]
    return {
        "steps": {label: list(step.inputs) for label, step in graph.steps.items()},
        "needed_by": {label: list(users) for label, users in graph.needed_by.items()},
        "config": sorted(
            {
                os.path.relpath(file, root),
                "config/cache.yml",
                *overlays,
                *_code_below(root),
                *(path for workspace in shown for path in workspace.read),
            }
        ),
        "globs": sorted({glob for workspace in shown for glob in workspace.patterns}),
        "own": sorted(_own(graph)),
    }


def _own(graph: Graph) -> Iterator[str]:
    """What steps are declared to write; folders with a trailing /."""
    from build_tests.core.model import Identity

    for step in graph.steps.values():
        for output in step.outputs:
            if output.identity is not Identity.IMAGE:
                yield output.path.rstrip("/") + ("/" if output.directory else "")
        for path in step.state:
            # A file or a folder; nobody says which.
            yield path.rstrip("/")
            yield path.rstrip("/") + "/"


def _code_below(root: str) -> Iterator[str]:
    """The modules of the repository itself that have been imported: its own builders."""
    for module in list(sys.modules.values()):
        path = getattr(module, "__file__", None)
        if path and path.startswith(f"{root}/"):
            yield os.path.relpath(path, root)


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []
