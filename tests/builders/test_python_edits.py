"""Kind python: edits that must run steps again, and edits that must not.

The steps are the builder's own, the tools fakes; each test makes one edit more in the same workspace and builds.
"""

import os

import pytest

from build_tests.testing import BuildWorkspace

pytestmark = pytest.mark.slow
COMPONENTS = {
    "gen": {"kind": "command", "steps": {"make": {"command": "cp in.txt out.py", "inputs": ["in.txt"], "outputs": ["out.py"]}}},
    "app": {"kind": "python", "sources": ["src/", "//gen/out.py"], "steps": {"test": {"pass_env": ["MODE"]}}},
    "lib": {"kind": "python"},
    "other": {"kind": "python"},
}  # fmt: skip
HATCH = '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
SETUPTOOLS = '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
MANIFEST = f"""[project]
name = "app"
version = "1"
readme = "README.md"
dependencies = ["lib", "six"]
{HATCH}
[dependency-groups]
dev = ["pytest", "mypy", "ruff"]
[tool.uv.sources]
lib = {{workspace = true}}
[tool.mypy]
[tool.ruff]
[tool.pytest.ini_options]
addopts = "-q"
"""
FILES = {
    "pyproject.toml": '[tool.uv.workspace]\nmembers = ["app", "lib", "other"]\n',
    "uv.lock": "six 1\nunrelated 1\n",
    ".gitignore": ".venv*\n",
    "gen/in.txt": "one",
    "app/pyproject.toml": MANIFEST,
    "app/README.md": "# app",
    "app/CONTRIBUTING.md": "# how",
    "app/docs/conf.py": "",
    "app/src/app/__init__.py": "",
    "app/src/app/engine.py": "A = 1",
    "app/src/app/data.json": "{}",
    "app/tests/test_engine.py": "def test(): pass",
    "lib/pyproject.toml": f'[project]\nname = "lib"\nversion = "1"\n{SETUPTOOLS}',
    "lib/src/lib/__init__.py": "",
    "other/pyproject.toml": f'[project]\nname = "other"\nversion = "1"\n{SETUPTOOLS}',
    "other/src/other/__init__.py": "",
}
# What the real ones depend on, as far as it matters here: the lock's own lines, the manifest's name and version.
UV = """
for last; do :; done
case $1 in
    --version) echo uv {version} ;;
    export) grep six ../uv.lock >$last; grep ^dependencies pyproject.toml >>$last || true ;;
    --project) [ $3 = venv ] || exit 0; mkdir -p $last/bin; cp {python} $last/bin/python; ln -s /bin/true $last/bin/mypy; ln -s /bin/true $last/bin/ruff ;;
esac
"""
PYTHON = """#!/bin/sh
case $2 in
    pytest) mkdir -p .reports; echo "<testsuites/>" >.reports/pytest.xml; exit ;;
esac
kind=$3 out=$4
mkdir -p $out
shift 6
case $kind in
    wheel) cat $(find src -type f -not -name "*~" | sort) pyproject.toml >$out/it.whl ;;
    site) { grep -e ^name -e ^version pyproject.toml; for wheel; do cat $wheel/*; done; } >$out/meta ;;
esac
"""
EXPORTS = {"app:requirements", "lib:requirements", "other:requirements"}
"""uv reads the manifest of each member of a workspace; what it says of others than the edited one stays the same."""
CHECKS = {"app:test", "app:types", "app:lint"}


@pytest.fixture(scope="module")
def ws(tmp_path_factory):
    ws = BuildWorkspace(tmp_path_factory.mktemp("edits") / "ws")
    ws.components(**COMPONENTS)
    for name, text in FILES.items():
        ws.write(name, text)
    ws.tool("python3", "echo Python 3.12.1")
    (ws.root.parent / "python").write_text(PYTHON)
    (ws.root.parent / "python").chmod(0o755)
    use_uv(ws, "0.9.1")
    assert len(built(ws)) == 14
    assert built(ws) == set()
    return ws


def use_uv(ws, version):
    ws.tool("uv", UV.replace("{version}", version).replace("{python}", str(ws.root.parent / "python")))


def built(ws):
    result = ws.build("-n0")
    assert result.status == 0, result.output
    return {label for label, word in result.outcomes().items() if word != "fresh"}


def replaced(path, old, new):
    def edit(ws):
        text = ws.read(path)
        assert old in text
        ws.write(path, text.replace(old, new))

    return edit


def written(*paths):
    def edit(ws):
        for path in paths:
            ws.write(path, "something\n")

    return edit


def renamed(ws):
    (ws.root / "app/src/app/engine.py").rename(ws.root / "app/src/app/motor.py")


def touched(ws):
    for path in ws.root.rglob("*"):
        if path.is_file() and not path.is_symlink() and ".build" not in path.parts:
            os.utime(path)


MUST = {
    "a source": (replaced("app/src/app/engine.py", "1", "2"), CHECKS | {"app:wheel"}),
    "a test, and no new wheel": (replaced("app/tests/test_engine.py", "pass", "..."), CHECKS - {"app:types"}),
    "a neighbour's source, and nothing is installed again": (
        replaced("lib/src/lib/__init__.py", "", "B = 1"), {"lib:wheel", "app:site", "app:test", "app:types"}
    ),
    "the manifest's dependencies": (
        replaced("app/pyproject.toml", '"six"]', '"six>=1"]'),
        CHECKS | EXPORTS | {"app:venv", "app:site", "app:wheel"},
    ),
    "a tool's configuration, and nothing is installed again": (
        replaced("app/pyproject.toml", "-q", "-qq"), CHECKS | EXPORTS | {"app:site", "app:wheel"}
    ),
    "the lock": (
        replaced("uv.lock", "six 1", "six 2"),
        CHECKS | EXPORTS | {f"{name}:{step}" for name in ("app", "lib", "other") for step in ("venv", "wheel")} | {"app:site"},
    ),
    "a generated input": (replaced("gen/in.txt", "one", "two"), CHECKS | {"gen:make", "app:wheel"}),
    "a file that is in the wheel only": (replaced("app/README.md", "app", "App"), {"app:wheel", "app:site"}),
    "a deleted file": (lambda ws: (ws.root / "app/src/app/data.json").unlink(), CHECKS | {"app:wheel"}),
    "a renamed file": (renamed, CHECKS | {"app:wheel"}),
    "a mode bit": (lambda ws: (ws.root / "app/src/app/motor.py").chmod(0o755), CHECKS | {"app:wheel"}),
    "a variable": (lambda ws: ws.environ.update(MODE="fast"), {"app:test"}),
    "a new conftest beside the manifest": (written("app/conftest.py"), {"app:test", "app:lint"}),
    "another uv": (
        lambda ws: use_uv(ws, "0.9.2"),
        CHECKS | EXPORTS | {f"{name}:{step}" for name in ("app", "lib", "other") for step in ("venv", "wheel")} | {"app:site"},
    ),
}  # fmt: skip
MUST_NOT = {
    "another package's entry in the lock": replaced("uv.lock", "unrelated 1", "unrelated 2"),
    "a text that is not in the wheel": replaced("app/CONTRIBUTING.md", "how", "what"),
    "editors' backups": written("app/tests/test_engine.py~", "app/tests/.test_engine.py.swp", "lib/src/lib/#x.py#", "lib/src/lib/x.py~"),
    "an ignored folder": written("app/.idea/x.py", "app/build/x.py", "app/node_modules/x/y.py"),
    "documentation": replaced("app/docs/conf.py", "", "x = 1"),
    "times": touched,
    "compiled code": written("app/src/app/__pycache__/x.pyc", "app/tests/__pycache__/x.pyc"),
    "tools' caches": written("app/.ruff_cache/x", "app/.pytest_cache/x", "app/.mypy_cache/x"),
    "something inside of the environment": written("app/.venv/lib/x.py"),
    "a file beside the sources": written("app/Makefile", "app/notes.txt", "app/.editorconfig"),
    "the order of keys in the build file": lambda ws: ws.components(**dict(reversed(COMPONENTS.items()))),
}


@pytest.mark.parametrize(("edit", "expected"), MUST.values(), ids=MUST)
def test_it_runs_again_after(ws, edit, expected):
    edit(ws)
    assert built(ws) == expected


@pytest.mark.parametrize("edit", MUST_NOT.values(), ids=MUST_NOT)
def test_nothing_runs_after(ws, edit):
    edit(ws)
    assert {label for label in built(ws) if not label.endswith(":requirements")} == set()


@pytest.mark.parametrize("edit", [replaced("other/src/other/__init__.py", "", "C = 1"), replaced("other/pyproject.toml", '"1"', '"2"')])
def test_another_members_edit_stays_there(ws, edit):
    edit(ws)
    assert {label for label in built(ws) if not label.startswith("other:")} <= {"app:requirements", "lib:requirements"}
