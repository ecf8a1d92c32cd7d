"""Reads Cargo.toml: members of a workspace, path dependencies, what is built, which files go in. Runs no cargo."""

from __future__ import annotations

import posixpath
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from build_tests.core.builder import ManifestError, Workspace, path_from_root

_INCLUDED = re.compile(r'\binclude(?:_str|_bytes)?!\s*[(\[{]\s*"((?:[^"\\]|\\.)*)"|#\s*!?\[\s*path\s*=\s*"([^"]+)"')
_DEPENDENCIES = ("dependencies", "dev-dependencies", "build-dependencies")
MANIFEST = "Cargo.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """A Cargo.toml with a [package]. Paths are from the root."""

    folder: str
    name: str
    programs: tuple[str, ...]
    libraries: tuple[str, ...]
    """What `crate-type` makes for others than cargo: file names on Linux."""
    needs: tuple[str, ...]
    """Folders of path dependencies."""
    script: bool
    """There is a build script, which may read anything."""


def read_manifest(folder: str, workspace: Workspace) -> Mapping[str, Any]:
    """A Cargo.toml by its folder. Raises ManifestError."""
    # Python 3.10 has no tomllib; there pytest brings tomli, which is the same.
    toml = import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    path = posixpath.join(folder, MANIFEST)
    try:
        found: dict[str, Any] = toml.loads(workspace.read_text(path))
    except toml.TOMLDecodeError as error:
        line = re.search(r"line (\d+)", str(error))
        raise ManifestError(f"{path} is no TOML: {error}", file=path, line=int(line[1]) if line else 0) from None
    return found


def root_of(folder: str, workspace: Workspace) -> str:
    """The folder of the workspace that a package belongs to, its own where it belongs to none."""
    above = folder
    while True:
        if workspace.exists(posixpath.join(above, MANIFEST)):
            outer = read_manifest(above, workspace).get("workspace")
            if outer is not None and (above == folder or folder in members(above, outer, workspace)):
                return above
        if not above:
            return folder
        above = posixpath.dirname(above)


def members(folder: str, outer: Mapping[str, Any], workspace: Workspace) -> list[str]:
    """The folders of a workspace's members, as [workspace] lists them."""
    found: dict[str, None] = {}
    for pattern in outer.get("members", ()):
        manifests = workspace.glob(posixpath.join(_inside(pattern, folder) or ".", MANIFEST))
        found |= dict.fromkeys(posixpath.dirname(path) for path in manifests)
    for pattern in outer.get("exclude", ()):
        gone = _inside(pattern, folder)
        found = {path: None for path in found if path != gone and not path.startswith(f"{gone}/")}
    return list(found)


def read_package(folder: str, root: Mapping[str, Any], root_folder: str, workspace: Workspace) -> Package | None:
    """The package of a folder; None where its Cargo.toml has no [package]. Raises ManifestError.

    Args:
        folder: from the root.
        root: the workspace's manifest, for what is inherited from it.
        root_folder: where that lies.
        workspace: the repository.
    """
    manifest = read_manifest(folder, workspace)
    package = manifest.get("package")
    if package is None:
        return None
    name = str(package.get("name", ""))
    library = manifest.get("lib", {})
    kinds = library.get("crate-type", library.get("crate_type", ()))
    plain = str(library.get("name", name)).replace("-", "_")
    files = {"cdylib": f"lib{plain}.so", "dylib": f"lib{plain}.so", "staticlib": f"lib{plain}.a"}
    script = package.get("build", "build.rs")
    return Package(
        folder=folder,
        name=name,
        programs=tuple(dict.fromkeys(_programs(folder, manifest, name, workspace))),
        libraries=tuple(dict.fromkeys(files[kind] for kind in kinds if kind in files)),
        needs=tuple(dict.fromkeys(_needs(folder, manifest, root, root_folder))),
        script=isinstance(script, str) and workspace.exists(posixpath.join(folder, script)),
    )


def _programs(folder: str, manifest: Mapping[str, Any], name: str, workspace: Workspace) -> Iterator[str]:
    written = [found for found in manifest.get("bin", ()) if "name" in found]
    yield from (str(found["name"]) for found in written if not found.get("required-features"))
    if manifest["package"].get("autobins", True) is False:
        return
    known = {found["name"] for found in written} | {name for found in written if found.get("path") == "src/main.rs"}
    if workspace.exists(posixpath.join(folder, "src/main.rs")) and not known & {name}:
        taken = any(found.get("path") == "src/main.rs" for found in written)
        yield from () if taken else (name,)
    single = workspace.glob(posixpath.join(folder, "src/bin/*.rs"))
    deep = workspace.glob(posixpath.join(folder, "src/bin/*/main.rs"))
    names = [posixpath.basename(path)[:-3] for path in single]
    names += [posixpath.basename(posixpath.dirname(path)) for path in deep]
    yield from (found for found in names if found not in known)


def _needs(folder: str, manifest: Mapping[str, Any], root: Mapping[str, Any], root_folder: str) -> Iterator[str]:
    inherited = root.get("workspace", {}).get("dependencies", {})
    for name, wanted in _wanted(manifest):
        if not isinstance(wanted, dict):
            continue
        if wanted.get("workspace") is True:
            outer = inherited.get(name)
            if isinstance(outer, dict) and "path" in outer:
                yield from _found(str(outer["path"]), root_folder)
        elif "path" in wanted:
            yield from _found(str(wanted["path"]), folder)
    for patched in root.get("patch", {}).values():
        for wanted in patched.values():
            if isinstance(wanted, dict) and "path" in wanted:
                yield from _found(str(wanted["path"]), root_folder)


def _wanted(manifest: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for part in (manifest, *manifest.get("target", {}).values()):
        for table in _DEPENDENCIES:
            yield from part.get(table, {}).items()


def _found(path: str, folder: str) -> Iterator[str]:
    inside = _inside(path, folder)
    if inside is not None:
        yield inside


def _inside(text: str, folder: str) -> str | None:
    try:
        return path_from_root(text, folder)
    except ValueError:
        return None  # outside the repository, where nothing is an input


def included(sources: Iterable[str], workspace: Workspace) -> Iterator[str]:
    """Files that sources name: include_str! and its like, and modules with a path of their own."""
    for source in sources:
        text = workspace.read_text(source)
        if "include" not in text and "path" not in text:
            continue
        for file, module in _INCLUDED.findall(text):
            found = _inside(file or module, posixpath.dirname(source))
            if found:
                yield found
