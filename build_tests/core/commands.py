"""The tools that a command starts, as far as its words tell, and how well-known ones are asked for their version."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import cache

from build_tests.core.model import Tool

VERSION_ARGUMENTS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(
        (
            "bash", "buf", "bun", "cargo", "cc", "clang", "cmake", "docker", "g++", "gcc", "git", "gradle", "make",
            "mvn", "ninja", "node", "npm", "npx", "pip", "pip3", "pnpm", "poetry", "protoc", "python", "python3",
            "ruff", "rustc", "tar", "uv", "yarn",
        ),
        ("--version",),
    ),
    "go": ("version",),
    "java": ("-version",),
    "javac": ("-version",),
    "kotlin": ("-version",),
    "kotlinc": ("-version",),
}  # fmt: skip
"""How each well-known tool is asked for its version."""


@cache
def _called() -> re.Pattern[str]:
    """Such a tool where a shell would start it; one that only a quoted text names may be among them.

    Not compiled where nothing of a build file is new.
    """
    return re.compile(
        r"(?:^|[;&|({\n]|![ \t]|\b(?:if|while|until|then|do|else|exec|time)[ \t])[ \t]*(?:\w+=\S*[ \t]+)*"
        rf"({'|'.join(map(re.escape, VERSION_ARGUMENTS))})(?=[\s;&|)]|$)"
    )


def with_started(tools: tuple[Tool, ...], command: tuple[str, ...] | str) -> tuple[Tool, ...]:
    """A step's tools with those that its command starts and that nobody had to name.

    A shell line may do without a tool that it calls, or call it in a branch: such tools are optional. argv's first word
    is one unless it is a path in the repository (an input then) or `sh`.
    """
    started: list[Tool] = []
    if isinstance(command, str):
        started = [Tool(name=name, optional=True) for name in dict.fromkeys(_called().findall(command))]
    elif command and (os.path.isabs(command[0]) or ("/" not in command[0] and command[0] != "sh")):
        started = [Tool(name=command[0])]
    named = {tool.name for tool in tools}
    return (*tools, *(tool for tool in started if tool.name not in named))
