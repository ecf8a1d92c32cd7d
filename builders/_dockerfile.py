"""Reads a Dockerfile: which files of which context and which images go into its image. Knows no component.

It reads what decides that, and leaves all else to docker: flags it does not know, instructions that name no file.
Where a name can't be known before the build, it takes the folder around it: too much rather than too little.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from build_tests.core.builder import ManifestError

from ._dockerwords import UNKNOWN, Instruction, escape_of, expanded, instruction, instructions, is_heredoc, pairs, words

_REMOTE = re.compile(r"https?://|git://|git@|ssh://")
PLATFORM = re.compile(r"(?:TARGET|BUILD)(?:PLATFORM|OS|ARCH|VARIANT)")
"""ARGs that docker sets by itself."""
IMAGE_CONTEXT = "docker-image://"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dockerfile:
    """What goes into an image."""

    sources: tuple[tuple[str, str], ...]
    """(Context, file or folder in it): "" is the build's own context, anything else the folder of a named one.

    `*`, `?` and sets as Go's `filepath.Match` has them; "" = all of it.
    """
    images: tuple[str, ...]
    """References of other images, as they are written."""


@dataclass(slots=True, kw_only=True)
class _Stage:
    name: str = ""
    env: dict[str, str] = field(default_factory=dict)
    """ENV, with what it has from the stage that it stands on."""
    args: dict[str, str | None] = field(default_factory=dict)
    uses: list[int] = field(default_factory=list)
    """Stages that it stands on or copies from."""
    sources: list[tuple[str, str]] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    later: list[Instruction] = field(default_factory=list)
    """ONBUILD: what a stage that stands on this one does first."""


@dataclass(slots=True, kw_only=True)
class _Reader:
    """Walks the instructions, as docker would, with the variables and stages known so far."""

    path: str
    given: Mapping[str, str]
    """Build arguments."""
    contexts: Mapping[str, str]
    escape: str
    outer: dict[str, str | None] = field(default_factory=dict)
    """ARGs before the first FROM."""
    stages: list[_Stage] = field(default_factory=list)

    def read(self, line: Instruction) -> None:
        match line.word:
            case "FROM":
                self._from(line)
            case "ARG":
                self._arg(line)
            case _ if not self.stages:
                raise self._fault(line, f"{line.word} stands before the first FROM")
            case "ENV":
                env = self.stages[-1].env
                env.update({name: self._expanded(value) for name, value in pairs(line.rest)})
            case "COPY" | "ADD":
                self._copy(line)
            case "RUN":
                self._mounts(line)
            case "ONBUILD":
                self.stages[-1].later.append(instruction(line.line, line.rest))
            case _:
                pass

    def _from(self, line: Instruction) -> None:
        base, _, alias = (*line.rest.split(), "", "", "")[:3]
        reference = expanded(base, self.outer.get, escape=self.escape, unset=UNKNOWN)
        if not reference or UNKNOWN in reference:
            raise self._unknown(line, f"FROM {base}")
        stage = _Stage(name=alias.lower())
        below = self._image(stage, reference, line)
        self.stages.append(stage)
        if below is not None:
            stage.env.update(below.env)
            for later in below.later:
                self.read(later)

    def _arg(self, line: Instruction) -> None:
        scope = self.stages[-1].args if self.stages else self.outer
        for word in words(line.rest):
            name, has_default, default = word.partition("=")
            scope[name] = self._argument(name, default if has_default else None)

    def _argument(self, name: str, default: str | None) -> str | None:
        if name in self.given:
            return self.given[name]
        if default is not None:
            return self._expanded(default)
        if PLATFORM.fullmatch(name):
            return UNKNOWN
        return self.outer.get(name) if self.stages else None

    def _copy(self, line: Instruction) -> None:
        stage = self.stages[-1]
        context = ""
        if (origin := line.flag("from")) is not None:
            origin = self._expanded(origin)
            if not self._is_folder(origin):
                self._image(stage, origin, line)
                return
            context = self.contexts[origin.lower()]
        for word in line.operands()[:-1]:
            if not is_heredoc(word) and not _REMOTE.match(word):
                stage.sources.append((context, _in_context(self._expanded(word))))

    def _mounts(self, line: Instruction) -> None:
        stage = self.stages[-1]
        for flag in line.flags:
            if not flag.startswith("--mount="):
                continue
            mount = dict(part.partition("=")[::2] for part in flag.removeprefix("--mount=").split(","))
            origin = self._expanded(mount.get("from", ""))
            if origin and not self._is_folder(origin):
                self._image(stage, origin, line)
            elif mount.get("type", "bind") == "bind":
                source = _in_context(self._expanded(mount.get("source", mount.get("src", ""))))
                stage.sources.append((self.contexts[origin.lower()] if origin else "", source))

    def _is_folder(self, name: str) -> bool:
        return not self.contexts.get(name.lower(), IMAGE_CONTEXT).startswith(IMAGE_CONTEXT)

    def _image(self, stage: _Stage, reference: str, line: Instruction) -> _Stage | None:
        """Note what a stage stands on or copies from: an image, a stage (returned), a named context, or nothing."""
        if UNKNOWN in reference:
            raise self._unknown(line, f"{line.word} {line.rest}")
        name = reference.lower()
        if name in self.contexts:
            context = self.contexts[name]
            if context.startswith(IMAGE_CONTEXT):
                stage.images.append(context.removeprefix(IMAGE_CONTEXT))
            else:
                stage.sources.append((context, ""))
            return None
        found = self._stage(name, numbers=line.word != "FROM")
        if found is not None:
            stage.uses.append(found)
            return self.stages[found]
        if reference != "scratch":
            stage.images.append(reference)
        return None

    def _stage(self, name: str, *, numbers: bool) -> int | None:
        """A stage by its name, the last of that name; or by its number."""
        named = [index for index, stage in enumerate(self.stages) if stage.name == name]
        if named:
            return named[-1]
        return int(name) if numbers and name.isdigit() and int(name) < len(self.stages) else None

    def reached(self, target: str) -> list[_Stage]:
        """The stages that the target is made of; docker makes no others. Raises ManifestError."""
        wanted = self._stage(target.lower(), numbers=True) if target else len(self.stages) - 1
        if wanted is None:
            names = ", ".join(stage.name for stage in self.stages if stage.name) or "none has a name"
            raise ManifestError(f"{self.path} has no stage {target!r}", hint=f"its stages: {names}", file=self.path)
        found, stack = set[int](), [wanted]
        while stack:
            if (index := stack.pop()) not in found:
                found.add(index)
                stack.extend(self.stages[index].uses)
        return [self.stages[index] for index in sorted(found)]

    def _expanded(self, text: str) -> str:
        return expanded(text, self._value, escape=self.escape)

    def _value(self, name: str) -> str | None:
        """ENV goes before ARG; what neither sets may come with the base image."""
        if not self.stages:
            return self.outer.get(name)
        stage = self.stages[-1]
        return stage.env[name] if name in stage.env else stage.args.get(name, UNKNOWN)

    def _unknown(self, line: Instruction, what: str) -> ManifestError:
        said = f"the image of {what.strip()} is not known before the build"
        return self._fault(line, said, hint="give the ARG a default, or a value under build_args")

    def _fault(self, line: Instruction, said: str, hint: str = "") -> ManifestError:
        return ManifestError(f"{self.path}:{line.line}: {said}", hint=hint, file=self.path, line=line.line)


def parse(
    text: str, path: str, given: Mapping[str, str], target: str = "", contexts: Mapping[str, str] | None = None
) -> Dockerfile:
    """What goes into the image that `docker build` would make of this Dockerfile.

    Args:
        text: the Dockerfile.
        path: where it lies, for messages.
        given: build arguments.
        target: the stage to build, by name or number; "" = the last. Only what it is made of counts.
        contexts: named contexts: a folder, or `docker-image://REFERENCE`.

    Raises:
        ManifestError: no FROM, a base image that only the build knows, or no such stage.
    """
    named = {name.lower(): context for name, context in (contexts or {}).items()}
    reader = _Reader(path=path, given=given, contexts=named, escape=escape_of(text))
    for line in instructions(text):
        reader.read(line)
    if not reader.stages:
        raise ManifestError(f"{path} has no FROM", file=path)
    stages = reader.reached(target)
    return Dockerfile(
        sources=tuple(dict.fromkeys(source for stage in stages for source in stage.sources)),
        images=tuple(dict.fromkeys(image for stage in stages for image in stage.images)),
    )


def _in_context(source: str) -> str:
    """A source's path in the context; what only the build knows becomes the folder around it."""
    path = source
    for mark in (UNKNOWN, "**"):
        path = path.partition(mark)[0].rpartition("/")[0] if mark in path else path
    return posixpath.normpath("/" + path).lstrip("/")
