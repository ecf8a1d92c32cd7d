"""Components → steps: what their builders derive, overridden and added to by what the build file says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from build_tests.core.builder import ManifestError
from build_tests.core.config import BuilderSource
from build_tests.core.errors import ConfigError, Diagnostic
from build_tests.core.model import Component, Config, Step, StepOverride
from build_tests.core.workspace import RootWorkspace


def steps_of(config: Config, registry: BuilderSource) -> tuple[Step, ...]:
    """Every step of a build file, in its order.

    Raises:
        ConfigError: a manifest can't be read, a step has no command or is there twice; all at once.
    """
    workspace = RootWorkspace(config.root, config.components)
    wrong: list[Diagnostic] = []
    steps = [step for component in config.components for step in _steps(component, workspace, registry, wrong)]
    tags = {tag for step in steps for tag in step.tags}
    for target in config.targets:
        wrong += [
            Diagnostic(place=target.where, message=f"target {target.name!r} names tag {tag!r}, which no step has")
            for tag in target.tags or ()
            if tag not in tags
        ]
    if wrong:
        raise ConfigError(wrong)
    return tuple(steps)


def _steps(
    component: Component, workspace: RootWorkspace, registry: BuilderSource, wrong: list[Diagnostic]
) -> Iterator[Step]:
    try:
        derived = list(registry_builder(registry, component).plan(component, workspace))
    except ManifestError as error:
        place = component.where
        message = f"component {component.name!r}: {error}"
        wrong.append(Diagnostic(place=place, message=message, hint=error.hint))
        return
    overrides = {override.name: override for override in component.steps}
    seen: set[str] = set()
    for step in derived:
        if step.name in seen:
            wrong.append(Diagnostic(place=component.where, message=f"the builder made step {step.label!r} twice"))
        seen.add(step.name)
        yield _finished(component, step, overrides.pop(step.name, None))
    for override in overrides.values():
        added = Step(component=component.name, name=override.name, kind=component.kind, path=component.path)
        step = _finished(component, added, override)
        if not step.command:
            wrong.append(
                Diagnostic(
                    place=override.where, message=f"step {step.label!r} has no command",
                    hint=_known(derived, component),
                )
            )
        yield step


def registry_builder(registry: BuilderSource, component: Component) -> Any:
    """The component's builder, which the configuration has already found."""
    return registry.get(component.kind)


def _known(derived: list[Step], component: Component) -> str:
    if not derived:
        return "write command: [program, argument]"
    names = ", ".join(step.name for step in derived)
    return f"kind {component.kind!r} derives: {names}; another name adds a step, and needs a command"


def _finished(component: Component, step: Step, override: StepOverride | None) -> Step:
    fields: dict[str, Any] = dict(override.fields) if override is not None else {}
    tags = fields.pop("tags", step.tags)
    depends = fields.pop("depends_on", step.depends_on)
    return replace(
        step,
        **fields,
        tags=tuple(dict.fromkeys((*component.tags, *tags))),
        depends_on=tuple(dict.fromkeys((*component.depends_on, *depends))),
        where=override.where if override is not None else component.where,
    )
