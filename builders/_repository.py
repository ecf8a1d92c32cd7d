"""One component's packages, manager and lockfile, and how the packages depend on each other. Knows no step."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from build_tests.core.builder import Component, ManifestError, Workspace

from . import _lockfiles
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

    def facts(self, package: Package) -> Iterator[tuple[str, str]]:
        """The package's part of the lockfile, and that of the tools that all packages use: the workspace's own."""
        if self.lock is None:
            return
        found = self.lock.facts("", self.root.dependencies)
        if package is not self.root:
            found |= self.lock.facts(package.inside, package.dependencies)
        file = posixpath.basename(self.lockfile)
        yield from ((f"{name} in {file}", value) for name, value in sorted(found.items()))

    def internal(self, package: Package, dependencies: Mapping[str, str]) -> list[Package]:
        """Those of the dependencies that are packages of the workspace."""
        found = []
        for name, text in dependencies.items():
            other = self.by_name.get(name)
            if other is None or other is package:
                continue
            locked = self.lock.find(package.inside, name, text) if self.lock else None
            if locked is None or locked == other.inside:
                found.append(other)
        return found

    def below(self, package: Package, *further: Package) -> list[Package]:
        """The packages that this one needs, and what each of them brings along, however far."""
        found: dict[str, Package] = {}
        waiting = [*self.internal(package, package.dependencies), *further]
        while waiting:
            other = waiting.pop(0)
            if other is not package and other.inside not in found:
                found[other.inside] = other
                waiting += self.internal(other, other.runtime)
        return list(found.values())

    def needs(self, package: Package, other: Package) -> bool:
        """Whether a package needs another, development dependencies on the way counted too."""
        seen: set[str] = set()
        waiting = [package]
        while waiting:
            for found in self.internal(next_one := waiting.pop(), next_one.dependencies):
                if found is other:
                    return True
                if found.inside not in seen:
                    seen.add(found.inside)
                    waiting.append(found)
        return False


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
