"""`kind: auto`, and a pattern as `path`: which components the folders hold. Asks builders; knows no kind by name."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from build_tests.core import paths
from build_tests.core.binding import keys_of
from build_tests.core.builder import Builder, ManifestError, Workspace
from build_tests.core.model import Component
from build_tests.core.scalars import is_name
from build_tests.core.workspace import FileWorkspace

AUTO = "auto"
"""The kind that stands for every kind whose builder recognises the folder."""
Detect = Callable[[str, Workspace], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoOptions:
    """Found by the builders that recognise the folder; it has no keys of a kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What an entry that finds components says: its name, and kind and path as they are written."""

    name: str
    kind: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One component of a folder."""

    name: str
    kind: str
    folder: str


def is_pattern(path: str) -> bool:
    """Whether a component's `path` means several folders."""
    return re.search(r"[*?\[]", path) is not None


def detectors(builders: Mapping[str, Builder]) -> dict[str, Detect]:
    """How each kind recognises a folder, of the kinds that can; those that share a folder with others come last."""
    ordered = sorted(builders, key=lambda kind: (_suffix(builders[kind]) != "", kind))
    return {kind: detect for kind in ordered if (detect := getattr(builders[kind], "detect", None))}


def _suffix(builder: Builder) -> str:
    return getattr(builder, "suffix", "")


def components(
    entry: Entry, builders: Mapping[str, Builder], workspace: FileWorkspace, taken: Mapping[str, Component]
) -> tuple[list[Found], list[tuple[str, str]]]:
    """What an entry finds, and what is wrong with it: messages with their hints.

    A folder that another entry names with the same kind is left to that entry.

    Args:
        entry: what is written down.
        builders: those that may take a folder, by kind.
        workspace: the repository.
        taken: the components so far, by name.

    Raises:
        ManifestError: there is no such folder, or no builder recognises any.
        ValueError: the path is malformed.
    """
    several = is_pattern(entry.path)
    folders = _folders(entry.path, workspace)
    written = {(component.kind, component.path) for component in taken.values()}
    everything = list(_recognised(folders, builders, workspace, "" if several else entry.name))
    if not everything:
        looked = ", ".join(folders[:3]) + (", …" if len(folders) > 3 else "")  # noqa: PLR2004
        hint = f"kinds that look: {', '.join(builders)}; any other is named by kind: KIND"
        raise ManifestError(f"no builder recognises {looked or 'the root'}", hint=hint)
    names = {name: _whose(component.path, component.kind) for name, component in taken.items()}
    if several:
        names.setdefault(entry.name, "this entry")
    found: list[Found] = []
    faults: list[tuple[str, str]] = []
    for one in everything:
        if (one.kind, one.folder) in written:
            continue
        fault = _fault(one, names, builders[one.kind] if entry.kind == AUTO else None)
        if fault:
            faults.append((fault, f"write it down, as NAME: {{kind: {one.kind}, path: {one.folder or '//'}}}"))
        else:
            names[one.name] = _whose(one.folder, one.kind)
            found.append(one)
    return found, faults


def _folders(path: str, workspace: FileWorkspace) -> list[str]:
    """The folders that a path means. Raises ManifestError, ValueError."""
    if is_pattern(path):
        pattern = paths.pattern_from_root(path.removeprefix("//").rstrip("/"), "")
        if folders := workspace.folders(pattern):
            return folders
        raise ManifestError(f"{path!r} matches no folder")
    folder = paths.component_folder(path)
    if not workspace.exists(folder):
        raise ManifestError(f"there is no folder {path!r}")
    return [folder]


def _recognised(
    folders: Iterable[str], builders: Mapping[str, Builder], workspace: Workspace, name: str
) -> Iterator[Found]:
    """The components in the folders. A builder that recognises nothing takes every folder."""
    known = detectors(builders)
    for folder in folders:
        for kind, builder in builders.items():
            if kind not in known or known[kind](folder, workspace):
                called = (name or folder.rpartition("/")[2]) + _suffix(builder)
                yield Found(name=called, kind=kind, folder=folder)


def _fault(found: Found, names: Mapping[str, str], builder: Builder | None) -> str:
    """Why a component can't be as it was found; "" = it can."""
    who = _whose(found.folder, found.kind)
    if not is_name(found.name):
        return f"{who}: {found.name!r} can't be a component's name"
    if found.name in names:
        return f"{who} and {names[found.name]} would both be called {found.name!r}"
    # Where the entry names the kind, it has the kind's keys, and they were read.
    needed = [f.key for f in keys_of(builder.options) if f.required] if builder else []
    return f"{who} needs {', '.join(needed)}" if needed else ""


def _whose(folder: str, kind: str) -> str:
    return f"{folder or 'the root'} ({kind})"
