"""Which container client a test takes."""

import os
import subprocess

import pytest


def client_with_buildkit():
    """The first docker on PATH that can build with BuildKit: Debian's has it inside, a newer one needs a component."""
    for folder in os.environ["PATH"].split(os.pathsep):
        client = os.path.join(folder, "docker")
        environ = {**os.environ, "DOCKER_BUILDKIT": "1"}
        if os.access(client, os.X_OK) and not subprocess.run([client, "build", "--help"], env=environ, capture_output=True, check=False).returncode:
            return client
    message = "no docker here has BuildKit"
    return pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
