"""A build file and its overlays → a checked Config, or every mistake at once. Reads files, builds no graph."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from build_tests.core import globs, spec
from build_tests.core.binding import WRONG, Name, binder, unknown_key
from build_tests.core.errors import ConfigError, Diagnostic, Place, SelectionError
from build_tests.core.model import (
    CacheSettings,
    Component,
    Config,
    Identity,
    Monitoring,
    Output,
    Parallelism,
    Resources,
    StepOverride,
    Strategy,
    Target,
)
from build_tests.core.yamltree import Node, merged, read

CANDIDATES = ("build.yml", "config/build.yml")


class BuilderSource(Protocol):
    """Where builders come from; core never imports one."""

    def get(self, kind: str) -> Any | None:
        """The builder of a kind. Raises ImportError where it can't be loaded."""

    def kinds(self) -> list[str]:
        """Every kind there is."""

    def add_private(self, kind: str, spec: str, root: str) -> None:
        """A builder of the repository's own. Raises ImportError."""


def find_build_file(start: str) -> str | None:
    """The build file of a folder: `build.yml`, then `config/build.yml`."""
    paths = (os.path.join(start, candidate) for candidate in CANDIDATES)
    return next((path for path in paths if os.path.isfile(path)), None)


def root_of(file: str) -> str:
    """The root (`//`): the build file's folder, or its parent where that is called `config`."""
    folder = os.path.dirname(os.path.abspath(file))
    return os.path.dirname(folder) if os.path.basename(folder) == "config" else folder


def load(file: str, *, registry: BuilderSource, environment: str | None = None) -> Config:
    """Read a build file with `config/cache.yml` and the environment's overlay.

    Raises:
        ConfigError: every mistake, each with its place.
        SelectionError: the environment does not exist.
    """
    root = root_of(file)
    top = _read(file, root)
    cache = os.path.join(root, "config", "cache.yml")
    if os.path.isfile(cache):
        top = _lay_under(top, ("build_system", "cache"), _read(cache, root))
    if environment is not None:
        top = merged(top, _read(_overlay(root, environment), root))
    return _Loader(root, os.path.relpath(file, root), registry).config(top, environment)


def _overlay(root: str, environment: str) -> str:
    folder = os.path.join(root, "config", "environments")
    path = os.path.join(folder, f"{environment}.yml")
    if not re.fullmatch(r"[\w.-]+", environment) or not os.path.isfile(path):
        there = sorted(n[:-4] for n in os.listdir(folder) if n.endswith(".yml")) if os.path.isdir(folder) else []
        known = f"; there are: {', '.join(there)}" if there else ""
        raise SelectionError(f"there is no environment {environment!r}: config/environments/{environment}.yml{known}")
    return path


def _read(path: str, root: str) -> Node:
    name = os.path.relpath(path, root)
    try:
        with open(path, "rb") as file:
            return read(name, file.read())
    except OSError as error:
        raise ConfigError([Diagnostic(place=Place(file=name), message=f"can't be read: {error.strerror}")]) from None


def _lay_under(top: Node, path: tuple[str, ...], node: Node) -> Node:
    """`node` merged over what stands at a path of `top`."""
    for key in reversed(path):
        node = Node("mapping", {key: (node, node)}, node.line, node.column, node.source)
    return merged(top, node)


class _Loader:
    def __init__(self, root: str, file: str, registry: BuilderSource) -> None:
        self._root = root
        self._file = file
        self._registry = registry
        self._sources: dict[int, Any] = {}
        self._unused: list[str] = []

    def config(self, top: Node, environment: str | None) -> Config:
        self._note_source(top)
        self._check_top(top)
        builders = self._builders(top)
        system = self._bound(top, "build_system", spec.SystemSpec, spec.SystemSpec())
        components = tuple(self._components(top))
        targets = tuple(self._targets(top, components))
        default = self._default(top, targets)
        if "build_system" in top.value:
            self._say_unused(top.value["build_system"][1])
        wrong = [diagnostic for source in self._sources.values() for diagnostic in source.wrong]
        if wrong:
            raise ConfigError(list(dict.fromkeys(wrong)))
        return Config(
            root=self._root, file=self._file, cache=_cache(system.cache), parallelism=_parallelism(system.parallelism),
            monitoring=Monitoring(**{n: getattr(system.monitoring, n) for n in spec.MonitoringSpec.__slots__}),
            builders=builders, components=components, targets=targets, default_target=default,
            environment=environment, unused=tuple(self._unused),
        )  # fmt: skip

    def _note_source(self, node: Node) -> None:
        """Overlays bring nodes of other files: their mistakes count as well."""
        self._sources[id(node.source)] = node.source
        if node.kind == "mapping":
            for key, value in node.value.values():
                self._sources[id(key.source)] = key.source
                if value.kind == "mapping":
                    self._note_source(value)

    def _check_top(self, top: Node) -> None:
        for text, (key, _) in top.value.items():
            if text not in spec.TOP_KEYS:
                unknown_key(key, dict.fromkeys(spec.TOP_KEYS))
        if "version" not in top.value:
            top.say("'version' is missing", 'write version: "2.0"')
        else:
            version = top.value["version"][1]
            if version.value != "2.0":
                version.say(f"version {version.value!r} is not known", 'write version: "2.0"')

    def _bound(self, top: Node, key: str, declared: Any, default: Any) -> Any:
        if key not in top.value or top.value[key][1].empty:
            return default
        value = binder(declared)(top.value[key][1])
        return default if value is WRONG else value

    def _builders(self, top: Node) -> tuple[tuple[str, str], ...]:
        found = self._bound(top, "builders", Mapping[Name, str], {})
        for kind, where in found.items():
            node = top.value["builders"][1].value[kind][1]
            if not re.fullmatch(r"[\w.]+:\w+", where):
                node.say(f"{where!r} names no builder", 'write "package.module:Class"')
                continue
            try:
                self._registry.add_private(kind, where, self._root)
            except ImportError as error:
                node.say(f"builder {where!r} can't be loaded: {error}")
        return tuple(found.items())

    # Components

    def _components(self, top: Node) -> Iterator[Component]:
        if "components" not in top.value:
            top.say("'components' is missing", "it names the folders that are built")
            return
        node = top.value["components"][1]
        if node.empty:
            return
        if node.kind != "mapping":
            node.say(f"expected a mapping of components, found a {node.kind}")
            return
        for key, value in node.value.values():
            name = binder(Name)(key)
            made = self._component(key.value, key, value)
            if name is not WRONG and made is not None:
                yield made

    def _component(self, name: str, key: Node, node: Node) -> Component | None:
        if node.kind != "mapping":
            node.say("expected a mapping with `kind:`")
            return None
        common = {k: v for k, v in node.value.items() if k in spec.COMPONENT_KEYS}
        own = {k: v for k, v in node.value.items() if k not in spec.COMPONENT_KEYS}
        bound = binder(spec.ComponentSpec)(Node("mapping", common, node.line, node.column, node.source))
        builder = self._builder(node)
        options = self._options(builder, node, own) if builder is not None else WRONG
        if bound is WRONG or options is WRONG:
            return None
        path = self._path(bound.path if bound.path is not None else name, node.value.get("path", (key, key))[1])
        steps_node = node.value["steps"][1] if "steps" in node.value else None
        return Component(
            name=name, kind=bound.kind, path=path, tags=bound.tags, depends_on=bound.depends_on, options=options,
            steps=tuple(self._override(path, step, found, steps_node) for step, found in bound.steps.items()),
            where=key.place,
        )  # fmt: skip

    def _builder(self, node: Node) -> Any | None:
        if "kind" not in node.value:
            return None
        kind = node.value["kind"][1]
        if kind.kind != "scalar":
            return None
        try:
            builder = self._registry.get(kind.value)
        except ImportError as error:
            kind.say(f"the builder of kind {kind.value!r} can't be loaded: {error}")
            return None
        if builder is None:
            from build_tests.core.graph import did_you_mean

            kinds = self._registry.kinds()
            kind.say(f"unknown kind {kind.value!r}", did_you_mean(kind.value, kinds) or f"known: {', '.join(kinds)}")
        return builder

    def _options(self, builder: Any, node: Node, own: dict[str, tuple[Node, Node]]) -> Any:
        known = {f: None for f in builder.options.__dataclass_fields__}
        for text, (key, _) in own.items():
            if text not in known:
                unknown_key(key, {**known, **dict.fromkeys(spec.COMPONENT_KEYS)})
        own = {text: pair for text, pair in own.items() if text in known}
        return binder(builder.options)(Node("mapping", own, node.line, node.column, node.source))

    def _path(self, text: str, node: Node) -> str:
        """A folder from the root, "" for the root itself."""
        problem = path_problem(text)
        if problem:
            node.say(f"{text!r} {problem}")
            return ""
        normal = os.path.normpath(text.removeprefix("//") or ".")
        return "" if normal == "." else normal

    # Steps

    def _override(self, base: str, name: str, written: spec.StepSpec, steps: Node | None) -> StepOverride:
        assert steps is not None  # noqa: S101 - bound steps come from somewhere
        key, node = steps.value[name]
        fields: dict[str, Any] = {}
        for field in spec.StepSpec.__slots__:
            value = getattr(written, field)
            if value is not None:
                fields[field] = self._field(field, value, base, node.value[field][1])
        if fields.get("clean") is False and not fields.get("state"):
            node.value["clean"][1].say("clean: false needs state", "name what the tool keeps: state: [.tsbuildinfo]")
        return StepOverride(name=name, fields=tuple(fields.items()), where=key.place)

    def _field(self, field: str, value: Any, base: str, node: Node) -> Any:
        match field:
            case "inputs" | "junit":
                pairs = zip(value, node.value, strict=True)
                return tuple(p for text, child in pairs if (p := self._pattern(text, base, child)))
            case "state":
                pairs = zip(value, node.value, strict=True)
                return tuple(p for text, child in pairs if (p := self._own_path(text, base, child)))
            case "outputs":
                pairs = zip(value, node.value, strict=True)
                return tuple(o for found, child in pairs if (o := self._output(found, base, child)))
            case "env":
                return tuple(sorted(value.items()))
            case "resources":
                return _resources(value)
        return value

    def _pattern(self, text: str, base: str, node: Node) -> str | None:
        """An input pattern from the root, `!` kept in front."""
        negated, body = text.startswith("!"), text.removeprefix("!")
        problem = path_problem(body, base)
        made = _from_root(body, base) if not problem else ""
        if not problem and (error := globs.validate(made)):
            problem = f"is no pattern: {error}"
        if problem:
            node.say(f"{text!r} {problem}")
            return None
        return f"!{made}" if negated else made

    def _own_path(self, text: str, base: str, node: Node) -> str | None:
        """A path that the step may write, from the root."""
        problem = path_problem(text, base)
        if not problem and any(letter in text for letter in "*?["):
            problem = "holds a wildcard: name the file, or the folder with a trailing /"
        made = "" if problem else _from_root(text, base).rstrip("/")
        if not problem and (made in ("", ".") or made.split("/")[0] in (".git", ".build", ".pytest_cache")):
            problem = "can't be an output: it would be removed before each run"
        if problem:
            node.say(f"{text!r} {problem}")
            return None
        return made

    def _output(self, found: spec.OutputSpec, base: str, node: Node) -> Output | None:
        identity = Identity(found.identity)
        if identity is Identity.IMAGE:
            return Output(path=found.path, identity=identity)
        place = node.value["path"][1] if node.kind == "mapping" else node
        path = self._own_path(found.path, base, place)
        if path is None:
            return None
        directory = found.path.endswith("/") or identity is Identity.INSTALLED
        return Output(path=path, directory=directory, identity=identity, tracked=found.tracked)

    # Targets

    def _targets(self, top: Node, components: tuple[Component, ...]) -> Iterator[Target]:
        found = self._bound(top, "targets", Mapping[Name, spec.TargetSpec], {})
        names = [component.name for component in components]
        for name, target in found.items():
            key, node = top.value["targets"][1].value[name]
            if name in names:
                key.say(f"{name!r} is the name of a component too", "TARGET= and selectors must know which is meant")
            for child, wanted in zip(_children(node, "components"), target.components or (), strict=False):
                if wanted not in names:
                    from build_tests.core.graph import did_you_mean

                    child.say(f"target {name!r} names {wanted!r}, which is no component", did_you_mean(wanted, names))
            yield Target(
                name=name, description=target.description, components=target.components, tags=target.tags,
                cache_strategy=Strategy(target.cache_strategy), parallel=target.parallel,
                incremental=target.incremental, strict=target.validation == "strict", artifacts=target.artifacts,
                environment=target.environment, where=key.place,
            )  # fmt: skip

    def _default(self, top: Node, targets: tuple[Target, ...]) -> str | None:
        default: str | None = self._bound(top, "default_target", str, None)
        if default is not None and default not in [target.name for target in targets]:
            from build_tests.core.graph import did_you_mean

            hint = did_you_mean(default, [target.name for target in targets])
            top.value["default_target"][1].say(f"there is no target {default!r}", hint)
        return default

    def _say_unused(self, system: Node) -> None:
        """Keys that a later release reads, where they were written."""
        for path, why in _LATER:
            node = system
            for part in path:
                if node.kind != "mapping" or part not in node.value:
                    break
                node = node.value[part][1]
            else:
                if why(node):
                    self._unused.append(f"{node.place}: build_system.{'.'.join(path)} is read, and used by a later release")


_LATER = (
    *(((("cache", key)), lambda _node: True) for key in ("ttl", "max_size", "redis", "s3", "reapi", "keys", "read_scopes")),
    (("cache", "storage"), lambda node: node.value != "local"),
    (("monitoring", "build_notifications"), lambda node: node.value == "true"),
)  # fmt: skip


def _children(node: Node, key: str) -> list[Node]:
    return list(node.value[key][1].value) if node.kind == "mapping" and key in node.value else []


def path_problem(text: str, base: str = "") -> str:
    """What is wrong with a path that must lie below the root, or ""."""
    body = text.removeprefix("//")
    if "\0" in text or not text.strip():
        return "is no path"
    if body.startswith("/") or body.startswith("~"):
        return "is absolute: paths are relative to the component, or to the root with //"
    joined = os.path.normpath(os.path.join("" if text.startswith("//") else base, body or "."))
    if joined == ".." or joined.startswith("../"):
        return "leaves the repository"
    return ""


def _from_root(text: str, base: str) -> str:
    """Relative to the root, normal, the trailing / kept."""
    joined = os.path.normpath(os.path.join("", text[2:]) if text.startswith("//") else os.path.join(base, text))
    slash = "/" if text.endswith("/") and joined != "." else ""
    return "**" if joined == "." else joined + slash


def _resources(found: dict[str, Any]) -> Resources:
    other = tuple(sorted((k, v) for k, v in found.items() if k not in ("cpu", "memory", "locks")))
    return Resources(
        cpu=found.get("cpu", 1), memory=found.get("memory", 0), locks=tuple(found.get("locks", ())), other=other
    )


def _cache(found: spec.CacheSpec) -> CacheSettings:
    return CacheSettings(
        enabled=found.enabled, storage=found.storage, ttl=found.ttl, max_size=found.max_size,
        redis=tuple((found.redis or {}).items()), s3=tuple((found.s3 or {}).items()),
        reapi=tuple((found.reapi or {}).items()), read_scopes=found.read_scopes,
        keys=tuple((scope, tuple(keys.items())) for scope, keys in (found.keys or {}).items()),
    )  # fmt: skip


def _parallelism(found: spec.ParallelismSpec) -> Parallelism:
    capacities: dict[str, float] = {}
    for name, amount in (found.resources or {}).items():
        if isinstance(amount, str):
            whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
            amount = whole * int(amount.rstrip("%")) // 100  # noqa: PLW2901
        capacities[name] = amount
    return Parallelism(
        max_workers=found.max_workers, dependency_aware=found.dependency_aware,
        resources=tuple(sorted(capacities.items())),
    )  # fmt: skip
