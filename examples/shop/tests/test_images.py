"""The images, started: each container must say of itself that it is healthy."""

import json
import subprocess
import time

import pytest

PATIENCE = 60
"""Seconds for a service to start on a busy machine."""


def docker(*words):
    return subprocess.run(["docker", *words], check=True, capture_output=True, text=True).stdout.strip()


def is_healthy(container):
    """Whether it answers, as its HEALTHCHECK sees it; waits while it is starting."""
    for _ in range(PATIENCE * 10):
        state = json.loads(docker("inspect", "--format={{json .State}}", container))
        if state["Status"] != "running":
            return False
        if state["Health"]["Status"] != "starting":
            return state["Health"]["Status"] == "healthy"
        time.sleep(0.1)
    return False


@pytest.mark.parametrize(
    "image",
    [
        pytest.param("shop/orders:1", marks=pytest.mark.build_step("orders-image:image")),
        pytest.param("shop/recommend:1", marks=pytest.mark.build_step("recommend-image:image")),
        pytest.param("shop/web:1", marks=pytest.mark.build_step("web-image:image")),
    ],
)
def test_a_container_becomes_healthy(image):
    container = docker("run", "--detach", image)
    try:
        assert is_healthy(container), docker("logs", container)
    finally:
        docker("rm", "--force", "--volumes", container)
