"""Kind `command`: whatever has no builder of its own. All its steps stand under `steps:`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from build_tests.core.builder import Component, Step, Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandOptions:
    """A command component has no keys but those of every component."""


class CommandBuilder:
    """Makes no step of its own."""

    kind: ClassVar[str] = "command"
    options: ClassVar[type[CommandOptions]] = CommandOptions

    def plan(self, component: Component, workspace: Workspace) -> Iterable[Step]:  # noqa: ARG002
        """Nothing: the build file says it all."""
        return ()
