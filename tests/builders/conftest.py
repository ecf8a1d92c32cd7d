"""What the tests of the language builders share."""

import os
import subprocess

import pytest

from build_tests.core.builder import Component
from build_tests.core.workspace import FileWorkspace


@pytest.fixture
def planned(tmp_path):
    """Plans one component over files given by name; gives its steps by name."""

    def planned(builder, files, *others, path="app", **options):
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text, encoding="utf-8")
        subject = Component(name="app", kind=builder.kind, path=path, options=builder.options(**options))
        steps = builder().plan(subject, FileWorkspace(str(tmp_path), (*others, subject)))
        return {step.name: step for step in steps}

    return planned


@pytest.fixture
def run(tmp_path):
    """Runs a step's command, with programs given as shell scripts first on PATH; names in capitals are variables."""

    def run(step, **given):
        programs = {name: text for name, text in given.items() if not name.isupper()}
        variables = {name: text for name, text in given.items() if name.isupper()}
        tools = tmp_path / "tools"
        tools.mkdir(exist_ok=True)
        for name, text in programs.items():
            (tools / name).write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
            (tools / name).chmod(0o755)
        command = ["sh", "-e", "-c", step.command] if isinstance(step.command, str) else list(step.command)
        env = {"PATH": f"{tools}:{os.environ['PATH']}", **variables, **dict(step.env)}
        return subprocess.run(command, cwd=tmp_path / step.path, env=env, capture_output=True, text=True, check=False)

    return run
