"""The whole shop, brought up by Compose: every service healthy, and one that asks another gets its answer."""

import os
import shutil
import subprocess
import urllib.request
import uuid
from pathlib import Path

import pytest

HERE = Path(__file__).parents[1]
PORTS = {"ORDERS_PORT": "", "RECOMMEND_PORT": "", "WEB_PORT": ""}
"""Empty: any free port, so that a shop that is up already is not in the way."""


def said(*words, **more):
    return subprocess.run(words, capture_output=True, text=True, check=False, **more)


def compose_command():
    for words in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(words[0]) and said(*words, "version").returncode == 0:
            return words
    return None


@pytest.fixture
def compose():
    """Runs `compose WORDS…` for a project of its own, which is taken down afterwards."""
    command = compose_command()
    if command is None:
        if os.environ.get("CI"):
            pytest.fail("neither docker compose nor docker-compose is here")
        pytest.skip("neither docker compose nor docker-compose is here")
    project = f"shop{uuid.uuid4().hex[:8]}"

    def compose(*words):
        done = said(*command, "-p", project, "-f", "compose.yaml", *words, cwd=HERE, env={**os.environ, **PORTS})
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    try:
        yield compose
    finally:
        compose("down", "--volumes", "--timeout", "1")


@pytest.mark.build_step("orders-image:image")
@pytest.mark.build_step("recommend-image:image")
@pytest.mark.build_step("web-image:image")
def test_the_shop_comes_up_and_recommends(compose):
    # Each waits until those that it depends on are healthy; the last of them is reached by its port.
    compose("up", "--detach")
    address = compose("port", "recommend", "8081")
    request = urllib.request.Request(f"http://{address}/recommendations", data=b"")
    with urllib.request.urlopen(request, timeout=30) as answer:  # it asks orders for the catalog
        assert answer.headers["Content-Type"] == "application/x-protobuf"
    assert compose("port", "web", "8080")
