"""The command `pytest-build build`: translates to pytest; a build from here and one from pytest are the same run."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from build_tests.core.errors import BuildError
from build_tests.faces.common import build_file

if TYPE_CHECKING:
    import argparse


def declare(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.description = "Build a target, components or steps. Other options are pytest's (or go behind --)."
    add = parser.add_argument
    add("selectors", nargs="*", metavar="SELECTOR", help="a target, a component or a step")
    add("-t", "--target", metavar="NAME", help="the target (default: default_target)")
    add("-k", metavar="EXPR", help="as pytest's -k: kinds, components, steps, tags")
    add("-m", metavar="EXPR", help="as pytest's -m: kinds and tags")
    add("-n", metavar="N", default="auto", help="workers (default: auto, max_workers at the most)")
    add("--build-file", metavar="PATH", help="default: build.yml, or config/build.yml")
    add("--build-env", metavar="NAME", help="environment overlay")
    add("--dry-run", action="store_true", help="print the plan and run nothing")
    add("--json", action="store_true", help="with --dry-run: the plan as one JSON document")
    add("-q", "--quiet", action="store_true", help="no line for each step")
    add("-v", "--verbose", action="count", default=0, help="a line for each step (the default); -vv as pytest's")
    parser.set_defaults(run=_build, passes_on=True)


def _build(options: argparse.Namespace, extra: list[str]) -> int:
    extra = ["-v"] * (options.verbose - 1) + extra
    file = build_file(options.build_file)
    if options.json:
        if not options.dry_run or options.k or options.m or extra:
            raise BuildError("--json goes with --dry-run, and without -k, -m and pytest's own options")
        from build_tests.api import BuildOrchestrator

        plan = BuildOrchestrator.load(file, target=options.target, environment=options.build_env).plan(
            options.selectors
        )
        print(json.dumps(plan.to_json(), indent=1))
        return 0
    arguments = pytest_arguments(options, file)
    if extra or options.k or options.m or options.dry_run:
        return _pytest([*arguments, *extra])
    return _answered(options, file, arguments)


def _answered(options: argparse.Namespace, file: str, arguments: list[str]) -> int:
    """Without pytest where it need not see the build; else with it, and it tells for the next time."""
    from build_tests.core.locate import root_of
    from build_tests.pytestside import recall
    from build_tests.run.places import FOLDER

    folder = os.path.join(root_of(file), FOLDER)
    note = recall(folder, file)
    if note is None:
        from build_tests.session.learn import Learner

        auto, verbosity = options.n == "auto", int(not options.quiet)
        return _pytest(arguments, Learner(folder=folder, file=file, own_verbosity=verbosity, auto=auto))
    from build_tests.faces.fastbuild import answer

    answered = answer(options, file, arguments, note)
    if answered is None or isinstance(answered, int):
        return _pytest(arguments) if answered is None else answered
    try:
        return _pytest(arguments, answered)
    finally:
        answered.checkout.release()


def _pytest(arguments: list[str], *plugins: object) -> int:
    import pytest

    return int(pytest.main(arguments, plugins=list(plugins)))


def pytest_arguments(options: argparse.Namespace, file: str) -> list[str]:
    """The pytest command line that a `build` command means."""
    # Relative where it can be: node ids and headers are for people.
    shown = os.path.relpath(file)
    arguments = ["-n", str(options.n), shown if not shown.startswith("..") else file]
    if not options.quiet:
        arguments.append("-v")
    for option, value in (
        ("--build-target", options.target), ("--build-env", options.build_env), ("-k", options.k), ("-m", options.m),
    ):  # fmt: skip
        if value:
            arguments += [option, value]
    for selector in options.selectors:
        arguments += ["--build-select", selector]
    return [*arguments, "--build-dry-run"] if options.dry_run else arguments
