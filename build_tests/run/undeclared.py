"""Files that changed in the touched components during a run and that no step declares. Finds, never judges.

One comparison of folders at the end of the run: it can't say who wrote, only that somebody did. An input that was there
before is taken for edited by the user: whether a step wrote it, a trace tells, or that step's own second look.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from threading import Thread

from build_tests.core.globs import matches
from build_tests.core.graph import Graph

IGNORED = frozenset(
    {
        ".build", ".git", ".hypothesis", ".idea", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".tox", ".venv",
        ".vscode",
        "__pycache__", "node_modules", "venv",
    }
)  # fmt: skip
"""Folders that tools and editors fill, whatever a build does."""
SHOWN = 20
"""How many files are named."""
ASKED = 100
"""Of how many changed files it is asked whether they are inputs: each step's patterns are tried."""


class Watcher:
    """Remembers size, time and inode of every file of some folders, outputs left out."""

    def __init__(self, root: str, graph: Graph, outputs: Collection[str], manifests: Collection[str] = ()) -> None:
        self._root, self._graph, self._manifests = root, graph, manifests
        self._declared: dict[str, set[str]] = {}
        """Folder → the names in it that steps may write."""
        for path in (*outputs, *(path for step in graph.steps.values() for path in step.state)):
            folder, _, name = path.rstrip("/").rpartition("/")
            self._declared.setdefault(folder, set()).add(name)
        self._before: dict[str, dict[str, tuple[int, int, int]]] = {}
        self._looking: Thread | None = None

    def snapshot(self, folders: Collection[str]) -> None:
        """Note these folders (from the root; "" is the root) as they are now, while workers start. See `wait`."""
        self._looking = Thread(target=self._look, args=(list(_outermost(folders)),), name="build-snapshot", daemon=True)
        self._looking.start()

    def wait(self) -> None:
        """Until the folders are noted; before that no step may run."""
        if self._looking is not None:
            self._looking.join()
            self._looking = None

    def _look(self, folders: Collection[str]) -> None:
        for folder in folders:
            self._before[folder] = self._walk(folder)

    def changes(self, told: Collection[str] = ()) -> tuple[list[str], list[str]]:
        """What is not as it was, without the files in `told`: a line a file, and the inputs that were edited."""
        self.wait()
        lines: list[str] = []
        changed: list[str] = []
        for folder, before in self._before.items():
            now = self._walk(folder)
            for path in sorted((before.keys() | now.keys()).difference(told)):
                if path not in before:
                    lines.append(f"{path} was written during the run and is declared by no step")
                elif path not in now:
                    lines.append(f"{path} was removed during the run")
                elif before[path] != now[path]:
                    changed.append(path)
        edited = [path for path in changed[:ASKED] if self._is_input(path)]
        others = sorted(set(changed).difference(edited))
        lines += [f"{path} was changed during the run and is no output" for path in others]
        if len(lines) > SHOWN:
            lines[SHOWN:] = [f"… and {len(lines) - SHOWN} more files that no step declares were written"]
        return lines, edited

    def _is_input(self, path: str) -> bool:
        return path in self._manifests or any(matches(step.inputs, path) for step in self._graph.steps.values())

    def _walk(self, folder: str) -> dict[str, tuple[int, int, int]]:
        found = {}
        stack = [folder]
        while stack:
            current = stack.pop()
            passed_by = IGNORED.union(self._declared.get(current, ()))
            front = f"{current}/" if current else ""
            try:
                entries = list(os.scandir(os.path.join(self._root, current)))
            except OSError:
                continue  # gone, or not ours to read: nothing to compare
            for entry in entries:
                name = entry.name
                if name in passed_by or name.endswith(".egg-info"):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    stack.append(front + name)
                    continue
                try:
                    stat = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                found[front + name] = (stat.st_size, stat.st_mtime_ns, stat.st_ino)
        return found


def _outermost(folders: Collection[str]) -> Iterator[str]:
    """Without those that lie in another."""
    if "" in folders:
        yield ""
        return
    for folder in folders:
        parents = [folder[:i] for i, letter in enumerate(folder) if letter == "/"]
        if not any(parent in folders for parent in parents):
            yield folder
