"""Where an error's own words point: the file of the repository, as a terminal or an editor can open it.

Compilers name files from the folder that they ran in, or whole; people click from the root. Knows no compiler.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

_PLACES = tuple(
    re.compile(pattern)
    for pattern in (
        # a.kt:7:9 and a.py:7 · a.tsx(10,5) · a.kt:[7,9] · ./src/a.tsx 10:5-10 · a.kt: (7, 9)
        (
            r"(?:file://)?(?P<path>(?:[\w@.+~-]*/)*[\w@+~-][\w@.+~-]*)"
            r"(?::(?P<line>\d+)(?::(?P<column>\d+))?|\((?P<line2>\d+),(?P<column2>\d+)\)"
            r"|:\[(?P<line3>\d+),(?P<column3>\d+)\]| (?P<line4>\d+):(?P<column4>\d+)"
            r"|: \((?P<line5>\d+), (?P<column5>\d+)\))"
        ),
        # a frame of the JVM's: its class says the folder
        r"(?m)^\s*at (?:[\w.]+/)?(?P<package>(?:\w+\.)*)\w+\.[^()\n]+\((?P<path>\w+\.(?:kt|java)):(?P<line>\d+)\)",
        r'File "(?P<path>[^"\n]+)", line (?P<line>\d+)',
        # gradle
        r"file '(?P<path>[^'\n]+)'(?: line)?: (?P<line>\d+)",
    )
)
_JVM_SOURCES = ("src/test/kotlin", "src/main/kotlin", "src/test/java", "src/main/java")
LONGEST = 4000
"""Characters that are searched."""


def pinpoint(text: str, root: str, folder: str) -> str:
    """The first place in an error's text that is a file of the repository: `web/src/App.tsx:10:5`; "" = there is none.

    Args:
        text: the first error.
        root: absolute.
        folder: where the step ran, from the root.
    """
    for found in _candidates(text[:LONGEST]):
        groups = found.groupdict()
        path = next(filter(None, (_in_repository(path, root, folder) for path in _paths(groups))), "")
        if path:
            numbers = (_first(groups, "line"), _first(groups, "column"))
            return ":".join([path, *filter(None, numbers)])
    return ""


def _candidates(text: str) -> Iterator[re.Match[str]]:
    matches = [found for pattern in _PLACES for found in pattern.finditer(text)]
    return iter(sorted(matches, key=re.Match.start))


def _paths(groups: dict[str, str | None]) -> list[str]:
    """What a place may mean as a path."""
    path, package = groups["path"] or "", groups.get("package")
    if not package:
        return [path]
    return [f"{sources}/{package.replace('.', '/')}{path}" for sources in _JVM_SOURCES]


def _first(groups: dict[str, str | None], name: str) -> str | None:
    return next((value for key, value in groups.items() if key.startswith(name) and value), None)


def _in_repository(path: str, root: str, folder: str) -> str:
    """A file's path from the root, or "" where no file of the repository is meant."""
    for base in (folder, ""):
        full = os.path.normpath(os.path.join(root, base, path))
        if full.startswith(root + os.sep) and os.path.isfile(full):
            return os.path.relpath(full, root)
    return ""
