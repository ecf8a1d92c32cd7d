"""The repository as builders see it: read only, and what was looked at is remembered. Runs and writes nothing."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Callable, Iterable
from typing import Any

from build_tests.core.builder import ManifestError
from build_tests.core.digest import digest_of
from build_tests.core.errors import UnreadableError
from build_tests.core.globs import PathSet, Tree
from build_tests.core.model import Component, Identity, Output

_IGNORED = re.compile(r"(?:^|/)(?:\.git|\.build|\.pytest_cache|__pycache__|node_modules|\.venv)(?:/|\Z)")


class FileWorkspace:
    """A `Workspace` on a folder.

    Args:
        root: absolute.
        components: all of the build file.
        outputs: declared ones, never listed by `glob`: a plan is the same in a fresh clone and after a build.
    """

    def __init__(self, root: str, components: tuple[Component, ...] = (), outputs: Iterable[Output] = ()) -> None:
        self._root = root
        self._components = components
        self._tree = Tree(root)
        self._hidden = hides(output_paths(outputs))
        self.read: set[str] = set()
        """The paths that were asked for, there or not: with `patterns`, all that the builders' answers depend on."""
        self.patterns: set[str] = set()
        """What was given to `glob`."""
        self.listed: set[str] = set()
        """What `glob` returned."""
        self.there: dict[str, bool] = {}
        """Path → whether it was there."""
        self.texts: dict[str, str] = {}
        """Path → digest of the text that was read."""
        self.answers: dict[tuple[str, str], list[str]] = {}
        """(file or folder, pattern) → what it matched."""

    @property
    def components(self) -> tuple[Component, ...]:
        """All components of the build file, in its order."""
        return self._components

    def exists(self, path: str) -> bool:
        """Whether a file or folder is there. Raises ManifestError for a path outside the root."""
        found = os.path.exists(self._full(path))
        self.there[posixpath.normpath(path) if path else ""] = found
        return found

    def read_text(self, path: str) -> str:
        """A file's text, UTF-8. Raises ManifestError when it is missing, unreadable or not UTF-8."""
        full = self._full(path)
        try:
            with open(full, "rb") as stream:
                data = stream.read()
            self.texts[posixpath.normpath(path)] = digest_of(data)
            # Line ends as open() in text mode gives them.
            return data.decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")
        except FileNotFoundError:
            self.there[posixpath.normpath(path)] = False
            raise ManifestError(f"{path} is missing", file=path) from None
        except UnicodeDecodeError as error:
            raise ManifestError(f"{path} is not UTF-8 (byte {error.start})", file=path) from None
        except OSError as error:
            raise ManifestError(f"{path} can't be read: {error.strerror or error}", file=path) from None

    def glob(self, pattern: str) -> list[str]:
        """The files that match one pattern, sorted; outputs and caches are not seen. Raises ManifestError."""
        self.patterns.add(pattern)
        try:
            found = self._tree.select([pattern], exclude=self._hidden)
        except (UnreadableError, ValueError) as error:
            raise ManifestError(f"the files of {pattern!r} can't be listed: {error}") from None
        self.listed.update(found)
        self.answers["file", pattern] = found
        return list(found)

    def folders(self, pattern: str) -> list[str]:
        """The folders that one pattern matches, sorted; hidden ones, outputs and caches are not seen.

        Raises ManifestError.
        """
        self.patterns.add(pattern + "/")
        try:
            found = self._tree.folders(pattern, exclude=self._hidden)
            self.answers["folder", pattern] = found
            return list(found)
        except (UnreadableError, ValueError) as error:
            raise ManifestError(f"the folders of {pattern!r} can't be listed: {error}") from None

    def listings(self) -> list[list[Any]]:
        """What is known of the folders that were listed, as `Tree` takes it."""
        return self._tree.export()

    def _full(self, path: str) -> str:
        inside = posixpath.normpath(path) if path else ""
        if inside.startswith(("../", "/")) or inside == "..":
            raise ManifestError(f"{path} lies outside the repository")
        self.read.add(inside)
        return os.path.join(self._root, inside)


def hides(outputs: PathSet) -> Callable[[str], bool]:
    """What `glob` does not see: these, and what no builder is meant to see."""
    return lambda path: _IGNORED.search(path) is not None or outputs.contains(path)


def output_paths(outputs: Iterable[Output]) -> PathSet:
    """The files and folders that outputs own."""
    files = [output for output in outputs if output.identity is not Identity.IMAGE]
    return PathSet(
        files=(output.path for output in files if not output.directory),
        folders=(output.path for output in files if output.directory),
    )
