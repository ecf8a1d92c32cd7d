"""Kind python with the real tools: pip, uv, Poetry and every build backend."""

import os
import subprocess
import xml.etree.ElementTree as ET
import zipfile

import pytest
from inputs_are_right import PYTHON, judge
from pip._internal.models.index import PyPI

from build_tests.testing import BuildWorkspace

pytestmark = pytest.mark.slow
IGNORE = ".venv*\ndist/\nsdist/\n.reports/\n.mypy_cache/\ncoverage.xml\nhtmlcov/\n"
BACKENDS = {
    "setuptools": ("setuptools>=77", "setuptools.build_meta"),
    "hatch": ("hatchling", "hatchling.build"),
    "flit": ("flit_core>=3.11", "flit_core.buildapi"),
    "pdm": ("pdm-backend", "pdm.backend"),
    "poetry": ("poetry-core", "poetry.core.masonry.api"),
    "uv": ("uv_build>=0.8", "uv_build"),
}
USES_LIB = "import lib\n\n\ndef double() -> int:\n    return 2 * lib.ONE\n"
TESTS_APP = "import importlib.metadata\n\nimport app\n\n\ndef test_double():\n    assert app.double() == 2\n"
# What is found only where the project's own metadata is.
TESTS_APP += '\n\ndef test_version():\n    assert importlib.metadata.version("app") == "1.5"\n'
LIB = {"lib/src/lib/__init__.py": "ONE = 1\n", "lib/src/lib/py.typed": ""}
APP = {"app/src/app/__init__.py": USES_LIB, "app/tests/test_app.py": TESTS_APP}


def manifest(name, *needs, backend="hatch", more=""):
    requires, module = BACKENDS[backend]
    return (
        f'[project]\nname = "{name}"\nversion = "1.5"\ndescription = "One."\nrequires-python = ">=3.10"\ndependencies = {[*needs]}\n'
        f'[build-system]\nrequires = ["{requires}"]\nbuild-backend = "{module}"\n{more}'
    )


def workspace(ws, components, files):
    ws.components(**components)
    ws.write(".gitignore", IGNORE)
    for name, text in files.items():
        ws.write(name, text)
    return ws


def run(ws, *command, folder=""):
    done = subprocess.run(command, cwd=ws.root / folder, env=ws.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def built(result):
    assert result.status == 0, result.output
    return {label for label, word in result.outcomes().items() if word == "built"}


def untrue(result):
    """What the steps that ran read or wrote and do not declare. Nothing may be said of one that was not traced."""
    ran = {label: record.trace for label, record in result.steps.items() if record.outcome == "built"}
    assert {trace.get("status") for trace in ran.values()} <= {"clean", "undeclared"}, result.output
    return {label: trace.get("reads", []) + trace.get("writes", []) for label, trace in ran.items() if trace["status"] != "clean"}


def cases(ws):
    tree = ET.parse(ws.root / ".build/reports/junit.xml")
    return {suite.get("name"): [case.get("name") for case in suite.iter("testcase")] for suite in tree.iter("testsuite")}


# --- pip ---

SIX = "six==1.17.0 \\\n    --hash=sha256:{0}\n"
DIGEST = "4721f391ed90541fddacab5acf947aa0d3dc7d27b2e1e8eda2be8970586c3274"


PYLOCK = """lock-version = "1.0"
[[packages]]
name = "six"
version = "1.17.0"
marker = "python_version >= '3' and 'fast' not in extras"
wheels = [{{url = "https://example.org/six-1.17.0-py2.py3-none-any.whl", hashes = {{sha256 = "{0}"}}}}]
[[packages]]
name = "app"
directory = {{path = "."}}
"""


@pytest.mark.real("python3", "strace")
@pytest.mark.parametrize(
    ("lock", "text", "reads"), [("requirements.txt", SIX, ()), ("pylock.toml", PYLOCK, ("requirements",))], ids=["requirements", "pylock"]
)
def test_pip_installs_what_is_pinned_and_no_other_file_of_that_name(build_workspace, lock, text, reads):
    files = {"app/pyproject.toml": manifest("app", "six", backend="flit"), f"app/{lock}": text.format(DIGEST)}
    ws = workspace(build_workspace, {"app": {"kind": "python", "installer": "pip"}}, files | {"app/src/app/__init__.py": "import six\n"})
    first = ws.build("--build-trace")
    assert built(first) == {"app:venv", "app:wheel", *(f"app:{name}" for name in reads)}
    judge(ws, first, "app", steps=("venv", "wheel", *reads), unmade=PYTHON)
    assert (ws.root / "app/.venv/build-requires/flit_core").is_dir()
    assert built(ws.build()) == set()
    ws.write(f"app/{lock}", text.format("0" * 64))
    spoilt = ws.build()
    assert spoilt.outcomes() == {"app:venv": "failed", "app:wheel": "blocked", **{f"app:{name}": "built" for name in reads}}
    assert "DO NOT MATCH" in spoilt.output


# --- uv ---

UV_MORE = """
[dependency-groups]
dev = ["pytest-cov", "mypy", "ruff"]
[tool.uv.sources]
lib = {workspace = true}
[tool.pytest.ini_options]
addopts = "--cov=app --cov-report=xml --cov-report=html"
[tool.mypy]
strict = true
[tool.ruff.format]
quote-style = "double"
"""
UV_FILES = LIB | APP | {
    "pyproject.toml": '[tool.uv.workspace]\nmembers = ["app", "lib"]\n[dependency-groups]\ndev = ["pytest"]\n',
    "app/pyproject.toml": manifest("app", "lib", backend="uv", more=UV_MORE),
    "lib/pyproject.toml": manifest("lib"),
}  # fmt: skip


@pytest.fixture(scope="module")
def uv(tmp_path_factory):
    ws = BuildWorkspace(tmp_path_factory.mktemp("uv") / "ws")
    workspace(ws, {"app": {"kind": "python"}, "lib": {"kind": "python"}}, UV_FILES)
    run(ws, "uv", "lock", "--quiet")
    return ws


@pytest.mark.real("uv", "strace")
class TestUv:
    """In the order in which they stand: each goes on where the one before it ended."""

    def test_a_workspace_is_built_and_checked_with_what_its_lock_says(self, uv):
        first = uv.build("-n2", "--build-trace")
        assert built(first) == set(first.steps)
        judge(uv, first, "app", steps=("requirements", "venv", "site", "wheel", "test", "types", "lint"), unmade=PYTHON)
        judge(uv, first, "lib", steps=("requirements", "venv", "wheel"), unmade=PYTHON)
        assert cases(uv)["app:test"] == ["test_double", "test_version"]
        assert 'line-rate="1"' in uv.read("app/coverage.xml")
        assert (uv.root / "app/htmlcov/index.html").is_file()
        assert built(uv.build()) == set()

    def test_an_edit_of_a_neighbour_installs_nothing_again(self, uv):
        uv.write("lib/src/lib/__init__.py", "ONE = 2\n")
        result = uv.build("-n2")
        assert {label for label, word in result.outcomes().items() if word != "fresh"} == {
            "lib:wheel", "app:site", "app:test", "app:types",
        }  # fmt: skip
        assert result["app:test"].value == "failed"
        assert "assert 4 == 2" in result.output
        uv.write("lib/src/lib/__init__.py", "ONE = 1\n")
        assert uv.build("-n2").status == 0

    @pytest.mark.parametrize(
        ("step", "text", "first"),
        [
            ("types", USES_LIB.replace("-> int", "-> str"), "src/app/__init__.py:5: error: Incompatible return"),
            ("lint", "import os\n\n" + USES_LIB, "src/app/__init__.py:1:8: F401"),
            ("test", USES_LIB.replace("2 *", "3 *"), "assert 3 == 2"),
        ],
        ids=["mypy", "ruff", "pytest"],
    )
    def test_a_mistake_is_told_in_the_checkers_own_words(self, uv, step, text, first):
        uv.write("app/src/app/__init__.py", text)
        result = uv.build(file=f"build.yml::app:{step}")
        uv.write("app/src/app/__init__.py", USES_LIB)
        assert result.outcomes()[f"app:{step}"] == "failed"
        assert first in result.output

    def test_a_stale_lock_is_told(self, uv):
        uv.write("app/pyproject.toml", UV_FILES["app/pyproject.toml"].replace("'lib'", "'lib', 'six'"))
        result = uv.build("-k", "app")
        assert result["app:requirements"].value == "failed"
        assert "uv.lock" in result.output.lower()


# --- Poetry ---

POETRY_APP = """
[tool.poetry]
name = "app"
version = "1.5"
description = "One."
authors = ["Somebody <a@localhost>"]
packages = [{include = "app", from = "src"}]
[tool.poetry.dependencies]
python = "^3.10"
lib = {path = "../lib", develop = true}
[tool.poetry.group.dev.dependencies]
pytest = "*"
[build-system]
requires = ["poetry-core"]
build-backend = "poetry.core.masonry.api"
# pip's own index, by the interface that every mirror has; by default Poetry asks for another one, which few have.
[[tool.poetry.source]]
name = "index"
url = "INDEX"
priority = "primary"
"""


@pytest.mark.real("poetry", "strace")
def test_poetry_installs_from_its_lock_and_the_wheel_has_no_path_of_this_machine(build_workspace):
    index = os.environ.get("PIP_INDEX_URL", PyPI.simple_url)
    text = POETRY_APP.replace("INDEX", index)
    files = LIB | APP | {"app/pyproject.toml": text, "lib/pyproject.toml": manifest("lib", "six")}
    ws = workspace(build_workspace, {"app": {"kind": "python"}, "lib": {"kind": "python"}}, files)
    run(ws, "poetry", "lock", "--no-interaction", folder="app")
    first = ws.build("-n2", "--build-trace")
    assert built(first) == set(first.steps)
    extras = {
        "app/[a-z]*": "Poetry asks of what the extras of a package need whether it is a path",
        "!app/*.*": "a name with a dot is no distribution's here",
    }
    judge(ws, first, "app", steps=("venv", "site", "wheel", "test"), unmade={**extras, **PYTHON})
    assert cases(ws)["app:test"] == ["test_double", "test_version"]
    # What the neighbour needs of others is there, the neighbour itself is not.
    packages = {path.name for path in (ws.root / "app/.venv/lib").glob("python3*/site-packages/*")}
    assert "six.py" in packages
    assert not {name for name in packages if name.startswith("lib")}
    (wheel,) = (ws.root / "app/dist").iterdir()
    with zipfile.ZipFile(wheel) as file:
        (metadata,) = [file.read(name).decode() for name in file.namelist() if name.endswith("/METADATA")]
    assert "Requires-Dist: lib\n" in metadata
    assert str(ws.root) not in metadata
    assert built(ws.build()) == set()


# --- distributions that repeat ---


@pytest.mark.real("uv", "strace")
def test_distributions_repeat_byte_for_byte_in_two_places_at_two_times(tmp_path):
    made = [
        distributions(tmp_path / "one", 0o022, 10**9),
        distributions(tmp_path / "other/place", 0o077, 15 * 10**8, "--build-trace"),
    ]
    assert len(made[0]) == 2 * len(BACKENDS)
    assert [name for name in made[0] if made[0][name] != made[1].get(name)] == []
    assert made[0].keys() == made[1].keys()


def distributions(place, umask, mtime, *traced):
    """Every wheel and sdist of a workspace with all backends, by path."""
    before = os.umask(umask)
    try:
        ws = BuildWorkspace(place / "ws")
        files = {"README.md": "# One\n", "LICENSE": "Free.\n", "src/{0}/__init__.py": "A = 1\n", "src/{0}/data.txt": "data\n"}
        for backend in BACKENDS:
            name = f"with_{backend}"
            text = manifest(name, "six", backend=backend).replace("description", 'readme = "README.md"\ndescription')
            ws.write(f"{name}/pyproject.toml", text)
            for path, content in files.items():
                ws.write(f"{name}/{path.format(name)}", content)
        workspace(ws, {f"with_{backend}": {"kind": "python"} for backend in BACKENDS}, {})
        for path in ws.root.rglob("*"):
            os.utime(path, (mtime, mtime))
        wanted = [f"build.yml::with_{backend}:{kind}" for backend in BACKENDS for kind in ("wheel", "sdist")]
        done = ws.build("-n2", "--build-cache=off", *traced, *wanted[1:], file=wanted[0])
        assert done.status == 0, done.output
        assert not traced or untrue(done) == {}
        found = [path for folder in ("dist", "sdist") for path in ws.root.glob(f"*/{folder}/*")]
        return {str(path.relative_to(ws.root)): path.read_bytes() for path in found}
    finally:
        os.umask(before)
