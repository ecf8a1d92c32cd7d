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


def test_the_steps(planned):
    steps = planned(PythonBuilder, FILES | TESTS)
    assert list(steps) == ["venv", "site", "wheel", "sdist", "test"]
    assert {name for name, step in steps.items() if step.on_request} == {"sdist"}
    assert {step.depends_on for name, step in steps.items() if name != "venv"} == {("app:venv",)}
    assert steps["venv"].outputs == (Output(path="app/.venv", directory=True, identity=Identity.INSTALLED),)
    assert steps["test"].junit == ("app/.reports/pytest.xml",)
    assert "app/.venv-site/" in steps["test"].inputs


def test_whether_uv_is_there_is_part_of_the_key_and_no_obstacle(planned):
    step = planned(PythonBuilder, FILES)["venv"]
    assert [(tool.name, tool.optional) for tool in step.tools] == [("python3", False), ("uv", True)]
    assert step.command.startswith("if command -v uv >/dev/null")
    pip = planned(PythonBuilder, FILES, installer="pip")["venv"]
    assert [tool.name for tool in pip.tools] == ["python3"]
    assert "uv" not in pip.command


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"app/pyproject.toml": PROJECT + "[tool.uv.sources]"}, ()),
        ({"app/pyproject.toml": PROJECT + "[[tool.uv.index]]\nurl = 'x'", "pyproject.toml": ""}, ("app/pyproject.toml", "pyproject.toml")),
        ({"app/pyproject.toml": PROJECT, "uv.toml": ""}, ("app/pyproject.toml", "uv.toml")),
    ],
)
def test_uv_reads_settings_of_the_repository_only_where_there_are_some(planned, files, expected):
    step = planned(PythonBuilder, FILES | files)["venv"]
    assert step.inputs == expected
    assert ("uv --project / pip install" in step.command) is not bool(expected)


def installed(step):
    """What pip is told, in each command."""
    lines = step.command.partition("\nelse\n")[2].splitlines()
    return [line.partition("install --quiet --no-input ")[2] for line in lines if " -m pip install " in line]


def test_the_environment_has_what_the_requirement_files_say(planned):
    step = planned(PythonBuilder, FILES | TESTS | {"app/requirements.txt": "protobuf==7.36.2\npytest"})["venv"]
    # What builds the wheel lies apart: nothing may be added to what is pinned.
    assert installed(step) == ["-r requirements.txt", "--target .venv/build-requires 'setuptools>=77'"]
    assert step.inputs == ("app/requirements.txt",)


def test_what_builds_may_be_pinned_too(planned):
    step = planned(PythonBuilder, FILES | {"app/requirements.txt": "setuptools==84"})["venv"]
    assert installed(step) == ["-r requirements.txt"]


def test_hashes_are_required_of_all_where_one_has_them(planned):
    locked = "six==1.17.0 \\\n    --hash=sha256:00\nsetuptools==84 --hash=sha256:01\n"
    step = planned(PythonBuilder, FILES | {"app/requirements.txt": locked})["venv"]
    assert installed(step) == ["--require-hashes -r requirements.txt"]


PYLOCK = """
lock-version = "1.0"
default-groups = ["default"]
[[packages]]
name = "app"
directory = { path = "." }
[[packages]]
name = "six"
version = "1.17.0"
marker = "sys_platform == 'linux' and \\"default\\" in dependency_groups"
sdist = { url = "https://example.org/six.tar.gz", hashes = { sha256 = "ff" } }
wheels = [{ url = "https://example.org/six.whl", hashes = { sha256 = "47" } }]
[[packages]]
name = "iniconfig"
version = "2"
marker = "'dev' in dependency_groups"
[[packages]]
name = "toml"
version = "3"
marker = "'fast' in extras or 'docs' not in dependency_groups"
[[packages]]
name = "one"
archive = { url = "https://example.org/one.zip", hashes = { sha256 = "01" } }
[[packages]]
name = "two"
vcs = { type = "git", url = "https://example.org/two", commit-id = "abc", subdirectory = "py" }
"""
PDM = """
[metadata]
groups = ["default", "dev", "docs"]
[[package]]
name = "six"
version = "1.17.0"
groups = ["default"]
marker = "sys_platform == 'linux'"
files = [{file = "six.whl", hash = "sha256:47"}, {file = "six.tar.gz", hash = "sha256:ff"}]
[[package]]
name = "lib"
version = "1"
path = "../lib"
groups = ["default"]
[[package]]
name = "sphinx"
version = "9"
groups = ["docs"]
[[package]]
name = "iniconfig"
version = "2"
groups = ["dev"]
[[package]]
name = "two"
version = "1"
git = "https://example.org/two"
revision = "abc"
groups = ["docs", "test"]
"""


@pytest.mark.parametrize(
    ("name", "text", "lines"),
    [
        ("pylock.toml", PYLOCK, [
            """six==1.17.0 ; sys_platform == 'linux' and python_version > "0" --hash=sha256:47 --hash=sha256:ff""",
            """iniconfig==2 ; python_version > "0\"""",
            """toml==3 ; python_version < "0" or python_version > "0\"""",
            "one @ https://example.org/one.zip --hash=sha256:01",
            "two @ git+https://example.org/two@abc#subdirectory=py",
        ]),
        ("pdm.lock", PDM, [
            "six==1.17.0 ; sys_platform == 'linux' --hash=sha256:47 --hash=sha256:ff",
            "iniconfig==2",
            "two @ git+https://example.org/two@abc",
        ]),
    ],
    ids=["PEP 751", "pdm"],
)  # fmt: skip
def test_other_locks_are_read_as_requirement_lines(planned, run, tmp_path, name, text, lines):  # noqa: PLR0917 - one table
    files = FILES | {f"app/{name}": text, "app/requirements.txt": "six"}
    steps = planned(PythonBuilder, files)
    assert steps["requirements"].inputs == (f"app/{name}",)
    assert not run(steps["requirements"]).stderr
    written = (tmp_path / "app/.venv-requirements.txt").read_text(encoding="utf-8")
    assert written.replace(" \\\n    ", " ").splitlines() == lines
    assert steps["venv"].inputs == ("app/.venv-requirements.txt",)
    assert installed(steps["venv"])[0] == "-r .venv-requirements.txt"
    assert "requirements" not in planned(PythonBuilder, files, requirements=("requirements.txt",))


def test_included_requirement_files_are_inputs(planned):
    files = {"app/requirements.txt": "-r base.txt\n-c ../limits.txt  # why\n", "app/base.txt": "six\n--requirement=more/x.txt"}
    files |= {"app/more/x.txt": "pytest", "limits.txt": "six<2"}
    step = planned(PythonBuilder, FILES | TESTS | files)["venv"]
    assert set(step.inputs) == {"app/requirements.txt", "app/base.txt", "app/more/x.txt", "limits.txt"}


def test_a_requirement_file_may_lie_elsewhere_or_be_made_by_a_step(planned):
    step = planned(PythonBuilder, FILES, requirements=("//all.txt",))["venv"]
    assert installed(step)[0] == "-r ../all.txt"
    assert step.inputs == ("all.txt",)


def test_without_requirement_files_the_project_says_it(planned):
    step = planned(PythonBuilder, FILES | TESTS)["venv"]
    assert installed(step) == ["'setuptools>=77' 'protobuf>=7' pytest-mock pytest"]
    assert step.inputs == ()


def test_without_tests_only_what_builds_is_installed(planned):
    steps = planned(PythonBuilder, FILES)
    assert list(steps) == ["venv", "wheel", "sdist"]
    assert installed(steps["venv"]) == ["'setuptools>=77'"]


def test_an_application_without_a_manifest_has_no_wheel(planned):
    files = {"app/main.py": "", "app/requirements.txt": "six\npytest", "app/tests/test_a.py": ""}
    steps = planned(PythonBuilder, files)
    assert list(steps) == ["venv", "test"]
    assert "app/main.py" in steps["test"].inputs


@pytest.mark.parametrize(
    "text",
    [
        "[tool.uv]\npackage = false\n[build-system]\nrequires = ['uv_build']\nbuild-backend = 'uv_build'\n[project]\nname = 'app'",
        "[tool.poetry]\nname = 'app'\npackage-mode = false\n[build-system]\nrequires = ['poetry-core']",
        "[project]\nname = 'app'\n[tool.uv.sources]",
    ],
)
def test_what_is_no_package_has_no_wheel(planned, text):
    assert "wheel" not in planned(PythonBuilder, {"app/pyproject.toml": text, "app/app/__init__.py": ""})


def test_an_interpreter_that_is_too_old_is_said_to_be(planned):
    files = {"app/pyproject.toml": PROJECT.replace('version = "1"', 'version = "1"\nrequires-python = ">=3.12, <4"')}
    (tool, _) = planned(PythonBuilder, files, python="python3.13")["venv"].tools
    assert (tool.name, tool.version, tool.version_command) == ("python3.13", ">=3.12,<4", ("python3.13", "--version"))


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
