"""The `build_outputs` fixture: where a step's declared outputs lie, for hand-written tests."""

from __future__ import annotations

from pathlib import Path

import pytest


class BuildOutputs:
    """Callable with a step's label; see the fixture."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._node = request.node
        config = request.config
        if (controller := config.pluginmanager.getplugin("build-controller")) is not None:
            self._known = controller.declared_outputs()
        else:
            self._known = getattr(config, "workerinput", {}).get("pytest_build", {}).get("outputs")

    def __call__(self, label: str | None = None) -> list[Path]:
        """Absolute paths of the step's declared outputs.

        Raises:
            pytest.UsageError: there is no build in this run, or no such step.
        """
        if self._known is None:
            raise pytest.UsageError("build_outputs: this run has no build file")
        labels = [label] if label is not None else list(marked_labels(self._node))
        if missing := [name for name in labels if name not in self._known]:
            raise pytest.UsageError(f"build_outputs: there is no step {missing[0]!r}")
        return [Path(path) for name in labels for path in self._known[name]]


def marked_labels(item: pytest.Item) -> dict[str, None]:
    """The steps that a test's `build_step` markers name, in order."""
    return dict.fromkeys(str(label) for marker in item.iter_markers("build_step") for label in marker.args)
