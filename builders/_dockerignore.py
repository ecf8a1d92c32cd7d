r"""Reads a .dockerignore as docker does, and says it in the build's own patterns. Knows no Dockerfile, no component.

Docker's rules (moby's `patternmatcher`), which are neither the shell's nor git's:

- a line takes away what it matches and all below it; `!` lets in again; the last line that matches decides;
- every line is anchored at the context, with or without a leading `/`; a trailing one means nothing;
- `*` and `?` stay within a name, and so does a set; `**/` is any number of folders, none too;
- `**` beside other text crosses folders: `**x` is any path that ends in `x`, `x**` any that begins so, and `a**b` is
  `ab`, or a path that begins with `a`, whose last name begins with `b`;
- `[!a]` is "an exclamation mark or an a"; only `[^a]` is "not an a".

Left out: to docker `[^a]` may also be a `/`, and a backslash before a letter is a class of regular expressions.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Sequence

from build_tests.core.builder import ManifestError, matches, pattern_from_root

Segments = tuple[str, ...]
"""A pattern, name by name, in the build's own language. All below what it matches is meant too."""

STARS = "**"


def lines(text: str) -> Iterator[tuple[int, bool, str]]:
    """The number, the sense (True = lets in again) and the cleaned pattern of each line that says something."""
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
        entry = line.strip()
        if line.startswith("#") or not entry:
            continue
        # Cleaned before the `!` and with it, as docker does: `!../../x` takes away x.
        sign = "!" * entry.startswith("!")
        if body := entry[len(sign) :].strip():
            body = posixpath.normpath(body)
            body = body if body == "/" else body.lstrip("/")
        entry = posixpath.normpath(sign + body)
        lets_in = entry.startswith("!")
        pattern = entry[lets_in:]
        if pattern not in {"/", ".", ".."} and not pattern.startswith("../"):
            yield number, lets_in, pattern


def ignored(text: str, context: str, sources: Iterable[Segments], path: str) -> Iterator[str]:
    """A .dockerignore as input patterns from the root, to stand behind those of `sources`.

    `!…` takes away; what the file lets in again stands plain, as far as it is one of the sources.

    Args:
        text: the file.
        context: the folder that it speaks of, from the root.
        sources: what the Dockerfile takes from the context.
        path: where the file lies, for messages.

    Raises:
        ManifestError: a line is no pattern; docker would refuse it too.
    """
    wanted = list(sources)
    for number, lets_in, pattern in lines(text):
        try:
            means = alternatives(pattern)
        except ValueError as error:
            raise ManifestError(f"{path}:{number}: {pattern!r} {error}", file=path, line=number) from None
        if lets_in:
            means = [both for one in means for source in wanted for both in meet(source, one)]
        for segments in dict.fromkeys(means):
            yield from from_root(segments, context, sign="" if lets_in else "!")


def from_root(segments: Segments, folder: str, sign: str = "") -> Iterator[str]:
    """The pattern below a folder as the build's own, from the root; () = the whole folder. Raises ManifestError."""
    text = "/".join(segments or (STARS,))
    try:
        yield pattern_from_root(sign + text, folder)
        if segments and segments[-1] != STARS and not is_literal(segments[-1]):
            # A last name without a wildcard means all below it in any case.
            yield pattern_from_root(f"{sign}{text}/{STARS}", folder)
    except ValueError as error:
        raise ManifestError(f"{text!r}: {error}") from None


def alternatives(pattern: str) -> list[Segments]:
    """What one cleaned pattern matches, as a union. Raises ValueError saying what is wrong with it."""
    if not pattern:
        raise ValueError("lets in nothing")
    rest = pattern[2:]
    if pattern.startswith(STARS) and not rest.startswith("/") and not re.search(r"[*?\[\]\\]", rest):
        # Docker looks only whether the path ends in the rest.
        return [(STARS, *("*" + "".join(map(_literal, rest))).split("/"))] if rest else [(STARS,)]
    found: list[list[str]] = [[""]]
    for token in _tokens(pattern):
        found = [longer for one in found for longer in _longer(one, token)]
    return [tuple(one) for one in found]


def meet(first: Segments, second: Segments) -> list[Segments]:
    """What both match, as a union. Where both have a wildcard in one name, the first's: rather too much."""
    if not first or not second:
        return [first or second]
    a, b = first[0], second[0]
    if STARS not in {a, b}:
        name = _both(a, b)
        return [] if name is None else [(name, *rest) for rest in meet(first[1:], second[1:])]
    if a == b:
        return _behind(STARS, [*meet(first[1:], second), *meet(first, second[1:])])
    if a == STARS:
        return [*meet(first[1:], second), *_behind(b, meet(first, second[1:]))]
    return [*meet(first, second[1:]), *_behind(a, meet(first[1:], second))]


def _behind(name: str, ways: Iterable[Segments]) -> list[Segments]:
    found = (way if name == STARS and way[:1] == (STARS,) else (name, *way) for way in ways)
    return list(dict.fromkeys(found))


def source_segments(source: str) -> Segments:
    """A source of COPY or ADD; () = the whole context. Stars never cross folders there. Raises ValueError."""
    names = [name for name in source.split("/") if name]
    return tuple("".join(_tokens(re.sub(r"\*\*+", "*", name))) for name in names)


def is_literal(segment: str) -> bool:
    """Whether a name of a pattern has no wildcard."""
    return not re.search(r"[*?\[]", re.sub(r"\\.", "", segment))


def _tokens(pattern: str) -> Iterator[str]:
    """Each character in our language, `/`, and docker's `**` as `(.*/)?` or, at the end, `.*`. Raises ValueError."""
    at = 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char == "*" and pattern.startswith("*", at):
            at += 1 + pattern.startswith("/", at + 1)
            yield "(.*/)?" if at < len(pattern) else ".*"
        elif char == "[":
            end = _closing(pattern, at)
            yield _set(pattern[at:end])
            at = end + 1
        elif char == "\\":
            if at == len(pattern):
                raise ValueError("ends in a backslash")
            yield _literal(pattern[at])
            at += 1
        else:
            yield char if char in "*?/" else _literal(char)


def _literal(char: str) -> str:
    return "\\" + char if char in "*?[\\!" else char


def _closing(pattern: str, at: int) -> int:
    """Where the set ends that begins before `at`. Raises ValueError."""
    index = at + pattern.startswith("^", at)
    first = index
    while index < len(pattern) and (pattern[index] != "]" or index == first):
        index += 1 + (pattern[index] == "\\")
    if index >= len(pattern):
        raise ValueError("has a [ that no ] closes")
    return index


def _set(inside: str) -> str:
    """What stands in a set, in our language, where `!` at its beginning would negate it."""
    negated = inside.startswith("^")
    body = re.sub(r"\\(.)|([\[!^])", lambda m: "\\" + (m[1] or m[2]), inside[negated:])
    return f"[{'!' if negated else ''}{body}]"


def _longer(names: Sequence[str], token: str) -> Iterator[list[str]]:
    """A pattern that goes on with one more token; the last name is the one being written."""
    *before, last = names
    match token:
        case "/":
            yield [*names, ""]
        case "(.*/)?" if last:
            yield [*names]
            yield [*before, _starred(last), STARS, ""]
        case "(.*/)?":
            yield [*before, STARS, ""]
        case ".*" if last:
            yield [*before, _starred(last)]
        case ".*":
            yield [*before, STARS]
        case "*":
            yield [*before, _starred(last)]
        case _:
            yield [*before, last + token]


def _starred(name: str) -> str:
    """The name, a `*` behind it. Two would be a folder's worth of names."""
    return name if re.fullmatch(r"(?:[^\\]|\\.)*\*", name) else name + "*"


def _both(first: str, second: str) -> str | None:
    """A name that both match, or None."""
    if is_literal(first) or is_literal(second):
        one, other = (first, second) if is_literal(first) else (second, first)
        return one if one == other or matches((other,), re.sub(r"\\(.)", r"\1", one)) else None
    return second if first == "*" else first
