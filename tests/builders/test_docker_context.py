"""Inputs are right: the files of a context, as the step declares them and as the docker command line really sends them."""

import json
import os
import shutil
import socketserver
import subprocess
import tarfile
import tempfile
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from build_tests.builders.docker import DockerBuilder

from build_tests.core.globs import Tree
from tests.engines import client_with_buildkit

FILES = json.loads((Path(__file__).parents[1] / "data/dockerignore.json").read_text())["paths"]

# Those that all releases of docker read alike; test_docker_ignore.py has the others.
IGNORES = {
    "none": "",
    "names": "node_modules\n*.log\n",
    "anywhere": "**/node_modules\n**/*.log\n",
    "slashes": "/docs/\n./dist/\nbuild//dist\n",
    "comments and spaces": "# *.txt\n  *.log  \n\t\n #hash\n",
    "the last one decides": "*.log\n!keep.log\nkeep.*\n!k*.log\n",
    "all, then a few": "*\n!src\n!docs/*.md\n",
    "all below, then a few": "**\n!src/deep\n",
    "a folder but for one file": "src/**\n!src/deep/c.ts\n",
    "a folder let in and narrowed again": "*\n!src\nsrc/deep\n!src/deep/keep.log\n",
    "stars in the middle": "packages/**/src\ntmp/**/3\n",
    "one character": "?.txt\ntmp/?\n",
    "sets": "[a-c].*\n[^a-z]*\n",
    "a set with an exclamation mark": "[!a]odd\n[!a].txt\n",
    "escapes": "\\[id].tsx\n\\!odd\nit's.txt\n",
    "the Dockerfile and itself": "Dockerfile\n.dockerignore\n*.md\n",
    "hidden ones": ".*\n",
    "nowhere": "../a.txt\n.\n/\n",
    "mark and returns": "\ufeff*.log\r\n!keep.log\r\n",
    "a form feed is no line": "a.txt\x0cb.log\n",
}


class Recorder(BaseHTTPRequestHandler):
    """As much of an engine as `docker build` needs to send its context."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer(b'{"ApiVersion": "1.41", "Version": "20.10", "Os": "linux", "MinAPIVersion": "1.12"}')

    do_HEAD = do_GET  # noqa: N815 - the library's name

    def do_POST(self):
        with tempfile.TemporaryFile() as file:
            while size := int(self.rfile.readline(), 16):
                file.write(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            file.seek(0)
            with tarfile.open(fileobj=file) as tar:
                self.server.sent.append(sorted(m.name for m in tar if not m.isdir()))
        self.answer(b'{"stream": "ok"}')

    def answer(self, body):
        self.send_response(200)
        for name, value in (("Api-Version", "1.41"), ("OSType", "linux"), ("Content-Length", str(len(body)))):
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def address_string(self):
        return "socket"

    def log_message(self, *args):
        pass


@pytest.fixture
def engine():
    """An engine that builds nothing and remembers the names in each context that it is sent."""
    folder = tempfile.mkdtemp()
    with socketserver.ThreadingUnixStreamServer(f"{folder}/s", Recorder) as server:
        server.sent = []
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        server.host = f"unix://{folder}/s"
        yield server
        server.shutdown()
        thread.join()
    shutil.rmtree(folder)


@pytest.fixture
def context(tmp_path):
    """A folder `app` of many names, with a Dockerfile that takes all of it."""
    for name in FILES:
        (tmp_path / "app" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "app" / name).write_text(name)
    (tmp_path / "app/Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    return tmp_path / "app"


def declared(planned, root):
    step = planned(DockerBuilder, {})["image"]
    return sorted(path.removeprefix("app/") for path in Tree(str(root)).select(step.inputs))


@pytest.mark.real("docker")
@pytest.mark.parametrize("name", IGNORES)
def test_what_the_command_line_sends_is_what_the_step_declares(planned, context, engine, tmp_path, name):
    (context / ".dockerignore").write_text(IGNORES[name], newline="")
    env = {**os.environ, "DOCKER_HOST": engine.host, "DOCKER_BUILDKIT": "0"}
    done = subprocess.run(["docker", "build", "."], cwd=context, env=env, capture_output=True, text=True, check=False)
    assert len(engine.sent) == 1, done.stderr
    # Sent because they are read in any case; ignored ones are taken out again before COPY sees them.
    assert set(declared(planned, tmp_path)) == {*engine.sent[0], "Dockerfile", ".dockerignore"}


@pytest.mark.real("docker")
def test_buildkit_takes_what_the_step_declares(planned, context, tmp_path):
    """What is in the image, as BuildKit of the real engine copied it."""
    (context / "Dockerfile.dockerignore").write_text("*\n!src\n!docs\nsrc/deep\n!src/deep/c.ts\n**/*.log\n")
    (context / ".dockerignore").write_text("src\n")
    command = [client_with_buildkit(), "build", "--output=type=tar,dest=../out.tar", "."]
    env = {**os.environ, "DOCKER_BUILDKIT": "1"}
    done = subprocess.run(command, cwd=context, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with tarfile.open(tmp_path / "out.tar") as tar:
        taken = {member.name for member in tar if not member.isdir()}
    assert len(taken) == 6
    assert set(declared(planned, tmp_path)) == {*taken, "Dockerfile", "Dockerfile.dockerignore"}
