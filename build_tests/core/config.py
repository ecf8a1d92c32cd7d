"""The build file and its overlays → a checked `Config`. Reads these files only; knows no step of a builder.

Every fault that the files alone show is reported at once, each at its place. What needs the builders' steps is checked
in `assemble`, what needs the edges in `graph`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

from build_tests.core import discover, paths, spec
from build_tests.core.binding import INVALID, Report, bind, bind_parts, binder, keys_of
from build_tests.core.builder import Builder, ManifestError
from build_tests.core.collector import collector_paused
from build_tests.core.discover import AUTO, is_pattern
from build_tests.core.errors import BuilderError, ConfigError, Diagnostic, Place, SelectionError
from build_tests.core.graph import did_you_mean
from build_tests.core.locate import root_of
from build_tests.core.model import (
    CacheSettings,
    Component,
    Config,
    Identity,
    Monitoring,
    Output,
    Parallelism,
    Resources,
    Retries,
    StepOverride,
    Strategy,
    Target,
    Tool,
)
from build_tests.core.scalars import Share
from build_tests.core.workspace import FileWorkspace
from build_tests.core.yamltree import Node, Sources, entries, key_nodes, mapping, merged, wrapped


class BuilderSource(Protocol):
    """Where builders come from; `build_tests.registry` is one."""

    def get(self, kind: str) -> Builder | None:
        """The builder of a kind. Raises BuilderError when it is there and can't be loaded."""

    def kinds(self) -> list[str]:
        """All kinds, sorted."""

    def add_private(self, kind: str, spec: str, root: str) -> None:
        """Load a repository's own builder, `module:Class`. Raises BuilderError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What a build file says, as far as it can be understood, and all that is wrong with it.

    With diagnostics, `config` is only good for finding more of them.
    """

    config: Config
    workspace: FileWorkspace
    """What builders were shown to recognise folders."""
    diagnostics: tuple[Diagnostic, ...] = ()
    broken: frozenset[str] = frozenset()
    """Components whose steps can't be known, since their kind or options are wrong."""


def load(file: str, *, registry: BuilderSource, environment: str | None = None) -> Config:
    """Read a build file with `config/cache.yml` and the environment's overlay.

    Raises:
        ConfigError: every fault found.
        SelectionError: there is no such environment.
    """
    checked = check(file, registry=registry, environment=environment)
    if checked.diagnostics:
        raise ConfigError(list(checked.diagnostics))
    return checked.config


def check(file: str, *, registry: BuilderSource, environment: str | None = None) -> Checked:
    """As `load`, but faults are values. Raises SelectionError."""
    with collector_paused():
        return _Loader(file, registry, environment).run()


def environments(root: str) -> list[str]:
    """The names of the overlays under `config/environments`, sorted."""
    try:
        names = os.listdir(os.path.join(root, "config", "environments"))
    except OSError:
        return []
    return sorted(name.removesuffix(".yml") for name in names if name.endswith(".yml"))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """An entry that stands for the components it finds."""

    spec: spec.ComponentSpec
    options: Any


class _Loader:
    """One reading of one build file."""

    def __init__(self, file: str, registry: BuilderSource, environment: str | None) -> None:
        self._root = root_of(file)
        self._file = os.path.relpath(os.path.abspath(file), self._root)
        self._registry = registry
        self._environment = environment
        self._sources = Sources()
        self._report = Report(self._sources)
        self._broken: set[str] = set()
        self._workspace = FileWorkspace(self._root)
        """What builders are shown to recognise a folder."""
        self._failed: set[str] = set()
        """Kinds of private builders that can't be loaded."""

    def run(self) -> Checked:
        tree = self._tree()
        bound = INVALID if tree is None else bind(tree, spec.FileSpec, self._report)
        config = Config(root=self._root, file=self._file) if bound is INVALID else self._config(bound)
        return Checked(
            config=config, workspace=self._workspace, diagnostics=tuple(self._report.diagnostics),
            broken=frozenset(self._broken),
        )  # fmt: skip

    # -- files

    def _tree(self) -> Node | None:
        overlay = self._overlay()
        tree = self._read(self._file)
        if tree is None:
            return None
        cache = "config/cache.yml"
        if os.path.exists(os.path.join(self._root, cache)) and (over := self._read(cache)):
            tree = merged(tree, wrapped(("build_system", "cache"), over))
        if overlay and (over := self._read(overlay)):
            tree = merged(tree, over)
        return tree

    def _overlay(self) -> str | None:
        if self._environment is None:
            return None
        known = environments(self._root)
        if self._environment not in known:
            hint = did_you_mean(self._environment, known) or (
                f"known: {', '.join(known)}" if known else "config/environments/ has none"
            )
            raise SelectionError(f"there is no environment {self._environment!r} ({hint})")
        return f"config/environments/{self._environment}.yml"

    def _read(self, name: str) -> Node | None:
        try:
            with open(os.path.join(self._root, name), "rb") as stream:
                data = stream.read()
        except OSError as error:
            self._add(Place(file=name), f"the file can't be read: {error.strerror or error}")
            return None
        return self._sources.parse(name, data, self._report.diagnostics)

    # -- the whole

    def _config(self, file: spec.FileSpec) -> Config:
        written = entries(file.node)
        self._private_builders(file, written)
        keys = key_nodes(written["components"]) if "components" in written else {}
        self._broken.update(keys.keys() - file.components.keys())
        components = tuple(self._components(file.components, keys))
        known = {component.name: component for component in components} | file.components
        target_keys = key_nodes(written["targets"]) if file.targets else {}
        for name in file.targets:
            if name in known:
                hint = "a selector could mean both: rename one"
                self._report.add(target_keys[name], f"{name!r} is a target and a component", hint)
        targets = tuple(self._target(name, target, target_keys[name], known) for name, target in file.targets.items())
        if file.default_target is not None and file.default_target not in file.targets:
            self._unknown(written["default_target"], "target", file.default_target, file.targets)
        system = file.build_system
        return Config(
            root=self._root,
            file=self._file,
            cache=_cache(system.cache),
            parallelism=Parallelism(
                max_workers=system.parallelism.max_workers,
                dependency_aware=system.parallelism.dependency_aware,
                resources=tuple(self._capacities(system.parallelism, written)),
            ),
            monitoring=Monitoring(
                metrics_enabled=system.monitoring.metrics_enabled,
                performance_tracking=system.monitoring.performance_tracking,
                build_notifications=system.monitoring.build_notifications,
            ),
            builders=file.builders,
            components=components,
            targets=targets,
            default_target=file.default_target,
            environment=self._environment,
            unused=tuple(f"{self._sources.place(node)}: {text}" for node, text in _unused(system)),
        )

    def _capacities(self, parallelism: spec.ParallelismSpec, written: dict[str, Node]) -> Iterator[tuple[str, float]]:
        for name, value in parallelism.resources.other:
            if not isinstance(value, Share):
                yield name, value
            elif name == "memory":
                yield name, value.part * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
            else:
                node = entries(entries(entries(written["build_system"])["parallelism"])["resources"])[name]
                self._report.add(node, f"a percentage of {name} means nothing: only of memory")

    def _private_builders(self, file: spec.FileSpec, written: dict[str, Node]) -> None:
        for kind, path in file.builders:
            self._private_builder(kind, path, entries(written["builders"])[kind])

    def _private_builder(self, kind: str, path: str, node: Node) -> None:
        try:
            self._registry.add_private(kind, path, self._root)
        except BuilderError as error:
            self._failed.add(kind)
            self._report.add(node, str(error), error.hint)

    def _add(self, place: Place, message: str, hint: str = "") -> None:
        self._report.diagnostics.append(Diagnostic(place=place, message=message, hint=hint))

    def _unknown(self, node: Node, what: str, name: str, known: Any) -> None:
        hint = did_you_mean(name, known) or (f"known: {', '.join(known)}" if known else f"there is no {what} at all")
        self._report.add(node, f"there is no {what} {name!r}", hint)

    # -- targets

    def _target(self, name: str, target: spec.TargetSpec, key: Node, known: Mapping[str, Any]) -> Target:
        for component in target.components or ():
            if component not in known:
                self._unknown(_item(target.node, "components", component), "component", component, known)
        return Target(
            name=name,
            description=target.description,
            components=target.components,
            tags=target.tags,
            cache_strategy=target.cache_strategy or Strategy.AGGRESSIVE,
            parallel=target.parallel,
            incremental=target.incremental,
            strict=target.validation,
            artifacts=target.artifacts,
            environment=target.environment,
            where=self._sources.place(key),
        )

    # -- components

    def _components(self, written: Mapping[str, Node], keys: Mapping[str, Node]) -> Iterator[Component]:
        """Those that are written down, and in their entry's place those that it finds."""
        bound = {name: self._bound(name, node, keys[name]) for name, node in written.items()}
        taken = {name: entry for name, entry in bound.items() if isinstance(entry, Component)}
        for name, entry in bound.items():
            if isinstance(entry, Component):
                yield entry
            else:
                yield from self._found(name, entry, keys[name], taken)

    def _bound(self, name: str, node: Node, key: Node) -> Component | _Entry:
        options_type = self._options_type(name, node)
        if options_type is None:
            self._broken.add(name)
            known = _part(node, {f.key for f in keys_of(spec.ComponentSpec)})
            bound, options = bind(known, spec.ComponentSpec, self._report), None
        else:
            bound, options = bind_parts(node, (spec.ComponentSpec, options_type), self._report)
        if bound is not INVALID:
            self._not_itself(name, bound)
        if bound is INVALID or options is INVALID:
            self._broken.add(name)
        if bound is INVALID:
            return Component(name=name, kind="", path="", where=self._sources.place(key))
        options = None if options is INVALID else options
        if name not in self._broken and (bound.kind == AUTO or is_pattern(bound.path or "")):
            return _Entry(spec=bound, options=options)
        return self._component(name, bound, self._folder(name, bound), options, key)

    def _component(
        self, name: str, bound: spec.ComponentSpec, folder: str, options: Any, key: Node, **fields: Any
    ) -> Component:
        made = Component(
            name=name,
            kind=bound.kind,
            path=folder,
            tags=bound.tags,
            depends_on=bound.depends_on,
            steps=tuple(self._steps(bound, folder)) if bound.steps else (),
            options=options,
            where=self._sources.place(key),
        )
        return replace(made, **fields) if fields else made

    def _found(self, entry: str, bound: _Entry, key: Node, taken: dict[str, Component]) -> Iterator[Component]:
        """An entry's components, each added to `taken`."""
        looking = discover.Entry(name=entry, kind=bound.spec.kind, path=bound.spec.path or entry)
        where = entries(bound.spec.node).get("path", key)
        try:
            builders = self._asked(bound.spec.kind)
            found, faults = discover.components(looking, builders, self._workspace, taken)
        except (ValueError, ManifestError, BuilderError) as error:
            found, faults = [], [(f"component {entry!r}: {error}", getattr(error, "hint", ""))]
        for message, hint in faults:
            self._report.add(where, message, hint)
        self._broken.update([entry] if faults else [])
        for one in found:
            options = builders[one.kind].options() if bound.spec.kind == AUTO else bound.options
            made = self._component(one.name, bound.spec, one.folder, options, key, kind=one.kind, found=entry)
            taken[one.name] = made
            yield made

    def _asked(self, kind: str) -> dict[str, Builder]:
        """The builders that may take an entry's folders, by kind. Raises BuilderError."""
        kinds = self._registry.kinds() if kind == AUTO else [kind]
        builders = {name: builder for name in kinds if (builder := self._registry.get(name))}
        return {name: builders[name] for name in discover.detectors(builders)} if kind == AUTO else builders

    def _options_type(self, name: str, node: Node) -> type[Any] | None:
        """The options of the component's kind; None = reported, or there is no kind to have any."""
        kind = entries(node).get("kind")
        if kind is None or kind.id != "scalar" or not kind.value:
            return None
        if kind.value == AUTO:
            return self._auto(node)
        try:
            builder = self._registry.get(kind.value)
        except BuilderError as error:
            self._report.add(kind, str(error), error.hint)
            return None
        if builder is not None:
            return self._readable(builder, kind)
        if kind.value not in self._failed:
            kinds = self._registry.kinds()
            hint = did_you_mean(kind.value, kinds) or f"known: {', '.join(kinds)}; command has no builder of its own"
            self._report.add(kind, f"component {name!r} is of a kind {kind.value!r} that no builder has", hint)
        return None

    def _auto(self, node: Node) -> type[Any]:
        steps = key_nodes(node).get("steps")
        if steps is not None:
            hint = "write the component down with its kind, or kind: KIND with the same path"
            self._report.add(
                steps, "steps can't stand beside kind: auto: which steps there are depends on the kind", hint
            )
        return discover.AutoOptions

    def _readable(self, builder: Builder, kind: Node) -> type[Any] | None:
        options: Any = builder.options
        try:
            binder(options)
        except (TypeError, NameError) as error:
            self._report.add(kind, f"the options of the builder of kind {kind.value!r} can't be read: {error}")
            return None
        return builder.options

    def _folder(self, name: str, component: spec.ComponentSpec) -> str:
        if component.path is None:
            return name
        try:
            return paths.component_folder(component.path)
        except ValueError as error:
            self._refused(component.node, "path", component.path, error)
            return name

    def _not_itself(self, name: str, component: spec.ComponentSpec) -> None:
        for need in component.depends_on:
            if need == name or need.startswith(f"{name}:"):
                self._report.add(
                    _item(component.node, "depends_on", need),
                    f"component {name!r} depends on itself: every one of its steps would need {need!r}",
                )

    # -- steps

    def _steps(self, component: spec.ComponentSpec, folder: str) -> Iterator[StepOverride]:
        keys = key_nodes(entries(component.node)["steps"])
        for name, step in component.steps.items():
            yield StepOverride(
                name=name, fields=tuple(self._fields(step, folder)), where=self._sources.place(keys[name])
            )

    def _fields(self, step: spec.StepSpec, folder: str) -> Iterator[tuple[str, Any]]:
        for name, convert in _STEP_FIELDS.items():
            value = getattr(step, name)
            if value is not None:
                yield name, value if convert is None else convert(self, step, folder, value)
        if step.command is None and "command" in entries(step.node):
            yield "command", _REPORTED

    def _command(self, step: spec.StepSpec, _folder: str, value: tuple[str, ...] | str) -> tuple[str, ...] | str:
        if not value or not value[0]:
            self._report.add(entries(step.node)["command"], "the command is empty")
            return _REPORTED
        return value

    def _inputs(self, step: spec.StepSpec, folder: str, value: tuple[str, ...]) -> tuple[str, ...]:
        return self._patterns(step, "inputs", value, folder)

    def _extra_inputs(self, step: spec.StepSpec, folder: str, value: tuple[str, ...]) -> tuple[str, ...]:
        return self._patterns(step, "extra_inputs", value, folder)

    def _extra_outputs(
        self, step: spec.StepSpec, folder: str, value: tuple[spec.OutputSpec, ...]
    ) -> tuple[Output, ...]:
        return self._outputs(step, folder, value, "extra_outputs")

    def _junit(self, step: spec.StepSpec, folder: str, value: tuple[str, ...]) -> tuple[str, ...]:
        return self._patterns(step, "junit", value, folder)

    def _patterns(self, step: spec.StepSpec, key: str, value: tuple[str, ...], folder: str) -> tuple[str, ...]:
        try:
            return tuple([paths.pattern_from_root(text, folder) for text in value])
        except ValueError:
            found = [self._pattern(step, key, text, folder) for text in value]
            return tuple(pattern for pattern in found if pattern is not None)

    def _pattern(self, step: spec.StepSpec, key: str, text: str, folder: str) -> str | None:
        try:
            return paths.pattern_from_root(text, folder)
        except ValueError as error:
            self._refused(step.node, key, text, error)
            return None

    def _outputs(
        self, step: spec.StepSpec, folder: str, value: tuple[spec.OutputSpec, ...], key: str = "outputs"
    ) -> tuple[Output, ...]:
        outputs = []
        for output in value:
            identity = Identity(output.identity or "content")
            path: str | None = output.path
            if identity is not Identity.IMAGE:
                path = self._own_path(step, key, output.path, folder)
            if path is not None:
                # What is installed is a folder, however it is written.
                directory = identity is Identity.INSTALLED or (
                    identity is Identity.CONTENT and output.path.endswith("/")
                )
                outputs.append(Output(path=path, directory=directory, identity=identity, tracked=output.tracked))
        return tuple(outputs)

    def _state(self, step: spec.StepSpec, folder: str, value: tuple[str, ...]) -> tuple[str, ...]:
        found = (self._own_path(step, "state", text, folder) for text in value)
        return tuple(path for path in found if path is not None)

    def _own_path(self, step: spec.StepSpec, key: str, text: str, folder: str) -> str | None:
        """An output or state, from the root; None = reported."""
        try:
            path = paths.path_from_root(text, folder)
        except ValueError as error:
            self._refused(step.node, key, text, error)
            return None
        fault = paths.output_fault(path, folder, self._file)
        if fault:
            self._refused(step.node, key, text, fault.replace("an output", "state") if key == "state" else fault)
            return None
        return path

    def _refused(self, node: Node, key: str, text: str, error: ValueError | str) -> None:
        self._report.add(_item(node, key, text), f"{key}: {text!r} is refused: {error}")


_REPORTED = ("reported",)
"""Stands for a command that is wrong, so that the step is not called one without a command as well."""
_Convert = Callable[[_Loader, spec.StepSpec, str, Any], Any]


def _tool(tool: spec.ToolSpec) -> Tool:
    return Tool(
        name=tool.name,
        version=tool.version or "",
        version_command=tool.version_command,
        hint=tool.hint,
        optional=tool.optional,
    )


def _retries(retries: spec.RetriesSpec) -> Retries:
    backoff = Retries().backoff if retries.backoff is None else retries.backoff
    return Retries(count=retries.count, backoff=backoff, when=retries.when)


def _resources(resources: spec.ResourcesSpec) -> Resources:
    return Resources(cpu=resources.cpu, memory=resources.memory, locks=resources.locks, other=resources.other)


_STEP_FIELDS: dict[str, _Convert | None] = {
    **dict.fromkeys(f.name for f in keys_of(spec.StepSpec)),
    "command": _Loader._command,  # noqa: SLF001
    "inputs": _Loader._inputs,  # noqa: SLF001
    "outputs": _Loader._outputs,  # noqa: SLF001
    "extra_inputs": _Loader._extra_inputs,  # noqa: SLF001
    "extra_outputs": _Loader._extra_outputs,  # noqa: SLF001
    "state": _Loader._state,  # noqa: SLF001
    "junit": _Loader._junit,  # noqa: SLF001
    "tools": lambda _self, _step, _folder, value: tuple(_tool(tool) for tool in value),
    "retries": lambda _self, _step, _folder, value: _retries(value),
    "resources": lambda _self, _step, _folder, value: _resources(value),
}
"""Every key of a step with what makes it a field of `Step`; None = it is one as it is written."""


def _cache(cache: spec.CacheSpec) -> CacheSettings:
    default = CacheSettings()
    return CacheSettings(
        enabled=cache.enabled,
        storage=cache.storage,
        ttl=default.ttl if cache.ttl is None else cache.ttl,
        max_size=default.max_size if cache.max_size is None else cache.max_size,
        redis=_written(cache.redis),
        s3=_written(cache.s3),
        reapi=_written(cache.reapi),
        keys=cache.keys,
        read_scopes=cache.read_scopes,
    )


def _written(store: Any) -> tuple[tuple[str, Any], ...]:
    if store is None:
        return ()
    return tuple((f.name, value) for f in fields(store) if (value := getattr(store, f.name)) is not None)


_LATER = "is accepted, but nothing reads it yet"


def _unused(system: spec.BuildSystemSpec) -> Iterator[tuple[Node, str]]:
    """Keys that were written and have no effect in this release."""
    cache = entries(system.cache.node) if system.cache.node else {}
    keys = key_nodes(system.cache.node) if system.cache.node else {}
    for name in ("ttl", "max_size", "redis", "s3", "reapi", "keys", "read_scopes"):
        if name in keys:
            yield keys[name], f"{name} {_LATER}"
    if "storage" in cache and system.cache.storage != ("local",):
        yield keys["storage"], f"storage: {', '.join(system.cache.storage)} {_LATER}"
    if system.monitoring.build_notifications:
        yield key_nodes(system.monitoring.node)["build_notifications"], f"build_notifications {_LATER}"


def _item(node: Node, key: str, text: str) -> Node:
    """The node of one item under a key: where its text stands; the key's value where it can't be told."""
    value = entries(node)[key]
    items: list[Node] = value.value if value.id == "sequence" else []
    written = [entries(item).get("path", item) for item in items]
    return next((item for item in written if item.id == "scalar" and item.value == text), value)


def _part(node: Node, keys: set[str]) -> Node:
    """A mapping with only some of its keys; any other node as it is."""
    if node.id != "mapping":
        return node
    return mapping([pair for pair in node.value if pair[0].value in keys], node)
