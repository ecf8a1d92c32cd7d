"""Which components a repository could have: what `init` writes down. Asks builders; knows no kind by name.

A builder may have a static method `suggest(path, workspace, others) -> dict`: keys for its entry that manifests tell
and a plan can't (where generated code belongs). `others` are the (kind, folder) that were found. A folder inside a
component of the same kind is that component's matter (a module), unless the builder has `nests = True`.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from build_tests.core.builder import Builder, ManifestError
from build_tests.core.discover import Found, detectors
from build_tests.core.scalars import is_name
from build_tests.core.workspace import FileWorkspace


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry as it would stand under `components:`."""

    name: str
    kind: str
    folder: str
    keys: Mapping[str, Any]
    """Its own keys beside kind and path, as build.yml has them."""


def survey(
    root: str, builders: Mapping[str, Builder], ignored: Callable[[Collection[str]], set[str]],
    reserved: Collection[str] = (),
) -> list[Entry]:  # fmt: skip
    """Every component that a builder recognises, those of folders further up first.

    Args:
        root: absolute.
        builders: by kind.
        ignored: those of some folders that version control passes over.
        reserved: names that no component may have: targets'.
    """
    workspace = FileWorkspace(root)
    folders = workspace.folders("**")
    passed = {folder.rstrip("/") for folder in ignored([f"{folder}/" for folder in folders])}
    kept = ["", *(folder for folder in folders if not _below(folder, passed))]
    found = list(_found(sorted(kept, key=lambda folder: (folder.count("/"), folder)), builders, workspace))
    others = [(one.kind, one.folder) for one in found]
    names = _names(found, posixpath.basename(root), reserved)
    return [
        Entry(name=name, kind=one.kind, folder=one.folder, keys=_suggested(builders[one.kind], one, workspace, others))
        for name, one in zip(names, found, strict=True)
    ]


def _below(folder: str, passed: Collection[str]) -> bool:
    return folder in passed or any(folder.startswith(f"{above}/" if above else "") for above in passed)


def _found(folders: Iterable[str], builders: Mapping[str, Builder], workspace: FileWorkspace) -> Iterator[Found]:
    known = detectors(builders)
    taken: dict[str, set[str]] = {kind: set() for kind in known}
    for folder in folders:
        for kind, detect in known.items():
            inside = _below(folder, taken[kind]) and not getattr(builders[kind], "nests", False)
            if not inside and _recognises(detect, folder, workspace):
                taken[kind].add(folder)
                yield Found(name=getattr(builders[kind], "suffix", ""), kind=kind, folder=folder)


def _recognises(detect: Callable[..., bool], folder: str, workspace: FileWorkspace) -> bool:
    try:
        return detect(folder, workspace)
    except ManifestError:
        return False  # a manifest that can't be read makes no component


def _names(found: Iterable[Found], root_name: str, reserved: Collection[str]) -> list[str]:
    """The folder's name with its kind's suffix; folders above it in front, as many as tell it apart."""
    taken = set(reserved)
    names = []
    for one in found:
        parts = (one.folder or root_name).split("/")
        choices = [*("-".join(parts[-count:]) for count in range(1, len(parts) + 1)), f"{parts[-1]}-{one.kind}"]
        name = next((n for c in choices if (n := _name(c) + one.name) not in taken), "")
        number = 2
        while not name or name in taken:
            name = f"{_name(parts[-1])}-{one.kind}{number}"
            number += 1
        taken.add(name)
        names.append(name)
    return names


def _name(text: str) -> str:
    """A name as a component may have it."""
    name = re.sub(r"[^A-Za-z0-9_.-]", "-", text)
    return name if is_name(name) else f"c-{name}"


def _suggested(
    builder: Builder, one: Found, workspace: FileWorkspace, others: list[tuple[str, str]]
) -> Mapping[str, Any]:
    suggest = getattr(builder, "suggest", None)
    if suggest is None:
        return {}
    keys: Mapping[str, Any] = suggest(one.folder, workspace, others)
    return keys
