"""Lines and words of a Dockerfile: continuation, comments, heredocs, flags, variables. Knows no instruction."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_DIRECTIVE = re.compile(r"#\s*(\w+)\s*=\s*(.*?)\s*$")
_HEREDOC = re.compile(r"\d*<<(-?)(['\"]?)([^<\s'\"]+)\2")
_NAME = re.compile(r"\w+")
_OPERATOR = re.compile(r":?[-+?]")
UNKNOWN = "\0"
"""Stands for what is known only while docker builds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """One instruction, its lines joined."""

    line: int
    word: str
    """In capitals."""
    flags: tuple[str, ...] = ()
    """`--name=value` before the rest."""
    rest: str = ""

    def flag(self, name: str) -> str | None:
        """A flag's value."""
        return next((flag.partition("=")[2] for flag in self.flags if flag.startswith(f"--{name}=")), None)

    def operands(self) -> list[str]:
        """Sources and target of COPY and ADD, written as words or as a JSON list."""
        if self.rest.startswith("["):
            try:
                return [str(word) for word in json.loads(self.rest)]
            except ValueError:
                pass  # docker too reads what is no JSON as words
        return self.rest.split()


def escape_of(text: str) -> str:
    """The character that continues a line; a directive at the very top may change it."""
    for line in text.removeprefix("\ufeff").split("\n"):
        found = _DIRECTIVE.match(line.strip())
        if found is None:
            break
        if found[1].lower() == "escape" and found[2] in {"\\", "`"}:
            return found[2]
    return "\\"


def instructions(text: str) -> Iterator[Instruction]:
    """The instructions of a Dockerfile, in its order."""
    lines = text.removeprefix("\ufeff").split("\n")
    escape = re.escape(escape_of(text))
    goes_on = re.compile(rf"(?:(?<!{escape})|^){escape}[ \t]*$")
    at = 0
    while at < len(lines):
        start, logical, open_ended = at, "", True
        while open_ended and at < len(lines):
            line = lines[at].rstrip("\r")
            at += 1
            if line.lstrip().startswith("#") or not line.strip():
                open_ended = bool(logical)
                continue
            open_ended = goes_on.search(line) is not None
            logical += goes_on.sub("", line) if open_ended else line
        if logical.strip():
            found = instruction(start + 1, logical)
            at = _after_heredocs(lines, at, found)
            yield found


def instruction(line: int, text: str) -> Instruction:
    """One from its joined lines."""
    word, rest = (*text.strip().split(maxsplit=1), "")[:2]
    flags: list[str] = []
    while rest.startswith("--"):
        flag, rest = (*rest.split(maxsplit=1), "")[:2]
        flags.append(flag)
    return Instruction(line=line, word=word.upper(), flags=tuple(flags), rest=rest.strip())


def words(text: str) -> list[str]:
    """Split at white space, but not in quotes, which stay."""
    return re.findall(r"(?:\\.|'[^']*'|\"(?:\\.|[^\"])*\"|\S)+", text)


def pairs(text: str) -> Iterator[tuple[str, str]]:
    """`a=1 b=2`, and the old form of ENV, `a 1`; values as they are written."""
    found = words(text)
    if found and "=" not in found[0]:
        yield found[0], text.strip()[len(found[0]) :].strip()
        return
    for word in found:
        name, _, value = word.partition("=")
        yield name, value


def is_heredoc(word: str) -> bool:
    """Whether a word of COPY stands for the lines below it."""
    return _HEREDOC.fullmatch(word) is not None


def expanded(
    text: str, value_of: Callable[[str], str | None], *, escape: str = "\\", quotes: str = "'\"", unset: str = ""
) -> str:
    """A word with its variables put in and its quotes taken off.

    Args:
        text: the word.
        value_of: a variable's value; None = it is not set; `UNKNOWN` = only the build knows.
        escape: takes the next character as it is; "" = none.
        quotes: the characters that quote.
        unset: what stands for a variable that is not set.
    """
    out: list[str] = []
    at, quote = 0, ""
    while at < len(text):
        char = text[at]
        at += 1
        if char == quote:
            quote = ""
        elif char in quotes and not quote:
            quote = char
        elif escape and char == escape and quote != "'" and at < len(text):
            out.append(text[at])
            at += 1
        elif char == "$" and quote != "'":
            value, at = _variable(text, at, value_of, unset)
            out.append(value)
        else:
            out.append(char)
    return "".join(out)


def _variable(text: str, at: int, value_of: Callable[[str], str | None], unset: str) -> tuple[str, int]:
    """The value of what stands behind a `$`, and where the rest begins."""
    if not text.startswith("{", at):
        name = _NAME.match(text, at)
        if name is None:
            return "$", at
        value = value_of(name[0])
        return unset if value is None else value, name.end()
    end = _closing_brace(text, at + 1)
    inside = text[at + 1 : end]
    name = _NAME.match(inside)
    if name is None:
        return UNKNOWN, end + 1
    value, rest = value_of(name[0]), inside[name.end() :]
    operator = _OPERATOR.match(rest)
    if not rest:
        return unset if value is None else value, end + 1
    if value == UNKNOWN or operator is None:
        return UNKNOWN, end + 1
    is_set = value is not None and (value != "" or not operator[0].startswith(":"))
    other = expanded(rest[operator.end() :], value_of, unset=unset)
    chosen = {"-": value if is_set else other, "+": other if is_set else "", "?": value}[operator[0][-1]]
    return chosen or "", end + 1


def _closing_brace(text: str, at: int) -> int:
    depth = 1
    for index in range(at, len(text)):
        depth += (text[index] == "{") - (text[index] == "}")
        if depth == 0:
            return index
    return len(text)


def _after_heredocs(lines: list[str], at: int, found: Instruction) -> int:
    """Where the instruction ends, whose heredocs begin at `at`. Where nothing closes one, it is none."""
    if found.word == "ONBUILD":
        found = instruction(found.line, found.rest)
    if found.word not in {"RUN", "COPY", "ADD"}:
        return at
    for mark in filter(None, (_HEREDOC.fullmatch(word) for word in _plain_words(found.rest))):
        body = range(at, len(lines))
        closing = (i for i in body if (lines[i].lstrip("\t") if mark[1] else lines[i]).rstrip("\r") == mark[3])
        at = next(closing, at - 1) + 1
    return at


def _plain_words(text: str) -> list[str]:
    return [word for part in words(text) for word in re.split(r"[;&|()>]+", part)] if "<<" in text else []
