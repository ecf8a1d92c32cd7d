"""Runs tools: one command in, one `Completed` out, and nobody left behind. Knows no step, no cache and no pytest.

`Guardian` is the worker's end of the wire to `guardian.py`, a small process that starts the tools and ends them, also
when this process is killed. What a tool does is a value (`Completed`), never an exception; `describe` puts it in words.
"""

from __future__ import annotations

import errno
import marshal
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

GUARDIAN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "guardian.py")
CLOSE_SECONDS = 8.0
"""More than a guardian needs to end everything below it (4 s to SIGKILL, 2 s for those who hang in the kernel)."""

ErrorKind = Literal[
    "missing",
    "not_executable",
    "wrong_architecture",
    "missing_interpreter",
    "no_folder",
    "argument_list_too_long",
    "os",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One call of a tool.

    `argv[0]` without a slash is looked up in the PATH of `env`; with one it is relative to `cwd`.
    """

    argv: tuple[str, ...]
    cwd: str
    env: Mapping[str, str]
    """All of it: nothing of this process's environment is added."""
    log: str
    """Both output streams are appended to this file, whose folder must exist."""
    timeout: float | None = None
    """Seconds."""
    secrets: tuple[str, ...] = ()
    """Values that stand as `***` in the log."""
    daemons: tuple[str, ...] = ()
    """Texts; what outlives the tool and has one in its command line is left alone."""
    grace: float = 5.0
    """Seconds from SIGTERM to SIGKILL."""
    tracer: tuple[str, ...] = ()
    """What stands in front of `argv` to trace it: a program by its real path, which detaches itself, and its words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecError:
    """Why a tool could not be started, in words for the user."""

    kind: ErrorKind
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """How a command ended."""

    exit: int | None = None
    """The exit status; None when it was killed or never ran."""
    signal: int | None = None
    """What killed it."""
    started: float = 0.0
    """Seconds since the epoch."""
    ended: float = 0.0
    seconds: float = 0.0
    """By a clock that does not jump."""
    cpu_seconds: float = 0.0
    """Of the tool and of all below it that have ended."""
    max_rss_bytes: int = 0
    """Of the largest single process; at least that of the small process it was forked from."""
    timed_out: bool = False
    cancelled: bool = False
    leftovers: tuple[str, ...] = ()
    """Command lines of processes that the tool left running, and that were ended."""
    daemons: tuple[tuple[int, str], ...] = ()
    """(pid, declared name) of those that were left alone."""
    error: ExecError | None = None
    write_error: str = ""
    """The log can't be written: its name and the reason. The tool may have run."""
    died: str = ""
    """The guardian itself ended while the command ran: how. Its tools have ended with it."""

    @property
    def ok(self) -> bool:
        """Whether it ran to its end with status 0 and its log is whole."""
        spoiled = self.timed_out or self.cancelled or self.error or self.write_error or self.died
        return self.exit == 0 and not spoiled


class Guardian:
    """Runs commands, one at a time, through a guardian process that is started with the first one.

    The process ends with `close`, with this object, with the interpreter, or with its SIGKILL; whatever it still runs
    then is ended within five seconds.
    """

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._child: _Child | None = None
        self._number = 0
        self._running = 0
        self._cancelled = 0

    @property
    def pid(self) -> int | None:
        """The guardian process, if there is one."""
        return self._child.pid if self._child else None

    def run(self, command: Command) -> Completed:
        """Run it and wait. Never hangs on a guardian that was killed: that is a `Completed` with `died`.

        An exception that comes in here while waiting (KeyboardInterrupt …) ends the tool before it goes on.
        """
        with self._turn:
            self._number += 1
            try:
                frame = _frame(command, self._number)
            except (ValueError, TypeError) as error:
                return Completed(error=ExecError(kind="os", message=f"{_shown(command.argv)}: {error}"))
            self._running = self._number
            try:
                return _completed(self._ask(frame, command.grace), command)
            finally:
                self._running = 0

    def cancel(self) -> None:
        """End the command that runs now, if one does: SIGTERM, its grace, SIGKILL. From any thread or signal handler.

        Does not wait: `run` returns when all is over, with `cancelled`.
        """
        self._cancelled, child = self._running, self._child
        if child and self._cancelled:
            child.cancel(self._cancelled)

    def close(self) -> None:
        """End the guardian and whatever it runs, and wait for it. The next `run` starts another one."""
        child, self._child = self._child, None
        if child:
            child.close()

    def _ask(self, frame: bytes, grace: float) -> dict[str, Any]:
        try:
            child = self._ready()
            child.send(frame)
            if self._cancelled == self._running:
                child.cancel(self._running)
            return child.receive()
        except OSError as error:
            return {"died": self._bury() or str(error)}
        except EOFError:
            return {"died": self._bury()}
        except BaseException:
            self._interrupt(grace)
            raise

    def _ready(self) -> _Child:
        if self._child and self._child.gone():
            self.close()
        if not self._child:
            self._child = child = _Child()
            # Also at the interpreter's exit.
            weakref.finalize(self, child.close)
        return self._child

    def _bury(self) -> str:
        child = self._child
        self.close()
        if not child:
            return ""
        _end_session(child.last)
        return child.epitaph()

    def _interrupt(self, grace: float) -> None:
        # In the end the process is closed and not used again: what has been read of its answer may be lost. A second
        # interrupt while we wait leaves out the rest of the grace.
        self.cancel()
        try:
            if self._child:
                self._child.settle(grace + CLOSE_SECONDS)
        finally:
            self.close()


class _Child:
    """A guardian process and our ends of its wires."""

    def __init__(self) -> None:
        self._socket, socket_end = socket.socketpair()
        self._cancel, cancel_end = socket.socketpair()
        self._owner = os.getpid()
        self.last = 0
        """The session of the tool that was started last."""
        with socket_end, cancel_end:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", GUARDIAN, str(cancel_end.fileno())],
                stdin=socket_end.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[cancel_end.fileno()],
                start_new_session=True,
            )
        self._cancel.setblocking(False)
        _children.add(self)

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, frame: bytes) -> None:
        self._socket.sendall(frame)

    def receive(self) -> dict[str, Any]:
        """The next answer. Raises EOFError when the process is gone."""
        size = int.from_bytes(self._read(4), "big")
        answer: dict[str, Any] = marshal.loads(self._read(size))  # noqa: S302 - the other end is our own child
        self._hear()
        return answer

    def _hear(self) -> None:
        """Take in which tool was started: its pid in eight bytes."""
        with suppress(OSError):
            if data := self._cancel.recv(4096):
                self.last = int.from_bytes(data[-8:], "big")

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            chunk = self._socket.recv(size - len(data))
            if not chunk:
                raise EOFError
            data += chunk
        return data

    def cancel(self, number: int) -> None:
        # A wire of its own: a signal handler may come between two halves of a request. A guardian that is gone, or
        # that has not read a hundred of these, needs no other.
        with suppress(OSError):
            self._cancel.send(number.to_bytes(8, "big"))

    def gone(self) -> bool:
        """Whether it has ended; between commands it has nothing to say, so there is only end of file to be read."""
        return self.settle(0)

    def settle(self, seconds: float) -> bool:
        """Wait until there is something to be read, an answer or end of file; whether there was."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def close(self) -> None:
        """End of file for the guardian, then wait for it. Does nothing the second time, or in a forked process."""
        if self._owner != os.getpid() or self._socket.fileno() < 0:
            return
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._hear()
        self._cancel.close()
        try:
            self._process.wait(CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def forget(self) -> None:
        """In a forked process: our copies of the wires would keep the guardian from seeing its worker's end."""
        self._socket.close()
        self._cancel.close()

    def epitaph(self) -> str:
        """How it ended."""
        code = self._process.poll()
        if code is None:
            return ""
        return f"killed by {_signal_name(-code)}" if code < 0 else _status(code)


_children: weakref.WeakSet[_Child] = weakref.WeakSet()


def _forget_children() -> None:
    for child in list(_children):
        child.forget()


os.register_at_fork(after_in_child=_forget_children)


def _end_session(leader: int) -> None:
    """SIGKILL to what is left of a tool's session, where there is a /proc: both its guardians were killed."""
    for name in os.listdir("/proc") if leader and os.path.isdir("/proc/self") else ():
        with suppress(OSError, ValueError):
            if name.isdigit() and os.getsid(int(name)) == leader:
                os.kill(int(name), signal.SIGKILL)


def _frame(command: Command, number: int) -> bytes:
    """The request as bytes. Raises ValueError for what no process can be given (a NUL, a lone surrogate)."""
    if not command.argv:
        raise ValueError("the command is empty")
    body = marshal.dumps(
        {
            "number": number,
            "argv": [os.fsencode(word) for word in command.argv],
            "cwd": os.fsencode(os.path.abspath(command.cwd)),
            "env": {os.fsencode(name): os.fsencode(value) for name, value in command.env.items()},
            "log": os.fsencode(os.path.abspath(command.log)),
            "timeout": command.timeout,
            "secrets": [os.fsencode(value) for value in command.secrets],
            "daemons": list(command.daemons),
            "grace": command.grace,
            "tracer": [os.fsencode(word) for word in command.tracer],
        }
    )
    return len(body).to_bytes(4, "big") + body


def _completed(answer: dict[str, Any], command: Command) -> Completed:
    if "died" in answer:
        return Completed(died=answer["died"] or "for an unknown reason", ended=time.time())
    failure, write_error = answer.pop("error", None), answer.pop("write_error", 0)
    answer |= {name: tuple(answer[name]) for name in ("leftovers", "daemons") if name in answer}
    return Completed(
        **answer,
        error=_exec_error(failure, command) if failure else None,
        write_error=f"{command.log}: {os.strerror(write_error)}" if write_error else "",
    )


def _exec_error(failure: tuple[str, int, str], command: Command) -> ExecError:
    """What the guardian could not do, in words. `path` is relative to the command's folder, or a message."""
    (stage, number, path), tool = failure, command.argv[0]
    if stage == "folder":
        return ExecError(kind="no_folder", message=_folder_message(command.cwd, number))
    if stage == "exec" and number == errno.E2BIG:
        return ExecError(kind="argument_list_too_long", message=_size_message(command))
    if stage == "exec" and number in _PROGRAM_ERRORS:
        return _PROGRAM_ERRORS[number](tool, os.path.join(command.cwd, path))
    return ExecError(kind="os", message=f"{tool}: {os.strerror(number) if number else path}")


def _folder_message(folder: str, number: int) -> str:
    if number == errno.ENOENT:
        return f"folder {folder} does not exist"
    if number == errno.ENOTDIR:
        return f"{folder} is not a folder"
    return f"folder {folder}: {os.strerror(number)}"


def _not_found(tool: str, path: str) -> ExecError:
    if os.path.isfile(path) and ("/" in tool or os.path.basename(path) != path):
        interpreter = _interpreter(path)
        needs = f"its interpreter {interpreter}" if interpreter else "the loader or interpreter it needs"
        return ExecError(kind="missing_interpreter", message=f"{tool}: {needs} is not there")
    if "/" in tool:
        return ExecError(kind="missing", message=f"{tool}: no such file")
    return ExecError(kind="missing", message=f"{tool}: command not found — is it installed, and in a folder of PATH?")


def _interpreter(path: str) -> str:
    with suppress(OSError), open(path, "rb") as file:
        line = file.readline(256)
        if line.startswith(b"#!"):
            return line[2:].decode("utf-8", "replace").strip()
    return ""


def _no_access(tool: str, path: str) -> ExecError:
    why = "not executable (permission denied)"
    if os.path.isdir(path):
        why = "is a folder, not a program"
    elif os.path.isfile(path) and not os.access(path, os.X_OK):
        why = f"not executable (chmod +x {tool if '/' in tool else path})"
    return ExecError(kind="not_executable", message=f"{tool}: {why}")


def _no_format(tool: str, path: str) -> ExecError:
    with suppress(OSError), open(path, "rb") as file:
        if file.read(4) in _BINARY_MAGIC:
            message = f"{tool}: wrong architecture: a program, but not for this machine ({os.uname().machine})"
            return ExecError(kind="wrong_architecture", message=message)
    return ExecError(kind="not_executable", message=f"{tool}: neither a program nor a script with a #! line")


_PROGRAM_ERRORS = {
    errno.ENOENT: _not_found,
    errno.ENOTDIR: _not_found,
    errno.EACCES: _no_access,
    errno.ENOEXEC: _no_format,
}

_BINARY_MAGIC = (
    b"\x7fELF",
    b"\xfe\xed\xfa\xce",
    b"\xfe\xed\xfa\xcf",
    b"\xce\xfa\xed\xfe",
    b"\xcf\xfa\xed\xfe",
    b"\xca\xfe\xba\xbe",
    b"MZ\x90\x00",
)


def _size_message(command: Command) -> str:
    words = sum(len(os.fsencode(word)) + 1 for word in command.argv)
    variables = sum(len(os.fsencode(name + value)) + 2 for name, value in command.env.items())
    limit = os.sysconf("SC_ARG_MAX")
    return (
        f"{command.argv[0]}: argument list too long: {words:,} bytes of arguments and {variables:,} of environment; "
        f"this system takes {limit:,} in all and less for a single one (pass a file instead)"
    )


def describe(completed: Completed, command: Command) -> str:
    """How the command ended, in one line for the user, such as `exit status 3`."""
    if completed.died:
        return f"the process that guards the tools died ({completed.died}), and its tool with it"
    if completed.error:
        return completed.error.message
    ending = _ending(completed, command)
    if completed.write_error:
        log = f"the log can't be written: {completed.write_error}"
        return log if completed.exit in (0, None) and not completed.signal else f"{ending}; {log}"
    return ending


def _ending(completed: Completed, command: Command) -> str:
    if completed.timed_out:
        return f"timed out after {_duration(command.timeout or 0.0)}"
    if completed.cancelled:
        return "cancelled"
    if completed.signal is not None:
        return f"killed by {_signal_name(completed.signal)}"
    return _status(completed.exit or 0)


def _status(status: int) -> str:
    # Above 128 it is a shell's way to say that its last command was killed.
    number = status - _SHELL_KILLED
    by = f" (killed by {_signal_name(number)})" if 0 < number <= signal.SIGTERM else ""
    return f"exit status {status}{by}"


_SHELL_KILLED = 128


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


_MINUTE = 60


def _duration(seconds: float) -> str:
    """`10m`, `1h 30m`, `2.5s`."""
    if seconds < _MINUTE:
        return f"{seconds:g}s"
    whole = round(seconds)
    parts = ((whole // 3600, "h"), (whole // 60 % 60, "m"), (whole % 60, "s"))
    return " ".join(f"{count}{unit}" for count, unit in parts if count)


def _shown(argv: tuple[str, ...]) -> str:
    return argv[0].encode("utf-8", "replace").decode() if argv else "command"


_PASSED = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "TMPDIR"),
        *("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "ALL_PROXY", "NO_PROXY"),
        *("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"),
        *("GIT_SSL_CAINFO", "GIT_SSL_CAPATH", "PIP_CERT", "AWS_CA_BUNDLE", "CARGO_HTTP_CAINFO"),
    }
)
"""Where a machine keeps things and how it reaches the network: passed to every step, part of no key."""
_SET = {"LANG": "C.UTF-8", "TZ": "UTC"}


def strict_environment(
    step_env: Mapping[str, str],
    *,
    pass_env: Iterable[str],
    network_env: Iterable[str],
    secrets: Iterable[str],
    caller: Mapping[str, str],
) -> dict[str, str]:
    """The whole environment of a step, sorted by name; what no rule names is absent.

    Args:
        step_env: the step's declared `env`; it wins over everything.
        pass_env: names to take from the caller.
        network_env: patterns (`PIP_*`) of names to take from the caller.
        secrets: names to take from the caller.
        caller: this process's environment.
    """
    names = {*pass_env, *secrets}
    patterns = tuple(network_env)
    taken = {
        name: value
        for name, value in caller.items()
        if name in _PASSED or name in names or any(fnmatchcase(name, pattern) for pattern in patterns)
    }
    defaults = {name: value for name, value in _SET.items() if name not in names}
    return dict(sorted({**taken, **defaults, **step_env}.items()))


def die_with_parent(parent: int | None = None) -> None:
    """Have the kernel kill this process when its parent ends, however that ends. Does nothing where Linux is not.

    Args:
        parent: the parent's pid as it told us, by which we notice that it ended before this call.
    """
    if sys.platform != "linux":
        return
    import ctypes

    before = os.getppid() if parent is None else parent
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != before:
        os.kill(os.getpid(), signal.SIGKILL)


__all__ = [
    "Command",
    "Completed",
    "ErrorKind",
    "ExecError",
    "Guardian",
    "describe",
    "die_with_parent",
    "strict_environment",
]
