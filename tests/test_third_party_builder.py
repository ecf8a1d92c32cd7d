import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import distributions, entry_points
from pathlib import Path

import pytest

from build_tests.registry import GROUP

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PACKAGE = Path(__file__).parent / "data" / "zig_builder"
DOCUMENT = Path(__file__).parent.parent / "docs" / "builders.md"


def install_by_hand(package, site):
    """What an installer leaves behind, and no more."""
    project = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    name, version = project["name"].replace("-", "_"), project["version"]
    shutil.copy(package / "pytest_build_zig.py", site)
    info = site / f"{name}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {version}\n")
    groups = project["entry-points"]
    lines = [f"[{group}]\n" + "\n".join(f"{k} = {v}" for k, v in found.items()) for group, found in groups.items()]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")


def install_with_pip(package, site):
    for name, oldest in (("pip", 21), ("setuptools", 77)):
        found = next(iter(distributions(name=name)), None)
        if found is None or int(found.version.partition(".")[0]) < oldest:
            pytest.skip(f"needs {name} {oldest} or newer")
    command = [sys.executable, "-m", "pip", "install", "--no-index", "--no-build-isolation", "--no-deps", "--quiet"]
    done = subprocess.run([*command, "--target", str(site), str(package)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def site(tmp_path):
    """A folder that stands for a site-packages of its own."""
    folder = tmp_path / "site"
    folder.mkdir()
    return folder


@pytest.fixture
def package(tmp_path):
    """A copy: installers write beside the sources."""
    return Path(shutil.copytree(PACKAGE, tmp_path / "package", ignore=shutil.ignore_patterns("__pycache__")))


def run(arguments, site, folder):
    environ = {**os.environ, "PYTHONPATH": str(site)}
    for name in [name for name in environ if name.startswith("PYTEST_")]:
        del environ[name]
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environ, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("install", [install_by_hand, install_with_pip])
def test_its_own_tests_pass_where_it_is_installed(install, package, site, tmp_path):
    install(package, site)
    tests = tmp_path / "tests"
    tests.mkdir()
    shutil.copy(package / "test_pytest_build_zig.py", tests)
    without = [word for name in ("randomly", "html", "metadata") for word in ("-p", f"no:{name}")]
    done = run(["-m", "pytest", "-q", *without, "-p", "no:cacheprovider"], site, tests)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 passed" in done.stdout


def test_it_is_found_by_entry_point_and_joins_the_schema(package, site):
    install_by_hand(package, site)
    done = run(["-m", "build_tests.faces.cli", "schema"], site, site)
    assert done.returncode == 0, done.stderr
    assert '"optimize"' in done.stdout
    assert "Zig's -Doptimize." in done.stdout  # what an editor shows beside the key
    (point,) = [p for p in entry_points(group=GROUP) if p.name == "command"]
    assert point.value == "build_tests.builders.command:CommandBuilder"  # ours come by the same door


def test_without_it_the_kind_is_unknown(build_workspace):
    ws = build_workspace
    ws.components(app={"kind": "zig"})
    result = ws.build()
    assert result.status == 4
    assert "zig" in result.output
    assert "command" in result.output  # the kinds that there are


@pytest.mark.parametrize("name", ["pyproject.toml", "pytest_build_zig.py", "test_pytest_build_zig.py"])
def test_the_documentation_shows_this_very_package(name):
    blocks = re.findall(r"```\w+\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert (PACKAGE / name).read_text() in blocks


def test_the_example_is_short():
    assert len((PACKAGE / "pytest_build_zig.py").read_text().splitlines()) < 60


ZIG = "mkdir -p zig-out && echo $2 >zig-out/app; echo 0.15.1"


def test_a_builder_private_to_a_repository(build_workspace):
    ws = build_workspace
    ws.components({"builders": {"zig": "tools.own_zig:ZigBuilder"}}, apps={"kind": "auto", "path": "apps/*"})
    text = (PACKAGE / "pytest_build_zig.py").read_text()
    ws.write("tools/own_zig.py", text)
    for name in ("one", "two"):
        ws.write(f"apps/{name}/build.zig", "// how to build")
        ws.write(f"apps/{name}/src/main.zig", name)
    ws.tool("zig", ZIG)
    first = ws.build()
    assert first.outcomes() == {"one:build": "built", "two:build": "built"}, first.output
    assert set(ws.build().outcomes().values()) == {"fresh"}
    ws.write("tools/own_zig.py", text.replace('"ReleaseSafe"', '"Debug"'))
    assert set(ws.build().outcomes().values()) == {"built"}
    assert ws.read("apps/one/zig-out/app") == "-Doptimize=Debug\n"
    ws.write("tools/own_zig.py", text.replace("yield api.Step(", "yield api.Stepp("))
    broken = ws.build()
    assert broken.status == 4
    assert "component 'one': its builder failed: AttributeError" in broken.output
    assert "raised in tools/own_zig.py, line" in broken.output


def test_a_private_builder_that_can_not_be_loaded_is_told_at_its_place(build_workspace):
    ws = build_workspace
    ws.components({"builders": {"zig": "tools.none:ZigBuilder"}}, app={"kind": "zig"})
    broken = ws.build()
    assert broken.status == 4
    assert "the builder 'tools.none:ZigBuilder' can't be loaded: ModuleNotFoundError" in broken.output
