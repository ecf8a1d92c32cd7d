"""Kind python: pyproject.toml → venv, wheel, test."""

import shutil
import sys
import zipfile
from importlib.metadata import PackageNotFoundError, version

import pytest
from build_tests.builders.python import PythonBuilder

from build_tests.core.builder import Identity, ManifestError, Output
from build_tests.core.globs import matches

try:
    SETUPTOOLS = tuple(int(part) for part in version("setuptools").split(".")[:2])
except PackageNotFoundError:
    SETUPTOOLS = ()
PROJECT = """
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"
[project]
name = "app"
version = "1"
dependencies = ["protobuf>=7"]
[project.optional-dependencies]
test = ["pytest-mock"]
docs = ["sphinx"]
"""
FILES = {"app/pyproject.toml": PROJECT, "app/src/app/__init__.py": ""}
TESTS = {"app/tests/test_a.py": "def test(): pass"}


def test_three_steps(planned):
    steps = planned(PythonBuilder, FILES | TESTS)
    assert list(steps) == ["venv", "wheel", "test"]
    assert steps["wheel"].depends_on == steps["test"].depends_on == ("app:venv",)
    assert steps["venv"].outputs == (Output(path="app/.venv", directory=True, identity=Identity.INSTALLED),)
    assert steps["test"].junit == ("app/.reports/pytest.xml",)


def test_the_environment_has_what_the_requirement_files_say(planned):
    step = planned(PythonBuilder, FILES | TESTS | {"app/requirements.txt": "protobuf==7.36.2"})["venv"]
    assert step.command.endswith("install --quiet --no-input -r requirements.txt")
    assert step.inputs == ("app/pyproject.toml", "app/requirements.txt")


def test_a_requirement_file_may_lie_elsewhere(planned):
    step = planned(PythonBuilder, FILES, requirements=("//all.txt",))["venv"]
    assert step.command.endswith("-r ../all.txt")
    assert step.inputs == ("app/pyproject.toml", "all.txt")


def test_without_requirement_files_the_project_says_it(planned):
    step = planned(PythonBuilder, FILES | TESTS)["venv"]
    assert step.command.endswith("'setuptools>=77' 'protobuf>=7' pytest-mock pytest")


def test_without_tests_only_what_builds_is_installed(planned):
    steps = planned(PythonBuilder, FILES)
    assert list(steps) == ["venv", "wheel"]
    assert steps["venv"].command.endswith("--no-input 'setuptools>=77'")


def test_an_edited_test_makes_no_new_wheel(planned):
    steps = planned(PythonBuilder, FILES | TESTS, sources=("**",))
    for name, expected in (("wheel", False), ("test", True)):
        assert matches(steps[name].inputs, "app/tests/test_a.py") is expected
        assert matches(steps[name].inputs, "app/src/app/__init__.py")
        assert not matches(steps[name].inputs, "app/.venv/bin/python")


@pytest.fixture
def venv(tmp_path):
    """`.venv` is this interpreter."""
    python = tmp_path / "app/.venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)


@pytest.mark.skipif(SETUPTOOLS < (77,), reason="needs setuptools 77 beside the tests")
@pytest.mark.usefixtures("venv")
def test_wheels_repeat_byte_for_byte_and_leave_nothing_else(planned, run, tmp_path):
    module = tmp_path / "app/src/app/gone.py"
    step = planned(PythonBuilder, FILES | {"app/src/app/gone.py": ""})["wheel"]
    wheels = []
    for there in (True, False, False):
        if not there:
            module.unlink(missing_ok=True)
        shutil.rmtree(tmp_path / "app/dist", ignore_errors=True)
        done = run(step)
        assert done.returncode == 0, done.stderr
        (wheel,) = (tmp_path / "app/dist").iterdir()
        wheels.append((wheel.read_bytes(), "app/gone.py" in zipfile.ZipFile(wheel).namelist()))
    assert [gone for _, gone in wheels] == [True, False, False]
    assert wheels[1] == wheels[2]
    assert {path.name for path in (tmp_path / "app").iterdir()} == {".venv", "dist", "pyproject.toml", "src"}
    assert {path.name for path in (tmp_path / "app/src").iterdir()} == {"app"}


@pytest.mark.usefixtures("venv")
def test_a_wrong_import_fails_the_tests_and_the_report_says_so(planned, run, tmp_path):
    files = FILES | {"app/src/app/__init__.py": "from collections import Countr", "app/tests/test_a.py": "import app"}
    done = run(planned(PythonBuilder, files)["test"])
    assert done.returncode != 0
    assert "cannot import name 'Countr'" in done.stdout
    assert "Countr" in (tmp_path / "app/.reports/pytest.xml").read_text()


@pytest.mark.parametrize(
    ("files", "message"),
    [({"app/x": ""}, "pyproject.toml is missing"), ({"app/pyproject.toml": "["}, "pyproject.toml is no TOML")],
)
def test_manifests_that_will_not_do(planned, files, message):
    with pytest.raises(ManifestError, match=message):
        planned(PythonBuilder, files)
