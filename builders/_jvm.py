"""What the build tools of the JVM share: the JDK, names of modules' steps, and what a step leaves of a build folder."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator

from build_tests.core.builder import Component, Tool, Workspace, path_from_root

from ._manifests import from_component

JAVA = Tool(name="java", home="JAVA_HOME", hint="apt install openjdk-17-jdk-headless")
NETWORK = ("JAVA_HOME", "JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS")
EPOCH = "1980-01-01T00:00:02Z"
"""The time of every file in an archive, so that archives repeat byte for byte: the first that a zip file can hold."""

BACKUPS = ("*~", "#*#", ".#*", "._*", ".*.sw?", ".DS_Store")


def prefix_of(component: Component, folder: str) -> str:
    """What the names of a module's steps begin with: `libs/core` → `libs.core-`, the component's own folder → ""."""
    relative = from_component(component, folder)
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", relative.replace("../", "").replace("/", "."))
    if relative == ".":
        return ""
    return f"{name}-" if name[0].isalpha() else f"m{name}-"


def present(workspace: Workspace, folder: str, names: Iterable[str]) -> list[str]:
    """Those of the paths in `folder` that are there, as patterns from the root; a trailing slash makes a folder."""
    found = []
    for name in names:
        path = path_from_root(name, folder)
        if workspace.exists(path):
            found.append(f"{path}/" if name.endswith("/") else path)
    return found


def without_backups(patterns: Iterable[str]) -> Iterator[str]:
    """The patterns, and behind them: but not what editors leave in these folders, which no tool of the JVM takes."""
    folders = []
    for pattern in patterns:
        yield pattern
        if pattern.endswith("/") and not pattern.startswith("!"):
            folders.append(pattern)
    yield from (f"!{folder}**/{name}" for folder in folders for name in BACKUPS)


def sweeper(folder: str, kept: Iterable[str]) -> str:
    """A shell function `sweep` that empties a build folder but for what outputs own of it.

    Compilers leave classes there whose source is gone, and the next archive would hold them.

    Args:
        folder: the build folder, as the shell finds it.
        kept: files and folders in it, found the same way.
    """
    others = [test for path in sorted(set(kept)) for test in ("!", "-path", path, "!", "-path", f"{path}/*")]
    files = shlex.join(["find", folder, *others, "!", "-type", "d"])
    folders = shlex.join(["find", folder, "-depth", "-mindepth", "1", *others, "-type", "d", "-empty"])
    there = shlex.join(["[", "-d", folder, "]"])
    return f"sweep() {{ {there} || return 0; {files} -exec rm -f '{{}}' +; {folders} -exec rmdir '{{}}' ';'; }}"
