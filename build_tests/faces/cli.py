"""The command `pytest-build`: translates to pytest, so that a build from here and one from pytest are the same run."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence

from build_tests.core.errors import BuildError
from build_tests.faces import cachecli, cleancli
from build_tests.faces.common import build_file


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit status, which is pytest's."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    options, rest = _parser().parse_known_args(_before_dashes(arguments))
    extra = arguments[arguments.index("--") + 1 :] if "--" in arguments else []
    if rest:
        _parser().error(f"unknown arguments: {' '.join(rest)} (options of pytest's go behind --)")
    try:
        return int(options.run(options, extra))
    except BuildError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return 4


def _before_dashes(arguments: list[str]) -> list[str]:
    return arguments[: arguments.index("--")] if "--" in arguments else arguments


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pytest-build", description="Builds as tests: one parallel, incremental run.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    build = commands.add_parser("build", help="build", description="Build a target, components or steps.")
    build.add_argument("selectors", nargs="*", metavar="SELECTOR", help="a target, a component or a step")
    build.add_argument("-t", "--target", metavar="NAME", help="the target (default: default_target)")
    build.add_argument("-k", metavar="EXPR", help="as pytest's -k: kinds, components, steps, tags")
    build.add_argument("-m", metavar="EXPR", help="as pytest's -m: kinds and tags")
    build.add_argument("-n", metavar="N", default="auto", help="workers (default: auto, max_workers at the most)")
    build.add_argument("--build-file", metavar="PATH", help="default: build.yml, or config/build.yml")
    build.add_argument("--build-env", metavar="NAME", help="environment overlay")
    build.add_argument("--dry-run", action="store_true", help="print the plan and run nothing")
    build.add_argument("--json", action="store_true", help="with --dry-run: the plan as one JSON document")
    build.add_argument("-q", "--quiet", action="store_true", help="no line for each step")
    build.set_defaults(run=_build)
    schema = commands.add_parser("schema", help="print the JSON schema of build.yml")
    schema.set_defaults(run=_schema)
    cachecli.declare(commands)
    cleancli.declare(commands)
    return parser


def _build(options: argparse.Namespace, extra: list[str]) -> int:
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
    import pytest

    return int(pytest.main([*pytest_arguments(options, file), *extra]))


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


def _schema(_options: argparse.Namespace, _extra: list[str]) -> int:
    from build_tests.core.schema import schema_for
    from build_tests.registry import Registry

    print(json.dumps(schema_for(Registry()), indent=1, ensure_ascii=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
