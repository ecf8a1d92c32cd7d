"""The artifact cache from Python, for results that no step of a build file makes; and what a build has collected.

    cache = BuildCache(".")
    key = cache.get_cache_key("docs", ["docs/**/*.md", "mkdocs.yml"])
    if not cache.restore(key, "."):
        render()
        cache.store_result(key, ["site"])
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from typing import Any

from build_tests.core.digest import FileTable
from build_tests.core.errors import BuildError
from build_tests.core.globs import Tree
from build_tests.core.locate import find_build_file
from build_tests.core.model import CacheSettings
from build_tests.project import load_project
from build_tests.run.keeping import Found, Keeper, Leavings
from build_tests.run.places import prepare
from build_tests.run.sharing import ChangedError, shared_digest


class BuildCache:
    """The stores that a build file names (without one: the local store), with the permissions of this environment.

    Args:
        root: the folder that inputs and artifacts are relative to; its build file, if any, has the settings.
        warn: takes one line, such as that a tier can't be reached.

    Raises:
        ConfigError: the build file, or what the environment says of the cache, is wrong.
    """

    def __init__(self, root: str | os.PathLike[str] = ".", *, warn: Any = None) -> None:
        self._root = os.path.abspath(root)
        file = find_build_file(self._root)
        settings = load_project(file).config.cache if file is not None else CacheSettings()
        folder = prepare(self._root).staging
        self._keeper = Keeper(self._root, settings, dict(os.environ), None, folder=folder, warn=warn or _no_one)

    def get_cache_key(self, target: str, inputs: Iterable[str]) -> str:
        """SHA-256 of a name and of every file that the patterns (as in build.yml) mean: paths, modes, contents.

        Raises:
            BuildError: an input can't be read, or changes meanwhile.
            ValueError: a malformed pattern.
        """
        table = FileTable(self._root, trust=False)
        paths = Tree(self._root, trust=False, files=table).select(list(inputs))
        try:
            rows = [[path, state.mode, self._shared(path, state)] for path in paths if (state := table.lookup(path))]
        except (ChangedError, OSError) as error:
            raise BuildError(f"{error} can't be read, or changes while it is") from error
        return hashlib.sha256(json.dumps([target, rows]).encode()).hexdigest()

    def _shared(self, path: str, state: Any) -> str:
        return shared_digest(os.path.join(self._root, path), state.mode, state.digest)

    def is_cached(self, key: str) -> bool:
        """Whether a store has a result under this key that is believed, with everything that belongs to it."""
        found = self._found(key)
        return found is not None and self._keeper.complete(found)

    def store_result(self, key: str, artifacts: Iterable[str], *, label: str = "") -> None:
        """Keep files and folders (paths from the root) under a key. Returns when the near stores have them.

        Raises:
            BuildError: one is absent, or neither file, link nor folder.
        """
        from build_tests.cache.artifact import listed

        declared = [(path, self._is_folder(path)) for path in (artifact.rstrip("/") for artifact in artifacts)]
        try:
            items = tuple(listed(self._root, declared))
        except OSError as error:
            raise BuildError(f"{error.filename}: {error.strerror}") from error
        if self._keeper.on:
            self._keeper.keep_now(
                Leavings(label=label or key, key=key, items=items, seconds=0.0, cases="", fingerprint=None)
            )

    def restore(self, key: str, root: str | os.PathLike[str] | None = None) -> bool:
        """Put a result back, below `root` (default: the cache's own); whether there was one. Replaces files only.

        Raises:
            OSError: something is in the way.
        """
        from build_tests.cache.artifact import place

        found = self._found(key)
        staging = self._keeper.stage(found) if found is not None else None
        if found is None or staging is None:
            return False
        place(os.path.abspath(root) if root is not None else self._root, found.record.items, staging)
        self._keeper.restored(found, 0.0)
        return True

    def close(self) -> None:
        """Finish uploads."""
        self._keeper.close()

    def __enter__(self) -> BuildCache:  # noqa: PYI034 - `Self` is not in Python 3.10
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _found(self, key: str) -> Found | None:
        return self._keeper.find(key) if self._keeper.on else None

    def _is_folder(self, path: str) -> bool:
        absolute = os.path.join(self._root, path)
        return os.path.isdir(absolute) and not os.path.islink(absolute)


class BuildArtifacts:
    """What the last run of a target with `artifacts: true` collected under `.build/artifacts/`.

    Args:
        root: the build file's root.

    Raises:
        BuildError: nothing was collected there.
    """

    def __init__(self, root: str | os.PathLike[str] = ".") -> None:
        self.folder = prepare(os.path.abspath(root)).artifacts
        try:
            with open(os.path.join(self.folder, "manifest.json"), encoding="utf-8") as file:
                self.manifest: dict[str, Any] = json.load(file)
        except (OSError, ValueError) as error:
            raise BuildError(f"{self.folder} has no artifacts: build a target with `artifacts: true`") from error

    @property
    def labels(self) -> list[str]:
        """The steps whose outputs were collected."""
        return sorted(self.manifest["steps"])

    def paths(self, label: str) -> dict[str, str]:
        """Declared output → where its copy lies. Raises KeyError for a step that was not collected."""
        component, _, step = label.partition(":")
        outputs = self.manifest["steps"][label]["outputs"]
        return {path: os.path.join(self.folder, component, step, path) for path in outputs}


def _no_one(_line: str) -> None:
    """Nobody listens."""

