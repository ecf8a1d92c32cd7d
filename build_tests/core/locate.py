"""Where a build file is, and the root that belongs to it."""

from __future__ import annotations

import os

NAMES = ("build.yml", os.path.join("config", "build.yml"))
"""Where a build file is looked for, in this order."""


def find_build_file(start: str) -> str | None:
    """`build.yml` or `config/build.yml` in a folder, as a path that begins with `start`."""
    for name in NAMES:
        path = os.path.join(start, name)
        if os.path.isfile(path):
            return path
    return None


def root_of(file: str) -> str:
    """The root that belongs to a build file, absolute: its folder, or the parent of that where it is called config."""
    folder = os.path.dirname(os.path.abspath(file))
    return os.path.dirname(folder) if os.path.basename(folder) == "config" else folder
