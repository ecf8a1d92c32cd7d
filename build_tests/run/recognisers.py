"""How tools say that something is wrong: what `logs` looks for, a line of this table for each family of tools."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Recogniser:
    """How one family of tools says that something is wrong."""

    start: re.Pattern[str]
    more: int = 0
    """How many of the lines that follow belong to it, empty ones not counted."""
    until: re.Pattern[str] | None = None
    """A line that ends it earlier, and belongs to it."""
    drop: re.Pattern[str] | None = None
    """Lines of it that say nothing; they count for nothing."""
    place: re.Pattern[str] | None = None
    """A line further below that says where; it belongs to it."""
    above: re.Pattern[str] | None = None
    """The nearest such line above belongs to it, unless there was a `place`."""
    adjacent: bool = False
    """Only where the line just above is one of `above`."""
    order: Order = "last"
    """Where the line from above is told: after all, before all, or as the beginning of the first line."""


Order = Literal["last", "first", "joined"]


def _known(
    start: str, more: int = 0, *, adjacent: bool = False, order: Order = "last", **patterns: str
) -> Recogniser:
    compiled = {name: re.compile(text) for name, text in patterns.items()}
    return Recogniser(start=re.compile(start), more=more, adjacent=adjacent, order=order, **compiled)


# The first frame that is none of the libraries'.
_JAVA_FRAME = (
    r"^\s+at (?!(?:org\.(?:junit|opentest4j|assertj|hamcrest|testng|gradle)|junit|javax?|jdk|sun|kotlin)\.)"
    r"[^()\n]+\(\w+\.\w+:\d+\)"
)
_NODE_FRAME = r"^\s+(?:at|\u276f) (?!.*(?:node:|node_modules/|<anonymous>\))).*?[\w)]:\d+:\d+\)?(?: \{)?$"
_COMPLAINT = r"(?i)error|fatal|no such|can't|cannot|not found|denied|fail"

# Those that name a place or a cause. The first line in the log that any of them knows wins.
SPECIFIC = (
    # maven: javac and kotlinc through it, a failed test (its second line says why), what it could not do at all
    _known(r"^\[ERROR\] (?:file://)?\S+:\s?[\[(]\d+,\s?\d+[\])]"),
    _known(r"^\[ERROR\] (?:file://)?\S+\.\w+:\d+:\d+ "),
    _known(r"^\[ERROR\] (?!Tests run:).*<<< (?:FAILURE|ERROR)!", more=1, place=_JAVA_FRAME),
    _known(r"^\[ERROR\] (?:Non-parseable|Unknown lifecycle|Malformed|The goal you specified)"),
    _known(r"^\[ERROR\] Failed to execute goal on project .*: Could not (?:resolve|collect)"),
    # kotlinc, gradle
    _known(r"^e: \S+"),
    _known(r"^\S.* > .* FAILED$", more=1, place=_JAVA_FRAME),
    _known(r"^\* Where:", more=4, drop=r"^\* "),
    _known(r"^\* What went wrong:", more=3, drop=r"^\* "),
    # tsc, plain and pretty; webpack, whose next lines hold the place and the reason
    _known(r"^\S.*[(:]\d+[,:]\d+\)?(?::| -) error TS\d+:"),
    _known(r"^error TS\d+:"),
    _known(r"^(?:\[webpack-cli\] |\[tsl\] )?ERROR in \S", more=3, until=r"error|Error|TS\d+:"),
    _known(r"^\[webpack-cli\] (?!.*(?:wait|Compil))"),
    # vite, esbuild; eslint, whose files stand above their errors; jest, and the others that throw: below
    _known(r"^error during build:", more=2, drop=r"^error during build:|^Build failed with"),
    _known(r"^✘ \[ERROR\] ", more=1),
    _known(r"^ +\d+:\d+ +error +\S", above=r"^(?:/|\w:\\|\.{0,2}[\w@-])[^ ]*$", order="joined"),
    _known(r"^ +● (?!Console$)", more=3, place=_NODE_FRAME),
    # pytest: the first line that says why, and the place below it; of what can't be imported, above it
    _known(r"^E   +\S", place=r"^\S+\.py:\d+: ", above=r"^\S+\.py:\d+: in "),
    _known(r"^(?:FAILED|ERROR) \S+\.py(?:::\S+)?"),
    # ruff, flake8, pylint; uv and pip
    _known(r"^\S+\.pyi?:\d+:\d+: (?:[A-Z]{1,5}\d+|invalid-syntax)\b"),
    _known(r"^Would reformat: "),
    _known(r"^error: (?:No solution found|Failed to )", more=1),
    _known(r"^ERROR: THESE PACKAGES DO NOT MATCH THE HASHES", more=3),
    # protoc, buf
    _known(r"^\S+\.proto:\d+:\d+:(?! ?warning)"),
    _known(r"^\S+\.proto:\s?File not found", more=1),
    _known(r"^protoc(?:-gen-\S+)?: (?!warning)|^--\w+_out: "),
    # docker
    _known(r"^(?:#\d+ )?ERROR: (?:executor failed|process )", above=_COMPLAINT, order="first"),
    _known(r"^(?:#\d+ )?ERROR: (?:failed to|dockerfile|Cannot connect)"),
    _known(r"^(?:#\d+ )?ERROR: .*: not found", above=r"^#\d+ \["),
    _known(r"^The command '.*' returned a non-zero code", above=_COMPLAINT, order="first"),
    _known(r"^(?:Dockerfile|dockerfile) parse error"),
    _known(r"^Error response from daemon: "),
    # gcc, clang, javac alone, go vet, cargo (the place stands below)
    _known(r"^[^\s:][^:]*:\d+(?::\d+)?: (?:fatal )?error: "),
    _known(r"^error\[E\d+\]: ", more=1),
    _known(r"^ +--> \S+:\d+:\d+", above=r"^(?:error|[A-Z]{1,5}\d+|invalid-syntax)\b", adjacent=True, order="first"),
    _known(r"^\S+\.go:\d+:\d+: "),
    # go test, and what a test of Rust's says below its place
    _known(r"^\s+\S+_test\.go:\d+: "),
    _known(r"^\s*thread '.*' (?:\(\d+\) )?panicked at ", more=3),
    _known(r"undefined reference to "),
    # npm, yarn, pnpm
    _known(r"^npm (?:error|ERR!) ", more=2, drop=r"^npm (?:error|ERR!)$"),
    _known(r"^\s?ERR_PNPM_\w+"),
    # shells
    _known(r"^(?:\S+: )?(?:line )?\d+: .*(?:not found|No such file|ermission denied|yntax error)"),
    _known(r"^\S+: (?:line )?\d+: .*: (?:command )?not found"),
    _known(r"^make(?:\[\d+\])?: \*\*\* "),
    # Node's own assertions, with what differs
    _known(
        r"^ *AssertionError \[ERR_ASSERTION\]: .*:$", more=4, place=_NODE_FRAME,
        drop=r"^\s*(?:\+ actual - expected.*|\^+)$",
    ),
    # exceptions of Node, uncaught or in its tests and Vitest's; of Java
    _known(r"^(?:Uncaught | {2,})?(?:[A-Z]\w*)?Error(?: \[\w+\])?: \S", place=_NODE_FRAME),
    _known(r'^Exception in thread "', more=1),
)
