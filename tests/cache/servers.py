"""Servers of other people, as processes on free ports of this machine, for the tests of the stores.

A server that is not installed skips its tests on a laptop and fails them in CI.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

START_SECONDS = 60


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def need(name):
    """A server's binary, by its name on PATH."""
    path = shutil.which(name)
    if path is None:
        message = f"{name} is not installed"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    return path


class Server:
    """A process that listens on a port, or is made to."""

    def __init__(self, command, folder, port=None):
        self.command, self.folder = command, folder
        self.port = port or free_port()
        self.process = None

    def start(self):
        """Again on the same port after stop."""
        with open(os.path.join(self.folder, "log"), "ab") as log:
            self.process = subprocess.Popen(
                self.command(self.port), cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        end = time.monotonic() + START_SECONDS
        while not self._listens():
            if self.process.poll() is not None or time.monotonic() > end:
                self.stop()
                said = Path(self.folder, "log").read_text(encoding="utf-8", errors="replace")[-2000:]
                pytest.fail(f"{self.command(self.port)[0]} does not start: {said}")
            time.sleep(0.02)  # between looks; nothing depends on how long
        return self

    def _listens(self):
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return True
        return False

    def stop(self):
        self.process.kill()
        self.process.wait(START_SECONDS)


def redis_command(*more):
    binary = need("redis-server")

    def command(port):
        return [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", *more]

    return command


def versitygw_command(folder):
    binary = need("versitygw")
    for name in ("data", "side"):
        os.mkdir(os.path.join(folder, name))

    def command(port):
        data, side = (os.path.join(folder, name) for name in ("data", "side"))
        keys = ["--access", ACCESS, "--secret", SECRET]
        return [binary, *keys, "--port", f"127.0.0.1:{port}", "--quiet", "posix", "--sidecar", side, data]

    return command


# One request at a time: between moto's look at a condition and its write others would come.
MOTO = """
import sys, threading
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple
application, turn = DomainDispatcherApplication(create_backend_app), threading.Lock()
def one_at_a_time(environ, start_response):
    with turn:
        return [b"".join(application(environ, start_response))]
run_simple("127.0.0.1", int(sys.argv[1]), one_at_a_time, threaded=True)
"""


def moto_command(_):
    return lambda port: [sys.executable, "-c", MOTO, str(port)]


ACCESS, SECRET = "test-access", "test-secret-key"
BUCKET = "pytest-build-tests"
S3_SERVERS = {
    name: command
    for name, command in {"versitygw": versitygw_command, "moto": moto_command}.items()
    # CI says so where there is no Go that can build the gateway.
    if name in os.environ.get("S3_SERVERS", "versitygw moto").split()
}


def s3_client(port):
    """A client that does not go through our store."""
    import botocore.session
    from botocore.config import Config

    session = botocore.session.get_session()
    session.set_credentials(ACCESS, SECRET)
    config = Config(s3={"addressing_style": "path"}, request_checksum_calculation="when_required")
    return session.create_client("s3", "us-east-1", endpoint_url=f"http://127.0.0.1:{port}", config=config)
