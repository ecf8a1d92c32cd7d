"""Reads the `build` sections of a Compose file. Knows no Dockerfile; starts nothing.

Texts are texts here: no `yes` is a truth value and no 1.10 a number. `${…}` is filled from the `.env` beside the file
and from what the component says, never from the shell: the same file must mean the same steps everywhere.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from build_tests.core.builder import ManifestError, Workspace, path_from_root

from ._dockerfile import IMAGE_CONTEXT
from ._dockerwords import expanded
from ._image import Image

LIMIT = 1_000_000
"""Characters; nobody writes a longer one by hand."""
NOT_OURS = frozenset({"cache_to", "no_cache", "pull", "provenance", "sbom"})
"""Keys of `build` that say how it is done, not what comes out."""
KNOWN = frozenset(
    {
        *("context", "dockerfile", "dockerfile_inline", "args", "target", "labels", "tags", "platforms"),
        *("secrets", "cache_from", "network", "shm_size", "extra_hosts", "ssh", "additional_contexts"),
    }
)
_PLAIN_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


def images_of(
    file: str, workspace: Workspace, variables: Mapping[str, str], services: Iterable[str] = ()
) -> Iterator[Image]:
    """The images of the services that are built, in the file's order.

    Args:
        file: the Compose file, from the root.
        workspace: the repository.
        variables: values for `${…}`.
        services: those wanted; () = all that have a `build` section.

    Raises:
        ManifestError: no Compose file, a variable without a value, a key that is not known.
    """
    compose = _Compose(file, workspace, variables)
    wanted = list(services)
    for name in wanted:
        if not isinstance(compose.services.get(name), dict) or "build" not in compose.services[name]:
            known = ", ".join(compose.built()) or "none"
            raise ManifestError(f"{file} builds no service {name!r}", hint=f"those that it builds: {known}", file=file)
    built = [name for name in compose.built() if not wanted or name in wanted]
    if not built:
        raise ManifestError(f"{file} has no service with a build section", file=file)
    for name in built:
        yield compose.image(name)


def told_by(file: str, workspace: Workspace) -> tuple[list[Image], list[str]]:
    """What can be told of a Compose file as it is: the images that it builds, and the names of those that it only uses.

    An image has no references where the file does not say its name.
    """
    try:
        compose = _Compose(file, workspace, {})
    except ManifestError:
        return [], []
    built, used = [], []
    for name, service in compose.services.items():
        with suppress(ManifestError):  # a variable without a value, say: the plan tells
            if name in compose.built():
                built.append(compose.image(name, compose.name_of(name)))
            elif isinstance(service, dict) and "image" in service:
                used.append(compose.reference(name))
    return built, used


class _Compose:
    def __init__(self, file: str, workspace: Workspace, variables: Mapping[str, str]) -> None:
        self._file = file
        self._folder = posixpath.dirname(file)
        dotenv = posixpath.join(self._folder, ".env")
        known = _dotenv(workspace.read_text(dotenv)) if workspace.exists(dotenv) else {}
        self._variables = {**known, **variables}
        self._top = _mapping(_load(workspace.read_text(file), file), f"{file}: the file")
        self.services = _mapping(self._top.get("services"), f"{file}: services")

    def built(self) -> list[str]:
        """The services with a `build` section."""
        return [name for name, service in self.services.items() if isinstance(service, dict) and service.get("build")]

    def image(self, name: str, references: tuple[str, ...] | None = None) -> Image:
        """What one service builds; its names are those that the file says, unless they are given."""
        service = self.services[name]
        build = service["build"]
        build = {"context": build} if isinstance(build, str) else _mapping(build, self._at(name, "build"))
        if unknown := sorted(set(build) - KNOWN - NOT_OURS):
            raise self._fault(name, f"build.{unknown[0]} is not known", "write this image as a component of its own")
        text = {key: self._text(name, key, build.get(key)) for key in ("context", "dockerfile", "target")}
        context = self._path(name, text["context"] or ".")
        inline = str(build.get("dockerfile_inline") or "")
        dockerfile = text["dockerfile"] or "Dockerfile"
        return Image(
            step=name,
            references=(self.reference(name), *self._list(name, "tags", build)) if references is None else references,
            dockerfile=self._file if inline else self._path(name, dockerfile, context),
            inline=inline,
            context=context,
            contexts=dict(self._contexts(name, build)),
            args=self._pairs(name, "args", build),
            target=text["target"],
            labels={key: value or "" for key, value in self._pairs(name, "labels", build).items()},
            secrets=dict(self._secrets(name, build)),
            platform=self._platform(name, build),
            cache_from=tuple(self._list(name, "cache_from", build)),
            arguments=tuple(self._arguments(name, build)),
        )

    def reference(self, name: str) -> str:
        """The image's name, as Compose gives it where the file does not."""
        if reference := self._text(name, "image", self.services[name].get("image")):
            return reference
        project = self._text(name, "name", self._top.get("name")) or posixpath.basename(self._folder)
        project = re.sub(r"[^a-z0-9_-]", "", project.lower()).lstrip("_-")
        if not project:
            raise self._fault(name, "its image has no name", "write image: NAME:TAG, or name: PROJECT at the top")
        return f"{project}-{name}"

    def name_of(self, name: str) -> tuple[str, ...]:
        """Its name, or nothing where the file does not say one."""
        try:
            return (self.reference(name),)
        except ManifestError:
            return ()

    def _contexts(self, name: str, build: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        for key, value in self._pairs(name, "additional_contexts", build).items():
            where = value or ""
            if where.startswith("service:"):
                other = where.removeprefix("service:")
                if other not in self.services:
                    raise self._fault(name, f"there is no service {other!r}")
                where = IMAGE_CONTEXT + self.reference(other)
            yield key, where if where.startswith(IMAGE_CONTEXT) else self._path(name, where)

    def _secrets(self, name: str, build: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        declared = self._top.get("secrets") or {}
        for entry in build.get("secrets") or []:
            source = entry if isinstance(entry, str) else str(entry.get("source", ""))
            target = source if isinstance(entry, str) else str(entry.get("target") or source)
            secret = declared.get(source)
            if not isinstance(secret, dict) or not {"file", "environment"} & set(secret):
                raise self._fault(name, f"its secret {source!r} has neither file nor environment")
            if variable := secret.get("environment"):
                yield target, str(variable)
            else:
                yield target, self._path(name, self._text(name, "secrets", secret["file"]))

    def _platform(self, name: str, build: Mapping[str, Any]) -> str:
        platforms = self._list(name, "platforms", build)
        if len(platforms) > 1:
            raise self._fault(name, "an engine keeps an image of one platform", "name one under build.platforms")
        return platforms[0] if platforms else self._text(name, "platform", self.services[name].get("platform"))

    def _arguments(self, name: str, build: Mapping[str, Any]) -> Iterator[str]:
        for key, flag in (("network", "network"), ("shm_size", "shm-size")):
            if value := self._text(name, key, build.get(key)):
                yield f"--{flag}={value}"
        yield from (f"--ssh={value}" for value in self._list(name, "ssh", build))
        for host, address in self._pairs(name, "extra_hosts", build).items():
            yield f"--add-host={host}:{address}" if address else f"--add-host={host}"

    # Values

    def _pairs(self, name: str, key: str, build: Mapping[str, Any]) -> dict[str, str | None]:
        """A mapping, or a list of `KEY=VALUE`; None = without a value."""
        value = build.get(key) or {}
        if isinstance(value, list):
            split = [str(entry).partition("=") for entry in value]
            pairs = [(front, behind if is_set else None) for front, is_set, behind in split]
        else:
            pairs = list(_mapping(value, self._at(name, key)).items())
        return {str(front): None if behind is None else self._text(name, key, behind) for front, behind in pairs}

    def _list(self, name: str, key: str, build: Mapping[str, Any]) -> list[str]:
        value = build.get(key) or []
        return [self._text(name, key, entry) for entry in ([value] if isinstance(value, str) else value)]

    def _text(self, name: str, key: str, value: object) -> str:
        """A value with its variables filled in; `$$` is a dollar."""
        if value is None:
            return ""
        if not isinstance(value, str):
            raise self._fault(name, f"{key} is no text")
        return "$".join(self._filled(name, part) for part in value.split("$$"))

    def _filled(self, name: str, text: str) -> str:
        for found in _PLAIN_VARIABLE.finditer(text):
            variable = found[1] or found[2]
            if variable not in self._variables:
                hint = f"write ${{{variable}:-DEFAULT}}, a line in .env, or a value under variables of the component"
                raise self._fault(name, f"${variable} has no value", hint)
        return expanded(text, self._variables.get, escape="", quotes="")

    def _path(self, name: str, text: str, base: str | None = None) -> str:
        if "://" in text or text.startswith("git@"):
            raise self._fault(name, f"{text} lies elsewhere", "what is fetched while docker builds can't be followed")
        try:
            return path_from_root(text, self._folder if base is None else base)
        except ValueError as error:
            raise self._fault(name, f"{text!r}: {error}") from None

    def _at(self, name: str, key: str) -> str:
        return f"{self._file}: {key} of service {name!r}"

    def _fault(self, name: str, said: str, hint: str = "") -> ManifestError:
        return ManifestError(f"{self._file}: service {name!r}: {said}", hint=hint, file=self._file)


def _mapping(value: object, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ManifestError(f"{what} is no mapping")
    return value


def _dotenv(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in text.splitlines():
        name, is_set, value = line.strip().removeprefix("export ").partition("=")
        if is_set and not name.startswith("#"):
            value = value.strip()
            quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
            found[name.strip()] = value[1:-1] if quoted else re.sub(r"\s+#.*", "", value)
    return found


def _load(text: str, file: str) -> object:
    """Plain data with texts as texts. Raises ManifestError."""
    import yaml

    if len(text) > LIMIT:
        raise ManifestError(f"{file} is longer than {LIMIT} characters", file=file)

    class Texts(yaml.SafeLoader):
        """Knows merges (`<<`) and nothing (`~`), and takes all else as it is written."""

    wanted = {"tag:yaml.org,2002:merge", "tag:yaml.org,2002:null"}
    Texts.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag in wanted]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    try:
        return yaml.load(text, Loader=Texts)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 0
        said = getattr(error, "problem", None) or "it is no YAML"
        raise ManifestError(f"{file}:{line}: {said}", file=file, line=line) from None
    except RecursionError:
        raise ManifestError(f"{file} is nested too deeply", file=file) from None
