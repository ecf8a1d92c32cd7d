"""What a person sees while steps run: their output as it comes, and a sign of life. Reads log files only.

xdist can't stream a worker's output, so the controller follows the log files.
"""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass, field

import pytest

from build_tests.run.text import scrub

EVERY = 0.2
"""Seconds between two looks at the logs."""
SIGN_OF_LIFE = 30.0
"""Seconds after which the steps still running are named, where nobody sees a live display."""
CHUNK = 64 << 10
"""Bytes of one log shown at a time."""


@dataclass(slots=True)
class _Followed:
    path: str
    started: float
    offset: int = 0
    rest: bytes = b""
    ended: bool = field(default=False)


class Live:
    """A thread beside the run. `output`: errors, all or none."""

    def __init__(self, config: pytest.Config, output: str) -> None:
        self._reporter = config.pluginmanager.getplugin("terminalreporter")
        self._stream = output == "all"
        self._quiet = config.get_verbosity() < 0
        self._lock = threading.Lock()
        self._steps: dict[str, _Followed] = {}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._spoke = time.monotonic()

    def start(self) -> None:
        """Begin to watch."""
        self._thread = threading.Thread(target=self._watch, name="build-live", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Show what is left and end."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def started(self, label: str, log: str) -> None:
        """A step runs from now on."""
        with self._lock:
            self._steps[label] = _Followed(log, time.monotonic())

    def ended(self, label: str) -> None:
        """Its log is whole now."""
        with self._lock:
            if label in self._steps:
                self._steps[label].ended = True
            self._spoke = time.monotonic()

    def _watch(self) -> None:
        while True:
            last = self._stop.wait(EVERY)
            with self._lock:
                for label, followed in list(self._steps.items()):
                    ended = followed.ended or last
                    if self._stream:
                        self._show(label, followed, whole=ended)
                    if ended:
                        del self._steps[label]
                self._sign_of_life()
            if last:
                return

    def _show(self, label: str, followed: _Followed, *, whole: bool) -> None:
        try:
            with open(followed.path, "rb") as file:
                file.seek(followed.offset)
                while data := file.read(CHUNK):
                    followed.offset += len(data)
                    *lines, followed.rest = (followed.rest + data).split(b"\n")
                    self._write(label, lines)
                    # A line without an end must not fill the memory.
                    if len(followed.rest) > CHUNK:
                        self._write(label, [followed.rest])
                        followed.rest = b""
        except OSError:
            return  # not there yet
        if whole and followed.rest:
            self._write(label, [followed.rest])
            followed.rest = b""

    def _write(self, label: str, lines: list[bytes]) -> None:
        text = "".join(f"{label} | {scrub(line.decode('utf-8', 'replace'))}\n" for line in lines)
        if text and self._reporter is not None:
            self._reporter.ensure_newline()
            self._reporter.write(text)
        elif text:
            sys.stdout.write(text)

    def _sign_of_life(self) -> None:
        now = time.monotonic()
        if self._quiet or not self._steps or now - self._spoke < SIGN_OF_LIFE or self._reporter is None:
            return
        self._spoke = now
        running = ", ".join(f"{label} ({now - f.started:.0f} s)" for label, f in self._steps.items())
        self._reporter.ensure_newline()
        self._reporter.write_line(f"build: still running: {running}")
