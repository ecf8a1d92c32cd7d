"""A build file, read whole: configuration, steps, graph and the policy of a target. Runs nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from build_tests.core.errors import SelectionError
from build_tests.core.graph import Graph, did_you_mean
from build_tests.core.model import Config, Target, by_entry
from build_tests.parsed import remembered
from build_tests.registry import Registry

EVERYTHING = Target(name="everything")
"""What is built where the build file has no targets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """What a build file says. `target` is the chosen one, or the default."""

    config: Config
    graph: Graph
    target: Target
    registry: Registry
    manifests: tuple[str, ...] = ()
    """What builders read, from the root."""

    def members(self, target: Target) -> set[str]:
        """The labels that a target names, steps on request left out."""
        names = by_entry(self.config.components)
        wanted = {found for name in target.components or () for found in names.get(name, ())}
        return {
            label
            for label, step in self.graph.steps.items()
            if not step.on_request
            and (target.components is None or step.component in wanted)
            and (target.tags is None or not set(target.tags).isdisjoint(step.tags))
        }

    def select(self, selectors: Iterable[str]) -> set[str]:
        """The labels that selectors (a target, a component or a step each) name.

        Raises:
            SelectionError: one names nothing.
        """
        found: set[str] = set()
        targets = {target.name: target for target in self.config.targets}
        names = by_entry(self.config.components)
        for selector in selectors:
            meant = names.get(selector, (selector,))
            members = {label for label, step in self.graph.steps.items() if step.component in meant}
            if selector in self.graph.steps:
                found.add(selector)
            elif members:
                # A component is asked for as a whole, but its steps on request only where it has no others.
                found |= {label for label in members if not self.graph.steps[label].on_request} or members
            elif selector in targets:
                found |= self.members(targets[selector])
            else:
                known = [*targets, *names, *self.graph.steps]
                hint = did_you_mean(selector, known)
                raise SelectionError(f"{selector!r} is no target, component or step" + (f" ({hint})" if hint else ""))
        return found

    def chosen(self, selectors: Collection[str], *, target_named: bool) -> tuple[set[str], set[str]]:
        """The labels that a command with these selectors builds, and of those the ones it calls by their own name.

        As a session without `-k`, `-m`, node ids and `--lf` chooses (session/select.py). Raises SelectionError.
        """
        selected = self.select(selectors)
        if not selectors:
            return self.members(self.target), set()
        if target_named:
            on_request = {label for label in selected if self.graph.steps[label].on_request}
            selected &= self.members(self.target) | on_request
        return selected, {label for label in selected if label in selectors}


def load_project(file: str, *, target: str | None = None, environment: str | None = None) -> Project:
    """Read a build file and what lies beside it.

    Args:
        file: absolute.
        target: a target's name; None = the default one.
        environment: an overlay's name; None = the target's.

    Raises:
        ConfigError: the build file is wrong.
        SelectionError: the target or the environment does not exist.
    """
    registry = Registry()
    config, graph, manifests = remembered(file, environment, registry)
    chosen = _target(config, target)
    if environment is None and chosen.environment is not None:
        config, graph, manifests = remembered(file, chosen.environment, registry)
        chosen = _target(config, target)
    return Project(config=config, graph=graph, target=chosen, registry=registry, manifests=manifests)


def _target(config: Config, name: str | None) -> Target:
    wanted = name or config.default_target
    if wanted is None:
        return EVERYTHING
    for target in config.targets:
        if target.name == wanted:
            return target
    hint = did_you_mean(wanted, [target.name for target in config.targets])
    raise SelectionError(f"there is no target {wanted!r}" + (f" ({hint})" if hint else ""))
