"""The repository as builders may see it: manifests and file names, nothing else."""

from __future__ import annotations

import os

from build_tests.core.builder import ManifestError
from build_tests.core.globs import Tree
from build_tests.core.model import Component

UNSEEN = frozenset({".venv", "node_modules", "venv"})


class RootWorkspace:
    """A `Workspace` over a root. `read` holds the files that builders have looked into."""

    def __init__(self, root: str, components: tuple[Component, ...]) -> None:
        self._root = root
        self._tree = Tree(root)
        self.components = components
        self.read: set[str] = set()

    def exists(self, path: str) -> bool:
        """Whether a file or folder is there."""
        return os.path.exists(os.path.join(self._root, path))

    def read_text(self, path: str) -> str:
        """A file's text. Raises ManifestError."""
        self.read.add(path)
        try:
            with open(os.path.join(self._root, path), encoding="utf-8") as file:
                return file.read()
        except UnicodeDecodeError:
            raise ManifestError(f"{path} is not UTF-8", file=path) from None
        except OSError as error:
            raise ManifestError(f"{path} can't be read: {error.strerror}", file=path) from None

    def glob(self, pattern: str) -> list[str]:
        """The files that match one pattern, sorted."""

        def unseen(path: str) -> bool:
            return os.path.basename(path.rstrip("/")) in UNSEEN

        return self._tree.select([pattern], exclude=unseen)
