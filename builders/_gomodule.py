"""Reads go.mod, go.work and what of .go files decides which other files are compiled in. Runs no go."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass

from build_tests.core.builder import ManifestError, Workspace, path_from_root

_BLOCK = re.compile(
    r"^[ \t]*(module|require|replace|use)[ \t]*\(([^)]*)\)|^[ \t]*(module|require|replace|use)[ \t]+([^\n(]+)$",
    re.MULTILINE,
)
_COMMENT = re.compile(r"//[^\n]*")
_EMBED = re.compile(r"^//go:embed[ \t]+(.+)$", re.MULTILINE)
_PATTERN = re.compile(r'"(?:\\.|[^"\\])*"|`[^`]*`|\S+')
_PACKAGE = re.compile(r"^package[ \t]+(\w+)", re.MULTILINE)
_IGNORED = re.compile(r"^//(?:go:build|[ \t]*\+build)[ \t].*\bignore\b", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """A go.mod or go.work."""

    name: str
    """The module's path; "" in go.work."""
    requires: frozenset[str]
    replaces: tuple[tuple[str, str], ...]
    """Module path → folder from the root; only those that lie in the repository."""
    uses: tuple[str, ...]
    """Folders from the root, of go.work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What the .go files of a module say."""

    commands: bool
    """There is a package main, so there are programs to build."""
    embeds: tuple[str, ...]
    """Patterns from the root of files that are compiled in."""
    tests: bool
    """There is a _test.go."""


def read_module(path: str, workspace: Workspace) -> Module:
    """A go.mod or go.work by its path from the root. Raises ManifestError."""
    text = _COMMENT.sub("", workspace.read_text(path))
    folder = posixpath.dirname(path)
    lines: dict[str, list[list[str]]] = {"module": [], "require": [], "replace": [], "use": []}
    for block in _BLOCK.finditer(text):
        word = block[1] or block[3]
        body = block[2] if block[1] else block[4]
        lines[word] += [[part.strip('"`') for part in line.split()] for line in body.splitlines() if line.split()]
    name = lines["module"][0][0] if lines["module"] else ""
    if not name and posixpath.basename(path) == "go.mod":
        raise ManifestError(f"{path} names no module", hint="go mod init NAME", file=path)
    return Module(
        name=name,
        requires=frozenset(line[0] for line in lines["require"]),
        replaces=tuple(_replaces(lines["replace"], folder)),
        uses=tuple(found for line in lines["use"] if (found := _inside(line[0], folder)) is not None),
    )


def _replaces(lines: list[list[str]], folder: str) -> Iterator[tuple[str, str]]:
    """`old [version] => ../folder`; what is replaced by another module is fetched like any."""
    for line in lines:
        if "=>" in line and line[-1].startswith(("./", "../")):
            target = _inside(line[-1], folder)
            if target is not None:
                yield line[0], target


def _inside(text: str, folder: str) -> str | None:
    try:
        return path_from_root(text, folder)
    except ValueError:
        return None  # outside the repository, where nothing is an input


def nested_modules(folder: str, workspace: Workspace) -> list[str]:
    """Folders below that are modules of their own."""
    found = workspace.glob(posixpath.join(folder, "**/go.mod"))
    return [posixpath.dirname(path) for path in found if posixpath.dirname(path) != folder]


def read_sources(folder: str, without: list[str], workspace: Workspace) -> Sources:
    """What the .go files below a folder say. Raises ManifestError."""
    commands = tests = False
    embeds: list[str] = []
    for path in workspace.glob(posixpath.join(folder, "**/*.go")):
        if any(path.startswith(other + "/") for other in without) or _skipped(path[len(folder) :]):
            continue
        if path.endswith("_test.go"):
            tests = True
            continue
        text = workspace.read_text(path)
        package = _PACKAGE.search(text)
        commands = commands or (package is not None and package[1] == "main" and not _IGNORED.search(text))
        embeds += _embeds(text, posixpath.dirname(path))
    return Sources(commands=commands, embeds=tuple(dict.fromkeys(embeds)), tests=tests)


def _skipped(path: str) -> bool:
    """Folders that `./...` leaves out."""
    return any(part.startswith(("_", ".")) or part in {"testdata", "vendor"} for part in path.split("/")[:-1])


def _embeds(text: str, folder: str) -> Iterator[str]:
    if "//go:embed" not in text:
        return
    for line in _EMBED.findall(text):
        for pattern in _PATTERN.findall(line):
            path = posixpath.join(folder, pattern.strip('"`').removeprefix("all:")).rstrip("/")
            yield path
            if re.search(r"[*?\[]", posixpath.basename(path)):
                # A folder that the pattern matches is embedded whole.
                yield f"{path}/**"
