"""Configuration and builders → steps. Calls builders; knows no kind by name and no edge between steps.

config → for each component: builder.plan(…) → `steps:` over it, field by field → tags, dependencies → checked
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from build_tests.core import globs, paths
from build_tests.core.builder import Builder, ManifestError
from build_tests.core.commands import with_started
from build_tests.core.config import BuilderSource, check
from build_tests.core.errors import BuilderError, ConfigError, Diagnostic, Place
from build_tests.core.graph import Graph, build_graph, did_you_mean
from build_tests.core.model import FLAKY, NOWHERE, Component, Config, Identity, Output, Retries, Step, StepOverride
from build_tests.core.scalars import is_name
from build_tests.core.workspace import FileWorkspace, output_paths

AGAIN = Retries(count=2)
"""For steps whose tag says that they are flaky."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembly:
    """The steps, as far as they can be known, and all that is wrong with them."""

    config: Config
    """As it was, without components that were found in what a step makes."""
    steps: tuple[Step, ...]
    workspace: FileWorkspace
    """Says what the builders looked at."""
    diagnostics: tuple[Diagnostic, ...] = ()
    complete: bool = True
    """False: a component's steps are missing, so that a dependency on one of them says nothing."""


def read(
    file: str, *, registry: BuilderSource, environment: str | None = None, shown: list[FileWorkspace] | None = None
) -> tuple[Config, Graph]:
    """A build file to its graph, with the faults of all stages at once.

    Args:
        file: absolute.
        registry: knows the builders.
        environment: an overlay's name.
        shown: gets every workspace that builders were shown: the answer depends on what they saw there.

    Raises:
        ConfigError: every fault of the file, its steps and their edges.
        SelectionError: there is no such environment.
    """
    shown = [] if shown is None else shown
    checked = check(file, registry=registry, environment=environment)
    shown.append(checked.workspace)
    assembly = assemble(checked.config, registry, broken=checked.broken, shown=shown)
    config = assembly.config
    wrong = [*checked.diagnostics, *assembly.diagnostics]
    graph: Graph | None = None
    if assembly.complete:
        try:
            graph = build_graph(assembly.steps, config.components)
        except ConfigError as error:
            wrong.extend(error.diagnostics)
    if wrong or graph is None:
        raise ConfigError(wrong)
    return config, graph


def steps_of(config: Config, registry: BuilderSource) -> tuple[Step, ...]:
    """All steps, in the order of the file. Raises ConfigError with every fault."""
    assembly = assemble(config, registry)
    if assembly.diagnostics:
        raise ConfigError(list(assembly.diagnostics))
    return assembly.steps


def assemble(
    config: Config, registry: BuilderSource, *, broken: frozenset[str] = frozenset(),
    shown: list[FileWorkspace] | None = None,
) -> Assembly:  # fmt: skip
    """As `steps_of`, but faults are values. Components in `broken` are left out: their faults are known already."""
    shown = [] if shown is None else shown
    components = [component for component in config.components if component.name not in broken]
    outputs = [output for component in components for output in _declared(component)]
    assembler = _Assembler(config, registry, outputs)
    shown.append(assembler.workspace)
    steps = assembler.run(components)
    all_outputs = [output for step in steps for output in step.outputs]
    owned = output_paths(all_outputs)
    made = {component.name for component in components if component.found and owned.contains(component.path + "/")}
    if made:
        # A fresh clone has no such folder, so a build that was built before has no such component.
        kept = tuple(component for component in config.components if component.name not in made)
        return assemble(replace(config, components=kept), registry, broken=broken, shown=shown)
    if any(owned.contains(path) for path in assembler.workspace.listed):
        # A builder saw a file that another step makes; the plan must be that of a fresh clone.
        assembler = _Assembler(config, registry, all_outputs)
        shown.append(assembler.workspace)
        steps = assembler.run(components)
    complete = assembler.complete and not broken
    if complete:
        assembler.check_tags(steps)
    return Assembly(
        config=config,
        steps=tuple(steps),
        workspace=assembler.workspace,
        diagnostics=tuple(assembler.diagnostics),
        complete=complete,
    )


def _declared(component: Component) -> Iterator[Output]:
    for override in component.steps:
        fields = dict(override.fields)
        yield from (*fields.get("outputs", ()), *fields.get("extra_outputs", ()))


class _Assembler:
    """One pass over the components."""

    def __init__(self, config: Config, registry: BuilderSource, outputs: Iterable[Output]) -> None:
        self._config = config
        self._registry = registry
        self.workspace = FileWorkspace(config.root, config.components, outputs)
        self.diagnostics: list[Diagnostic] = []
        self.complete = True

    def run(self, components: Iterable[Component]) -> list[Step]:
        steps: list[Step] = []
        for component in components:
            made = self._planned(component)
            if made is None:
                self.complete = False
            else:
                steps.extend(self._merged(component, made))
        return steps

    def check_tags(self, steps: Iterable[Step]) -> None:
        known = sorted(set(chain.from_iterable(step.tags for step in steps)))
        for target in self._config.targets:
            for tag in target.tags or ():
                if tag not in known:
                    hint = did_you_mean(tag, known) or (f"known: {', '.join(known)}" if known else "no step has a tag")
                    self._add(target.where, f"target {target.name!r}: no step has the tag {tag!r}", hint)

    def _add(self, place: Place, message: str, hint: str = "") -> None:
        self.diagnostics.append(Diagnostic(place=place, message=message, hint=hint))

    # -- what the builder makes

    def _planned(self, component: Component) -> dict[str, Step] | None:
        """The builder's steps by name; None = reported."""
        where = component.where
        try:
            builder = self._registry.get(component.kind)
            return self._checked(component, builder)
        except ManifestError as error:
            place = Place(file=error.file, line=error.line, column=1) if error.line else where
            self._add(place, f"component {component.name!r}: {error}", error.hint)
        except BuilderError as error:
            self._add(where, str(error), error.hint)
        except Exception as error:  # noqa: BLE001 - a builder is a plug-in: its bugs are told, not thrown at the user
            last = traceback.extract_tb(error.__traceback__)[-1]
            file = last.filename.removeprefix(self._config.root + os.sep)
            what = f"component {component.name!r}: its builder failed: {type(error).__name__}: {error}"
            self._add(where, what, f"raised in {file}, line {last.lineno}")
        return None

    def _checked(self, component: Component, builder: Builder | None) -> dict[str, Step]:
        """Raises BuilderError where a builder breaks the contract, and whatever the builder raises."""
        if builder is None:
            raise BuilderError(f"no builder has the kind {component.kind!r}")
        made: dict[str, Step] = {}
        for step in builder.plan(component, self.workspace):
            fault = _contract_fault(component, step, made)
            if fault:
                raise BuilderError(f"component {component.name!r}: the builder of kind {component.kind!r} {fault}")
            made[step.name] = step
        return made

    # -- what the build file says about it

    def _merged(self, component: Component, made: dict[str, Step]) -> Iterator[Step]:
        overrides = {override.name: override for override in component.steps}
        for step in made.values():
            yield self._finished(component, _changed(component, step, overrides.pop(step.name, None)), made)
        for override in overrides.values():
            yield self._finished(component, _added(component, override), made)

    def _finished(self, component: Component, step: Step, made: dict[str, Step]) -> Step:
        if not step.command:
            self._add(step.where, f"step {step.label!r} has no command", _meant(component, step.name, made))
        if not step.clean and not step.state:
            self._add(
                step.where,
                f"step {step.label!r}: clean: false needs state",
                "name what the tool remembers between runs under state:, or leave clean out",
            )
        tools = with_started(step.tools, step.command)
        return step if tools == step.tools else replace(step, tools=tools)


def _contract_fault(component: Component, step: Any, made: dict[str, Step]) -> str:
    """How a builder's step breaks the contract; "" = it does not."""
    if not isinstance(step, Step):
        return f"gave {type(step).__name__}, not a Step"
    if not is_name(step.name):
        return f"gave a step the name {step.name!r}"
    if step.name in made:
        return f"made two steps {step.label!r}"
    if (step.component, step.kind) != (component.name, component.kind):
        return f"made the step {step.label!r} of kind {step.kind!r}, which is another component's"
    for output in step.outputs:
        if output.identity is not Identity.IMAGE and (fault := paths.output_fault(output.path, component.path)):
            return f"gave step {step.label!r} the output {output.path!r}: {fault}"
    wrong = (said for pattern in step.inputs if (said := globs.validate(pattern)))
    return next((f"gave step {step.label!r} a wrong input: {said}" for said in wrong), "")


def _changed(component: Component, step: Step, override: StepOverride | None) -> Step:
    """A builder's step with what the build file says: field by field, variables one by one."""
    fields = {} if override is None else _with_extras(override, step)
    if "env" in fields:
        fields["env"] = tuple((dict(step.env) | dict(fields["env"])).items())
    if override is not None:
        fields["where"] = override.where
    elif step.where == NOWHERE:
        fields["where"] = component.where
    fields["tags"] = _joined(fields.get("tags", step.tags), component.tags)
    # A builder's own are mostly for downloads, and not for a test that fails now and then.
    if FLAKY in fields["tags"] and (step.retries.when or not step.retries.count):
        fields.setdefault("retries", AGAIN)
    fields["depends_on"] = _joined(fields.get("depends_on", step.depends_on), component.depends_on)
    return replace(step, **fields)


def _with_extras(override: StepOverride, step: Step | None = None) -> dict[str, Any]:
    """What is written, with `extra_inputs` and `extra_outputs` laid to what they extend."""
    fields = dict(override.fields)
    for name in ("inputs", "outputs"):
        if extra := fields.pop(f"extra_{name}", ()):
            fields[name] = (*fields.get(name, getattr(step, name, ())), *extra)
    return fields


def _added(component: Component, override: StepOverride) -> Step:
    fields = _with_extras(override)
    fields["tags"] = _joined(fields.get("tags", ()), component.tags)
    if FLAKY in fields["tags"]:
        fields.setdefault("retries", AGAIN)
    fields["depends_on"] = _joined(fields.get("depends_on", ()), component.depends_on)
    return Step(
        component=component.name,
        name=override.name,
        kind=component.kind,
        path=component.path,
        where=override.where,
        **fields,
    )


def _joined(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[str, ...]:
    return first if not second else tuple(dict.fromkeys(first + second))


def _meant(component: Component, name: str, made: dict[str, Step]) -> str:
    """What to do about a step without a command: most likely its name was to be that of a builder's step."""
    if not made:
        return f"component {component.name!r} is of kind {component.kind}: each step says its command"
    return did_you_mean(name, made) or f"the builder of kind {component.kind} made: {', '.join(made)}"
