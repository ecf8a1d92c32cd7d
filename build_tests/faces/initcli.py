"""The command `pytest-build init`: reads a repository that has no build file, and writes one that builds at once."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from build_tests.core.errors import BuildError, ConfigError
from build_tests.faces.common import count_text
from build_tests.faces.yamltext import key_lines, scalar

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from build_tests.core.survey import Entry
    from build_tests.registry import Registry

NAME = "build.yml"
TRIAL = ".build.yml.new"
HEAD = """\
# What is built, and from what. Each component is a folder of one kind, whose manifests say the rest.
#   pytest-build build           everything that changed       pytest-build explain WHAT   why
#   pytest-build build WHAT      a component, step or target    pytest-build doctor         missing tools
version: "2.0"
"""
TARGETS = """
targets:
  dev:
    description: What changed, as fast as it goes
    cache_strategy: aggressive
  ci:
    description: Everything looked at again; undeclared writes and missing tools are failures
    cache_strategy: conservative
    validation: strict
default_target: dev
"""
NAMES = ("dev", "ci")
"""Of these targets: no component may be called so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """What would be written."""

    text: str
    entries: tuple[Entry, ...]
    left_out: tuple[tuple[Entry, str], ...]
    """What was found and can't be built as it is, with the reason."""
    steps: int


def declare(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.description = "Look what this repository consists of, and write a build.yml for it."
    parser.add_argument("--yes", action="store_true", help="ask nothing, write")
    parser.add_argument("--no-makefile", action="store_true", help="leave the Makefile alone")
    parser.set_defaults(run=_init)


def _init(options: argparse.Namespace, extra: Sequence[str]) -> int:
    from build_tests.core.locate import find_build_file

    if extra:
        raise BuildError("init takes nothing behind --")
    root = os.getcwd()
    if (there := find_build_file(root)) is not None:
        raise BuildError(f"{os.path.relpath(there)} is there already; init is for a repository that has none")
    proposal = propose(root)
    _show(proposal)
    if not proposal.entries:
        print(f"Nothing here is known to a builder. A {NAME} of `kind: command` steps builds anything: see the README.")
        return 1
    if not _agreed(options, f"write {NAME}?"):
        print(proposal.text)
        print("(nothing was written; --yes writes it)" if not sys.stdin.isatty() else "(nothing was written)")
        return 0
    _write(NAME, proposal.text)
    components, steps = count_text(len(proposal.entries), "component"), count_text(proposal.steps, "step")
    print(f"wrote {NAME}: {components}, {steps}")
    if not options.no_makefile:
        _makefile(options)
    print("next: pytest-build doctor, then pytest-build build")
    return 0


# Finding


def propose(root: str) -> Proposal:
    """What `init` would write for a repository: as many of the components found as fit together."""
    from build_tests.core.survey import survey
    from build_tests.registry import Registry
    from build_tests.run.git import Git

    registry = Registry()
    builders = {kind: builder for kind in registry.kinds() if (builder := registry.get(kind)) is not None}
    found = survey(root, builders, Git(root).ignored, reserved=NAMES)
    steps = _trial(root, found, registry)
    if isinstance(steps, int):
        return Proposal(text=text_of(found, ()), entries=tuple(found), left_out=(), steps=steps)
    return _as_many_as_fit(root, found, registry)


def _as_many_as_fit(root: str, found: Sequence[Entry], registry: Registry) -> Proposal:
    """One after the other: a component that contradicts those before it is left out (a module of a build above it)."""
    kept: list[Entry] = []
    left_out: list[tuple[Entry, str]] = []
    steps = 0
    for entry in found:
        answer = _trial(root, [*kept, entry], registry)
        if isinstance(answer, int):
            kept.append(entry)
            steps = answer
        else:
            left_out.append((entry, answer))
    return Proposal(text=text_of(kept, left_out), entries=tuple(kept), left_out=tuple(left_out), steps=steps)


def _trial(root: str, entries: Sequence[Entry], registry: Registry) -> int | str:
    """How many steps a build file of these entries has, or the first thing that is wrong with it."""
    from build_tests.core.assemble import read

    path = os.path.join(root, TRIAL)
    try:
        _write(path, text_of(entries, ()))
        return len(read(path, registry=registry)[1].steps)
    except ConfigError as error:
        return error.diagnostics[0].message
    finally:
        if os.path.exists(path):
            os.unlink(path)


# The file


def text_of(entries: Sequence[Entry], left_out: Sequence[tuple[Entry, str]]) -> str:
    """The build file, with comments."""
    lines = [HEAD, "components:"]
    for entry in entries:
        lines += _entry_lines(entry)
    if left_out:
        lines += ["", "  # Found, and left out:"]
        lines += [f"  #   {one.folder or '//'} ({one.kind}): {' '.join(why.split())}" for one, why in left_out]
    return "\n".join([*lines, TARGETS])


def _entry_lines(entry: Entry) -> Iterator[str]:
    yield f"  {entry.name}:"
    yield f"    kind: {entry.kind}"
    if entry.folder != entry.name:
        yield f"    path: {scalar(entry.folder or '//')}"
    for key, value in entry.keys.items():
        yield from key_lines(key, value, "    ")


def _write(path: str, text: str) -> None:
    try:
        with open(path, "w" if path.endswith(TRIAL) else "x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise BuildError(f"{path} can't be written: {error.strerror}") from error


# Talking


def _show(proposal: Proposal) -> None:
    if proposal.entries:
        width = max(len(entry.name) for entry in proposal.entries)
        print("found:")
        for entry in proposal.entries:
            print(f"  {entry.name:{width}}  {entry.kind:10}  {entry.folder or '//'}")
    for entry, why in proposal.left_out:
        print(f"left out: {entry.folder or '//'} ({entry.kind}): {' '.join(why.split())}")


def _agreed(options: argparse.Namespace, question: str) -> bool:
    if options.yes:
        return True
    if not sys.stdin.isatty():
        return False
    try:
        return input(f"{question} [Y/n] ").strip().lower() in ("", "y", "yes")
    except EOFError:
        print()
        return False


def _makefile(options: argparse.Namespace) -> None:
    """Targets of ours behind those that are there, none of which changes."""
    from build_tests.faces.makelines import BEGIN, block_for

    try:
        with open("Makefile", encoding="utf-8") as file:
            there = file.read()
    except FileNotFoundError:
        there = ""
    except (OSError, UnicodeDecodeError) as error:
        print(f"the Makefile can't be read ({error}): it stays as it is")
        return
    if BEGIN in there or not _agreed(options, "add build targets to the Makefile?"):
        return
    block, renamed = block_for(there)
    with open("Makefile", "a", encoding="utf-8") as file:
        file.write(("" if not there or there.endswith("\n\n") else "\n") + block)
    print("added targets to the Makefile" + (f" ({'; '.join(renamed)})" if renamed else ""))
