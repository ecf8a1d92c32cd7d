"""Finds builders: the built-in one, installed ones (entry points, looked up only when needed), a repository's own."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import is_dataclass
from typing import TYPE_CHECKING, Any

from build_tests.core.errors import BuilderError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from build_tests.core.builder import Builder

GROUP = "pytest_build.builders"
_BUILT_IN = {"command": "build_tests.builders.command:CommandBuilder"}
"""What most files use must not cost the look through all installed distributions (tens of milliseconds)."""


class Registry:
    """One instance a run. A repository's own builder goes before an installed one of the same kind."""

    def __init__(self) -> None:
        self._builders: dict[str, Builder] = {}
        self._points: dict[str, list[EntryPoint]] | None = None

    def get(self, kind: str) -> Builder | None:
        """The builder of a kind; None if there is none.

        Raises:
            BuilderError: it is installed and can't be loaded, or two distributions have one.
        """
        if kind not in self._builders:
            if kind in _BUILT_IN:
                self._builders[kind] = _checked(_loaded(_BUILT_IN[kind]), kind, "pytest-build")
            elif points := self._installed().get(kind):
                self._builders[kind] = _of(kind, points)
        return self._builders.get(kind)

    def loaded(self) -> list[Builder]:
        """The builders that were asked for so far."""
        return list(self._builders.values())

    def kinds(self) -> list[str]:
        """All kinds, sorted; also those whose builder can't be loaded."""
        return sorted({*_BUILT_IN, *self._builders, *self._installed()})

    def add_private(self, kind: str, spec: str, root: str) -> None:
        """Load a repository's own builder.

        Args:
            kind: what components say.
            spec: `module:Class`, importable from the root.
            root: absolute.

        Raises:
            BuilderError: it can't be loaded, or is no builder of that kind.
        """
        try:
            with _importable(root, spec.partition(":")[0].partition(".")[0]):
                found = _loaded(spec)
        except Exception as error:
            raise BuilderError(f"the builder {spec!r} can't be loaded: {_said(error)}") from error
        self._builders[kind] = _checked(found, kind, spec)

    def _installed(self) -> dict[str, list[EntryPoint]]:
        if self._points is None:
            from importlib.metadata import entry_points

            self._points = {}
            for point in entry_points(group=GROUP):
                self._points.setdefault(point.name, []).append(point)
        return self._points


def _of(kind: str, points: list[EntryPoint]) -> Builder:
    if len({point.value for point in points}) > 1:
        names = " and ".join(sorted({_distribution(point) for point in points}))
        raise BuilderError(f"two installed packages have a builder of kind {kind!r}: {names}", hint="remove one")
    point = points[0]
    whence = _distribution(point)
    try:
        found = point.load()
    except Exception as error:
        raise BuilderError(
            f"the builder of kind {kind!r}, from {whence}, can't be loaded: {_said(error)}",
            hint=f"install {whence.partition(' ')[0]} again, or remove it",
        ) from error
    return _checked(found, kind, whence)


def _distribution(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else point.value


def _loaded(spec: str) -> Any:
    module, _, name = spec.partition(":")
    return getattr(importlib.import_module(module), name)


def _checked(cls: Any, kind: str, whence: str) -> Builder:
    """An instance of what claims to be a builder. Raises BuilderError."""
    options = getattr(cls, "options", None)
    if not isinstance(cls, type) or not callable(getattr(cls, "plan", None)):
        raise BuilderError(f"{whence}: the builder of kind {kind!r} is no class with a method plan")
    if not (isinstance(options, type) and is_dataclass(options)):
        raise BuilderError(f"{whence}: the builder of kind {kind!r} has no options dataclass")
    if getattr(cls, "kind", None) != kind:
        raise BuilderError(
            f"{whence}: the builder of kind {kind!r} says that its kind is {getattr(cls, 'kind', None)!r}"
        )
    try:
        builder: Builder = cls()
    except Exception as error:
        raise BuilderError(f"{whence}: the builder of kind {kind!r} can't be made: {_said(error)}") from error
    return builder


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


@contextmanager
def _importable(root: str, package: str) -> Iterator[None]:
    """The root first on the path; what another root left behind under the same name is forgotten."""
    known = sys.modules.get(package)
    if known is not None and _lies_in(root, package) and not _comes_from(known, root):
        for name in [name for name in sys.modules if name == package or name.startswith(package + ".")]:
            del sys.modules[name]
    importlib.invalidate_caches()
    sys.path.insert(0, root)
    try:
        yield
    finally:
        sys.path.remove(root)


def _lies_in(root: str, package: str) -> bool:
    return os.path.isdir(os.path.join(root, package)) or os.path.isfile(os.path.join(root, package + ".py"))


def _comes_from(module: Any, root: str) -> bool:
    places = [*getattr(module, "__path__", ()), getattr(module, "__file__", None) or ""]
    return any(os.path.abspath(place).startswith(root + os.sep) for place in places)
