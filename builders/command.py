"""Kind `command`: whatever has no builder of its own. Every step is written down in build.yml."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from build_tests.core.builder import Component, Step, Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandOptions:
    """No options: a command component has steps only."""


class CommandBuilder:
    """Derives nothing."""

    kind: ClassVar[str] = "command"
    options: ClassVar[type[CommandOptions]] = CommandOptions

    def plan(self, component: Component, workspace: Workspace) -> Iterable[Step]:  # noqa: ARG002
        """No steps of its own."""
        return ()
