"""The command `pytest-build doctor`: what the build needs of this machine, what is there, and how to get the rest."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

from build_tests.core.errors import BuildError
from build_tests.faces.common import add_build_file, build_file, plain, print_json

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from build_tests.run.checkup import Finding

VERSION = 1
"""Of the JSON document."""
SHOWN = 3
"""Labels that are named of those that need something."""
CLASHES = {
    "-p no:build_tests.plugin": "this plugin is off",
    "-p no:cacheprovider": "hashes are kept in .build instead of pytest's cache",
    "-p no:xdist": "builds run in one process",
    "--reruns": "failed steps run again, beside their own `retries`, and short rebuilds start workers",
    "--timeout": "ends steps as it ends tests; give a step its own `timeout`",
    "--cache-clear": "every build begins from nothing",
    "--forked": "has no effect on steps",
}
"""Options which, where a repository always sets them, change how builds go."""
RIVALS = {
    "pytest_parallel": "pytest-parallel runs tests in threads of its own; builds are run by pytest-xdist",
    "pytest_mp": "pytest-mp runs tests in processes of its own; builds are run by pytest-xdist",
}


def declare(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--json", action="store_true", help="one JSON document (docs/json.md)")
    add_build_file(parser)
    parser.set_defaults(run=_doctor)


def _doctor(options: argparse.Namespace, extra: Sequence[str]) -> int:
    from build_tests.project import load_project
    from build_tests.run.checkup import Health, checkup

    if extra:
        raise BuildError("doctor takes nothing behind --")
    file = build_file(options.build_file)
    project = load_project(file, target=options.target, environment=options.build_env)
    findings = [*checkup(project.config, project.graph, os.environ), *_pytest(project.config.root)]
    bad = [finding for finding in findings if finding.health is Health.BAD]
    if options.json:
        print_json({"version": VERSION, "ok": not bad, "findings": [_to_json(finding) for finding in findings]})
    else:
        print("\n".join(lines(findings)))
    return 1 if bad else 0


def _to_json(finding: Finding) -> dict[str, object]:
    return {
        "subject": finding.subject, "name": finding.name, "health": finding.health.value, "found": finding.found,
        "hint": finding.hint, "needed_by": list(finding.needed_by),
    }  # fmt: skip


def lines(findings: Sequence[Finding]) -> Iterator[str]:
    """By subject, what is wrong last and whole."""
    marks = {"good": "ok", "note": "--", "bad": "!!"}
    width = max(len(finding.name) for finding in findings)
    for subject in dict.fromkeys(finding.subject for finding in findings):
        yield f"{subject}:"
        for finding in findings:
            if finding.subject == subject:
                yield f"  {marks[finding.health.value]} {finding.name:{width}}  {plain(finding.found)}"
                if finding.hint and finding.health.value != "good":
                    yield f"     {'':{width}}  get it: {finding.hint}" if subject == "tools" else (
                        f"     {'':{width}}  {finding.hint}"
                    )
    yield from _verdict([finding for finding in findings if finding.health.value == "bad"])


def _verdict(bad: Sequence[Finding]) -> Iterator[str]:
    yield ""
    if not bad:
        yield "everything that this build needs is here"
    for finding in bad:
        more = f" and {len(finding.needed_by) - SHOWN} more" if len(finding.needed_by) > SHOWN else ""
        needed = f"; needed by {', '.join(finding.needed_by[:SHOWN])}{more}" if finding.needed_by else ""
        yield f"{finding.name}: {plain(finding.found)}{needed}"


def _pytest(root: str) -> Iterator[Finding]:
    """Versions, and options and plugins that change how builds go."""
    import sys
    from importlib.metadata import version
    from importlib.util import find_spec

    from build_tests.run.checkup import Finding, Health

    yield _good("python", f"{sys.version.split()[0]} ({sys.executable})")
    yield from (_good(name, version(name)) for name in ("pytest-build", "pytest", "pytest-xdist"))
    always = _always(root)
    for option, effect in CLASHES.items():
        if option in always:
            found = f"is always given (addopts): {effect}"
            yield Finding(subject="pytest", name=option, health=Health.NOTE, found=found)
    for module, effect in RIVALS.items():
        if find_spec(module) is not None:
            yield Finding(subject="pytest", name=module, health=Health.NOTE, found=effect)


def _good(name: str, found: str) -> Finding:
    from build_tests.run.checkup import Finding, Health

    return Finding(subject="pytest", name=name, health=Health.GOOD, found=found)


def _always(root: str) -> set[str]:
    """The options that every pytest run in this root gets: `-p NAME` as one, others without their values."""
    from pathlib import Path

    from _pytest.config.findpaths import determine_setup

    settings = determine_setup(
        inifile=None, override_ini=None, args=[root], rootdir_cmd_arg=None, invocation_dir=Path(root)
    )[2]
    given = getattr(settings.get("addopts"), "value", None) or []
    words = shlex.split(given) if isinstance(given, str) else list(map(str, given))
    words += shlex.split(os.environ.get("PYTEST_ADDOPTS", ""))
    return {
        f"-p {word}" if before == "-p" else word.partition("=")[0]
        for before, word in zip(["", *words], words, strict=False)
    }
