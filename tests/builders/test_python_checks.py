"""Kind python: pytest, coverage, mypy and ruff as steps, only where the project configures or depends on them."""

import pytest
from build_tests.builders.python import PythonBuilder

from build_tests.core.builder import Output
from build_tests.core.globs import matches

BASE = '[project]\nname = "app"\nversion = "1"\n[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
CODE = {"app/src/app/__init__.py": ""}
TESTS = {"app/tests/test_a.py": ""}


def with_table(text):
    return CODE | {"app/pyproject.toml": BASE + text}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (with_table(""), set()),
        (with_table("[tool.ruff]"), {"lint"}),
        (with_table("[tool.ruff.lint]\nselect = ['F']"), {"lint"}),
        (with_table("") | {"app/ruff.toml": ""}, {"lint"}),
        (with_table("") | {"ruff.toml": ""}, set()),
        (with_table("[tool.mypy]\nstrict = true"), {"types"}),
        (with_table("") | {"app/mypy.ini": "[mypy]"}, {"types"}),
        (with_table("") | {"app/setup.cfg": "[mypy]\nstrict = true"}, {"types"}),
        (with_table("") | {"app/setup.cfg": "[metadata]"}, set()),
        (with_table("[project.optional-dependencies]\ndev = ['ruff>=1', 'mypy']"), {"lint", "types"}),
        (with_table("[dependency-groups]\nx = [{include-group = 'y'}]\ny = ['MyPy']"), {"types"}),
        (with_table("[tool.poetry.group.dev.dependencies]\nruff = '*'"), {"lint"}),
        (with_table("") | {"app/requirements-dev.txt": "ruff==0.1"}, {"lint"}),
        (with_table("[dependency-groups]\ndev = ['pytest']") | TESTS, {"test"}),
        (with_table("") | TESTS, {"test"}),
        (with_table("") | TESTS | {"app/requirements.txt": "six"}, set()),
        (with_table("") | TESTS | {"app/requirements.txt": "six", "app/pytest.ini": ""}, {"test"}),
        (with_table("") | TESTS | {"app/requirements.txt": "pytest>=9"}, {"test"}),
        (with_table("") | {"app/test_a.py": ""}, {"test"}),
        (with_table("[tool.pytest.ini_options]\ntestpaths = 'checks'") | {"app/checks/x.py": ""}, {"test"}),
        (with_table("[tool.pytest]\ntestpaths = ['checks']") | {"app/checks/x.py": ""}, {"test"}),
        (with_table("") | {"app/tox.ini": "[pytest]\ntestpaths = checks", "app/checks/x.py": ""}, {"test"}),
    ],
)
def test_which_checks_there_are(planned, files, expected):
    steps = planned(PythonBuilder, files)
    assert set(steps) & {"test", "types", "lint"} == expected
    assert ("site" in steps) is bool(expected)


@pytest.mark.parametrize(
    ("path", "steps"),
    [
        ("app/six.py", {"lint"}),  # a module of the project's own from then on, when imports are sorted
        ("app/__init__.py", {"lint", "types"}),  # src/ lies in a package then
        ("app/app.py", {"lint", "wheel"}),  # taken for the package by some back ends
        ("app/app/__init__.py", {"wheel"}),
        ("app/hatch.toml", {"wheel", "site"}),
        ("app/notes.txt", set()),
    ],
)
def test_what_lies_beside_src_counts_for_those_who_look_there(planned, path, steps):
    files = with_table("[tool.ruff]\n[tool.mypy]\n") | {path: ""}
    read = {name for name, step in planned(PythonBuilder, files).items() if name != "sdist" and matches(step.inputs, path)}
    assert read == steps


@pytest.mark.parametrize(("option", "step"), [("types", "types"), ("lint", "lint")])
def test_a_component_may_say_otherwise(planned, option, step):
    assert step in planned(PythonBuilder, with_table(""), **{option: True})
    assert step not in planned(PythonBuilder, with_table("[tool.mypy]\n[tool.ruff]"), **{option: False})


def test_checkers_come_from_the_environment_else_from_path(planned):
    in_venv = planned(PythonBuilder, with_table("[tool.ruff]\n[tool.mypy]\n"))
    assert in_venv["lint"].command.startswith(".venv/bin/ruff check --no-cache --no-respect-gitignore --output-format=concise src")
    assert in_venv["venv"].command.endswith("hatchling mypy ruff\nfi")
    locked = {"app/requirements.txt": "six"}
    on_path = planned(PythonBuilder, with_table("[tool.ruff]\n[tool.mypy]\n") | locked)
    assert on_path["lint"].command.startswith("ruff check ")
    assert [tool.name for tool in on_path["types"].tools] == ["python3", "mypy"]
    assert on_path["lint"].depends_on == ()


def test_format_is_checked_where_it_is_configured(planned):
    command = planned(PythonBuilder, with_table("[tool.ruff.format]\nquote-style = 'single'"))["lint"].command
    assert command.splitlines()[1] == ".venv/bin/ruff format --check --no-cache --no-respect-gitignore src"


def test_mypy_checks_what_its_configuration_says_else_the_code(planned):
    code = planned(PythonBuilder, with_table("[tool.mypy]\nstrict = true") | TESTS)["types"]
    assert code.command.endswith("--cache-dir=.mypy_cache src")
    assert code.state == ("app/.mypy_cache",)
    assert not matches(code.inputs, "app/tests/test_a.py")
    said = planned(PythonBuilder, with_table("[tool.mypy]\nfiles = ['src', 'tests']") | TESTS)["types"]
    assert said.command.endswith("--cache-dir=.mypy_cache")
    assert matches(said.inputs, "app/tests/test_a.py")


def test_configuration_of_the_repository_counts_and_is_an_input(planned):
    root = {"pyproject.toml": "[tool.pytest.ini_options]\naddopts = '-q'\n", "conftest.py": "", "pytest.ini.old": ""}
    step = planned(PythonBuilder, with_table("") | TESTS | root)["test"]
    assert {"app/pyproject.toml", "pyproject.toml", "conftest.py"} <= set(step.inputs)
    own = planned(PythonBuilder, with_table("[tool.pytest.ini_options]\n") | TESTS | root)["test"]
    assert not {"pyproject.toml", "conftest.py"} & set(own.inputs)


@pytest.mark.parametrize(
    ("table", "arguments", "written"),
    [
        ("[tool.pytest.ini_options]\naddopts = '--cov=app --cov-report=xml'", [], ["coverage.xml"]),
        ("[tool.pytest.ini_options]\naddopts = ['--cov', '--cov-report', 'html']", [], ["htmlcov/"]),
        (
            "[tool.pytest.ini_options]\naddopts = '--cov --cov-report=xml:out/c.xml --cov-report=html:web --cov-report=term'",
            [], ["out/c.xml", "web/"],
        ),
        (
            "[tool.pytest.ini_options]\naddopts = '--cov --cov-report=json --cov-report=lcov'\n[tool.coverage.json]\noutput = 'c.json'",
            [], ["c.json", "coverage.lcov"],
        ),
        (
            "[tool.coverage.run]\nbranch = true\n[dependency-groups]\ndev = ['pytest-cov']",
            ["--cov", "--cov-report=xml"], ["coverage.xml"],
        ),
    ],
)  # fmt: skip
def test_coverage_files_are_outputs_where_pytest_cov_is_configured(planned, table, arguments, written):
    step = planned(PythonBuilder, with_table(table) | TESTS)["test"]
    made = [output.path.removeprefix("app/") + "/" * output.directory for output in step.outputs]
    assert made == [".reports/pytest.xml", *written, ".reports/coverage.data"]
    assert step.command.split("--junitxml=.reports/pytest.xml ")[1].split() == [*arguments, "tests"]
    assert dict(step.env)["COVERAGE_FILE"] == ".reports/coverage.data"


@pytest.mark.parametrize(
    "table",
    [
        "[tool.coverage.run]\nbranch = true",
        "[dependency-groups]\ndev = ['pytest-cov']",
        "[tool.pytest.ini_options]\naddopts = '--cov --cov-report=xml --no-cov'",
    ],
)
def test_without_that_there_is_none(planned, table):
    step = planned(PythonBuilder, with_table(table) | TESTS)["test"]
    assert step.outputs == (Output(path="app/.reports/pytest.xml"),)


def test_projects_with_extension_modules_are_tested_as_installed(planned):
    steps = planned(PythonBuilder, with_table("") | TESTS, installed=True)
    assert "app/dist/" in steps["site"].inputs
    assert dict(steps["test"].env)["PYTHONPATH"] == ".venv-site"
    assert not matches(steps["test"].inputs, "app/src/app/__init__.py")
