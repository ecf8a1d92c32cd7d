"""Which steps a run selects: `-k`, `-m`, node ids, `--lf`, selectors, the target. Their dependencies come later."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

import pytest

from build_tests.core.errors import SelectionError
from build_tests.core.model import Step
from build_tests.project import Project


class Selector:
    """Chooses among the steps of one project for one pytest run."""

    def __init__(self, config: pytest.Config, project: Project, file: str) -> None:
        self._option = config.option
        self._lf = bool(getattr(config.option, "lf", False))  # absent with -p no:cacheprovider
        self._project = project
        self._by_id = _labels_by_id(config, file)
        self.named: set[str] = set()
        """Steps asked for by name: a tool that they lack is no side matter."""
        self.again: set[str] = set()
        """Steps that `--lf` has chosen, since they have no good result."""

    def choose(self, kept: set[str], unfinished: Callable[[], set[str]]) -> set[str]:
        """The labels to build, given those that `-k`, `-m` and node ids left.

        Raises:
            pytest.UsageError: a selector names nothing.
        """
        option, project = self._option, self._project
        try:
            selected = project.select(option.build_select)
        except SelectionError as error:
            raise pytest.UsageError(str(error)) from None
        self.named = {label for label in selected if label in option.build_select} | self._by_id
        chosen = kept & selected if option.build_select else set(kept)
        chosen = {label for label in chosen if not self._step(label).on_request or self._is_asked_for(label, selected)}
        if self._lf:
            self.again = chosen & unfinished()
            # Like pytest: where nothing of the selection failed before, all of it runs.
            if self.again or getattr(option, "last_failed_no_failures", "all") == "none":
                chosen = self.again
        if option.build_affected is not None:
            chosen &= self._affected(option.build_affected)
        return chosen & self._by_target(chosen) if self._narrows() else chosen

    def _affected(self, ref: str) -> set[str]:
        from build_tests.run.affected import changed_files, touched

        project = self._project
        try:
            files = changed_files(project.config.root, ref)
        except SelectionError as error:
            raise pytest.UsageError(str(error)) from None
        return touched(project.graph, project.config, project.manifests, files)

    def _step(self, label: str) -> Step:
        return self._project.graph.steps[label]

    def _narrows(self) -> bool:
        """A target asked for always narrows; the default one only where nothing else selects."""
        option = self._option
        named = option.keyword or option.markexpr or option.build_select or self._by_id or self.again
        return bool(option.build_target) or not (named or option.build_affected is not None)

    def _by_target(self, chosen: set[str]) -> set[str]:
        return self._project.members(self._project.target) | {c for c in chosen if self._step(c).on_request}

    def _is_asked_for(self, label: str, selected: Iterable[str]) -> bool:
        step = self._step(label)
        return (
            label in self._by_id
            or label in selected
            or _names(self._option.keyword, (label, step.component, step.name, *step.tags))
            or _names(self._option.markexpr, step.tags)
        )


def _labels_by_id(config: pytest.Config, file: str) -> set[str]:
    invoked = str(config.invocation_params.dir)
    found = set()
    for argument in config.args:
        path, _, label = str(argument).partition("::")
        if label and os.path.abspath(os.path.join(invoked, path)) == file:
            found.add(label)
    return found


def _names(expression: str, words: Iterable[str]) -> bool:
    """Whether a `-k` or `-m` expression asks for these words: true with them, false without them."""
    if not expression:
        return False
    from _pytest.mark.expression import Expression

    known = [word.lower() for word in words]

    def matches(name: str, /, **_: object) -> bool:
        return any(name.lower() in word for word in known)

    def nothing(_name: str, /, **_: object) -> bool:
        return False

    # pytest has refused a malformed expression by now.
    compiled = Expression.compile(expression)
    return compiled.evaluate(matches) and not compiled.evaluate(nothing)
