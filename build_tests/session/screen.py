"""The bottom of a terminal as an area that is drawn again and again, below whatever else is written. Knows no step.

Plain control sequences in place of a library: three of them are enough (erase to the end, up, right), nothing is
imported, and pytest's own writer goes on as if it were alone. The cursor always stays where the other writers left it,
above the area, so that a terminal that is resized, or a writer that we know nothing of, finds it in its place.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Sequence
from typing import TextIO

ERASE = "\x1b[J"
_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")


class Screen:
    """Stands in for the text file that pytest writes to; `show` sets the area.

    Args:
        file: a terminal. Written through a descriptor of its own, since pytest redirects the file's while it captures.
    """

    def __init__(self, file: TextIO) -> None:
        file.flush()
        self._file = file
        self._descriptor = os.dup(file.fileno())
        self._lock = threading.RLock()
        self._area: list[str] = []
        self._drawn = False
        self._line = ""
        """What the others have written since the last line's end."""
        self._aside = 0

    def __getattr__(self, name: str) -> object:
        """Whatever else a writer asks of its file."""
        return getattr(self._file, name)

    # As a file

    def write(self, text: str) -> int:
        """Write above the area."""
        with self._lock:
            erase = self._erase()
            self._follow(text)
            self._put(erase + text + self._draw())
        return len(text)

    def flush(self) -> None:
        """Nothing is held back."""

    # The area

    @property
    def size(self) -> tuple[int, int]:
        """Columns and rows, now."""
        try:
            found = os.get_terminal_size(self._descriptor)
        except OSError:
            return 80, 24
        # Terminals that say nothing of their size give zeros.
        return found.columns or 80, found.lines or 24

    def show(self, lines: Sequence[str]) -> None:
        """Draw these lines, none wider than the terminal less one, in place of those before."""
        with self._lock:
            erase = self._erase()
            self._area = list(lines)
            if drawn := self._draw():
                self._put(erase + drawn)
            else:
                self._put(erase)

    def above(self, text: str) -> None:
        """Whole lines that come from beside: they go above the line that somebody may have begun."""
        with self._lock:
            begun = self._line
            # On a narrow terminal a line takes several rows.
            up = max(0, self._at - 1) // self.size[0]
            start = (f"\x1b[{up}A" if up else "") + f"\r{ERASE}" if begun or self._drawn else ""
            self._drawn = False
            self._put(start + text + begun + self._draw())

    def step_aside(self) -> None:
        """Somebody else will write to the terminal itself: no area until `come_back`."""
        with self._lock:
            self._put(self._erase())
            self._aside += 1

    def come_back(self) -> None:
        """The end of `step_aside`."""
        with self._lock:
            self._aside -= 1

    def close(self) -> None:
        """Erase the area; the file is the others' own again."""
        with self._lock:
            self._area = []
            self._put(self._erase())
            os.close(self._descriptor)
            self._descriptor = -1

    @property
    def _at(self) -> int:
        """Columns that the begun line takes, on one row or more."""
        return cells(_ESCAPES.sub("", self._line))

    def _erase(self) -> str:
        drawn, self._drawn = self._drawn, False
        return ERASE if drawn else ""

    def _draw(self) -> str:
        columns, rows = self.size
        lines = self._area[: rows - 1]
        at = self._at
        # In the last column a terminal waits before it goes to the next line: nobody can say where the cursor is.
        if not lines or self._aside or (at and at % columns == 0):
            return ""
        self._drawn = True
        up = len(lines) - (0 if at else 1)
        right = at % columns
        return (
            ("\r\n" if at else "")
            + "\r\n".join(lines)
            + (f"\x1b[{up}A" if up else "")
            + "\r"
            + (f"\x1b[{right}C" if right else "")
        )

    def _follow(self, text: str) -> None:
        line = (self._line + text).rpartition("\n")[2]
        # A line that is written over from its start, as xdist's while workers come up.
        self._line = line.rpartition("\r")[2] if "\r" in line else line

    def _put(self, text: str) -> None:
        data = text.encode(self._file.encoding or "utf-8", "backslashreplace")
        while data and self._descriptor >= 0:
            data = data[os.write(self._descriptor, data) :]


def cells(text: str) -> int:
    """How many columns a text takes, escapes not counted."""
    if text.isascii():
        return len(text)
    return sum(map(_cell, text))


def _cell(letter: str) -> int:
    from unicodedata import combining, east_asian_width

    if combining(letter) or letter == "\N{ZERO WIDTH JOINER}":
        return 0
    return 2 if east_asian_width(letter) in "WF" else 1


def cut(text: str, columns: int) -> str:
    """The beginning of a text that fits."""
    if text.isascii():
        return text[: max(0, columns)]
    end = 0
    for place, letter in enumerate(text):
        end += _cell(letter)
        if end > columns:
            return text[:place]
    return text
