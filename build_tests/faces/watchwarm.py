"""A process that has imported everything and forks for each job: a build begins at once, with nothing of the last.

The watching process itself can't fork: it has threads, and it must not import what an edit may change. This one has
neither. Spoken to in JSON lines over a socket; see `Warm` for its other end.

    {"id": 1, "do": "build", "argv": [...]}    →  {"id": 1, "pid": 123} … {"id": 1, "status": 0}
    {"id": 2, "do": "look", …, "into": PATH}   →  the same; the answer lies in the file
    {"id": 3, "do": "command", "argv": [...]}  →  the same; in a session of its own

At end of file it ends what it started, and itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

GRACE = 5.0
"""Seconds between SIGTERM and SIGKILL."""

NEEDED = (
    "xxhash", "yaml", "_pytest.stepwise", "build_tests.cache.local", "build_tests.cache.copying",
    "build_tests.cache.evict", "build_tests.cache.sweepstate", "build_tests.faces.watchinterest",
    "build_tests.run.exchange", "build_tests.run.git", "build_tests.run.junit", "build_tests.run.step",
    "build_tests.run.undeclared", "build_tests.session.controller", "build_tests.session.lane",
    "build_tests.session.live", "build_tests.session.progress", "build_tests.session.worker",
)  # fmt: skip
"""What a build that has something to do imports, beside pytest and its plugins."""


class Warm:
    """The other end. One thread; `fileno` is readable when there is news."""

    def __init__(self) -> None:
        self._ours, theirs = socket.socketpair()
        import subprocess

        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", "from build_tests.faces.watchwarm import serve; serve()", str(theirs.fileno())],
                pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL,
            )  # fmt: skip
        self._ours.setblocking(False)
        self._rest = b""
        self._last = 0

    def fileno(self) -> int:
        """For select."""
        return self._ours.fileno()

    def ask(self, do: str, **facts: Any) -> int:
        """Start a job; returns its number. That the process has ended is told by `news`."""
        self._last += 1
        self._ours.setblocking(True)
        with contextlib.suppress(ConnectionError):
            self._ours.sendall(json.dumps({"id": self._last, "do": do, **facts}).encode() + b"\n")
        self._ours.setblocking(False)
        return self._last

    def news(self) -> list[dict[str, Any]]:
        """What was said since the last time; None in it stands for the end. Never waits."""
        try:
            while data := self._ours.recv(65536):
                self._rest += data
            said: list[dict[str, Any]] = [{"id": 0, "gone": True}]
        except BlockingIOError:
            said = []
        except ConnectionError:
            said = [{"id": 0, "gone": True}]
        *lines, self._rest = self._rest.split(b"\n")
        return [json.loads(line) for line in lines] + said

    def close(self) -> None:
        """End it, and what it started."""
        import subprocess

        self._ours.close()
        try:
            self._process.wait(timeout=2 * GRACE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def serve() -> None:
    """The process itself; its argument is the descriptor of the socket."""
    connection = socket.socket(fileno=int(sys.argv[1]))
    # Ctrl-C reaches the whole group: who decides what it means is the watching process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _warm_up()
    _Server(connection).run()


class _Server:
    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._jobs: dict[int, int] = {}
        """pid → id."""
        self._sessions: set[int] = set()
        self._stamps = _stamps()
        self._woken, wake = os.pipe()
        for descriptor in (self._woken, wake):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(wake)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def run(self) -> None:
        rest = b""
        while True:
            ready, _, _ = select.select([self._connection.fileno(), self._woken], [], [])
            if self._woken in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._woken, 4096)
                self._reap()
            if self._connection.fileno() in ready:
                data = self._connection.recv(65536)
                if not data:
                    self._end()
                    return
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    self._start(json.loads(line))

    def _start(self, job: dict[str, Any]) -> None:
        pid = os.fork()
        if not pid:
            self._become(job)
        self._jobs[pid] = job["id"]
        if job["do"] == "command":
            self._sessions.add(pid)
        self._say(id=job["id"], pid=pid)

    def _become(self, job: dict[str, Any]) -> None:
        """The child: does the job, and never comes back."""
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            self._connection.close()
            os.close(self._woken)
            status = _JOBS[job["do"]](job, fresh=_stamps() == self._stamps)
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else 1
        except KeyboardInterrupt:
            status = 2
        except BaseException:  # noqa: BLE001 - the child must not go on as its parent
            sys.excepthook(*sys.exc_info())
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status)

    def _reap(self) -> None:
        while self._jobs:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            self._sessions.discard(pid)
            self._say(id=self._jobs.pop(pid, 0), status=os.waitstatus_to_exitcode(status))

    def _say(self, **news: Any) -> None:
        with contextlib.suppress(OSError):
            self._connection.sendall(json.dumps(news).encode() + b"\n")

    def _end(self) -> None:
        """The watching process is gone: nobody stays."""
        for how in (signal.SIGTERM, signal.SIGKILL):
            for pid in self._jobs:
                with contextlib.suppress(OSError):
                    (os.killpg if pid in self._sessions else os.kill)(pid, how)
            end = _now() + GRACE
            while self._jobs and _now() < end:
                select.select([self._woken], [], [], 0.05)
                with contextlib.suppress(BlockingIOError):
                    os.read(self._woken, 4096)
                self._reap()


def _now() -> float:
    import time

    return time.monotonic()


def _build(job: dict[str, Any], *, fresh: bool) -> int:
    """pytest, with these arguments. With modules that were edited meanwhile, a process of its own."""
    from build_tests.run.process import die_with_parent

    die_with_parent()
    if not fresh:
        os.execv(sys.executable, [sys.executable, "-m", "pytest", *job["argv"]])  # noqa: S606 - as every step is
    import pytest

    return int(pytest.main(job["argv"]))


def _look(job: dict[str, Any], *, fresh: bool) -> int:
    """The build file, into a file."""
    from build_tests.run.process import die_with_parent

    die_with_parent()
    if not fresh:
        code = "import json, sys; from build_tests.faces.watchwarm import answer; answer(json.loads(sys.argv[1]))"
        os.execv(sys.executable, [sys.executable, "-c", code, json.dumps(job)])  # noqa: S606
    answer(job)
    return 0


def answer(job: dict[str, Any]) -> None:
    """Look, and write what was found, or what is wrong."""
    from build_tests.core.errors import BuildError
    from build_tests.faces.watchinterest import look

    try:
        found = look(job["file"], job["target"], job["environment"])
    except BuildError as error:
        found = {"error": str(error)}
    with open(job["into"], "w", encoding="utf-8") as file:
        json.dump(found, file)


def _command(job: dict[str, Any], *, fresh: bool) -> int:  # noqa: ARG001 - it is a process of its own anyway
    """A program that goes on, in a session of its own, so that all of it can be ended."""
    from build_tests.run.process import die_with_parent

    os.setsid()
    die_with_parent()
    try:
        os.execvp(job["argv"][0], job["argv"])  # noqa: S606
    except OSError as error:
        print(f"watch: {job['argv'][0]}: {error.strerror}", file=sys.stderr)
    return 127


def _face(job: dict[str, Any], *, fresh: bool) -> int:  # noqa: ARG001 - reads only
    """Another command of ours."""
    from build_tests.faces.cli import main
    from build_tests.run.process import die_with_parent

    die_with_parent()
    return main(job["argv"])


_JOBS: dict[str, Callable[..., int]] = {"build": _build, "look": _look, "command": _command, "face": _face}


def _warm_up() -> None:
    """Import what a build needs. pytest's plugins are imported by pytest itself, in a session with nothing in it.

    Nothing of the repository is imported: neither its conftest nor its builders.
    """
    import gc
    import importlib
    import tempfile

    import pytest

    for name in NEEDED:
        importlib.import_module(name)
    kept = {name: os.environ.pop(name) for name in ("PYTEST_ADDOPTS", "PYTEST_PLUGINS") if name in os.environ}
    with tempfile.TemporaryDirectory() as folder:
        here, out = os.getcwd(), os.dup(1)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        ini = os.path.join(folder, "pytest.ini")
        with open(ini, "w", encoding="utf-8") as file:
            file.write("[pytest]\n")
        os.chdir(folder)
        os.dup2(nowhere, 1)
        try:
            # rerunfailures would leave a thread behind, and a process with threads is no good one to fork.
            without = ["-p", "no:cacheprovider", "-p", "no:rerunfailures"]
            pytest.main(["-q", *without, "--rootdir", folder, "-c", ini, folder])
        finally:
            sys.stdout.flush()
            os.dup2(out, 1)
            os.close(out)
            os.close(nowhere)
            os.chdir(here)
    os.environ.update(kept)
    gc.collect()
    # Shared with every child, as long as nobody writes to it.
    gc.freeze()


def _stamps() -> dict[str, tuple[int, int]]:
    """Every module that was imported from elsewhere than the installation, as its file is now."""
    installed = tuple({sys.prefix, sys.base_prefix, os.path.dirname(os.__file__)})
    found = {}
    for module in list(sys.modules.values()):
        path = getattr(module, "__file__", None)
        if path and not path.startswith(installed):
            try:
                stat = os.stat(path)
            except OSError:
                found[path] = (0, 0)
            else:
                found[path] = (stat.st_mtime_ns, stat.st_size)
    return found
