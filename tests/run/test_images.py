"""The container engine: reached, absent, silent, babbling; and what an image's identity is made of."""

import contextlib
import copy
import json
import os
import shutil
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

import pytest

from build_tests.run import images
from build_tests.run.images import Engine, Unavailable, identity_of

BUSYBOX = {
    "Id": "sha256:1111",
    "Created": "2026-01-01T00:00:00Z",
    "Architecture": "amd64",
    "Os": "linux",
    "Container": "4711",
    "Config": {
        "Hostname": "4711",
        "Env": ["PATH=/bin"],
        "Cmd": ["httpd", "-f"],
        "Entrypoint": None,
        "Labels": {},
        "WorkingDir": "",
        "ExposedPorts": {"8080/tcp": {}},
    },
    "RootFS": {"Type": "layers", "Layers": ["sha256:aaaa", "sha256:bbbb"]},
}


class FakeEngine(BaseHTTPRequestHandler):
    """As much of the engine's API as we use."""

    def do_GET(self):
        path = self.path.partition("/v1.41")[2] or self.path
        if path == "/version":
            return self.answer(200, {"ApiVersion": "1.41"})
        name = path.removeprefix("/images/").removesuffix("/json")
        if name == "shop/web:1":
            return self.answer(200, BUSYBOX)
        return self.answer(404, {"message": f"No such image: {name}"})

    def answer(self, status, data):
        body = json.dumps(data).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self):
        return "socket"

    def log_message(self, *args):
        pass


class Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = False


@contextmanager
def serving(handler):
    """A server on a Unix socket of its own; gives its DOCKER_HOST. (A short path: sockets allow 107 characters.)"""
    folder = tempfile.mkdtemp()
    server = Server(os.path.join(folder, "s"), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"unix://{folder}/s"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        shutil.rmtree(folder)


def connected(host):
    engine = Engine.connect({"DOCKER_HOST": host})
    assert isinstance(engine, Engine), engine
    return engine


def test_an_engine_tells_what_its_images_are():
    with serving(FakeEngine) as host:
        engine = connected(host)
        assert engine.identities(["shop/web:1", "shop/none:1"]) == {
            "shop/web:1": identity_of(BUSYBOX),
            "shop/none:1": None,
        }
        assert engine.problem == ""


def test_an_engine_that_goes_away_is_no_exception_but_says_so():
    with serving(FakeEngine) as host:
        engine = connected(host)
    assert engine.identities(["shop/web:1"]) == {"shop/web:1": None}
    assert "can't be reached: No such file or directory" in engine.problem


def test_an_engine_that_errs_is_told_from_an_image_that_is_absent():
    class Erring(FakeEngine):
        def answer(self, status, data):
            super().answer(500 if status == 404 else status, data)

    with serving(Erring) as host:
        engine = connected(host)
        assert engine.identities(["shop/none:1"]) == {"shop/none:1": None}
        assert "500 Server Error" in engine.problem


def test_without_a_socket_the_engine_is_unavailable():
    answer = Engine.connect({"DOCKER_HOST": "unix:///nowhere/docker.sock"})
    assert isinstance(answer, Unavailable)
    assert answer.reason == "at unix:///nowhere/docker.sock can't be reached: No such file or directory"
    assert "DOCKER_HOST" in answer.hint


def test_a_closed_port_is_refused():
    with socketserver.TCPServer(("127.0.0.1", 0), FakeEngine) as server:
        port = server.server_address[1]
    answer = Engine.connect({"DOCKER_HOST": f"tcp://127.0.0.1:{port}"})
    assert isinstance(answer, Unavailable)
    assert "Connection refused" in answer.reason


def test_an_engine_that_accepts_and_then_is_silent_does_not_hold_us_up(monkeypatch):
    monkeypatch.setattr(images, "CONNECT_SECONDS", 0.2)
    released = threading.Event()

    class Silent(FakeEngine):
        def handle(self):
            released.wait()

    with serving(Silent) as host:
        try:
            answer = Engine.connect({"DOCKER_HOST": host})
        finally:
            released.set()
    assert isinstance(answer, Unavailable)
    assert "0.2" in answer.reason or "timed out" in answer.reason


def test_an_address_that_swallows_everything_does_not_hold_us_up(monkeypatch):
    """A port whose queue is full drops what is sent to it, as a firewall does."""
    monkeypatch.setattr(images, "KNOCK_SECONDS", 0.1)
    monkeypatch.setattr(images, "CONNECT_SECONDS", 60)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        address = listener.getsockname()
        waiting = [socket.create_connection(address)]
        with contextlib.suppress(OSError):
            while len(waiting) < 20:
                waiting.append(socket.create_connection(address, timeout=0.1))
        answer = Engine.connect({"DOCKER_HOST": f"tcp://127.0.0.1:{address[1]}"})
        for connection in waiting:
            connection.close()
    assert answer == Unavailable(reason=f"at tcp://127.0.0.1:{address[1]} can't be reached: timed out")


def test_an_engine_that_trickles_does_not_hold_us_up(monkeypatch):
    """Every byte resets the HTTP client's own timeout."""
    monkeypatch.setattr(images, "CONNECT_SECONDS", 0.3)
    released = threading.Event()

    class Trickling(FakeEngine):
        def handle(self):
            self.request.sendall(b"HTTP/1.1 200 OK\r\nX: ")
            while not released.wait(0.05):
                self.request.sendall(b"x")

    with serving(Trickling) as host:
        try:
            answer = Engine.connect({"DOCKER_HOST": host})
        finally:
            released.set()
            _join_the_asking_thread()
    assert answer == Unavailable(reason=f"at {host} gave no answer within 0.3 s")


def _join_the_asking_thread():
    for thread in threading.enumerate():
        if thread.name == "container engine":
            thread.join()


@pytest.mark.parametrize("babble", [b"", b"\x00\xff\xfe garbage\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\nno json"])
def test_what_is_no_engine_is_unavailable(babble):
    class Babbling(FakeEngine):
        def handle(self):
            self.request.recv(1 << 16)
            self.request.sendall(babble)

    with serving(Babbling) as host:
        answer = Engine.connect({"DOCKER_HOST": host})
    assert isinstance(answer, Unavailable)
    assert "\n" not in answer.reason


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("garbage", "did not answer as an engine does"),
        ("ssh://somewhere", "ssh:// is not supported"),
    ],
)
def test_addresses_that_lead_nowhere(host, reason):
    answer = Engine.connect({"DOCKER_HOST": host})
    assert isinstance(answer, Unavailable)
    assert reason in answer.reason


def test_certificates_that_are_not_there_are_named():
    environ = {"DOCKER_HOST": "tcp://127.0.0.1:1", "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": "/nowhere"}
    answer = Engine.connect(environ)
    assert isinstance(answer, Unavailable)
    assert answer.reason.startswith("DOCKER_TLS_VERIFY, DOCKER_CERT_PATH: ")


def _context(home, name, host):
    import hashlib

    folder = home / ".docker" / "contexts" / "meta" / hashlib.sha256(name.encode()).hexdigest()
    folder.mkdir(parents=True)
    (folder / "meta.json").write_text(json.dumps({"Name": name, "Endpoints": {"docker": {"Host": host}}}))


def test_the_current_context_of_the_command_line_is_followed(tmp_path):
    with serving(FakeEngine) as host:
        _context(tmp_path, "lab", host)
        (tmp_path / ".docker" / "config.json").write_text('{"currentContext": "lab"}')
        engine = Engine.connect({"HOME": str(tmp_path)})
        assert isinstance(engine, Engine)
        assert engine.address == host


def test_the_environment_outweighs_the_current_context(tmp_path):
    with serving(FakeEngine) as host:
        _context(tmp_path, "lab", "unix:///nowhere")
        (tmp_path / ".docker" / "config.json").write_text('{"currentContext": "lab"}')
        engine = Engine.connect({"HOME": str(tmp_path), "DOCKER_HOST": host})
        assert isinstance(engine, Engine)


def test_an_unknown_context_is_named(tmp_path):
    answer = Engine.connect({"HOME": str(tmp_path), "DOCKER_CONTEXT": "gone"})
    assert isinstance(answer, Unavailable)
    assert "'gone' is not defined" in answer.reason


def test_a_broken_settings_file_is_named(tmp_path):
    (tmp_path / ".docker").mkdir()
    (tmp_path / ".docker" / "config.json").write_text("{")
    answer = Engine.connect({"HOME": str(tmp_path)})
    assert isinstance(answer, Unavailable)
    assert "config.json can't be read" in answer.reason


def _changed(**config):
    other = copy.deepcopy(BUSYBOX)
    other["Config"].update(config)
    return other


@pytest.mark.parametrize(
    "other",
    [
        {**BUSYBOX, "Id": "sha256:2222", "Created": "2027-01-01T00:00:00Z", "Container": "", "RepoTags": ["x:1"]},
        _changed(Hostname="0815", Image="sha256:3333"),
        _changed(Entrypoint=[], Labels=None, Volumes=None),
    ],
)
def test_times_ids_and_ways_to_say_nothing_are_not_part_of_the_identity(other):
    assert identity_of(other) == identity_of(BUSYBOX)


@pytest.mark.parametrize(
    "other",
    [
        {**BUSYBOX, "RootFS": {"Type": "layers", "Layers": ["sha256:aaaa"]}},
        {**BUSYBOX, "Architecture": "arm64"},
        _changed(Env=["PATH=/bin", "MODE=prod"]),
        _changed(Cmd=["httpd"]),
        _changed(Entrypoint=["/bin/sh"]),
        _changed(WorkingDir="/srv"),
        _changed(User="nobody"),
        _changed(ExposedPorts={"80/tcp": {}}),
        _changed(Labels={"version": "2"}),
        _changed(Healthcheck={"Test": ["CMD", "true"]}),
        _changed(Volumes={"/data": {}}),
        _changed(StopSignal="SIGQUIT"),
    ],
)
def test_what_a_container_can_notice_is_part_of_the_identity(other):
    assert identity_of(other) != identity_of(BUSYBOX)


def test_importing_this_module_does_not_import_the_sdk():
    code = "import sys, build_tests.run.images; print('docker' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "False"


@pytest.fixture
def real_engine():
    engine = Engine.connect(os.environ)
    if isinstance(engine, Unavailable):
        if os.environ.get("CI"):
            pytest.fail(engine.reason)
        pytest.skip(engine.reason)
    return engine


@pytest.mark.real
def test_a_real_image_keeps_its_identity_when_it_is_made_again(real_engine, tmp_path):
    def make(text):
        (tmp_path / "hello").write_text(text)
        os.utime(tmp_path / "hello", (0, 0))
        (tmp_path / "Dockerfile").write_text('FROM scratch\nLABEL pytest-build-test=1\nCOPY hello /hello\nCMD ["/hello"]\n')
        command = ["docker", "build", "--no-cache", "--tag", name, str(tmp_path)]
        subprocess.run(command, check=True, capture_output=True)
        return real_engine.identities([name])[name]

    name = f"pytest-build-test/hello:{os.getpid()}"
    try:
        first = make("hello")
        assert first is not None
        assert first.startswith("sha256:")
        assert make("hello") == first
        assert make("goodbye") != first
    finally:
        subprocess.run(["docker", "image", "rm", "--force", name], check=True, capture_output=True)
        prune = ["docker", "image", "prune", "--force", "--filter=label=pytest-build-test"]
        subprocess.run(prune, check=True, capture_output=True)
    assert real_engine.identities([name]) == {name: None}
