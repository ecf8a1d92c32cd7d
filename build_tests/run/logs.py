"""Reads a tool's log for the report: its end, its first real error, in bounded memory. Knows no process and no step.

A log may hold anything: a gigabyte, one line of 500 MB, NUL, ANSI, invalid UTF-8. What leaves here may stand in XML,
in JSON and on a terminal.
"""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import BinaryIO

from build_tests.run.recognisers import SPECIFIC, Recogniser
from build_tests.run.text import scrub

TAIL_BYTES = 16 * 1024
HEAD_SCAN, END_SCAN = 64 << 20, 8 << 20
"""Bytes of a log that are searched for an error at its beginning and at its end: a second or two for the largest."""
LINE_BYTES = 4096
"""Longer lines are cut."""
_BLOCK_BYTES = 256 * 1024
_UTF8_CONTINUATION = 0x80

def tail(path: str, limit: int = TAIL_BYTES, since: int = 0) -> str:
    """The end of a log, `limit` bytes of it at most, fit for a report; "" when there is no log. Nothing before `since`.

    Begins at a line's start where it can. Of a progress line, which a terminal would have overwritten, the last state
    is kept.
    """
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END) - since
            # One byte more, to see whether a line begins just there.
            file.seek(since + max(0, size - limit - 1))
            data = file.read(limit + 1)
    except FileNotFoundError:
        return ""
    if size > limit:
        data = _from_line_start(data)
    lines = data.decode("utf-8", "replace").replace("\r\n", "\n").split("\n")
    return scrub("\n".join(_last_state(line) for line in lines))


def _from_line_start(data: bytes) -> bytes:
    """Without the half line at its beginning, unless that is most of what there is; never half a character.

    The first byte is the one before.
    """
    start = data.find(b"\n") + 1
    if 0 < start < len(data) // 2:
        return data[start:]
    data = data[1:]
    return data[next((i for i in range(min(3, len(data))) if data[i] & 0xC0 != _UTF8_CONTINUATION), 0) :]


def _last_state(line: str) -> str:
    return next((part for part in reversed(line.split("\r")) if part), "")


_TRACEBACK = "Traceback (most recent call last):"
_LIBRARY = re.compile(r'"<|/lib/python3|-packages/')
_CHAINED = ("During handling of the above exception", "The above exception was the direct cause")
_GENERIC = re.compile(r"\b(?:error|fatal|panic|failed)\b\s*:|\bexception\b", re.IGNORECASE)
# A line without one of these is nothing that any recogniser knows, and most blocks of a large log have none.
_WORDS = tuple(
    b"rror|RROR|ERR!|ERR_|atal|Traceback|FAIL|ailed|not found|No such|denied|.proto:|xception|panic|PANIC|undefined ref"
    b"|went wrong|* Where:|protoc|_out: |non-zero|.go:|*** |webpack-cli|Would reformat|NOT MATCH|--> "
    b"|\xe2\x97\x8f ".split(b"|")
)
_FIRST_WORDS = (b"e: ", b"E   ")
_PYTHON = re.compile(rb"\.pyi?:\d+:\d+: [A-Zi]")
"""The name alone is common in what goes well, too."""
_WORTH_A_LOOK = re.compile(b"|".join((*map(re.escape, _WORDS), _PYTHON.pattern)))
_BUILDKIT = re.compile(r"^#\d+ \d+\.\d+ ")
_GRADLE_TASK = re.compile(r"^:[\w:.-]+(?=/\S+\.\w+:\d+: )")
"""Older Gradles end the line of a task only when it is over: javac's first line stands behind it."""
"""Before each line that a RUN prints."""
_RECENT = 200
"""Lines in which one that stands above an error is looked for."""
_FAR = 20
"""Lines below an error in which its place is looked for."""
_SECTION = re.compile(r"^[=_!⎯]{5,}")
"""Begins something else."""


def first_error(path: str, limit: int = 2000, since: int = 0) -> str:
    """What went wrong in the tool's own words, `limit` characters at most, fit for a report; "" for an empty log.

    The first error that names its place or cause; failing that, the first line that speaks of an error; failing that,
    the last line. Of a log of more than 72 MiB the first 64 and the last 8 are searched; nothing before byte `since`.
    """
    try:
        with open(path, "rb") as file:
            scan = _Scan()
            for block in _scanned_blocks(file, since):
                if scan.feed(block):
                    break
    except FileNotFoundError:
        return ""
    return scan.result()[:limit]


def _scanned_blocks(file: BinaryIO, since: int) -> Iterator[bytes]:
    size = file.seek(0, os.SEEK_END)
    file.seek(since)
    if size - since <= HEAD_SCAN + END_SCAN:
        yield from _blocks(file, size - since)
        return
    yield from _blocks(file, HEAD_SCAN)
    file.seek(size - END_SCAN)
    yield from _blocks(file, END_SCAN)


def _blocks(file: BinaryIO, budget: int) -> Iterator[bytes]:
    """Blocks of whole lines; each state of a progress line is a line. Of a line across blocks, the start is kept."""
    begun = b""
    while budget > 0 and (block := file.read(min(_BLOCK_BYTES, budget))):
        budget -= len(block)
        lines, _, rest = (begun + block).replace(b"\r", b"\n").rpartition(b"\n")
        yield lines
        begun = rest[:LINE_BYTES]
    yield begun


class _Scan:
    """Reads lines in their order and remembers the best error so far."""

    def __init__(self) -> None:
        self._found: _Found | None = None
        self._traceback: _Traceback | None = None
        self._recent: deque[bytes] = deque(maxlen=_RECENT)
        self._generic = ""
        self._last = b""

    def feed(self, block: bytes) -> bool:
        """Take a block of lines; whether nothing that follows can matter."""
        if not (self._found or self._traceback or _worth_reading(block)):
            self._recent.clear()
            self._last = block.rstrip().rpartition(b"\n")[2][:LINE_BYTES] or self._last
            return False
        return any(self._take(line[:LINE_BYTES]) for line in block.split(b"\n") if line and not line.isspace())

    def _take(self, data: bytes) -> bool:
        self._last = data
        if self._traceback:
            return self._traceback.feed(_clean(data))
        if self._found:
            return self._found.feed(_clean(data))
        if _WORTH_A_LOOK.search(data) or data.startswith(_FIRST_WORDS):
            return self._look(_clean(data))
        self._recent.append(data)
        return False

    def result(self) -> str:
        """The best that there is."""
        if self._traceback and (text := self._traceback.text()):
            return text
        return (self._found.text() if self._found else "") or self._generic or _clean(self._last).strip()

    def _look(self, line: str) -> bool:
        if line.strip() == _TRACEBACK:
            self._traceback = _Traceback(margin=len(line) - len(line.lstrip()))
            return False
        for recogniser in SPECIFIC:
            if recogniser.start.search(line):
                above = self._above(recogniser)
                if above or not recogniser.adjacent:
                    self._found = _Found(recogniser, line, above)
                    return self._found.over
        if not self._generic and _GENERIC.search(line):
            self._generic = line.strip()
        self._recent.append(line.encode())
        return False

    def _above(self, recogniser: Recogniser) -> str:
        if not recogniser.above:
            return ""
        near = 1 if recogniser.adjacent else _RECENT
        lines = (_clean(data) for data in islice(reversed(self._recent), near))
        return next((line for line in lines if recogniser.above.search(line)), "")


class _Found:
    """An error that a recogniser knows, and what belongs to it."""

    def __init__(self, recogniser: Recogniser, line: str, above: str) -> None:
        self._recogniser = recogniser
        self._lines: list[str] = []
        self._above = above
        self._missing = recogniser.more
        self._ahead = _FAR if recogniser.place else 0
        if not (recogniser.drop and recogniser.drop.search(line)):
            self._lines.append(line)

    @property
    def over(self) -> bool:
        """Whether no line that follows belongs to it."""
        return not (self._missing or self._ahead)

    def feed(self, line: str) -> bool:
        """Take a line; whether nothing more belongs to it."""
        recogniser = self._recogniser
        if recogniser.drop and recogniser.drop.search(line):
            return False
        if recogniser.place and recogniser.place.search(line):
            self._lines.append(line)
            self._above = ""
            return True
        if self._missing:
            self._lines.append(line)
            self._missing -= 1
            if recogniser.until and recogniser.until.search(line):
                self._missing = 0
        elif _SECTION.search(line):
            self._ahead = 0
        elif self._ahead:
            self._ahead -= 1
        return self.over

    def text(self) -> str:
        """All of it."""
        above = [self._above] if self._above else []
        match self._recogniser.order:
            case "last":
                lines = [*self._lines, *above]
            case "first":
                lines = [*above, *self._lines]
            case "joined":
                lines = [":".join([*above, self._lines[0].strip()]), *self._lines[1:]]
        return "\n".join(lines)


class _Traceback:
    """A Python traceback: its last place outside libraries and the exception; of a chain, those of the last one."""

    def __init__(self, margin: int) -> None:
        self._margin = margin
        self._place = ""
        self._own = False
        self._error = ""
        self._chained = False

    def feed(self, line: str) -> bool:
        """Take a line; whether the traceback and its chain are over."""
        body = line[self._margin :]
        if self._error:
            return self._after(body)
        if body.startswith("  File "):
            self._at(body.strip())
        elif body and not body[0].isspace():
            self._error = body
        return False

    def _at(self, place: str) -> None:
        own = not _LIBRARY.search(place)
        if own or not self._own:
            self._place, self._own = place, own

    def _after(self, body: str) -> bool:
        if body.startswith(_CHAINED):
            self._chained = True
        elif self._chained and body.strip() == _TRACEBACK:
            self._place = self._error = ""
            self._own = False
            self._chained = False
        else:
            # Lines of a long message may stand between the exception and the next link of the chain; rare enough.
            return True
        return False

    def text(self) -> str:
        return "\n".join(part for part in (self._error, self._place) if part)


def _worth_reading(block: bytes) -> bool:
    return (
        any(word in block for word in _WORDS)
        or _PYTHON.search(block) is not None
        or block.startswith(_FIRST_WORDS)
        or any(b"\n" + word in block for word in _FIRST_WORDS)
    )


def _clean(data: bytes) -> str:
    line = scrub(data.decode("utf-8", "replace")).rstrip()
    return _GRADLE_TASK.sub("", line) if line.startswith(":") else _BUILDKIT.sub("", line)
