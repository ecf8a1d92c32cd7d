r"""Replaces secrets in a stream of bytes by `***`. Knows no file, no process and nothing else of this package.

The guardian loads this file by its path, in an interpreter without site-packages: standard library only.

What is found of each secret, also when it is split over any number of writes:

- the value itself, any of its bytes percent-encoded (`%2F`, `%2f`, `+` for a space) or escaped as in JSON (`\n`);
- its base64, standard and URL-safe, at each of the three alignments it can have inside a longer text, wrapped or not;
- of a value with several lines, each line that is long enough.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterable, Iterator

MINIMUM = 6
"""Characters. Shorter values would blot out ordinary text, and tell what they are by where the `***` stand."""
REPLACEMENT = b"***"

_JSON_ESCAPES = {
    ord("\n"): rb"\\n",
    ord("\r"): rb"\\r",
    ord("\t"): rb"\\t",
    ord('"'): rb"\\\"",
    ord("\\"): rb"\\\\",
    ord("/"): rb"\\/",
}
_LINE_BREAK = rb"(?:\r?\n)?"
_PADDING = rb"(?:" + _LINE_BREAK + rb"[A-Za-z0-9+/_-]?={1,2})?"
# Of each alignment k: how many leading characters of the base64 also depend on the k bytes before the value.
_LEADING = (0, 2, 3)


class Masker:
    """Masks the given values. `feed` and `finish` work on a stream; `mask_text` on a text of its own.

    Raises ValueError when a value has fewer than six characters; the message names no value.
    """

    def __init__(self, values: Iterable[bytes | str]) -> None:
        self._held = b""
        self._pattern, self._longest = _compile(_parts(os.fsencode(value) for value in values))

    def feed(self, chunk: bytes) -> bytes:
        """The masked text that is certain by now. Memory: one chunk and the longest form of a secret."""
        text = self._held + chunk
        return self._advance(text, len(text) - self._longest + 1)

    def finish(self) -> bytes:
        """The masked rest. The masker is ready for another stream afterwards."""
        return self._advance(self._held, len(self._held))

    def mask_text(self, text: str) -> str:
        """The text with every secret masked."""
        data = text.encode("utf-8", "surrogatepass")
        masked = self._pattern.sub(REPLACEMENT, data) if self._pattern else data
        # Strict would fail where a secret that is no UTF-8 was cut out of the middle of a character.
        return text if masked == data else masked.decode("utf-8", "replace")

    def finds(self, chunks: Iterable[bytes]) -> bool:
        """Whether a secret stands anywhere in the stream of chunks."""
        tail = b""
        for chunk in chunks:
            text = tail + chunk
            if self._pattern and self._pattern.search(text):
                return True
            tail = text[max(0, len(text) - self._longest + 1) :]
        return False

    def _advance(self, text: bytes, limit: int) -> bytes:
        # A match that begins before `limit` has all the bytes it could ever want in front of it; one that begins
        # later might grow with the next chunk, so it is held back. So the result is that of the whole text at once.
        done, masked = 0, []
        for start, end in self._spans(text):
            if start >= limit:
                break
            masked += [text[done:start], REPLACEMENT]
            done = end
        keep = max(done, limit, 0)
        masked.append(text[done:keep])
        self._held = text[keep:]
        return b"".join(masked)

    def _spans(self, text: bytes) -> Iterator[tuple[int, int]]:
        return (match.span() for match in self._pattern.finditer(text)) if self._pattern else iter(())


def can_be_masked(value: bytes | str) -> bool:
    """Whether a value is long enough, without the white space around it."""
    return _characters(os.fsencode(value).strip()) >= MINIMUM


def _parts(values: Iterable[bytes]) -> list[bytes]:
    parts = set()
    for value in values:
        if not can_be_masked(value):
            raise ValueError(f"a secret has fewer than {MINIMUM} characters: it can't be masked")
        lines = [line.strip() for line in value.splitlines()]
        parts |= {value, value.strip(), *(line for line in lines if _characters(line) >= MINIMUM)}
    return sorted(parts, key=lambda part: (-len(part), part))


def _characters(value: bytes) -> int:
    return len(value.decode("utf-8", "replace"))


def _compile(parts: list[bytes]) -> tuple[re.Pattern[bytes] | None, int]:
    if not parts:
        return None, 1
    # Every branch begins with a plain byte: only then does `re` skip through the text by a table of first bytes.
    branches = [branch for part in parts for branch in (*_spelled(part), *_base64(part))]
    # Base64 with a line break after each character is longer than any other form.
    longest = 3 * (len(base64.b64encode(parts[0])) + 4)
    return re.compile(b"|".join(dict.fromkeys(branches))), longest


def _spelled(value: bytes) -> list[bytes]:
    """The value with each byte as itself, percent-encoded or JSON-escaped, in any mixture."""
    rest = b"".join(b"(?:" + b"|".join(_spellings(byte)) + b")" for byte in value[1:])
    return [first + rest for first in _spellings(value[0])]


def _spellings(byte: int) -> list[bytes]:
    spellings = [re.escape(bytes([byte])), b"%" + b"".join(_either_case(digit) for digit in f"{byte:02x}")]
    if byte == ord(" "):
        spellings.append(rb"\+")
    if byte in _JSON_ESCAPES:
        spellings.append(_JSON_ESCAPES[byte])
    return spellings


def _either_case(digit: str) -> bytes:
    return (digit if digit.isdigit() else f"[{digit}{digit.upper()}]").encode()


def _base64(value: bytes) -> Iterator[bytes]:
    """The characters of its base64 that depend on the value alone, whatever stands before and after it."""
    for shift, leading in enumerate(_LEADING):
        encoded = base64.b64encode(b"\0" * shift + value)
        core = encoded[leading : (shift + len(value)) * 8 // 6]
        # What the core leaves over at the end is a character with the value's last bits, then the padding.
        rest = b"".join(_LINE_BREAK + b"(?:" + b"|".join(_alphabets(byte)) + b")" for byte in core[1:])
        yield from (first + rest + _PADDING for first in _alphabets(core[0]))


def _alphabets(byte: int) -> list[bytes]:
    return {ord("+"): [rb"\+", b"-"], ord("/"): [b"/", b"_"]}.get(byte, [re.escape(bytes([byte]))])
