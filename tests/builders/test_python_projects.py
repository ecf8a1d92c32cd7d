"""Kind python: layouts, projects that need each other by path, which folders are recognised."""

import pytest
from build_tests.builders.protobuf import LanguageOptions, ProtobufOptions
from build_tests.builders.python import PythonBuilder, PythonOptions

from build_tests.core.builder import Component, Identity, ManifestError, Output
from build_tests.core.globs import matches
from build_tests.core.graph import build_graph
from build_tests.core.model import StepOverride
from build_tests.core.workspace import FileWorkspace

BUILD = '[build-system]\nrequires = ["{0}"]\nbuild-backend = "{1}"\n'
SETUPTOOLS = BUILD.format("setuptools>=77", "setuptools.build_meta")
HATCH = BUILD.format("hatchling", "hatchling.build")
POETRY = BUILD.format("poetry-core", "poetry.core.masonry.api")
FLIT = BUILD.format("flit_core", "flit_core.buildapi")
PDM = BUILD.format("pdm-backend", "pdm.backend")
UV = BUILD.format("uv_build", "uv_build")


def project(name="app", *, more="", **fields):
    written = "".join(f"{key.replace('_', '-')} = {value}\n" for key, value in fields.items())
    return f'[project]\nname = "{name}"\nversion = "1"\n{written}{more}\n'


def component(name, **options):
    return Component(name=name, kind="python", path=name, options=PythonOptions(**options))


# --- layouts ---


@pytest.mark.parametrize(
    ("manifest", "files", "path", "inside", "outside"),
    [
        pytest.param(SETUPTOOLS, ["src/app/a.py"], "src", ["src/app/a.py"], ["noxfile.py"], id="setuptools-src"),
        pytest.param(
            SETUPTOOLS, ["app/__init__.py", "tests/__init__.py", "docs/__init__.py", "setup.py"], ".",
            ["app/data.json"], ["tests/test_a.py", "docs/conf.py"], id="setuptools-flat",
        ),
        pytest.param(
            SETUPTOOLS + '[tool.setuptools]\npackage-dir = {"" = "lib"}', ["lib/app/__init__.py"], ".:lib", ["lib/app/x.py"], ["x.py"],
            id="setuptools-package-dir",
        ),
        pytest.param(
            SETUPTOOLS + '[tool.setuptools.packages.find]\nwhere = ["python"]', ["python/app/__init__.py"], ".:python",
            ["python/app/x.py"], ["x.py"], id="setuptools-where",
        ),
        pytest.param(
            SETUPTOOLS + '[tool.setuptools]\npackages = ["app", "api"]\npackage-dir = {api = "gen/api"}',
            ["app/__init__.py", "gen/api/x.py"], ".:gen", ["app/x.py", "gen/api/x.py"], ["gen/x.py"], id="setuptools-packages",
        ),
        pytest.param(  # what another step has yet to make
            SETUPTOOLS + '[tool.setuptools]\npackages = ["app", "api"]\npackage-dir = {api = "gen/api"}',
            ["app/__init__.py"], ".:gen", ["app/x.py", "gen/api/x.py"], ["gen/x.py"], id="setuptools-generated",
        ),
        pytest.param(SETUPTOOLS, ["app.py", "conftest.py"], ".", ["app.py"], ["conftest.py", "other.txt"], id="setuptools-module"),
        pytest.param(HATCH, ["app/__init__.py"], ".", ["app/x.py"], ["x.py"], id="hatch-flat"),
        pytest.param(
            HATCH + '[tool.hatch.build.targets.wheel]\npackages = ["lib/app"]', ["lib/app/x.py"], ".:lib", ["lib/app/x.py"],
            ["lib/x.py"], id="hatch-packages",
        ),
        pytest.param(FLIT, ["app/__init__.py"], ".", ["app/x.py"], ["x.py"], id="flit-flat"),
        pytest.param(FLIT, ["src/app/__init__.py"], "src", ["src/app/x.py"], ["x.py"], id="flit-src"),
        pytest.param(
            PDM + '[tool.pdm.build]\npackage-dir = "code"', ["code/app/__init__.py"], ".:code", ["code/app/x.py"], ["x.py"], id="pdm",
        ),
        pytest.param(
            POETRY + '[tool.poetry]\npackages = [{include = "app", from = "lib"}]', ["lib/app/x.py"], ".:lib", ["lib/app/x.py"],
            ["lib/x.py"], id="poetry-packages",
        ),
        pytest.param(UV + '[tool.uv.build-backend]\nmodule-root = "py"', ["py/app/x.py"], ".:py", ["py/app/x.py"], ["x.py"], id="uv"),
        pytest.param(HATCH, ["app/deep/x.py"], ".", ["app/deep/y.py"], ["x.py"], id="namespace-of-its-own-name"),
        pytest.param(HATCH, ["readme.txt"], ".", ["anything"], ["tests/test_a.py"], id="nothing-found"),
    ],
)  # fmt: skip
def test_layouts(planned, manifest, files, path, inside, outside):  # noqa: PLR0917 - one table
    there = {f"app/{name}": "" for name in (*files, "tests/test_a.py")} | {"app/pyproject.toml": project(more=manifest)}
    steps = planned(PythonBuilder, there)
    assert dict(steps["test"].env)["PYTHONPATH"] == f"{path}:.venv-site"
    assert [name for name in inside if not matches(steps["wheel"].inputs, f"app/{name}")] == []
    assert [name for name in outside if matches(steps["wheel"].inputs, f"app/{name}")] == []


def test_the_readme_and_the_licences_are_what_metadata_is_made_of(planned):
    files = dict.fromkeys(("app/README.md", "app/CHANGES.md", "app/LICENCE", "app/NOTICE.txt", "app/src/a.py"), "")
    step = planned(PythonBuilder, files | {"app/pyproject.toml": project(readme='"README.md"', more=HATCH)})["wheel"]
    assert {name for name in files if matches(step.inputs, name)} == set(files) - {"app/CHANGES.md"}
    no_readme = planned(PythonBuilder, {"app/pyproject.toml": project(more=HATCH)})["wheel"]
    assert not matches(no_readme.inputs, "app/README.md")


def test_a_version_that_code_says_makes_code_part_of_the_metadata(planned):
    files = {"app/src/app.py": "", "app/tests/test_a.py": ""}
    said = planned(PythonBuilder, files | {"app/pyproject.toml": project(more=SETUPTOOLS)})["site"]
    assert not matches(said.inputs, "app/src/app.py")
    dynamic = project(dynamic='["readme"]', more=SETUPTOOLS)
    assert matches(planned(PythonBuilder, files | {"app/pyproject.toml": dynamic})["site"].inputs, "app/src/app.py")


# --- path dependencies ---

LIB = {"lib/pyproject.toml": project("Lib_One", dependencies='["six>=1"]', more=HATCH), "lib/src/lib_one/__init__.py": ""}
APP = {"app/src/app/__init__.py": "", "app/tests/test_a.py": ""}
POETRY_APP = '[tool.poetry]\nname = "app"\nversion = "1"\n[tool.poetry.dependencies]\npython = "^3.10"\n'
PATHS = {
    "poetry": {"app/pyproject.toml": POETRY_APP + 'lib-one = {path = "../lib", develop = true}\n' + POETRY},
    "poetry group": {
        "app/pyproject.toml": POETRY_APP + '[tool.poetry.group.dev.dependencies]\nlib-one = {path = "../lib"}\n' + POETRY
    },
    "uv source": {
        "app/pyproject.toml": project(dependencies='["lib-one"]', more=UV + '[tool.uv.sources]\nlib-one = {path = "../lib"}')
    },
    "uv workspace": {
        "pyproject.toml": '[tool.uv.workspace]\nmembers = ["app", "l*"]\n',
        "app/pyproject.toml": project(dependencies='["lib.one"]', more=UV + "[tool.uv.sources]\nlib-one = {workspace = true}"),
    },
    "uv workspace, said by its root": {
        "pyproject.toml": '[tool.uv.workspace]\nmembers = ["*"]\n[tool.uv.sources]\nlib-one = {path = "lib"}',
        "app/pyproject.toml": project(dependencies='["lib-one"]', more=UV),
    },
    "direct reference": {"app/pyproject.toml": project(dependencies='["lib-one @ file:../lib"]', more=SETUPTOOLS)},
    "hatch context": {"app/pyproject.toml": project(dependencies='["lib-one @ {root:uri}/../lib"]', more=HATCH)},
    "pdm variable": {
        "app/pyproject.toml": project(dependencies='["lib-one @ file:///${PROJECT_ROOT}/../lib"]', more=PDM)
    },
    "dependency group": {
        "app/pyproject.toml": project(more=FLIT + '[dependency-groups]\ndev = ["lib-one @ file:../lib"]')
    },
    "requirements -e": {"app/pyproject.toml": project(more=SETUPTOOLS), "app/requirements.txt": "-e ../lib\npytest"},
    "requirements path": {"app/pyproject.toml": project(more=SETUPTOOLS), "app/requirements.txt": "../lib[extra]\npytest"},
    "requirements @": {
        "app/pyproject.toml": project(more=SETUPTOOLS), "app/requirements.txt": "pytest\nlib-one @ file:../lib ; python_version > '3'"
    },
    "included requirements": {
        "app/pyproject.toml": project(more=SETUPTOOLS), "app/requirements.txt": "-r ../base/all.txt\npytest", "base/all.txt": "-e ../lib"
    },
}  # fmt: skip


@pytest.mark.parametrize("files", PATHS.values(), ids=PATHS)
def test_a_path_dependency_is_an_edge_to_the_wheel(planned, tmp_path, files):
    app = planned(PythonBuilder, LIB | APP | files, component("lib"))
    lib = list(PythonBuilder().plan(component("lib"), FileWorkspace(str(tmp_path), (component("lib"),))))
    graph = build_graph([*app.values(), *lib])
    assert "lib:wheel" in graph.needs["app:site"]
    assert "app:site" in graph.needs["app:test"]
    # What others publish is installed once, whatever becomes of the neighbour.
    assert "lib:wheel" not in graph.closure(["app:venv"])


@pytest.mark.parametrize("files", [PATHS["direct reference"], PATHS["uv source"], PATHS["poetry"]])
def test_what_a_neighbour_needs_is_installed_and_it_itself_is_not(planned, files):
    command = planned(PythonBuilder, LIB | APP | files, component("lib"))["venv"].command
    assert "'six>=1'" in command
    assert "lib-one" not in command


def test_lines_that_name_neighbours_are_left_out(planned, run, tmp_path):
    files = {"app/requirements.txt": "# all\n-r more/base.txt\n  -e ../lib\n-e .[test]\nother\n", "app/more/base.txt": "../../lib\nmore\n"}
    files |= {"app/pyproject.toml": project(more=SETUPTOOLS + '[project.optional-dependencies]\ntest = ["mock"]')}
    step = planned(PythonBuilder, LIB | files, component("lib"), installer="pip")["venv"]
    python = tmp_path / "app/.venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\nwhile [ $# -gt 0 ]; do [ "$1" != -r ] || cat "$2" >>said; shift; done\n')
    python.chmod(0o755)
    done = run(step, python3="")
    assert done.returncode == 0, done.stderr
    said = (tmp_path / "app/said").read_text()
    assert "lib" not in said.replace("setuptools", "")
    assert {"other", "more"} <= set(said.split())
    assert "mock 'six>=1'" in step.command


def test_neighbours_of_neighbours_come_too(planned):
    lib = project("lib", dependencies='["core @ file:../core"]', more=HATCH)
    files = {"app/pyproject.toml": project(dependencies='["lib @ file:../lib"]', more=HATCH), "lib/pyproject.toml": lib}
    files |= {"core/pyproject.toml": project("core", dependencies='["app @ file:../app"]', more=HATCH)}
    step = planned(PythonBuilder, APP | files, component("lib"), component("core", out="made/"))["site"]
    assert {"lib/dist/", "core/made/"} <= set(step.inputs)


def test_a_neighbour_that_is_no_component_is_told_with_the_line_to_add(planned):
    with pytest.raises(ManifestError, match=r"app/pyproject\.toml depends on lib, which is no component") as raised:
        planned(PythonBuilder, LIB | APP | PATHS["direct reference"])
    assert "lib: {kind: python, path: lib}" in raised.value.hint


@pytest.mark.parametrize("path", ["../../lib", "../.."])
def test_a_path_out_of_the_repository_is_refused(planned, path):
    with pytest.raises(ManifestError, match="outside the repository"):
        planned(PythonBuilder, APP | {"app/pyproject.toml": project(dependencies=f'["lib @ file:{path}"]', more=HATCH)})


# --- locks ---

UV_APP = project(
    dependencies='["six"]', more=UV + '[dependency-groups]\ndev = ["pytest"]\nlint = ["ruff"]\n[project.optional-dependencies]\ntest = ["mock"]\nall = ["x"]'
)
UV_FILES = {
    "pyproject.toml": '[tool.uv.workspace]\nmembers = ["app", "lib"]', "uv.lock": "version = 1", "app/pyproject.toml": UV_APP, "lib/pyproject.toml": project("lib")
}  # fmt: skip


def test_uv_exports_its_lock_and_only_that_decides_the_environment(planned):
    steps = planned(PythonBuilder, APP | UV_FILES)
    assert list(steps)[:3] == ["requirements", "venv", "site"]
    assert set(steps["requirements"].inputs) == {"uv.lock", "pyproject.toml", "app/pyproject.toml", "lib/pyproject.toml"}
    assert "--locked" in steps["requirements"].command
    for chosen in ("--group dev", "--group lint", "--extra test"):
        assert chosen in steps["requirements"].command
    assert "--extra all" not in steps["requirements"].command
    assert steps["venv"].inputs == ("app/.venv-requirements.txt",)
    assert [(tool.name, tool.optional) for tool in steps["venv"].tools] == [("python3", False), ("uv", False)]
    assert ".venv/build-requires uv_build" in steps["venv"].command


def test_members_are_checked_with_the_groups_of_their_workspaces_root(planned):
    root = UV_FILES["pyproject.toml"] + "\n[dependency-groups]\ndev = ['pytest', 'ruff']\ndocs = ['sphinx']\n"
    manifest = project(more=UV)
    steps = planned(PythonBuilder, APP | UV_FILES | {"pyproject.toml": root, "app/pyproject.toml": manifest})
    assert {"test", "lint"} <= set(steps)
    first, second = steps["requirements"].command.splitlines()
    assert first.endswith("--output-file .venv-requirements.txt")
    assert second.endswith("--project .. --only-group dev >>.venv-requirements.txt")
    own = planned(PythonBuilder, APP | UV_FILES | {"pyproject.toml": root, "app/pyproject.toml": manifest}, extras=())
    assert "test" not in own


def test_extras_and_groups_may_be_named(planned):
    step = planned(PythonBuilder, APP | UV_FILES, extras=("all",))["requirements"]
    assert "--extra all --output-file" in step.command


def test_poetry_installs_what_its_lock_says(planned):
    text = POETRY_APP + 'six = "*"\n[tool.poetry.group.docs]\noptional = true\n[tool.poetry.group.test]\noptional = true\n' + POETRY
    steps = planned(PythonBuilder, APP | {"app/pyproject.toml": text, "app/poetry.lock": "", "app/poetry.toml": ""})
    step = steps["venv"]
    assert step.inputs == ("app/poetry.lock", "app/pyproject.toml", "app/poetry.toml")
    assert [tool.name for tool in step.tools] == ["python3", "uv", "poetry"]
    assert step.command.endswith("poetry install --no-root --no-directory --no-interaction --no-ansi --with=test")


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ('"^1.2"', "x>=1.2,<2"), ('"^0.2.3"', "x>=0.2.3,<0.3"), ('"~1.2"', "x>=1.2,<1.3"), ('"~1"', "x>=1,<2"), ('"*"', "x"),
        ('"1.5"', "x==1.5"), ('">=1,<3"', "x>=1,<3"), ('{version = "^2", extras = ["a"]}', "x[a]>=2,<3"), ('"~=1.4"', "x~=1.4"),
        ('{version = "^2", markers = "os_name == \'nt\'"}', "x>=2,<3; os_name == 'nt'"),
    ],
)  # fmt: skip
def test_without_a_lock_poetrys_versions_are_said_as_pip_reads_them(planned, said, meant):
    files = {"app/pyproject.toml": POETRY_APP + f"x = {said}\n" + POETRY}
    command = planned(PythonBuilder, APP | files)["venv"].command
    assert meant in command.replace("'\"'\"'", "'").replace(f"'{meant}'", meant).split("poetry-core ")[1]


# --- recognised folders ---


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"a/pyproject.toml": project()}, True),
        ({"a/pyproject.toml": POETRY_APP}, True),
        ({"a/setup.py": "import setuptools; setuptools.setup()"}, True),
        ({"a/requirements.txt": "six", "a/main.py": ""}, True),
        ({"a/pyproject.toml": "[tool.ruff]\n"}, False),
        ({"a/pyproject.toml": "[tool.uv.workspace]\nmembers = []"}, False),
        ({"a/requirements.txt": "mkdocs", "a/index.md": ""}, False),
        ({"a/main.py": ""}, False),
        ({"a/package.json": "{}"}, False),
    ],
)
def test_recognised_folders(tmp_path, files, expected):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert PythonBuilder.detect("a", FileWorkspace(str(tmp_path))) is expected


# --- generated code ---


def test_what_others_make_in_the_package_is_an_edge_that_nobody_writes_down(planned):
    files = {"app/pyproject.toml": "[project]\nname = 'app'\n[build-system]\nbuild-backend = 'hatchling.build'\n[tool.ruff]\n"}
    files |= {"app/src/app/__init__.py": "", "app/tests/test_a.py": "", "proto/a.proto": ""}
    made = (Output(path="app/src/app/table.py"), Output(path="app/src/app/image", identity=Identity.IMAGE), Output(path="app/docs/a.md"))
    tables = Component(name="tables", kind="command", path="tables", steps=(StepOverride(name="make", fields=(("outputs", made[1:]), ("extra_outputs", made[:1]))),))
    proto = Component(
        name="proto", kind="protobuf", path="proto",
        options=ProtobufOptions(languages={"python": LanguageOptions(out="//app/src/app/api"), "go": LanguageOptions(out="//app/go")}),
    )  # fmt: skip
    steps = planned(PythonBuilder, files, tables, proto)
    wanted = {"app/src/app/table.py", "app/src/app/api/"}
    for name in ("wheel", "sdist", "test", "lint"):
        assert {path for path in steps[name].inputs if "api" in path or "table" in path or "image" in path} == wanted
        assert not {path for path in steps[name].inputs if path.startswith(("app/go", "app/docs"))}
    assert "app/src/app/api/" not in planned(PythonBuilder, files, tables, proto, sources=("src/app/main.py",))["wheel"].inputs
