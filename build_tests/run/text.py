"""What may stand in a report. Apart from the reading of logs, since a build in which nothing ran needs only this."""

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
