"""Virtual environments as outputs: one that was copied, moved or deleted, or lost its interpreter; optional tools."""

import os
import shutil
import subprocess
import sys

import pytest

from build_tests.testing import BuildWorkspace, Outcome

MAKE = f"{sys.executable} -m venv --without-pip .venv"


def environment(ws, command=MAKE):
    make = {"command": command, "inputs": ["lock"], "outputs": [{"path": ".venv/", "identity": "installed"}]}
    use = {"command": ".venv/bin/python -c 'import sys; print(sys.prefix)' >out", "outputs": ["out"], "depends_on": ["a:make"]}
    ws.components(a={"steps": {"make": make, "use": use}})
    ws.write("a/lock", "1")
    ws.write(".gitignore", ".venv/\n")
    assert ws.build().status == 0
    assert ws.build().ran == []


def reasons(result, label):
    return [reason["kind"] for reason in result.steps[label].reasons]


def test_a_deleted_environment_is_made_again_and_its_users_stay(build_workspace):
    environment(build_workspace)
    shutil.rmtree(build_workspace.root / "a/.venv")
    result = build_workspace.build()
    assert result.ran == ["a:make"]
    assert reasons(result, "a:make") == ["output-missing"]


def test_a_copied_checkout_does_not_use_the_environment_of_the_first(build_workspace, tmp_path_factory):
    environment(build_workspace)
    copy = BuildWorkspace(tmp_path_factory.mktemp("copy") / "ws")
    shutil.copytree(build_workspace.root, copy.root, symlinks=True, dirs_exist_ok=True)
    result = copy.build()
    assert reasons(result, "a:make") == ["output-moved"], result.output
    assert str(copy.root) in (copy.root / "a/.venv/bin/activate").read_text()
    assert copy.build().ran == []


def test_an_environment_copied_over_another_is_not_taken_for_it(build_workspace):
    environment(build_workspace)
    environment_of_other = build_workspace.root / "a/.venv/.pytest-build-stamp"
    key, _, place = environment_of_other.read_text().partition("\n")
    assert place == os.path.realpath(build_workspace.root / "a/.venv")
    environment_of_other.write_text(f"{key}\n/elsewhere/a/.venv")
    assert reasons(build_workspace.build(), "a:make") == ["output-moved"]


def test_a_root_behind_a_link_is_the_same_place(build_workspace, tmp_path_factory):
    environment(build_workspace)
    link = tmp_path_factory.mktemp("links") / "ws"
    link.symlink_to(build_workspace.root)
    assert BuildWorkspace(link).build().ran == []


def test_an_environment_without_its_interpreter_is_made_again(build_workspace):
    environment(build_workspace)
    python = build_workspace.root / "a/.venv/bin/python"
    python.unlink()
    python.symlink_to("/nowhere/python3")
    result = build_workspace.build()
    assert result.ran == ["a:make"]
    assert reasons(result, "a:make") == ["output-broken"]


def test_an_optional_tool_is_part_of_the_key_there_or_not(build_workspace):
    ws = build_workspace
    fast = {"name": "fastvenv", "version_command": ["fastvenv", "--version"], "optional": True}
    command = "if command -v fastvenv; then fastvenv; else echo slow >out; fi"
    ws.components(a={"steps": {"make": {"command": command, "outputs": ["out"], "tools": [fast]}}})
    assert ws.build()["a:make"] is Outcome.BUILT
    assert ws.read("a/out") == "slow\n"
    assert ws.build().ran == []
    tool = ws.tool("fastvenv", "case $1 in --version) echo 1.0;; *) echo fast >out;; esac")
    result = ws.build()
    assert reasons(result, "a:make") == ["tool"]
    assert ws.read("a/out") == "fast\n"
    assert tool.arguments.count("") == 1


@pytest.mark.real("strace")
def test_an_environment_on_path_is_a_tool_wherever_it_lies(build_workspace):
    ws = build_workspace
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", ws.root / ".venv"], check=True)
    ws.environ["PATH"] = f"{ws.root}/.venv/bin:{ws.environ['PATH']}"
    step = {"command": "python3 -c 'import sys; print(sys.prefix)' >out", "outputs": ["out"], "tools": ["python3"]}
    ws.components(a={"steps": {"run": step}})
    result = ws.build("--build-trace")
    assert ws.read("a/out").strip() == str(ws.root / ".venv")
    assert result.steps["a:run"].trace["status"] == "clean", result.output
