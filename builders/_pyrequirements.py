"""Reads pip's requirement files: which files belong together, which lines name projects of the repository."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from build_tests.core.builder import ManifestError, Workspace

from ._pyproject import distribution, local_requirement, local_url

_INCLUDE = re.compile(r"^(-r|--requirement|-c|--constraint)(?:\s*=\s*|\s+|(?<=-[rc]))(\S+)")
_EDITABLE = re.compile(r"^(?:-e|--editable)(?:\s*=\s*|\s+)(.+)$")


@dataclass(slots=True, kw_only=True)
class Requirements:
    """What a set of requirement files says."""

    files: list[str] = field(default_factory=list)
    """From the root, included ones too."""
    constraints: list[str] = field(default_factory=list)
    """From the root."""
    names: set[str] = field(default_factory=set)
    """Normalised names of the distributions asked for."""
    projects: dict[str, str] = field(default_factory=dict)
    """Folder from the root → the extras in brackets, `[test]` or ""."""
    local_lines: list[str] = field(default_factory=list)
    """The lines that name them, as they stand in the files."""
    hashed: bool = False
    """Some line has a hash, so that pip will want one of each."""


def read(workspace: Workspace, files: Iterable[str]) -> Requirements:
    """Read requirement files, given from the root, and those that they include.

    Raises:
        ManifestError: one is missing, or lies outside the repository.
    """
    found = Requirements()
    for file in map(posixpath.normpath, files):
        if workspace.exists(file):
            _read(workspace, file, found.files, found)
        else:
            found.files.append(file)  # perhaps a step makes it; else pip will say that it is missing
    return found


def _read(workspace: Workspace, file: str, into: list[str], found: Requirements) -> None:
    if file in into:
        return
    into.append(file)
    for line in _lines(workspace.read_text(file)):
        found.hashed = found.hashed or "--hash=" in line
        include = _INCLUDE.match(line)
        if include is None:
            _requirement(line, file, found, constraint=into is found.constraints)
        elif "://" not in include[2]:
            inner = posixpath.normpath(posixpath.join(posixpath.dirname(file), include[2]))
            if inner.startswith("../"):
                raise ManifestError(f"{file} includes {include[2]}, outside the repository", file=file)
            _read(workspace, inner, found.constraints if "c" in include[1][1:3] else into, found)


def _lines(text: str) -> Iterator[str]:
    """Logical lines without comments."""
    for raw in re.sub(r"\\\r?\n", " ", text).splitlines():
        line = re.sub(r"(?:^|\s+)#.*$", "", raw).strip()
        if line:
            yield line


def _requirement(line: str, file: str, found: Requirements, *, constraint: bool) -> None:
    path = _local(line)
    if path is not None:
        extras = re.search(r"\[.*?\]$", path)
        plain = path.removesuffix(extras[0] if extras else "")
        folder = posixpath.normpath(posixpath.join(posixpath.dirname(file), plain))
        if folder.startswith(("../", "/")) or folder == "..":
            raise ManifestError(f"{file} names {path}, outside the repository", file=file)
        found.projects["" if folder == "." else folder] = extras[0] if extras else ""
        found.local_lines.append(line)
    elif not line.startswith("-") and not constraint:
        found.names.add(distribution(line))


def _local(line: str) -> str | None:
    """The path that a line names; None = it names none of the repository, or a file such as a wheel."""
    editable = _EDITABLE.match(line)
    text = (editable[1] if editable else line).partition(";")[0].strip()
    path = local_requirement(text) or local_url(text)
    if not path and (editable or text.startswith(".")) and not re.match(r"[a-z+]+://|git\+|/", text):
        path = text
    return path if path and not path.endswith((".whl", ".tar.gz", ".zip")) else None
