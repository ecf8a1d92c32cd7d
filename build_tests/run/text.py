"""What may stand in a report, how times read. Not in `logs`: a build in which nothing ran needs only this."""

from __future__ import annotations

import re
from functools import cache


def scrub(text: str) -> str:
    """The text without terminal escapes, and with U+FFFD for whatever XML 1.0 or a terminal must not see.

    That is: control characters but tab and line breaks, lone surrogates, U+FFFE and U+FFFF. Every string that enters
    a report goes through here.
    """
    if text.isascii() and text.isprintable():
        return text
    return _illegal().sub("\N{REPLACEMENT CHARACTER}", _escapes().sub("", text))


def duration(seconds: float) -> str:
    """`0.12 s`, `12.3 s`, `3 min 20 s`."""
    if seconds < 1:
        return f"{seconds:.2f} s"
    if seconds < 100:  # noqa: PLR2004 - three digits at the most
        return f"{seconds:.1f} s"
    return f"{int(seconds) // 60} min {int(seconds) % 60:02d} s"


@cache
def _escapes() -> re.Pattern[str]:
    return re.compile(
        r"""\x1b\[[0-?]*[ -/]*[@-~]            # CSI: colours, cursor
          | \x1b[\]PX^_][^\x07\x1b\n]*(?:\x07|\x1b\\)?   # OSC, DCS …: titles, links
          | \x1b[ -/]*[0-Z\\^-~]               # short ones
        """,
        re.VERBOSE,
    )


@cache
def _illegal() -> re.Pattern[str]:
    return re.compile("[^\t\n\r\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
