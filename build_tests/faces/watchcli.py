"""The command `pytest-build watch`: builds what an edit affects, until it is told to stop."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from build_tests.core.errors import BuildError
from build_tests.faces.common import build_file

if TYPE_CHECKING:
    import argparse


def declare(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.description = (
        "Build, then build again what an edit affects. Keys: r rebuilds, e explains, q quits. "
        "Options that are not listed, and what stands behind --, go to pytest with each build."
    )
    add = parser.add_argument
    add("selectors", nargs="*", metavar="SELECTOR", help="a target, a component or a step")
    add("-t", "--target", metavar="NAME", help="the target (default: default_target)")
    add("-k", metavar="EXPR", help="as pytest's -k: kinds, components, steps, tags")
    add("-m", metavar="EXPR", help="as pytest's -m: kinds and tags")
    add("-n", metavar="N", default="auto", help="steps at a time (default: auto, max_workers at the most)")
    add("--build-file", metavar="PATH", help="default: build.yml, or config/build.yml")
    add("--build-env", metavar="NAME", help="environment overlay")
    add("-q", "--quiet", action="store_true", help="no line for each step")
    add("--debounce", metavar="MS", type=int, default=50, help="quiet after an edit before it is built (default: 50)")
    add(
        "--on-edit", choices=("restart", "queue"), default="restart",
        help="what an edit does to a build that runs: end it and build anew (default), or build again after it",
    )  # fmt: skip
    add("--run", dest="program", metavar="COMMAND", help="a program that is started again after each good build")
    add("--compose", metavar="SERVICE", help="a service of Docker Compose that is made anew after each good build")
    parser.set_defaults(run=_watch, dry_run=False, passes_on=True)


def _watch(options: argparse.Namespace, extra: list[str]) -> int:
    from build_tests.faces.watching import Watching

    if options.debounce < 0:
        raise BuildError("--debounce is a number of milliseconds")
    if options.program and options.compose:
        raise BuildError("--run and --compose exclude each other")
    try:
        import watchfiles as _  # noqa: F401 - it is needed behind
    except ImportError:
        raise BuildError("watch needs watchfiles: pip install 'pytest-build[watch]'") from None
    file = build_file(options.build_file)
    keys = sys.stdin.isatty() and sys.stdout.isatty() and os.tcgetpgrp(0) == os.getpgrp()
    return Watching(options, extra, file, keys=keys).run()
