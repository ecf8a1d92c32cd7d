"""The wheel, installed by itself: it has every package, its entry points work, and it builds."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from build_tests.testing import BuildWorkspace

HERE = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with nothing but our wheel in it."""
    made, target = tmp_path_factory.mktemp("wheel"), tmp_path_factory.mktemp("installed")
    source = made / "source"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=HERE, capture_output=True, check=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        if name.partition("/")[0] in ("build_tests", "builders", "pyproject.toml", "README.md", "LICENSE") and (HERE / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((HERE / name).read_bytes())
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", made, source], check=True)
    (wheel,) = made.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", target, wheel], check=True)
    return wheel, target


def test_the_wheel_has_every_module_and_nothing_else(installed):
    wheel, _ = installed
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".py")}
    ours = {f"build_tests/{path.relative_to(HERE / 'build_tests').as_posix()}" for path in (HERE / "build_tests").rglob("*.py")}
    builders = {f"build_tests/builders/{path.name}" for path in (HERE / "builders").glob("*.py")}
    assert inside == ours | builders


def test_the_installed_wheel_builds(installed, tmp_path):
    _, target = installed
    ws = BuildWorkspace(tmp_path / "ws")
    ws.environ |= {"PYTHONPATH": str(target), "PYTHONSAFEPATH": "1"}
    ws.components(a={"steps": {"make": {"command": "echo 1 >out", "outputs": ["out"]}}})
    where = subprocess.run(
        [sys.executable, "-c", "import build_tests.builders.command as c; print(c.__file__)"],
        cwd=ws.root, env=ws.environ, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert where.startswith(str(target))
    for mode in ((), ("-n2",)):
        result = ws.build("--build-force", *mode)
        assert result.status == 0, result.output
    script = subprocess.run(
        [target / "bin" / "pytest-build", "build", "--", "-q"],
        cwd=ws.root, env=ws.environ, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert script.returncode == 0, script.stdout + script.stderr
    assert "1 up to date" in script.stdout
