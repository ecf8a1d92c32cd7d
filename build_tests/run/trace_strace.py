"""Runs a tool under strace and follows what it does. Knows strace's options; finds files, never judges them.

The tool stays what it would be without us: strace daemonizes itself (`-DD`), so the tool is the process that the
guardian started, with its own exit status and signals, and strace is another process below the guardian. Its lines come
through a pipe while the tool runs, so that no trace lies on the disk, however long it is.

With `--seccomp-bpf` only the calls that we ask for stop the tool; the price is that it can gain no rights (setuid), and
that it must not outlive strace: steps with `daemons` are not traced. io_uring, which no tracer can look into, is
refused, as containers do; tools go back to plain calls.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from build_tests.run.trace import Declared, Traced, Watched
from build_tests.run.trace_lines import CALLS, DECODED, LOOKS, Lines

PIPE_BYTES = 1 << 20
LULL = 0.004
"""Seconds between two looks at the pipe: each line is a write of strace's, and none shall wake us alone."""
PATIENCE = 20.0
"""Seconds for the last of a trace, once the tool is gone."""
PROBE_SECONDS = 10.0
_PLAIN = re.compile(rb"[A-Za-z0-9_./+@,=:~ -]*\Z")
_LOOPBACK = re.compile(r"(?:localhost|127\.[0-9.]+|\[::1\]):(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Strace:
    """A strace that works here."""

    path: str

    def prefix(self, output: str, *, looks: bool = True) -> tuple[str, ...]:
        """What stands in front of a command, to trace it into `output`; without `looks` only what opens files."""
        calls = f"{CALLS},{LOOKS}" if looks else CALLS
        return (
            self.path, "-DD", "-f", "--seccomp-bpf", "-q", "-y", "-a", "1", "-I", "never", "-e", f"verbose={DECODED}",
            "-e", f"trace={calls}", "-e", "inject=io_uring_setup:error=ENOSYS", "-o", output, "--",
        )  # fmt: skip


def find(environ: Mapping[str, str]) -> Strace | str:
    """A strace that may trace here, or why there is none: for people."""
    path = shutil.which("strace", path=environ.get("PATH"))
    if path is None:
        return "strace is not installed (apt install strace)" if os.path.isdir("/proc/self") else "only Linux can trace"
    strace = Strace(path=os.path.realpath(path))
    try:
        return _fault(strace) or strace
    except (OSError, subprocess.SubprocessError) as error:
        return f"strace does not run here ({error})"


def _fault(strace: Strace) -> str:
    """Trace a process that opens one file; "" = as it should be."""
    reading, writing = os.pipe()
    with open(reading, "rb") as trace:
        try:
            done = subprocess.run(
                [*strace.prefix(f"/proc/{os.getpid()}/fd/{writing}"), "/bin/sh", "-c", ": </dev/null"],
                cwd="/", stdin=subprocess.DEVNULL, capture_output=True, timeout=PROBE_SECONDS, check=False, env={},
            )  # fmt: skip
        finally:
            os.close(writing)
        lines = trace.read()
    if b"execve(" not in lines or done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        return f"strace may not trace here ({said[0] if said else f'status {done.returncode}'})"
    if b"AT_FDCWD, " in lines:
        return "this strace is too old: it shows no working folder (5.17 does)"
    return "" if b"+++ exited with 0 +++" in lines else "strace ended before the process that it traced"


class Trace:
    """One traced run of a command. Give `prefix` to the guardian, then `finish`."""

    def __init__(  # noqa: PLR0913 - what a command runs with
        self,
        strace: Strace,
        root: str,
        folder: str,
        declared: Declared,
        environment: Mapping[str, str],
        *,
        looks: bool = True,
    ) -> None:
        """Raises OSError: there is no pipe to be had."""
        self._watched = Watched(root, declared, time.time())
        self._reading, self._writing = os.pipe()
        with suppress(OSError):
            _enlarge(self._writing)
        self.prefix: Sequence[str] = strace.prefix(f"/proc/{os.getpid()}/fd/{self._writing}", looks=looks)
        roots = self._watched.roots if all(_PLAIN.match(path) for path in self._watched.roots) else (b"",)
        self._lines = Lines(self._watched, os.fsencode(os.path.realpath(folder)), _named(environment), roots)
        self._fault = ""
        self._reader = threading.Thread(target=self._read, name="build-trace", daemon=True)
        self._reader.start()

    @property
    def hindered(self) -> bool:
        """Whether the tool may have failed because it was traced. After `finish`."""
        return self._watched.hindered

    def _read(self) -> None:
        try:
            while data := os.read(self._reading, PIPE_BYTES):
                self._lines.feed(data)
                if len(data) < PIPE_BYTES // 4:
                    time.sleep(LULL)
        except Exception as error:  # noqa: BLE001 - a fault of ours must end in "unverified", never in silence
            self._fault = f"the trace can't be read: {type(error).__name__}: {error}"
        finally:
            os.close(self._reading)

    def finish(self) -> Traced:
        """The tool has ended, and strace with it: what was found."""
        os.close(self._writing)
        self._reader.join(PATIENCE)
        if self._reader.is_alive():
            return Traced(status="unverified", why=["strace did not end with its tool"])
        self._lines.close()
        if self._fault:
            self._watched.obstacle(self._fault)
        return self._watched.finish(self._lines.count)


def _named(environment: Mapping[str, str]) -> frozenset[int]:
    """The loopback ports that the environment names: proxies and registries, which a step is meant to talk to."""
    return frozenset(int(port) for value in environment.values() for port in _LOOPBACK.findall(value))


def _enlarge(pipe: int) -> None:
    import fcntl

    fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
