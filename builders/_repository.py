"""One component's packages, manager and lockfile, and how the packages depend on each other. Knows no step."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from build_tests.core.builder import Component, ManifestError, Workspace

from . import _inputs, _lockfiles
from ._managers import Manager, manager_of
from ._tools import Look
from ._workspaces import Package, members_of, package_at


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """What the manifests of a component say."""

    component: Component
    workspace: Workspace
    root: Package
    manager: Manager
    lockfile: str
    """From the root of the repository."""
    lock: _lockfiles.Lock | None
    """None = it can't be read (bun's binary one), and counts as a whole."""
    packages: Mapping[str, Package]
    """By folder from the component's own; its own package first."""
    by_name: Mapping[str, Package]
    # What was found out: packages are many, and each asks for those behind it.
    _facts: dict[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)
    _shared: dict[str, tuple[str, ...]] = field(default_factory=dict)
    _internal: dict[tuple[str, bool], tuple[Package, ...]] = field(default_factory=dict)
    _needs: dict[str, set[str]] = field(default_factory=dict)

    def look(self, package: Package) -> Look:
        """The package as the rules about tools see it."""
        return Look(
            package=package,
            root=self.root,
            workspace=self.workspace,
            find=self.folder_of,
            only_ends=self.manager.plug_and_play,
        )

    def folder_of(self, name: str) -> str | None:
        """Where a package of the workspace lies, from the root of the repository."""
        found = self.by_name.get(name)
        return found.folder if found else None

    def facts(self, package: Package) -> tuple[tuple[str, str], ...]:
        """The package's part of the lockfile, and that of the tools that all packages use: the workspace's own."""
        if self.lock is None:
            return ()
        if package.inside not in self._facts:
            found = self.lock.facts("", self.root.dependencies)
            if package is not self.root:
                found |= self.lock.facts(package.inside, package.dependencies)
            file = posixpath.basename(self.lockfile)
            self._facts[package.inside] = tuple((f"{name} in {file}", value) for name, value in sorted(found.items()))
        return self._facts[package.inside]

    def shared(self, package: Package) -> tuple[str, ...]:
        """The files of a package's folder that tools look for there, and in the folders below."""
        if package.inside not in self._shared:
            self._shared[package.inside] = tuple(_inputs.shared(package, self.workspace))
        return self._shared[package.inside]

    def internal(self, package: Package, *, runtime: bool = False) -> tuple[Package, ...]:
        """Those of its dependencies that are packages of the workspace; `runtime`: only what its users get as well."""
        key = (package.inside, runtime)
        if key not in self._internal:
            listed = package.runtime if runtime else package.dependencies
            self._internal[key] = tuple(self._linked(package, listed))
        return self._internal[key]

    def _linked(self, package: Package, dependencies: Mapping[str, str]) -> Iterator[Package]:
        for name, text in dependencies.items():
            other = self.by_name.get(name)
            if other is None or other is package:
                continue
            locked = self.lock.find(package.inside, name, text) if self.lock else None
            if locked is None or locked == other.inside:
                yield other

    def below(self, package: Package, *further: Package) -> list[Package]:
        """The packages that this one needs, and what each of them brings along, however far."""
        found: dict[str, Package] = {}
        waiting = [*self.internal(package), *further]
        while waiting:
            other = waiting.pop(0)
            if other is not package and other.inside not in found:
                found[other.inside] = other
                waiting += self.internal(other, runtime=True)
        return list(found.values())

    def needs(self, package: Package, other: Package) -> bool:
        """Whether a package needs another, development dependencies on the way counted too."""
        if package.inside not in self._needs:
            seen: set[str] = set()
            waiting = [package]
            while waiting:
                new = [found for found in self.internal(waiting.pop()) if found.inside not in seen]
                seen.update(found.inside for found in new)
                waiting += new
            self._needs[package.inside] = seen
        return other.inside in self._needs[package.inside]


def repository_of(component: Component, workspace: Workspace) -> Repository:
    """Raises ManifestError: no package.json, none that can be read, no lockfile, or two managers' lockfiles."""
    root = package_at(component.path, workspace)
    manager, lockfile = manager_of(root, workspace)
    members = members_of(root, workspace)
    packages = {package.inside: package for package in (root, *members)}
    manifests = {inside: package.manifest for inside, package in packages.items()}
    lock = None
    if not lockfile.endswith(".lockb"):
        try:
            lock = _lockfiles.read(lockfile, workspace.read_text(lockfile), manifests)
        except ValueError as error:
            raise ManifestError(str(error), file=lockfile, hint=manager.make_lock) from None
    return Repository(
        component=component,
        workspace=workspace,
        root=root,
        manager=manager,
        lockfile=lockfile,
        lock=lock,
        packages=packages,
        by_name={package.name: package for package in members if package.name},
    )
