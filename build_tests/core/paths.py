"""Paths as a component writes them → paths from the root. Pure text; no disk is looked at.

In a component's `inputs`, `outputs` and `state`, `x` lies in the component's folder and `//x` below the root. `./` and
`..` are resolved, and nothing may leave the root.
"""

from __future__ import annotations

import re

from build_tests.core import globs

NEVER_OUTPUT = frozenset({".git", ".build", ".pytest_cache"})
"""Folders that belong to others than a step."""
_UNUSUAL = re.compile(r"[\[\\\0]|^[/.!]|^\Z|/\.|//")
_WILD = re.compile(r"[*?\[\\]")
"""A folder may well be called `[id]`."""
_ABSOLUTE = "an absolute path means something else on every machine"


def pattern_from_root(text: str, base: str) -> str:
    """An input pattern from the root; `base` is the component's folder. Raises ValueError."""
    sign, body = ("!", text[1:]) if text.startswith("!") else ("", text)
    if not _UNUSUAL.search(body) and not _WILD.search(base):
        return f"{sign}{base}/{body}" if base else sign + body
    path = _resolved(body, globs.escape(base) if base else "")
    pattern = sign + (path or "**")
    wrong = globs.validate(pattern)
    if wrong:
        raise ValueError(wrong)
    return pattern


def path_from_root(text: str, base: str) -> str:
    """A file or folder from the root, without trailing slash; "" = the root itself. Raises ValueError."""
    return _resolved(text, base).rstrip("/")


def component_folder(text: str) -> str:
    """A component's folder from the root; "" = the root. Raises ValueError."""
    return _resolved(text.removeprefix("//") or ".", "").rstrip("/")


def output_fault(path: str, folder: str = "", file: str = "") -> str:
    """Why a path from the root can't be an output ("" = it can).

    Args:
        path: without trailing slash.
        folder: the component's; it can't be an output whole.
        file: the build file.
    """
    if path in {"", folder}:
        return "the component's whole folder can't be an output" if path else "the whole root can't be an output"
    inside = next((part for part in path.split("/") if part in NEVER_OUTPUT), "")
    if inside:
        return f"nothing in {inside} can be an output"
    if any(char in path for char in "*?"):
        return "an output can't have wildcards"
    if path.startswith("!"):
        return "an output can't be taken away by !"
    if any(ord(char) < 32 for char in path):  # noqa: PLR2004
        return "an output's name can't have control characters"
    return "the build file lies in it" if file == path or file.startswith(path + "/") else ""


def _resolved(body: str, base: str) -> str:
    """The path from the root, with its trailing slash. Raises ValueError."""
    if body.startswith("//"):
        base, body = "", body[2:]
    elif body.startswith("/"):
        raise ValueError(f"{_ABSOLUTE}; //{body[1:]} is from the repository's root")
    parts = base.split("/") if base else []
    for part in body.split("/"):
        if part == "..":
            if not parts:
                raise ValueError("it leaves the repository")
            if any(char in parts[-1] for char in "*?["):
                raise ValueError("'..' can't follow a wildcard")
            parts.pop()
        elif part not in {"", "."}:
            parts.append(part)
    path = "/".join(parts)
    folder = body.endswith(("/", "/.", "/..")) or body in {"", ".", ".."}
    return path + "/" if path and folder else path
