"""Files that changed in the touched components during a run and that no step declares. Finds, never judges.

One comparison of folders at the end of the run: it can't say which step wrote, only that something did.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from threading import Thread

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


class Watcher:
    """Remembers size, time and inode of every file of some folders, outputs left out."""

    def __init__(self, root: str, graph: Graph, outputs: Collection[str]) -> None:
        self._root = root
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

    def changes(self, told: Collection[str] = ()) -> Iterator[str]:
        """One line a file that is not as it was and is not in `told`."""
        self.wait()
        changed = [line for folder, before in self._before.items() for line in self._compare(folder, before, told)]
        yield from changed[:SHOWN]
        if len(changed) > SHOWN:
            yield f"… and {len(changed) - SHOWN} more files that no step declares were written"

    def _compare(
        self, folder: str, before: dict[str, tuple[int, int, int]], told: Collection[str]
    ) -> Iterator[str]:
        now = self._walk(folder)
        for path in sorted((before.keys() | now.keys()).difference(told)):
            if path not in before:
                yield f"{path} was written during the run and is declared by no step"
            elif path not in now:
                yield f"{path} was removed during the run"
            elif before[path] != now[path]:
                yield f"{path} was changed during the run and is no output"

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
