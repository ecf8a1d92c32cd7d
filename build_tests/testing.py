"""A rig for tests of builds and builders: a workspace on disk, real builds in it, fake tools that count their calls.

    def test_an_edit_rebuilds_what_needs_it(build_workspace):
        ws = build_workspace
        ws.components(app={"steps": {"shout": {
            "command": "tr a-z A-Z <in.txt >out.txt", "inputs": ["in.txt"], "outputs": ["out.txt"]}}})
        ws.write("app/in.txt", "hello")
        assert ws.build()["app:shout"] is Outcome.BUILT
        assert ws.build("-n2")["app:shout"] is Outcome.FRESH

Add `pytest_plugins = ["build_tests.testing"]` to a conftest for the fixture, or make a `BuildWorkspace` of your own.
Builds run in processes of their own, with the plugins of this environment that do not reorder tests.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from build_tests.core.model import Outcome
from build_tests.run import record

__all__ = ["BuildResult", "BuildWorkspace", "FakeTool", "Outcome"]

SECONDS = 300.0
"""After which a build of the rig counts as hung."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildResult:
    """How a build ended. Indexed by label it gives the step's outcome."""

    status: int
    output: str
    steps: Mapping[str, record.StepRecord]
    run: Mapping[str, Any]

    def __getitem__(self, label: str) -> Outcome:
        return self.steps[label].outcome

    @property
    def ran(self) -> list[str]:
        """The labels of the steps whose command was started, in the order in which they settled."""
        return [s.label for s in self.steps.values() if s.outcome in (Outcome.BUILT, Outcome.FAILED)]

    def outcomes(self) -> dict[str, str]:
        """label → outcome's word."""
        return {label: step.outcome.value for label, step in self.steps.items()}


class FakeTool:
    """An executable on the workspace's PATH that logs every call and does what the test says."""

    def __init__(self, folder: Path, name: str, script: str) -> None:
        self._log = folder / f".{name}.calls"
        path = folder / name
        path.write_text(f'#!/bin/sh\nprintf "%s\\n" "$*" >>"{self._log}"\n{script}\n')
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    @property
    def arguments(self) -> list[str]:
        """The arguments of each call, in order."""
        return self._log.read_text().splitlines() if self._log.exists() else []

    @property
    def calls(self) -> int:
        """How often it was called."""
        return len(self.arguments)


class BuildWorkspace:
    """A repository of a test's own.

    Args:
        root: an empty folder.
        environ: the environment of its builds; None = this process's, without what a coding session sets for pytest.
    """

    def __init__(self, root: Path, environ: Mapping[str, str] | None = None) -> None:
        self.root = root
        self.without_plugins = {"randomly", "html", "metadata", "hypothesispytest"}
        """Installed plugins that builds of the rig run without."""
        self.bin = root.parent / f"{root.name}-bin"
        self.bin.mkdir(parents=True, exist_ok=True)
        root.mkdir(parents=True, exist_ok=True)
        base = dict(os.environ if environ is None else environ)
        for name in ("PYTEST_ADDOPTS", "PYTEST_CURRENT_TEST", "PYTEST_XDIST_WORKER", "PYTEST_XDIST_TESTRUNUID"):
            base.pop(name, None)
        self.environ = {
            **base,
            "PATH": f"{self.bin}{os.pathsep}{base.get('PATH', os.defpath)}",
            # Artifacts of its own: what another test has built must not be found here.
            "XDG_CACHE_HOME": str(root.parent / f"{root.name}-cache"),
            "XDG_CONFIG_HOME": str(root.parent / f"{root.name}-config"),
        }

    # Files

    def write(self, path: str, text: str | bytes, *, executable: bool = False) -> Path:
        """Write a file, making its folders."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(text.encode() if isinstance(text, str) else text)
        if executable:
            target.chmod(0o755)
        return target

    def read(self, path: str) -> str:
        """A file's text."""
        return (self.root / path).read_text()

    def components(self, top: Mapping[str, Any] | None = None, /, **components: Any) -> None:
        """Write a build.yml, and make the components' folders; `kind: command` where a component names none."""
        filled = {name: {"kind": "command", **spec} for name, spec in components.items()}
        for name, spec in filled.items():
            (self.root / spec.get("path", name)).mkdir(parents=True, exist_ok=True)
        # JSON is YAML, and needs no quoting rules here.
        self.write("build.yml", json.dumps({"version": "2.0", **(top or {}), "components": filled}, indent=1))

    def tool(self, name: str, script: str = "exit 0") -> FakeTool:
        """A fake tool on PATH; `script` is shell."""
        return FakeTool(self.bin, name, script)

    # Builds

    def build(self, *arguments: str, file: str = "build.yml", timeout: float = SECONDS) -> BuildResult:
        """Run `pytest FILE ARGUMENTS…` here and read its record back."""
        before = set(record.list_runs(self._runs))
        done = self.pytest(file, *arguments, timeout=timeout)
        new = sorted(set(record.list_runs(self._runs)) - before)
        read = record.read(self._runs, new[-1]) if new else record.Run(run={}, steps=(), end={})
        return BuildResult(
            status=done.returncode, output=done.stdout, steps={step.label: step for step in read.steps},
            run={**read.run, **read.end},
        )  # fmt: skip

    def pytest(self, *arguments: str, timeout: float = SECONDS) -> subprocess.CompletedProcess[str]:
        """Run pytest here with standard output and error together."""
        return subprocess.run(
            self.command(*arguments), cwd=self.root, env=self.environ, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", timeout=timeout, check=False,
        )  # fmt: skip

    def command(self, *arguments: str) -> Sequence[str]:
        """The command line of `pytest`, for tests that start it themselves."""
        without = [word for name in sorted(self.without_plugins) for word in ("-p", f"no:{name}")]
        return [sys.executable, "-m", "pytest", *without, *arguments]

    @property
    def _runs(self) -> str:
        return str(self.root / ".build" / "runs")


@pytest.fixture
def build_workspace(tmp_path: Path) -> BuildWorkspace:
    """An empty `BuildWorkspace`."""
    return BuildWorkspace(tmp_path / "ws")
