"""The command `pytest-build`: finds the module of the named command, and hands over. Imports nothing else.

A command is a module of this folder with `declare(parser)`, which adds its arguments and sets its default `run`: a
function of the parsed options and of what pytest shall get, which returns the exit status. `passes_on` is a default of
those that start pytest: an option that they don't know is pytest's. `--` is for values that stand apart from a long one
(`--maxfail 2`).
"""

from __future__ import annotations

import io
import os
import sys

from build_tests.core.errors import BuildError

TYPE_CHECKING = False  # typing's own costs its import
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from types import ModuleType

COMMANDS = {
    "build": ("buildcli", "build"),
    "cache": ("cachecli", "keys and the state of the artifact cache"),
    "clean": ("cleancli", "remove what is stale"),
    "doctor": ("doctorcli", "tools, versions, servers: what the build needs, and how to get it"),
    "explain": ("explaincli", "what will be built and why, or why it was"),
    "graph": ("graphcli", "which step needs which, and the critical path"),
    "import-makefile": ("importcli", "write a build.yml from a Makefile"),
    "init": ("initcli", "write a build.yml for a repository that has none"),
    "log": ("logcli", "what the last run did, and a command that repeats a step alone"),
    "profile": ("profilecli", "where the time of the last run went"),
    "schema": ("schemacli", "print the JSON schema of build.yml"),
    "status": ("statuscli", "every step's state now"),
    "watch": ("watchcli", "build what an edit affects, until told to stop"),
}
"""Command → its module in this folder, and what it does in a few words."""
PIPE_CLOSED = 141
"""What a shell makes of a program that a closed pipe has ended."""
_WITH_VALUES = ("-W", "-c", "-o", "-p", "-r")
"""pytest's short options that take the next word."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit status, which is pytest's."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] not in COMMANDS:
        return _no_command(arguments)
    name = arguments.pop(0)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # an arrow must not end a command in an older locale
    try:
        status = _run(name, _module(name), arguments)
        print(end="", flush=True)  # where there is no standard output, too
    except BuildError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return 4
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # Whoever reads has seen enough (`| head`). The interpreter flushes once more at its end, and must not fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return PIPE_CLOSED
    return status


def _module(name: str) -> ModuleType:
    # importlib itself would be one more import.
    found: ModuleType = __import__(f"{__package__}.{COMMANDS[name][0]}", fromlist=["declare"])
    return found


def _run(name: str, module: ModuleType, arguments: list[str]) -> int:
    ours, extra = split_at_dashes(arguments)
    parser = parser_of(name, module)
    if not parser.get_default("passes_on"):
        options, rest = parser.parse_known_args(ours)
        if rest:
            parser.error(f"unknown arguments: {' '.join(rest)}")
        return int(options.run(options, extra))
    ours, passed = _told_apart(ours)
    options, rest = parser.parse_known_args(ours)
    words = [*options.selectors, *rest]  # argparse takes an unknown option with a space in it for a selector
    options.selectors = [word for word in words if not word.startswith("-")]
    return int(options.run(options, [*passed, *(word for word in words if word.startswith("-")), *extra]))


def _told_apart(words: list[str]) -> tuple[list[str], list[str]]:
    """What argparse can read, and what is pytest's for sure: short options with their values."""
    ours: list[str] = []
    passed: list[str] = []
    left = iter(words)
    for word in left:
        if word in _WITH_VALUES:
            passed += [word, *(value for value in (next(left, None),) if value is not None)]
        elif word.startswith(("-q", "-v")) and (others := word[1:].lstrip("qv")):  # -qx
            ours += [word.removesuffix(others), f"-{others}"]
        else:
            ours.append(word)
    return ours, passed


def split_at_dashes(arguments: list[str]) -> tuple[list[str], list[str]]:
    """What stands before the first `--`, and what behind."""
    if "--" not in arguments:
        return arguments, []
    at = arguments.index("--")
    return arguments[:at], arguments[at + 1 :]


def parser_of(name: str, module: ModuleType) -> argparse.ArgumentParser:
    """A command's own parser."""
    import argparse

    about = COMMANDS[name][1]
    parser = argparse.ArgumentParser(prog=f"pytest-build {name}", description=f"{about[0].upper()}{about[1:]}.")
    module.declare(parser)
    return parser


def _no_command(arguments: list[str]) -> int:
    """Help, or what is wrong with the first word."""
    import argparse

    width = max(map(len, COMMANDS))
    parser = argparse.ArgumentParser(
        prog="pytest-build", description="Builds as tests: one parallel, incremental run.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="\n".join(["commands:", *(f"  {name:{width}}  {about}" for name, (_, about) in COMMANDS.items())]),
    )  # fmt: skip
    parser.add_argument("command", metavar="COMMAND", choices=COMMANDS, help="each has a --help of its own")
    parser.parse_args(arguments[:1])
    return 2  # not reached: no arguments, or a first one that is no command, ends in parse_args


if __name__ == "__main__":
    sys.exit(main())
