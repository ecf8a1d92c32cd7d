"""The command `pytest-build import-makefile`: a build.yml from a Makefile, and what was not understood, by name."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from build_tests.core.errors import BuildError, SelectionError
from build_tests.faces.common import count_text
from build_tests.faces.yamltext import key_lines

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from build_tests.run.makeimport import Imported, ImportedStep

NAME = "build.yml"
COMPONENT = "make"
DEFAULT_FILES = ("GNUmakefile", "makefile", "Makefile")
HEAD = """\
# Made from {file} by `pytest-build import-makefile`. Steps that make alone understands call make; each says why.
version: "2.0"

components:
  make:
    kind: command
    path: //
    steps:"""


def declare(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.description = "Write a build.yml that does what a Makefile in this folder does."
    parser.add_argument("file", nargs="?", metavar="FILE", help="default: GNUmakefile, makefile or Makefile")
    parser.add_argument(
        "--only", metavar="TARGET", action="append", default=[],
        help="import this target and what it needs (may be given again): one target at a time",
    )  # fmt: skip
    parser.add_argument("-o", "--output", metavar="PATH", default=NAME, help=f"- prints it (default: {NAME})")
    parser.set_defaults(run=_import)


def _import(options: argparse.Namespace, extra: Sequence[str]) -> int:
    from build_tests.run.makeimport import import_makefile

    if extra:
        raise BuildError("import-makefile takes nothing behind --")
    file = _file(options.file)
    imported = import_makefile(os.getcwd(), file, os.environ)
    steps = _chosen(imported, options.only)
    if not steps:
        raise BuildError(f"{file} makes nothing that could be a step")
    text = text_of(file, imported, steps)
    if options.output == "-":
        print(text, end="")
        return 0
    _write(options.output, text)
    calls = [step for step in steps if step.why_call]
    print(f"wrote {options.output}: {count_text(len(steps), 'step')}, {len(calls)} of them calls of make")
    for step in calls:
        print(f"  {step.name}: calls make, since {step.why_call}")
    print("next: pytest-build build; docs/migration.md has the way, one target at a time")
    return 0


def _file(named: str | None) -> str:
    file = named or next((name for name in DEFAULT_FILES if os.path.exists(name)), None)
    if file is None:
        raise BuildError(f"no Makefile is here ({os.getcwd()})")
    if not os.path.isfile(file):
        raise BuildError(f"{file}: no such file")
    if os.path.dirname(os.path.normpath(file)):
        raise BuildError(f"{file} lies in another folder: go there, or make -C would mean other paths")
    return os.path.normpath(file)


def _chosen(imported: Imported, only: Sequence[str]) -> list[ImportedStep]:
    """The steps that the named targets need; all where none is named. Raises SelectionError."""
    if not only:
        return list(imported.steps)
    by_name = {step.name: step for step in imported.steps}
    by_target = {target: step.name for step in imported.steps for target in step.targets}
    wanted: list[str] = []
    for target in only:
        found = imported.aliases.get(target) or [by_target.get(target, target)]
        if any(name not in by_name for name in found):
            raise SelectionError(f"{target!r} is no target of the Makefile")
        wanted += found
    kept: dict[str, ImportedStep] = {}
    while wanted:
        name = wanted.pop()
        if name not in kept:
            kept[name] = by_name[name]
            wanted += [*kept[name].depends_on, *(by_target[path] for path in kept[name].inputs if path in by_target)]
    return [step for step in imported.steps if step.name in kept]


# The file


def text_of(file: str, imported: Imported, steps: Sequence[ImportedStep]) -> str:
    """The build file."""
    names = {step.name for step in steps}
    aliases = {
        name: kept
        for name, found in imported.aliases.items()
        if (kept := [step for step in found if step in names]) and _is_name(name)
    }
    lines = [HEAD.format(file=file)]
    for step in steps:
        tags = [alias for alias, found in aliases.items() if step.name in found]
        lines += _step_lines(step, names, tags, imported.env)
    if aliases:
        lines += ["", "targets:"]
        for alias in aliases:
            lines += [f"  {alias}:", f"    tags: [{_tag(alias)}]"]
    if imported.default in aliases:
        lines.append(f"default_target: {imported.default}")
    return "\n".join(lines) + "\n"


def _step_lines(step: ImportedStep, names: set[str], tags: Sequence[str], env: Any) -> Iterator[str]:
    yield f"      {step.name}:"
    if step.why_call:
        yield f"        # Calls make: {step.why_call}."
    fields: dict[str, Any] = {"command": step.command}
    fields |= {"inputs": step.inputs, "outputs": step.targets}
    fields["depends_on"] = [f"{COMPONENT}:{name}" for name in step.depends_on if name in names and name != step.name]
    fields |= {"env": dict(env) if not step.why_call else {}, "tags": [_tag(alias) for alias in tags]}
    fields |= {"cache": False if step.why_call else None, "on_request": step.on_request or None}
    for key, value in fields.items():
        if value not in (None, [], {}):
            yield from key_lines(key, value, "        ")


def _is_name(text: str) -> bool:
    from build_tests.core.scalars import is_name

    return is_name(text) and text != COMPONENT


def _tag(alias: str) -> str:
    return f"make-{alias}"


def _write(path: str, text: str) -> None:
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise BuildError(f"{path} is there already; -o - prints instead, to be merged by hand") from None
    except OSError as error:
        raise BuildError(f"{path} can't be written: {error.strerror}") from error
