"""Makefile lines that call pytest-build, for a repository whose Makefile goes on working. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

BEGIN, END = "# pytest-build: begin", "# pytest-build: end"
"""The block between them is ours."""
COMMANDS = (
    ("build", "build", "build what changed"),
    ("build-status", "status", "the state of every step"),
    ("build-explain", "explain $(TARGET)", "what will be built, and why: TARGET=..."),
    ("build-watch", "watch", "rebuild on edits"),
    ("build-profile", "profile", "where the time of the last build went"),
    ("build-log", "log", "what the last build did"),
    ("build-clean-smart", "clean", "remove what is stale"),
    ("build-doctor", "doctor", "the tools that the build needs"),
)
"""Target, the command with its arguments, what it does."""
_TARGET = re.compile(r"^([A-Za-z0-9_./ -]+?)\s*::?(?!=)", re.MULTILINE)


def block_for(makefile: str) -> tuple[str, list[str]]:
    """The lines to add to a Makefile ("" = a new one), and which of our targets have another name since it has them."""
    there = {name for names in _TARGET.findall(makefile) for name in names.split()}
    renamed: list[str] = []
    lines = list(_lines(there, renamed))
    targets = [line.partition(":")[0] for line in lines if not line.startswith(("\t", "#"))]
    return "\n".join([BEGIN, f".PHONY: {' '.join(targets)}", *lines, END, ""]), renamed


def _lines(there: set[str], renamed: list[str]) -> Iterator[str]:
    for target, command, about in COMMANDS:
        name = target
        if target in there:
            name = f"{target}-all" if target == "build" else f"{target}-pb"
            renamed.append(f"{target} is yours, so ours is {name}")
        yield f"{name}: ## {about}"
        yield f"\t@pytest-build {command}"
