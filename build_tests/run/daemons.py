"""Processes that a step declared under `daemons` and left running: a list of them, and their end."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable, Sequence
from typing import Any


def note(path: str, daemons: Iterable[Sequence[Any]]) -> None:
    """Add (pid, name) pairs to the list. A list that can't be written is no reason to fail a build."""
    with contextlib.suppress(OSError), open(path, "a", encoding="utf-8") as file:
        file.writelines(f"{pid} {name}\n" for pid, name in daemons)


def running(path: str) -> list[tuple[int, str]]:
    """The listed processes that still are what they were, as (pid, name)."""
    try:
        with open(path, encoding="utf-8") as file:
            lines = [line.partition(" ") for line in file.read().splitlines()]
    except OSError:
        return []
    found = [(int(pid), name) for pid, _, name in lines if pid.isdigit() and _is_still(int(pid), name)]
    return list(dict.fromkeys(found))


def stop(path: str) -> list[str]:
    """End the listed processes that still are what they were, and forget the list. Returns their names.

    What a daemon itself started goes with it: Gradle's has a compiler of Kotlin below it, which no step sees.
    """
    ended = []
    for pid, name in running(path):
        below = _below(pid)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGTERM)
            ended.append(name)
        for child in below:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(child, signal.SIGTERM)
    with contextlib.suppress(OSError):
        os.unlink(path)
    return ended


def _below(pid: int) -> list[int]:
    """Its children and theirs, where /proc tells."""
    children: dict[int, list[int]] = {}
    with contextlib.suppress(OSError):
        for name in filter(str.isdigit, os.listdir("/proc")):
            children.setdefault(_parent(name), []).append(int(name))
    found = [pid]
    for each in found:  # it grows under the loop
        found += children.get(each, [])
    return found[1:]


def _parent(pid: str) -> int:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name in brackets may hold anything, brackets too.
            return int(file.read().rpartition(b")")[2].split()[1])
    except (OSError, IndexError, ValueError):
        return 0


def _is_still(pid: int, name: str) -> bool:
    """A number may belong to another process by now."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return name.lower().encode() in file.read().lower()
    except OSError:
        return False
