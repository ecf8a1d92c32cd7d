"""Images as outputs of steps, with the real engine: gone, replaced, pulled meanwhile; and an engine that is not there."""

import subprocess
import uuid

import pytest

from build_tests.testing import Outcome
from tests.engines import client_with_buildkit


def docker(*words, stdin=None):
    done = subprocess.run(["docker", *words], input=stdin, check=True, capture_output=True)
    return done.stdout.decode().strip()


@pytest.fixture
def name():
    """The name of an image that no other test uses; it and what is called like it are removed."""
    name = f"pytest-build-test/{uuid.uuid4().hex[:12]}"
    yield name
    listed = docker("image", "ls", "--format={{.Repository}}:{{.Tag}}", f"--filter=reference={name}*").split()
    if listed:
        docker("image", "rm", "--force", *listed)


@pytest.fixture
def ws(build_workspace, name):
    """A workspace with one image of one file."""
    ws = build_workspace
    ws.components(app={"kind": "docker", "image": f"{name}:1"})
    ws.write("app/Dockerfile", "FROM scratch\nCOPY hello /\n")
    ws.write("app/hello", "hello")
    return ws


def reasons(result, label="app:image"):
    return [reason["kind"] for reason in result.steps[label].reasons]


@pytest.mark.real("docker")
def test_an_image_that_was_removed_or_replaced_is_built_again(ws, name):
    first = ws.build()
    assert first["app:image"] is Outcome.BUILT, first.output
    assert ws.build()["app:image"] is Outcome.FRESH
    docker("image", "rm", f"{name}:1")
    gone = ws.build("-v")
    assert reasons(gone) == ["image-missing"]
    assert f"image {name}:1 is not in the engine" in gone.output
    docker("import", "--change=LABEL made=elsewhere", "-", f"{name}:1", stdin=bytes(1024))
    other = ws.build("-v")
    assert reasons(other) == ["image-other"]
    assert "made elsewhere under the same tag" in other.output
    assert ws.build()["app:image"] is Outcome.FRESH


@pytest.mark.real("docker")
def test_a_base_image_that_docker_fetches_while_it_builds_does_not_make_the_next_build_run(ws, name):
    ws.write("app/Dockerfile", f"FROM {name}-base:1\nCOPY hello /\n")
    real = subprocess.run(["which", "docker"], check=True, capture_output=True, text=True).stdout.strip()
    # What a registry would give, which tests do not have.
    pull = f"head -c 1024 /dev/zero | {real} import - {name}-base:1"
    ws.tool("docker", f'case "$*" in *--tag*) {pull};; esac\nexec {real} "$@"')
    first = ws.build()
    assert first["app:image"] is Outcome.BUILT, first.output
    assert ws.build()["app:image"] is Outcome.FRESH
    docker("import", "--change=LABEL v=2", "-", f"{name}-base:1", stdin=bytes(1024))
    ws.tool("docker", f'exec {real} "$@"')
    again = ws.build()
    assert reasons(again)[-1] == "image", again.steps["app:image"].reasons


@pytest.mark.real("docker")
@pytest.mark.parametrize("buildkit", ["0", "1"])
def test_secrets_are_for_the_build_alone(ws, name, buildkit):
    """BuildKit hands them over; the classic builder would leave them out."""
    ws.components(app={"kind": "docker", "image": f"{name}:1", "secrets": {"token": "APP_TOKEN", "file": "./token"}})
    ws.write("app/Dockerfile", "FROM scratch\nCOPY hello /\n")
    ws.write("app/token", "a secret file")
    ws.environ |= {"DOCKER_BUILDKIT": buildkit, "APP_TOKEN": "s3cret-value"}
    if buildkit == "1":
        ws.tool("docker", f'exec {client_with_buildkit()} "$@"')
    result = ws.build()
    assert "s3cret-value" not in result.output
    if buildkit == "0":
        assert result["app:image"] is Outcome.FAILED
        assert "secrets: only BuildKit knows that" in result.output
    else:
        assert result["app:image"] is Outcome.BUILT, result.output
        assert "s3cret-value" not in docker("image", "history", "--no-trunc", f"{name}:1")


@pytest.mark.parametrize("host", ["unix:///nowhere/docker.sock", "tcp://127.0.0.1:1", "tcp://[::1]:1"])
def test_without_an_engine_an_image_is_unavailable_and_the_rest_is_built(ws, host):
    ws.tool("docker", "echo Docker version 1.0")
    ws.components(
        app={"kind": "docker"},
        files={"steps": {"copy": {"command": "cp ../in out", "inputs": ["//in"], "outputs": ["out"]}}},
    )
    ws.write("in", "x")
    ws.environ["DOCKER_HOST"] = host
    result = ws.build("-v")
    assert result.status == 0, result.output
    assert result["app:image"] is Outcome.UNAVAILABLE
    assert result["files:copy"] is Outcome.BUILT
    assert f"docker engine at {host} can't be reached" in result.steps["app:image"].message


def test_a_tools_own_memory_is_no_input(build_workspace):
    """Else what a tool wrote in one build would make the next one run."""
    ws = build_workspace
    ws.components(
        lib={"steps": {"make": {"command": "echo x >out; date +%N >.memory; mkdir -p .cache; date +%N >.cache/x", "outputs": ["out"], "state": [".memory", ".cache"]}}},
        all={"path": ".", "steps": {"list": {"command": "ls -A lib >list", "inputs": ["lib/*", "lib/.cache/"], "outputs": ["list"]}}},
    )  # fmt: skip
    ws.write("lib/source", "x")
    assert ws.build().status == 0
    assert set(ws.build().outcomes().values()) == {"fresh"}
