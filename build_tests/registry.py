"""Where builders come from: entry points, and what a repository names under `builders:`."""

from __future__ import annotations

import importlib
import sys
from typing import Any

GROUP = "pytest_build.builders"
BUILT_IN = {
    kind: f"build_tests.builders.{kind}:{name}"
    for kind, name in {
        "command": "CommandBuilder",
        "docker": "DockerBuilder",
        "kotlin": "KotlinBuilder",
        "protobuf": "ProtobufBuilder",
        "python": "PythonBuilder",
        "typescript": "TypeScriptBuilder",
    }.items()
}
"""Our own, known without a scan of every installed distribution."""


class Registry:
    """Builders by kind, loaded when first asked for."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}
        self._private: dict[str, Any] = {}

    def get(self, kind: str) -> Any | None:
        """The builder of a kind. Raises ImportError, naming the package, where it can't be loaded."""
        if kind not in self._made:
            made = self._private.get(kind) or self._find(kind)
            if made is None:
                return None
            self._made[kind] = made()
        return self._made[kind]

    def kinds(self) -> list[str]:
        """Every kind there is, sorted."""
        return sorted({*BUILT_IN, *self._private, *(point.name for point in _entry_points())})

    def add_private(self, kind: str, spec: str, root: str) -> None:
        """A builder of the repository's own. Raises ImportError."""
        sys.path.insert(0, root)
        try:
            self._private[kind] = _load(spec)
        finally:
            sys.path.remove(root)
        self._made.pop(kind, None)

    def _find(self, kind: str) -> Any | None:
        if kind in BUILT_IN:
            return _load(BUILT_IN[kind])
        for point in _entry_points():
            if point.name == kind:
                try:
                    return point.load()
                except Exception as error:
                    package = point.dist.name if point.dist else point.value
                    raise ImportError(f"{package}: {type(error).__name__}: {error}") from error
        return None


def _entry_points() -> Any:
    from importlib.metadata import entry_points

    return entry_points(group=GROUP)


def _load(spec: str) -> Any:
    module, _, name = spec.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except Exception as error:
        raise ImportError(f"{spec}: {type(error).__name__}: {error}") from error
