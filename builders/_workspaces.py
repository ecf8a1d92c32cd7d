"""The packages of a TypeScript component: its own, and those of its workspace. Reads manifests, knows no step."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from build_tests.core.builder import ManifestError, Workspace, pattern_from_root

from ._lockfiles import KINDS, RUNTIME


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """One package.json. `folder` is from the root of the repository, `inside` from the workspace's own ("" = it)."""

    folder: str
    inside: str
    prefix: str
    """In front of its steps' names: `ui.`, or "" for the component's own package."""
    manifest: Mapping[str, Any]
    dependencies: Mapping[str, str]
    """Name → range, of every kind."""
    runtime: Mapping[str, str]
    """Those that its users get as well."""

    @property
    def name(self) -> str:
        """What others depend on."""
        return str(self.manifest.get("name", ""))

    @property
    def scripts(self) -> Mapping[str, str]:
        """Those that are text."""
        found = self.manifest.get("scripts", {})
        return {name: text for name, text in found.items() if isinstance(text, str)}


def _dependencies(manifest: Mapping[str, Any], kinds: Iterable[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for kind in kinds:
        listed = manifest.get(kind)
        if isinstance(listed, dict):
            found.update((name, text) for name, text in listed.items() if isinstance(text, str))
    return found


def package_at(folder: str, workspace: Workspace, *, inside: str = "", prefix: str = "") -> Package:
    """Raises ManifestError: there is no package.json, or none that can be read."""
    path = below(folder, "package.json")
    try:
        manifest = json.loads(workspace.read_text(path).lstrip("\ufeff"))
    except ValueError as error:
        raise ManifestError(f"{path} is no JSON: {error}", file=path, line=getattr(error, "lineno", 0)) from None
    if not isinstance(manifest, dict) or not isinstance(manifest.get("scripts", {}), dict):
        raise ManifestError(f"{path} is no package manifest", file=path)
    return Package(
        folder=folder,
        inside=inside,
        prefix=prefix,
        manifest=manifest,
        dependencies=_dependencies(manifest, reversed(KINDS)),
        runtime=_dependencies(manifest, RUNTIME),
    )


def members_of(root: Package, workspace: Workspace) -> list[Package]:
    """The workspace's packages beside its own, by folder. Raises ManifestError."""
    folders = _folders(root, workspace)
    packages = [package_at(f, workspace, inside=f[len(root.folder) :].lstrip("/")) for f in folders]
    names = _prefixes(packages)
    return [replace(package, prefix=f"{names[package.folder]}.") for package in packages]


def patterns_of_workspace(root: Package, workspace: Workspace) -> list[str]:
    """What `workspaces` or pnpm-workspace.yaml says; [] = it is no workspace. Raises ManifestError."""
    path = below(root.folder, "pnpm-workspace.yaml")
    listed = root.manifest.get("workspaces")
    if workspace.exists(path):
        said = yaml_of(path, workspace)
        listed = said.get("packages") or listed
    elif isinstance(listed, dict):
        listed = listed.get("packages")
    return [text for text in listed if isinstance(text, str)] if isinstance(listed, list) else []


def yaml_of(path: str, workspace: Workspace) -> dict[str, Any]:
    """A mapping in a YAML file. Raises ManifestError."""
    import yaml

    try:
        said = yaml.safe_load(workspace.read_text(path))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise ManifestError(f"{path} is no YAML: {error}", file=path, line=mark.line + 1 if mark else 0) from None
    return said if isinstance(said, dict) else {}


def _folders(root: Package, workspace: Workspace) -> list[str]:
    found: dict[str, None] = {}
    for text in patterns_of_workspace(root, workspace):
        plain = text.removeprefix("!").removeprefix("./").rstrip("/")
        if plain in {"", "."}:
            continue
        try:
            pattern = pattern_from_root(f"{plain}/package.json", root.folder)
        except ValueError as error:
            raise ManifestError(f"{below(root.folder, 'package.json')}: workspace {text!r}: {error}") from None
        for path in workspace.glob(pattern):
            folder = path.rpartition("/")[0]
            if text.startswith("!"):
                found.pop(folder, None)
            elif folder != root.folder:
                found[folder] = None
    return sorted(found)


def _prefixes(packages: Iterable[Package]) -> dict[str, str]:
    """Folder → the name of its steps: the package's without scope, where that is one package's alone."""
    packages = list(packages)
    short = {p.folder: step_name(p.name.rpartition("/")[2] or p.inside) for p in packages}
    taken = list(short.values())
    whole = {p.folder: step_name(p.name or p.inside) for p in packages}
    return {p.folder: short[p.folder] if taken.count(short[p.folder]) == 1 else whole[p.folder] for p in packages}


def step_name(text: str) -> str:
    """A name for a step out of a package's or a script's: `test:unit` → `test-unit`."""
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-.")
    return plain if plain[:1].isalpha() else f"p{plain}"


def below(folder: str, name: str) -> str:
    """A path in a folder from the root."""
    return f"{folder}/{name}" if folder else name


def entry_points(manifest: Mapping[str, Any]) -> Iterator[str]:
    """Where others enter a package: `dist/index.js`."""
    for key in ("main", "module", "types", "typings", "browser", "bin", "exports"):
        yield from (text.removeprefix("./") for text in _leaves(manifest.get(key)))


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _leaves(inner)
