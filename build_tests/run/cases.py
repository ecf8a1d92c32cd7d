"""The test cases that a step's own tool wrote as JUnit XML, read so that they can join the run's report."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from build_tests.core.globs import Tree
from build_tests.run.text import scrub

if TYPE_CHECKING:
    from xml.etree import ElementTree as ET

LIMIT = 8 << 20
"""Bytes of XML of one file that are read; a larger file is passed over."""
TICK = 0.05
"""Seconds by which a file's time may lag behind the clock."""


def collect(
    root: str, patterns: Sequence[str], *, since: float = 0.0, ours: Callable[[str], bool] = lambda _path: False
) -> str:
    """The `<testcase>` elements of every file that matches, as XML text; "" where there are none.

    Args:
        root: absolute.
        patterns: from the root.
        since: seconds since the epoch. An older file was left by another run.
        ours: whether a file, from the root, is surely of this run, whatever its time: outputs are removed before one.

    A file that is no XML, or can't be read, is passed over: a tool that was killed leaves half of one.
    """
    from xml.etree import ElementTree as ET

    found: list[str] = []
    for path in Tree(root).select(patterns):
        absolute = os.path.join(root, path)
        try:
            stat = os.stat(absolute)
            if stat.st_size > LIMIT or (stat.st_mtime < since - TICK and not ours(path)):
                continue
            tree = ET.parse(absolute)  # noqa: S314 - expat of Python 3.10+ bounds entity expansion
        except (ET.ParseError, OSError, ValueError, LookupError):  # the last two: of an encoding
            continue
        found += [_text(case) for case in tree.iter("testcase")]
    return "".join(found)


def _text(case: ET.Element) -> str:
    """One case with what the xunit2 schema allows: its name, class, time, and how it ended."""
    from xml.etree import ElementTree as ET

    kept = ET.Element("testcase", {n: scrub(case.get(n, default)) for n, default in _ATTRIBUTES})
    for child in _ended(case):
        copy = ET.SubElement(kept, child.tag, {n: scrub(child.get(n, "")) for n in ("message", "type")})
        copy.text = scrub(child.text or "")
    return ET.tostring(kept, encoding="unicode")


_ATTRIBUTES = (("classname", ""), ("name", ""), ("time", "0"))


def _ended(case: ET.Element) -> list[ET.Element]:
    return [child for child in case if child.tag in ("failure", "error", "skipped")]
