"""What must make an image anew and what must not: each edit in a copy of a built workspace, asked of the plan."""

import os
import shutil
import subprocess
import uuid

import pytest

from build_tests.api import BuildOrchestrator
from build_tests.testing import BuildWorkspace

pytestmark = pytest.mark.real("docker")

BUILD = {
    "gen": {"steps": {"make": {"command": "mkdir ../app/gen; cp in ../app/gen/x", "inputs": ["in"], "outputs": ["//app/gen/"]}}},
    "app": {"kind": "docker", "build_args": {"WHO": "me"}, "labels": {"a": "1"}},
    "lib": {"path": "lib", "steps": {"list": {"command": "ls *.txt >list", "inputs": ["*.txt"], "outputs": ["list"]}}},
}
DOCKERFILE = """ARG BASE
FROM $BASE AS base
COPY package-lock.json /
FROM base AS dev
COPY dev /dev-tools
FROM base
ARG WHO
COPY src gen /app/
COPY *.json /conf/
"""
FILES = {
    "app/Dockerfile": DOCKERFILE,
    "app/.dockerignore": "# what stays out\n*\n!src\n!gen\n!dev\n!*.json\n**/*~\n**/*.log\nsrc/ignored\nREADME.json\n",
    "app/package-lock.json": "{}",
    "app/tool.json": "{}",
    "app/README.md": "app",
    "app/README.json": "{}",
    "app/src/main.py": "main",
    "app/src/util.py": "util",
    "app/src/ignored/notes": "x",
    "app/src/run.log": "x",
    "app/dev/tool": "x",
    "gen/in": "1",
    "lib/a.txt": "a",
    "lib/package-lock.json": "{}",
}


def docker(*words, stdin=None):
    subprocess.run(["docker", *words], input=stdin, check=True, capture_output=True)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The workspace, built; and the names of its image and its base image."""
    name = f"pytest-build-test/{uuid.uuid4().hex[:12]}"
    ws = BuildWorkspace(tmp_path_factory.mktemp("edits") / "ws")
    real = shutil.which("docker")
    ws.tool("docker", f'test "$1" = --version && exec echo docker 1\nexec {real} "$@"')
    for path, text in FILES.items():
        ws.write(path, text)
    (ws.root / "app/src/link").symlink_to("main.py")
    BUILD["app"] |= {"image": f"{name}:1", "build_args": {"BASE": f"{name}-base:1", "WHO": "me"}}
    ws.components(**BUILD)
    docker("import", "-", f"{name}-base:1", stdin=bytes(1024))
    result = ws.build()
    assert result.status == 0, result.output
    docker("tag", f"{name}:1", f"{name}-keep:1")
    docker("tag", f"{name}-base:1", f"{name}-keep:base")
    yield ws, name
    docker("image", "rm", "--force", f"{name}:1", f"{name}-base:1", f"{name}-keep:1", f"{name}-keep:base")


@pytest.fixture
def ws(built, tmp_path, monkeypatch):
    """A copy of it, as another checkout would be."""
    original, name = built
    root = tmp_path / "ws"
    shutil.copytree(original.root, root, symlinks=True)
    shutil.copytree(original.bin, tmp_path / "bin")
    for variable, value in original.environ.items():
        monkeypatch.setenv(variable, value)
    for variable in ("DOCKER_BUILDKIT", "WHO"):
        monkeypatch.setenv(variable, "")  # or what an edit sets would stay
        monkeypatch.delenv(variable)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    copy = BuildWorkspace(root)
    copy.image, copy.bin = name, tmp_path / "bin"
    return copy


def expected(ws):
    """What a run would do with the image, and why."""
    plan = BuildOrchestrator.load(ws.root / "build.yml").plan()
    (step,) = [step for step in plan.steps if step.label == "app:image"]
    return step.expected.value, [reason.kind for reason in step.reasons]


def changed(ws, **options):
    ws.components(**{**BUILD, "app": {**BUILD["app"], **options}})


def replaced(ws, path, old, new):
    ws.write(path, ws.read(path).replace(old, new))


# The edit, and the kind of the reason that it must give.
MUST = {
    "a source": ("input-changed", lambda ws: ws.write("app/src/main.py", "other")),
    "a source of equal size and time": ("input-changed", lambda ws: same_size_and_time(ws.root / "app/src/main.py", "niam")),
    "a new source": ("input-added", lambda ws: ws.write("app/src/deep/new.py", "")),
    "a deleted source": ("input-removed", lambda ws: (ws.root / "app/src/util.py").unlink()),
    "a renamed source": ("input-added", lambda ws: (ws.root / "app/src/util.py").rename(ws.root / "app/src/utils.py")),
    "a mode": ("input-mode", lambda ws: (ws.root / "app/src/main.py").chmod(0o755)),
    "where a link leads": ("input-changed", lambda ws: linked(ws.root / "app/src/link", "util.py")),
    "the lock file": ("input-changed", lambda ws: ws.write("app/package-lock.json", "{ }")),
    "a file that a pattern takes": ("input-added", lambda ws: ws.write("app/new.json", "{}")),
    "the Dockerfile": ("input-changed", lambda ws: replaced(ws, "app/Dockerfile", "/conf/", "/etc/")),
    "the .dockerignore": ("input-changed", lambda ws: replaced(ws, "app/.dockerignore", "**/*.log\n", "")),
    "a generated file": ("behind", lambda ws: ws.write("gen/in", "2")),
    "a build argument": ("command", lambda ws: changed(ws, build_args={**BUILD["app"]["build_args"], "WHO": "you"})),
    "a label": ("command", lambda ws: changed(ws, labels={"a": "2"})),
    "the target": ("command", lambda ws: changed(ws, target="dev")),
    "another builder": ("env", lambda ws: os.environ.__setitem__("DOCKER_BUILDKIT", "other")),
    "the version of docker": ("tool", lambda ws: version(ws, "docker 2")),
    "the base image": ("image", lambda ws: docker("import", "--change=LABEL v=2", "-", f"{ws.image}-base:1", stdin=bytes(1024))),
    "the image is gone": ("image-missing", lambda ws: docker("image", "rm", "--force", f"{ws.image}:1")),
}

MUST_NOT = {
    "nothing": lambda ws: None,
    "a README": lambda ws: ws.write("app/README.md", "other"),
    "a README that a pattern would take": lambda ws: ws.write("app/README.json", "[]"),
    "an editor's backup": lambda ws: ws.write("app/src/main.py~", "old"),
    "an ignored log": lambda ws: ws.write("app/src/run.log", "y"),
    "an ignored folder": lambda ws: ws.write("app/src/ignored/more", "y"),
    "a stage that is not needed": lambda ws: ws.write("app/dev/tool", "y"),
    "a file that nothing copies": lambda ws: ws.write("app/notes.txt", "y"),
    "another component's lock file": lambda ws: ws.write("lib/package-lock.json", "[]"),
    "another component": lambda ws: ws.write("lib/b.txt", "b"),
    "the times of everything": lambda ws: [os.utime(path, (1, 1)) for path in (ws.root / "app").rglob("*") if path.is_file()],
    "a mode that is not the executable bit": lambda ws: (ws.root / "app/src/main.py").chmod(0o600),
    "an empty folder": lambda ws: (ws.root / "app/src/empty").mkdir(),
    "a variable that no step has": lambda ws: os.environ.__setitem__("WHO", "you"),
    "a description": lambda ws: changed(ws, tags=["web"]),
    "an edit that is taken back": lambda ws: (ws.write("app/src/main.py", "x"), ws.write("app/src/main.py", "main")),
}


ENGINE = {"the base image", "the image is gone"}
"""Edits that a copy of the workspace does not keep to itself."""


def same_size_and_time(path, text):
    before = path.stat()
    path.write_text(text)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def linked(path, target):
    path.unlink()
    path.symlink_to(target)


def version(ws, text):
    path = ws.bin / "docker"
    path.write_text(path.read_text().replace("docker 1", text))


@pytest.mark.parametrize("edit", MUST_NOT)
def test_it_stays(ws, edit):
    MUST_NOT[edit](ws)
    assert expected(ws) == ("up to date", [])


@pytest.mark.parametrize("edit", MUST)
def test_it_is_built_again(ws, edit):
    reason, make = MUST[edit]
    make(ws)
    try:
        outcome, reasons = expected(ws)
    finally:
        if edit in ENGINE:
            docker("tag", f"{ws.image}-keep:1", f"{ws.image}:1")
            docker("tag", f"{ws.image}-keep:base", f"{ws.image}-base:1")
    assert outcome != "up to date"
    assert reason in reasons
