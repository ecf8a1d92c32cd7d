"""Where a tool is, and which line of what it prints is its version."""

import pytest

from build_tests.core.model import Tool
from build_tests.run.toolchain import Found, Toolchain


@pytest.fixture
def program(tmp_path):
    def program(path, text):
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\n")
        file.chmod(0o755)
        return str(file)

    return program


def found(tool, tmp_path, remembered=None, **environ):
    return Toolchain(str(tmp_path), {} if remembered is None else remembered, {"PATH": f"{tmp_path}/bin:/usr/bin:/bin", **environ}).find(tool, "")


@pytest.mark.parametrize(
    ("name", "text", "version"),
    [
        ("gradle", "\n------------\nGradle 4.4.1\n------------\n", "Gradle 4.4.1"),
        ("kotlinc", "OpenJDK VM warning: Options were deprecated\ninfo: kotlinc-jvm 2.4.20", "info: kotlinc-jvm 2.4.20"),
        ("java", 'Picked up JAVA_TOOL_OPTIONS: -Dx=y\nopenjdk version "17.0.1"', 'openjdk version "17.0.1"'),
        ("mvn", "\x1b[1mApache Maven 3.8.7\x1b[m", "Apache Maven 3.8.7"),
    ],
)
def test_what_a_java_program_prints_first_is_not_its_version(tmp_path, program, name, text, version):
    program(f"bin/{name}", text)
    assert found(Tool(name=name), tmp_path).version == version


def test_a_home_goes_before_path_and_another_home_is_another_tool(tmp_path, program):
    java = Tool(name="java", home="JAVA_HOME")
    program("bin/java", "openjdk 11")
    there = program("jdk/17/bin/java", "openjdk 17")
    remembered = {}
    assert found(java, tmp_path, remembered).version == "openjdk 11"
    assert found(java, tmp_path, remembered, JAVA_HOME=f"{tmp_path}/jdk/17") == Found(name="java", path=there, version="openjdk 17")
    assert found(java, tmp_path, remembered, JAVA_HOME=f"{tmp_path}/jdk/gone").version == "openjdk 11"


def test_another_version_of_what_a_shell_line_calls_rebuilds_it(build_workspace):
    ws = build_workspace
    ws.tool("gcc", 'if [ "$1" = --version ]; then echo gcc 12.2; else cat "$1" >out; fi')
    ws.components(app={"steps": {"make": {"command": "gcc in.c", "inputs": ["in.c"], "outputs": ["out"]}}})
    ws.write("app/in.c", "")
    assert ws.build().ran == ["app:make"]
    assert ws.build().ran == []
    ws.tool("gcc", 'if [ "$1" = --version ]; then echo gcc 13.1; else cat "$1" >out; fi')
    built = ws.build("-v")
    assert built.ran == ["app:make"]
    assert "gcc 12.2" in built.output
    assert "gcc 13.1" in built.output


def test_what_a_shell_line_calls_and_does_not_tell_its_version_is_known_by_content(build_workspace):
    ws = build_workspace
    ws.tool("gcc", '[ "$1" != --version ] && echo one >out')
    ws.components(app={"steps": {"make": {"command": "gcc in.c", "inputs": ["in.c"], "outputs": ["out"]}}})
    ws.write("app/in.c", "")
    assert ws.build().ran == ["app:make"]
    assert ws.build().ran == []
    ws.tool("gcc", '[ "$1" != --version ] && echo two >out')
    assert ws.build().ran == ["app:make"]
    assert ws.read("app/out") == "two\n"


def test_an_optional_tool_of_another_version_than_asked_for_is_not_as_if_absent(build_workspace):
    ws = build_workspace
    gcc = {"name": "gcc", "version": ">=99", "optional": True}
    step = {"command": "touch out", "tools": [gcc], "outputs": ["out"]}
    ws.components(app={"steps": {"make": step}})
    for version in ("12", "13"):
        ws.tool("gcc", f"echo gcc {version}")
        assert ws.build().ran == ["app:make"]
