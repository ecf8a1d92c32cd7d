"""Reads a Dockerfile and a .dockerignore: which files of the context and which images go in. Knows no component.

It reads what decides that, and leaves all else to docker: flags it does not know, instructions that name no file.
Where a name can't be known before the build, it takes the folder around it: too much rather than too little.
"""

from __future__ import annotations

import json
import posixpath
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from build_tests.core.builder import ManifestError, pattern_from_root

_DIRECTIVE = re.compile(r"#\s*(\w+)\s*=\s*(.*?)\s*$")
_HEREDOC = re.compile(r"<<-?(['\"]?)([A-Za-z_][A-Za-z0-9_]*)\1")
_VARIABLE = re.compile(r"\\\$|\$(?:(\w+)|\{(\w+)(?::([-+])([^}]*))?\})")
_REMOTE = re.compile(r"https?://|git://|git@|ssh://")
UNKNOWN = "\0"
"""Stands for the value of a variable that is set while docker builds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dockerfile:
    """What goes into an image."""

    sources: tuple[str, ...]
    """Files and folders of the context, `*` and `?` as in patterns; "" = the whole context."""
    images: tuple[str, ...]
    """References of other images, as they are written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Instruction:
    line: int
    word: str
    flags: tuple[str, ...]
    rest: str


@dataclass(slots=True, kw_only=True)
class _Reader:
    """Walks the instructions, as docker would, with the variables and stages known so far."""

    path: str
    given: Mapping[str, str]
    """Build arguments."""
    outer: dict[str, str] = field(default_factory=dict)
    """ARGs before the first FROM."""
    variables: dict[str, str] = field(default_factory=dict)
    stages: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    images: list[str] = field(default_factory=list)

    def read(self, instruction: _Instruction) -> None:
        match instruction.word:
            case "FROM":
                self._from(instruction)
            case "ARG":
                self._arg(instruction)
            case "ENV":
                self.variables.update(_pairs(self._expanded(instruction.rest)))
            case "COPY" | "ADD":
                self._copy(instruction)
            case "RUN":
                self._mounts(instruction)
            case _:
                pass

    def _from(self, instruction: _Instruction) -> None:
        base, _, alias = (*instruction.rest.split(), "", "", "")[:3]
        self.variables = dict(self.outer)
        reference = self._expanded(base)
        if not reference or UNKNOWN in reference:
            raise ManifestError(
                f"{self.path}:{instruction.line}: the image of FROM {base} is not known before the build",
                hint="give the ARG a default, or a value under build_args",
                file=self.path,
                line=instruction.line,
            )
        self._image(reference)
        self.variables = {}
        self.stages.append(alias.lower())

    def _arg(self, instruction: _Instruction) -> None:
        for word in _words(instruction.rest):
            name, has_default, default = word.partition("=")
            value = self.given.get(name, self._expanded(default) if has_default else self.outer.get(name, UNKNOWN))
            self.variables[name] = value
            if not self.stages:
                self.outer[name] = value

    def _copy(self, instruction: _Instruction) -> None:
        origin = _flag(instruction.flags, "from")
        if origin is not None:
            self._image(self._expanded(origin))
            return
        for word in _operands(instruction.rest)[:-1]:
            if not word.startswith("<<") and not _REMOTE.match(word):
                self.sources.append(_in_context(self._expanded(word)))

    def _mounts(self, instruction: _Instruction) -> None:
        for flag in instruction.flags:
            if not flag.startswith("--mount="):
                continue
            mount = dict(part.partition("=")[::2] for part in flag.removeprefix("--mount=").split(","))
            if "from" in mount:
                self._image(self._expanded(mount["from"]))
            elif mount.get("type", "bind") == "bind":
                self.sources.append(_in_context(self._expanded(mount.get("source", mount.get("src", "")))))

    def _image(self, reference: str) -> None:
        """Note an image, unless it is a stage of this file, by name or by number, or nothing at all."""
        is_stage = reference.lower() in self.stages or (reference.isdigit() and int(reference) < len(self.stages))
        if not is_stage and reference != "scratch":
            self.images.append(reference)

    def _expanded(self, text: str) -> str:
        def value(found: re.Match[str]) -> str:
            plain, braced, sign, word = found.groups()
            if plain is None and braced is None:
                return "$"
            known = self.variables.get(plain or braced, UNKNOWN)
            if sign is None:
                return known
            is_set = known not in {"", UNKNOWN}
            return (known if is_set else word) if sign == "-" else (word if is_set else "")

        return _VARIABLE.sub(value, text)


def parse(text: str, path: str, given: Mapping[str, str], target: str = "") -> Dockerfile:
    """What goes into the image that `docker build` would make of this Dockerfile.

    Args:
        text: the Dockerfile.
        path: where it lies, for messages.
        given: build arguments.
        target: the stage to build, by name; "" = the last. Stages after it do not count.

    Raises:
        ManifestError: no FROM, a base image that only the build knows, or no such stage.
    """
    reader = _Reader(path=path, given=given)
    for instruction in _instructions(text):
        if instruction.word == "FROM" and target and target.lower() in reader.stages:
            break
        reader.read(instruction)
    if not reader.stages:
        raise ManifestError(f"{path} has no FROM", file=path)
    if target and target.lower() not in reader.stages:
        names = ", ".join(name for name in reader.stages if name) or "none has a name"
        raise ManifestError(f"{path} has no stage {target!r}", hint=f"its stages: {names}", file=path)
    return Dockerfile(sources=tuple(reader.sources), images=tuple(reader.images))


def ignore_patterns(text: str, context: str) -> Iterator[str]:
    """A .dockerignore as input patterns from the root: `!…` takes away, and what it lets in again stands plain.

    Raises:
        ManifestError: a line is no pattern.
    """
    for line in text.removeprefix("\ufeff").splitlines():
        entry = line.strip()
        if not entry or line.startswith("#"):
            continue
        lets_in = entry.startswith("!")
        cleaned = posixpath.normpath("/" + entry.removeprefix("!").strip()).lstrip("/")
        if not cleaned:
            continue
        sign = "" if lets_in else "!"
        yield in_folder(sign + cleaned, context)
        if re.search(r"[*?\[]", cleaned.rpartition("/")[2]) and not cleaned.endswith("**"):
            # For docker a folder that is taken away goes with all that is in it.
            yield in_folder(f"{sign}{cleaned}/**", context)


def in_folder(pattern: str, folder: str) -> str:
    """Docker's pattern below a folder as ours from the root. Raises ManifestError."""
    try:
        return pattern_from_root(pattern.replace("[^", "[!"), folder)
    except ValueError as error:
        raise ManifestError(f"{pattern!r}: {error}") from None


def _instructions(text: str) -> Iterator[_Instruction]:
    lines = text.removeprefix("\ufeff").splitlines()
    escape = _escape(lines)
    at = 0
    while at < len(lines):
        start, logical = at, ""
        while at < len(lines):
            line = lines[at].strip() if not logical else lines[at].rstrip()
            at += 1
            if line.lstrip().startswith("#") or (logical and not line):
                continue
            logical += line.removesuffix(escape)
            if not line.endswith(escape):
                break
        if not logical:
            continue
        word, _, rest = logical.partition(" ") if " " in logical else logical.partition("\t")
        if word.upper() in {"RUN", "COPY", "ADD"}:
            at = _after_heredocs(lines, at, rest)
        yield _instruction(start + 1, word, rest)


def _instruction(line: int, word: str, rest: str) -> _Instruction:
    flags: list[str] = []
    rest = rest.strip()
    while rest.startswith("--"):
        flag, _, rest = rest.partition(" ")
        flags.append(flag)
        rest = rest.strip()
    return _Instruction(line=line, word=word.upper(), flags=tuple(flags), rest=rest)


def _escape(lines: list[str]) -> str:
    """The character that continues a line; a directive at the very top may change it."""
    for line in lines:
        found = _DIRECTIVE.match(line.strip())
        if found is None:
            break
        if found[1].lower() == "escape":
            return found[2]
    return "\\"


def _after_heredocs(lines: list[str], at: int, rest: str) -> int:
    for _, end in _HEREDOC.findall(rest):
        closing = (index for index in range(at, len(lines)) if lines[index].strip("\t") == end)
        # Where nothing closes it, it is none: `<<` in a shell's arithmetic.
        at = next(closing, at - 1) + 1
    return at


def _flag(flags: tuple[str, ...], name: str) -> str | None:
    return next((flag.partition("=")[2] for flag in flags if flag.startswith(f"--{name}=")), None)


def _operands(rest: str) -> list[str]:
    """Sources and target of COPY and ADD, written as words or as a JSON list."""
    if rest.startswith("["):
        try:
            return [str(word) for word in json.loads(rest)]
        except ValueError:
            pass  # docker too reads what is no JSON as words
    return rest.split()


def _words(rest: str) -> list[str]:
    try:
        return shlex.split(rest)
    except ValueError:
        return rest.split()


def _pairs(rest: str) -> Iterator[tuple[str, str]]:
    """`ENV a=1 b=2`, and the old form `ENV a 1`."""
    words = _words(rest)
    if words and "=" not in words[0]:
        yield words[0], " ".join(words[1:])
        return
    for word in words:
        name, _, value = word.partition("=")
        yield name, value


def _in_context(source: str) -> str:
    """A source's path in the context; what only the build knows becomes the folder around it."""
    path = source.partition(UNKNOWN)[0].rpartition("/")[0] if UNKNOWN in source else source
    return posixpath.normpath("/" + path).lstrip("/")
