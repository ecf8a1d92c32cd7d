"""tsconfig.json as far as it says what tsc reads and writes: `extends`, `references`, folders, tsbuildinfo."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from build_tests.core.builder import ManifestError, Workspace

from ._lockfiles import without_comments
from ._workspaces import below

_PATHS = ("outDir", "rootDir", "declarationDir", "tsBuildInfoFile", "outFile")
_HERE = "${configDir}"
_DEPTH = 20

Find = Callable[[str], str | None]
"""A package of the workspace by its name → its folder from the root."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TsConfig:
    """One project, with what it extends. Paths are from the root."""

    path: str
    options: Mapping[str, Any]
    chain: tuple[str, ...]
    """Every file of the repository that it was read from, its own first."""
    references: tuple[str, ...] = ()
    include: tuple[str, ...] | None = None
    """As written; None = the whole folder."""

    @property
    def folder(self) -> str:
        """Where it lies."""
        return posixpath.dirname(self.path)

    @property
    def emits(self) -> bool:
        """Whether tsc writes JavaScript or declarations for it."""
        nothing = self.include == () and not self.options.get("outFile")
        return not self.options.get("noEmit") and not nothing

    @property
    def outputs(self) -> tuple[str, ...]:
        """The folders that it writes (`dist`); () = beside the sources, or nothing."""
        found = (self.options.get("outDir"), self.options.get("declarationDir"))
        return tuple(dict.fromkeys(text for text in found if isinstance(text, str) and text)) if self.emits else ()

    def build_info(self, *, always: bool) -> str:
        """Where tsc keeps what it remembers; "" = nowhere. `always`: it runs with -b, which remembers in any case."""
        options = self.options
        if not (always or options.get("incremental") or options.get("composite")) or self.include == ():
            return ""
        if isinstance(said := options.get("tsBuildInfoFile"), str):
            return said
        if isinstance(said := options.get("outFile"), str):
            return f"{posixpath.splitext(said)[0]}.tsbuildinfo"
        name = f"{posixpath.basename(self.path).removesuffix('.json')}.tsbuildinfo"
        out, base = options.get("outDir"), options.get("rootDir")
        if not isinstance(out, str):
            return below(self.folder, name)
        inner = posixpath.relpath(self.folder or ".", base or ".") if isinstance(base, str) else "."
        return posixpath.normpath(posixpath.join(out, inner, name))


def project(path: str, workspace: Workspace, find: Find) -> TsConfig:
    """One project. Raises ManifestError: it is missing, or is no JSON."""
    chain: dict[str, None] = {}
    said = _said(path, workspace, find, chain, _DEPTH)
    folder = posixpath.dirname(path)
    options = {
        name: posixpath.normpath(below(folder, value.removeprefix(_HERE).lstrip("/")))
        if isinstance(value, str) and value.startswith(_HERE)
        else value
        for name, value in said.get("compilerOptions", {}).items()
    }
    listed = said.get("include", said.get("files"))
    references = tuple(_referenced(folder, said, workspace))
    return TsConfig(
        path=path,
        options=options,
        chain=tuple(chain),
        references=references,
        include=tuple(text for text in listed if isinstance(text, str)) if isinstance(listed, list) else None,
    )


def projects(path: str, workspace: Workspace, find: Find) -> list[TsConfig]:
    """A project and all that it refers to, however far, itself first. Raises ManifestError."""
    found: dict[str, TsConfig] = {}
    waiting = [path]
    while waiting:
        if (next_path := waiting.pop()) not in found:
            found[next_path] = project(next_path, workspace, find)
            waiting += found[next_path].references
    return list(found.values())


def file_of(path: str, workspace: Workspace) -> str:
    """The configuration that `-p PATH` or a reference means: the file, or tsconfig.json in that folder."""
    if path.endswith(".json") or not workspace.exists(path):
        return path
    return below(path, "tsconfig.json")


def _said(path: str, workspace: Workspace, find: Find, chain: dict[str, None], depth: int) -> dict[str, Any]:
    try:
        said = without_comments(workspace.read_text(path))
    except ValueError as error:
        raise ManifestError(f"{path} is no JSON: {error}", file=path, line=getattr(error, "lineno", 0)) from None
    if not isinstance(said, dict) or depth == 0:
        raise ManifestError(f"{path} is no configuration for tsc", file=path)
    chain.setdefault(path)
    folder = posixpath.dirname(path)
    merged: dict[str, Any] = {"compilerOptions": {}}
    above = said.get("extends", [])
    for text in above if isinstance(above, list) else [above]:
        base = _extended(text, folder, find) if isinstance(text, str) else None
        if base is not None:
            inherited = _said(base, workspace, find, chain, depth - 1)
            options = merged["compilerOptions"] | inherited["compilerOptions"]
            merged |= {k: v for k, v in inherited.items() if k != "references"} | {"compilerOptions": options}
    own = {name: _from_root(name, value, folder) for name, value in (said.get("compilerOptions") or {}).items()}
    return merged | said | {"compilerOptions": merged["compilerOptions"] | own}


def _from_root(name: str, value: Any, folder: str) -> Any:
    if name not in _PATHS or not isinstance(value, str) or value.startswith(_HERE):
        return value
    return posixpath.normpath(posixpath.join(folder, value))


def _extended(text: str, folder: str, find: Find) -> str | None:
    """The file of the repository that is meant; None = one of an installed package, which the lockfile stands for."""
    if text.startswith("."):
        path = posixpath.normpath(posixpath.join(folder, text))
    else:
        parts = text.split("/")
        length = 2 if text.startswith("@") else 1
        home = find("/".join(parts[:length]))
        if home is None:
            return None
        path = below(home, "/".join(parts[length:]) or "tsconfig.json")
    if path.startswith("../"):
        return None
    return path if path.endswith(".json") else f"{path}.json"


def _referenced(folder: str, said: Mapping[str, Any], workspace: Workspace) -> Iterator[str]:
    references = said.get("references")
    for reference in references if isinstance(references, list) else ():
        text = reference.get("path") if isinstance(reference, dict) else None
        if isinstance(text, str):
            path = posixpath.normpath(posixpath.join(folder, text))
            if not path.startswith("../"):
                yield file_of(path, workspace)
