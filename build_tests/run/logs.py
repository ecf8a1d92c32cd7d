"""Reads a tool's log for the report: its end, its first real error, in bounded memory. Knows no process and no step.

A log may hold anything: a gigabyte, one line of 500 MB, NUL, ANSI, invalid UTF-8. What leaves here may stand in XML,
in JSON and on a terminal.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from build_tests.run.text import scrub

TAIL_BYTES = 16 * 1024
HEAD_SCAN, END_SCAN = 64 << 20, 8 << 20
"""Bytes of a log that are searched for an error at its beginning and at its end: a second or two for the largest."""
LINE_BYTES = 4096
"""Longer lines are cut."""
_BLOCK_BYTES = 256 * 1024
_UTF8_CONTINUATION = 0x80

def tail(path: str, limit: int = TAIL_BYTES) -> str:
    """The end of a log, `limit` bytes of it at most, fit for a report; "" when there is no log.

    Begins at a line's start where it can. Of a progress line, which a terminal would have overwritten, the last state
    is kept.
    """
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            # One byte more, to see whether a line begins just there.
            file.seek(max(0, size - limit - 1))
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Recogniser:
    """How one family of tools says that something is wrong."""

    start: re.Pattern[str]
    more: int = 0
    """How many of the lines that follow belong to it, empty ones not counted."""
    until: re.Pattern[str] | None = None
    """A line that ends it earlier, and belongs to it."""


def _recogniser(start: str, more: int = 0, until: str = "") -> _Recogniser:
    return _Recogniser(start=re.compile(start), more=more, until=re.compile(until) if until else None)


# Those that name a place or a cause. The first line in the log that any of them knows wins.
_SPECIFIC = (
    # maven: javac and kotlinc through it, a failed test (its second line says why), what it could not do at all
    _recogniser(r"^\[ERROR\] (?:file://)?\S+:\s?[\[(]\d+,\s?\d+[\])]"),
    _recogniser(r"^\[ERROR\] (?:file://)?\S+\.\w+:\d+:\d+ "),
    _recogniser(r"^\[ERROR\] (?!Tests run:).*<<< (?:FAILURE|ERROR)!", more=1),
    _recogniser(r"^\[ERROR\] (?:Non-parseable|Unknown lifecycle|Malformed|The goal you specified)"),
    _recogniser(r"^\[ERROR\] Failed to execute goal on project .*: Could not (?:resolve|collect)"),
    # kotlinc, gradle
    _recogniser(r"^e: \S+"),
    _recogniser(r"^\S.* > .* FAILED$", more=1),
    _recogniser(r"^\* What went wrong:", more=2),
    # tsc, plain and pretty; webpack, whose next lines hold the place and the reason
    _recogniser(r"^\S.*[(:]\d+[,:]\d+\)?(?::| -) error TS\d+:"),
    _recogniser(r"^error TS\d+:"),
    _recogniser(r"^(?:\[webpack-cli\] |\[tsl\] )?ERROR in \S", more=2, until=r"error|Error|TS\d+:"),
    _recogniser(r"^\[webpack-cli\] (?!.*(?:wait|Compil))"),
    # pytest: the first line that says why, and the place below it
    _recogniser(r"^E   +\S", more=12, until=r"^\S+\.py:\d+: "),
    _recogniser(r"^(?:FAILED|ERROR) \S+\.py(?:::\S+)?"),
    # protoc, buf
    _recogniser(r"^\S+\.proto:(?:\d+:\d+:(?! ?warning)|\s?File not found)"),
    _recogniser(r"^protoc(?:-gen-\S+)?: (?!warning)|^--\w+_out: "),
    # docker
    _recogniser(r"^(?:#\d+ )?ERROR: (?:failed to|process |dockerfile|Cannot connect|.*: not found)"),
    _recogniser(r"^(?:The command '.*' returned a non-zero code|(?:Dockerfile|dockerfile) parse error)"),
    _recogniser(r"^Error response from daemon: "),
    # gcc, clang, javac alone, go vet, cargo (the place stands below)
    _recogniser(r"^[^\s:][^:]*:\d+(?::\d+)?: (?:fatal )?error: "),
    _recogniser(r"^error\[E\d+\]: ", more=1),
    _recogniser(r"^\S+\.go:\d+:\d+: "),
    # go test, and what a test of Rust's says below its place
    _recogniser(r"^\s+\S+_test\.go:\d+: "),
    _recogniser(r"^\s*thread '.*' (?:\(\d+\) )?panicked at ", more=3),
    _recogniser(r"undefined reference to "),
    # npm, yarn, pnpm
    _recogniser(r"^npm (?:error|ERR!) ", more=2),
    _recogniser(r"^\s?ERR_PNPM_\w+"),
    # shells
    _recogniser(r"^(?:\S+: )?(?:line )?\d+: .*(?:not found|No such file|ermission denied|yntax error)"),
    _recogniser(r"^\S+: (?:line )?\d+: .*: (?:command )?not found"),
    _recogniser(r"^make(?:\[\d+\])?: \*\*\* "),
    # uncaught exceptions of Node and Java
    _recogniser(r"^(?:Uncaught )?(?:[A-Z]\w*)?Error(?: \[\w+\])?: \S"),
    _recogniser(r'^Exception in thread "', more=1),
)
_TRACEBACK = "Traceback (most recent call last):"
_CHAINED = ("During handling of the above exception", "The above exception was the direct cause")
_GENERIC = re.compile(r"\b(?:error|fatal|panic|failed)\b\s*:|\bexception\b", re.IGNORECASE)
# A line without one of these is nothing that any pattern above knows, and most blocks of a large log have none.
_WORDS = tuple(
    b"rror|RROR|ERR!|ERR_|atal|Traceback|FAIL|ailed|not found|No such|denied|.proto:|xception|panic|PANIC|undefined ref"
    b"|went wrong|protoc|_out: |non-zero|.go:|*** |webpack-cli".split(b"|")
)
_FIRST_WORDS = (b"e: ", b"E   ")
_WORTH_A_LOOK = re.compile(b"|".join(map(re.escape, _WORDS)))


def first_error(path: str, limit: int = 2000) -> str:
    """What went wrong in the tool's own words, `limit` characters at most, fit for a report; "" for an empty log.

    The first error that names its place or cause; failing that, the first line that speaks of an error; failing that,
    the last line. Of a log of more than 72 MiB the first 64 and the last 8 are searched.
    """
    try:
        with open(path, "rb") as file:
            scan = _Scan()
            for block in _scanned_blocks(file):
                if scan.feed(block):
                    break
    except FileNotFoundError:
        return ""
    return scan.result()[:limit]


def _scanned_blocks(file: BinaryIO) -> Iterator[bytes]:
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if size <= HEAD_SCAN + END_SCAN:
        yield from _blocks(file, size)
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
        self._specific: list[str] = []
        self._recogniser: _Recogniser | None = None
        self._missing = 0
        self._traceback: _Traceback | None = None
        self._generic = ""
        self._last = b""

    def feed(self, block: bytes) -> bool:
        """Take a block of lines; whether nothing that follows can matter."""
        if not (self._recogniser or self._traceback or _worth_reading(block)):
            self._last = block.rstrip().rpartition(b"\n")[2][:LINE_BYTES] or self._last
            return False
        return any(self._take(line[:LINE_BYTES]) for line in block.split(b"\n") if line and not line.isspace())

    def _take(self, data: bytes) -> bool:
        self._last = data
        if self._traceback:
            return self._traceback.feed(_clean(data))
        if self._recogniser:
            return self._follow(_clean(data))
        if _WORTH_A_LOOK.search(data) or data.startswith(_FIRST_WORDS):
            return self._look(_clean(data))
        return False

    def result(self) -> str:
        """The best that there is."""
        if self._traceback and (text := self._traceback.text()):
            return text
        return "\n".join(self._specific) or self._generic or _clean(self._last).strip()

    def _look(self, line: str) -> bool:
        if line.strip() == _TRACEBACK:
            self._traceback = _Traceback(margin=len(line) - len(line.lstrip()))
            return False
        for recogniser in _SPECIFIC:
            if recogniser.start.search(line):
                self._specific, self._recogniser, self._missing = [line], recogniser, recogniser.more
                return not recogniser.more
        if not self._generic and _GENERIC.search(line):
            self._generic = line.strip()
        return False

    def _follow(self, line: str) -> bool:
        recogniser = self._recogniser
        self._missing -= 1
        if recogniser is None:
            return True
        if not recogniser.until:
            self._specific.append(line)
        elif recogniser.until.search(line):
            self._specific.append(line)
            return True
        elif recogniser.more <= _SHORT:
            self._specific.append(line)
        return self._missing <= 0


_SHORT = 3
"""A recogniser that follows more lines than this looks for one of them only."""


class _Traceback:
    """A Python traceback: its last place and the exception; of a chain, those of the last one."""

    def __init__(self, margin: int) -> None:
        self._margin = margin
        self._place = ""
        self._error = ""
        self._chained = False

    def feed(self, line: str) -> bool:
        """Take a line; whether the traceback and its chain are over."""
        body = line[self._margin :]
        if self._error:
            return self._after(body)
        if body.startswith("  File "):
            self._place = body.strip()
        elif body and not body[0].isspace():
            self._error = body
        return False

    def _after(self, body: str) -> bool:
        if body.startswith(_CHAINED):
            self._chained = True
        elif self._chained and body.strip() == _TRACEBACK:
            self._place = self._error = ""
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
        or block.startswith(_FIRST_WORDS)
        or any(b"\n" + word in block for word in _FIRST_WORDS)
    )


def _clean(data: bytes) -> str:
    return scrub(data.decode("utf-8", "replace")).rstrip()
