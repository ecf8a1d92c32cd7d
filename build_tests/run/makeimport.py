"""From a Makefile to steps: asks GNU make what it knows and what it would run. Builds nothing.

make runs `$(shell …)` while it reads, and remakes files that are included, as with every call of it.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from build_tests.core.errors import BuildError
from build_tests.core.makedb import Rule, logical_lines, rules_in, variables_in

SECONDS = 120
_WORD = re.compile(r"[^\s'\"`;&|<>()=]+")
_COMPILED = re.compile(r"\.(?:c|cc|cpp|cxx|m|s|S)$")


@dataclass(slots=True, kw_only=True)
class ImportedStep:
    """A step as it would stand in build.yml, paths from the Makefile's folder."""

    name: str
    targets: list[str]
    command: str | list[str]
    inputs: list[str] = field(default_factory=list)
    depends_on: list[str] = field(default_factory=list)
    """Names of steps."""
    why_call: str = ""
    """Why it is a call of the old target; "" = its recipe was understood."""
    on_request: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """All of a Makefile."""

    steps: tuple[ImportedStep, ...]
    aliases: Mapping[str, tuple[str, ...]]
    """Targets that only name others → names of steps."""
    env: Mapping[str, str]
    """Variables that the Makefile exports."""
    default: str = ""
    """Its first goal."""


def import_makefile(folder: str, file: str, environ: Mapping[str, str]) -> Imported:
    """Read a Makefile.

    Args:
        folder: absolute, where make would be called.
        file: its name, from there.
        environ: for make.

    Raises:
        BuildError: make is not there, or can't read the file.
    """
    return _Importer(folder, file, environ).run()


class _Importer:
    def __init__(self, folder: str, file: str, environ: Mapping[str, str]) -> None:
        self._folder = folder
        self._file = file
        self._environ = {
            name: value for name, value in environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")
        } | {"LC_ALL": "C"}
        self._rules: dict[str, Rule] = {}
        self._variables: Mapping[str, str] = {}
        self._names: dict[str, str] = {}

    def run(self) -> Imported:
        first = rules_in(self._make("-pq"))
        goals = [name for name, rule in first.items() if name != self._file and not rule.recursive]
        database = self._make("-pnBk", *goals)
        self._variables = variables_in(database)
        # What a goal did not reach is known from the first look.
        self._rules = {name: rule for name, rule in {**first, **rules_in(database)}.items() if name != self._file}
        # Folders are made for every output before a step runs.
        self._rules = {name: rule for name, rule in self._rules.items() if not rule.only_makes_folder or rule.needs}
        steps = self._merged([step for rule in self._rules.values() if (step := self._step(rule)) is not None])
        by_target = {target: step.name for step in steps for target in step.targets}
        for step in steps:
            names = [name for need in step.depends_on for name in self._of(need, by_target)]
            step.depends_on = list(dict.fromkeys(names))
        aliases = {
            rule.target: tuple(dict.fromkeys(self._of(rule.target, by_target)))
            for rule in self._rules.values()
            if not rule.recipe
        }
        default = next((goal for goal in goals if goal in self._rules and "%" not in goal), "")
        default = self._goal(database) or default
        return Imported(steps=tuple(steps), aliases=aliases, env=self._exported(), default=default)

    def _make(self, *arguments: str) -> str:
        command = ["make", "--no-print-directory", "-f", self._file, *arguments]
        try:
            done = subprocess.run(
                command, cwd=self._folder, env=self._environ, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                errors="replace", timeout=SECONDS, check=False,
            )  # fmt: skip
        except FileNotFoundError:
            raise BuildError("make is not installed (apt-get install make)") from None
        except subprocess.TimeoutExpired:
            raise BuildError(f"make did not answer within {SECONDS} s: {shlex.join(command)}") from None
        asked = "-p" in arguments[0]
        # A fault of a line, not of a goal.
        if (asked and "# Files" not in done.stdout) or re.search(r"(?m)^[^\s:]+:\d+: \*\*\*", done.stderr):
            raise BuildError(f"make can't read {self._file}:\n{done.stderr.strip()}")
        return done.stdout

    @staticmethod
    def _goal(database: str) -> str:
        found = re.search(r"(?m)^\.DEFAULT_GOAL :?= (\S+)$", database)
        return found[1] if found else ""

    # One rule

    def _step(self, rule: Rule) -> ImportedStep | None:
        if not rule.recipe:
            return None
        why = self._why_call(rule)
        lines = [] if why else self._expanded(rule)
        if not why and not lines:
            why = "make would run nothing for it"
        name = self._name(rule.target)
        if why:
            return ImportedStep(
                name=name, targets=[] if rule.phony else [rule.target], why_call=why, on_request=rule.phony,
                command=["make", *(["-f", self._file] if self._file != "Makefile" else []), rule.target],
                depends_on=[need for need in rule.needs if need in self._rules],
            )  # fmt: skip
        targets = [rule.target, *self._dependency_files(rule.target, lines)]
        return ImportedStep(
            name=name, targets=targets, command=self._script(rule, lines),
            inputs=list(dict.fromkeys(self._inputs(rule, lines, targets))),
            depends_on=[need for need in (*rule.needs, *rule.order_only) if self._is_named_only(need)],
        )  # fmt: skip

    def _why_call(self, rule: Rule) -> str:
        if rule.phony:
            return "it is phony: make says neither what it reads nor what it writes"
        if rule.recursive:
            return "it calls make again"
        if rule.double:
            return "it is a :: rule"
        if rule.target.startswith(("/", "..")) or "*" in rule.target:
            return "what it makes lies outside this folder"
        lost = [need for need in rule.needs if need not in self._rules and not os.path.exists(self._path(need))]
        return f"nothing makes {lost[0]}" if lost else ""

    def _is_named_only(self, need: str) -> bool:
        rule = self._rules.get(need)
        return rule is not None and (rule.phony or not rule.recipe)

    def _expanded(self, rule: Rule) -> list[str]:
        """The lines that make would run for this target alone."""
        old = [word for need in (*rule.needs, *rule.order_only) for word in ("-o", need)]
        return list(logical_lines(self._make("-nB", *old, rule.target)))

    def _script(self, rule: Rule, lines: Sequence[str]) -> str:
        shell = self._variables.get("SHELL", "sh")
        raw = rule.recipe if len(rule.recipe) == len(lines) else ("",) * len(lines)
        return "\n".join(_as_make_runs(line, as_written, shell) for line, as_written in zip(lines, raw, strict=True))

    def _inputs(self, rule: Rule, lines: Iterable[str], targets: Sequence[str]) -> Iterator[str]:
        for need in rule.needs:
            if not self._is_named_only(need) and not os.path.isdir(self._path(need)):
                yield need
        words = [word for line in lines for word in _WORD.findall(line)]
        for word in words:
            # A script or a template that nobody wrote down among the prerequisites.
            inside = not word.startswith(("/", "..", "-")) and os.path.normpath(word) == word
            if inside and word not in self._rules and word not in targets and os.path.isfile(self._path(word)):
                yield word
        if any(_COMPILED.search(need) for need in rule.needs):
            yield from self._headers(rule, words)

    def _headers(self, rule: Rule, words: Iterable[str]) -> Iterator[str]:
        """What a C compiler may include: headers beside the sources, and in the folders that it is told of."""
        folders = {os.path.dirname(need) for need in rule.needs}
        folders |= {word[2:].rstrip("/") for word in words if word.startswith("-I") and word[2:]}
        for folder in sorted(folders):
            if not folder.startswith(("/", "..")) and _has_headers(self._path(folder)):
                yield f"{folder}/**/*.h" if folder not in ("", ".") else "**/*.h"

    def _dependency_files(self, target: str, lines: Iterable[str]) -> list[str]:
        """The .d file that a compiler writes beside its output, where it is told to."""
        words = shlex.split(" ".join(lines).replace("\\\n", " "), comments=False) if lines else []
        if "-MF" in words:
            return [words[words.index("-MF") + 1]]
        return [os.path.splitext(target)[0] + ".d"] if {"-MMD", "-MD"} & set(words) else []

    # All of them

    def _merged(self, steps: list[ImportedStep]) -> list[ImportedStep]:
        """Targets of one recipe that makes them all at once are one step."""
        kept: dict[str, ImportedStep] = {}
        for step in steps:
            key = f"{step.command}\0{step.inputs}" if not step.why_call else step.name
            if key in kept and set(step.targets).isdisjoint(kept[key].targets):
                kept[key].targets += step.targets
            else:
                kept.setdefault(key, step)
        return list(kept.values())

    def _of(self, target: str, by_target: Mapping[str, str], seen: frozenset[str] = frozenset()) -> Iterator[str]:
        """The steps that a target stands for."""
        rule = self._rules.get(target)
        if target in by_target:
            yield by_target[target]
        elif rule is not None and rule.recipe:
            yield self._names[target]
        elif rule is not None and target not in seen:
            for need in rule.needs:
                yield from self._of(need, by_target, seen | {target})

    def _name(self, target: str) -> str:
        name = re.sub(r"[^A-Za-z0-9_.-]", "-", target).strip("-.")
        name = name if name[:1].isalpha() else f"t-{name}"
        taken = set(self._names.values())
        number, free = 2, name
        while free in taken:
            free, number = f"{name}-{number}", number + 1
        self._names[target] = free
        return free

    def _exported(self) -> dict[str, str]:
        try:
            with open(self._path(self._file), encoding="utf-8", errors="replace") as file:
                text = file.read()
        except OSError:
            return {}
        names = [name for words in re.findall(r"(?m)^export\s+([\w ]+?)\s*(?::?:?=|$)", text) for name in words.split()]
        return {name: self._variables[name] for name in names if "$" not in self._variables.get(name, "$")}

    def _path(self, name: str) -> str:
        return os.path.join(self._folder, name)


def _as_make_runs(line: str, as_written: str, shell: str) -> str:
    """One line of a recipe for `sh -e`: make gives each to a shell of its own, without -e."""
    shell = "sh" if os.path.basename(shell) == "sh" else shell
    plain = shell == "sh" and not re.search(r"[;&|(){}$`]|\bcd\b", line)
    text = line if plain else f"{shell} -c {shlex.quote(line)}"
    return f"{text} || true" if re.match(r"^[@+]*-", as_written) else text


def _has_headers(folder: str) -> bool:
    return any(name.endswith(".h") for _, _, names in os.walk(folder or ".") for name in names)
