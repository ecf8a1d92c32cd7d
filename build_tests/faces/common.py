"""What the commands share: which build file is meant, and how sizes and times are written for people."""

from __future__ import annotations

import os

from build_tests.core.errors import BuildError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse


def build_file(named: str | None) -> str:
    """The build file that an option names, or that lies in the current folder; absolute. Raises BuildError."""
    from build_tests.core.locate import NAMES

    found = named_or_found(named)
    if found is None:
        raise BuildError(f"neither {' nor '.join(NAMES)} is here ({os.getcwd()}){_above(os.getcwd())}")
    return found


def _above(folder: str) -> str:
    """What to do where a build file lies further up; "" where none does."""
    from build_tests.core.locate import find_build_file, root_of

    while (above := os.path.dirname(folder)) != folder:
        folder = above
        if (found := find_build_file(folder)) is not None:
            return f": go to {os.path.relpath(root_of(found))}, or name it, --build-file {os.path.relpath(found)}"
    return ""


def named_or_found(named: str | None) -> str | None:
    """As `build_file`, but None where there is none. Raises BuildError: the one that was named is not there."""
    from build_tests.core.locate import find_build_file

    if named is None:
        return find_build_file(os.getcwd())
    if not os.path.isfile(named):
        raise BuildError(f"--build-file {named}: no such file")
    return os.path.abspath(named)


def add_build_file(parser: argparse.ArgumentParser) -> None:
    """The arguments that say which build is meant."""
    parser.add_argument("-t", "--target", metavar="NAME", help="the target (default: default_target)")
    parser.add_argument("--build-file", metavar="PATH", help="default: build.yml, or config/build.yml")
    parser.add_argument("--build-env", metavar="NAME", help="environment overlay")


def print_json(document: object) -> None:
    """One document on standard output. Surrogates of odd file names become escapes."""
    import json

    print(json.dumps(document, indent=1))


def size_text(size: float) -> str:
    """Bytes, in decimal units: `1.2 MB`."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:  # noqa: PLR2004
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def duration_text(seconds: float) -> str:
    """Seconds as build.yml writes them: `7d`, `90m`."""
    for unit, length in (("w", 604800), ("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length and seconds % length == 0 and (unit != "w" or seconds > length):
            return f"{seconds / length:.0f}{unit}"
    return f"{seconds:g}s"


def count_text(number: int, noun: str) -> str:
    """`1 file`, `1,200 files`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def plain(text: str) -> str:
    """In one line, and without what a terminal must not see: names of files, and what strangers wrote into entries."""
    from build_tests.run.text import scrub

    return scrub(text).replace("\n", "\N{REPLACEMENT CHARACTER}")
