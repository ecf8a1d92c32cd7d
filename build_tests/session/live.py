"""What a person sees while steps run: a live view on a terminal, plain lines elsewhere, steps' output as it comes.

xdist can't stream a worker's output, so the controller follows the log files. Decides nothing; reads logs only.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TextIO, cast

import pytest

from build_tests.run.record import StepRecord
from build_tests.run.text import duration, scrub
from build_tests.session.progress import Progress, area, rough
from build_tests.session.screen import Screen

EVERY = 0.1
"""Seconds between two looks at the logs."""
PATIENCE = 0.3
"""Seconds before the view appears: what is over by then needs none."""
SIGN_OF_LIFE = 30.0
"""Seconds after which the steps still running are named, where nobody sees a live view."""
LONG = 2.0
"""Seconds; in a shorter run nobody asks for an estimate."""
CHUNK = 64 << 10
"""Bytes of one log shown at a time."""
GLANCE = 4096
"""Bytes of a log's end in which its last line is looked for."""


@dataclass(slots=True)
class _Followed:
    path: str
    offset: int = 0
    rest: bytes = b""
    ended: bool = field(default=False)


class Live:
    """A thread beside the run, and a plugin that keeps it from writing into the middle of a report.

    Args:
        config: pytest's.
        output: whose output is shown: errors, all or none. `all` is what is shown here.
        progress: how far the run is.
    """

    def __init__(self, config: pytest.Config, output: str, progress: Progress) -> None:
        self._config = config
        self._reporter = config.pluginmanager.getplugin("terminalreporter")
        self._stream = output == "all"
        self._verbosity = config.get_verbosity()
        self._progress = progress
        self._lock = threading.RLock()
        """Of what is known here."""
        self._turn = threading.RLock()
        """Of the terminal, where there is no screen to keep order on it. Taken before the other one, or alone."""
        self._steps: dict[str, _Followed] = {}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._began = self._spoke = time.monotonic()
        self._screen: Screen | None = None
        self._file: TextIO | None = None
        self._log_lines = in_ci(os.environ) and self._reporter is not None and self._verbosity >= 0

    def start(self) -> None:
        """Begin to watch."""
        if self._reporter is not None and wants_view(self._config, self._reporter, os.environ):
            self._take_screen()
        self._config.pluginmanager.register(self, "build-live")
        self._thread = threading.Thread(target=self._watch, name="build-live", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Show what is left and end."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
            self._config.pluginmanager.unregister(self)
        if self._screen is not None:
            self._give_screen_back(self._screen)
            self._screen = None

    def _take_screen(self) -> None:
        writer = self._reporter._tw  # noqa: SLF001 - pytest has no other way to its file
        self._file = cast("TextIO", writer._file)  # noqa: SLF001
        self._screen = screen = Screen(self._file)
        writer._file = screen  # noqa: SLF001
        if sys.stdout is self._file:  # -s: what plugins print comes this way
            sys.stdout = cast("TextIO", screen)

    def _give_screen_back(self, screen: Screen) -> None:
        self._reporter._tw._file = self._file  # noqa: SLF001
        if cast("Any", sys.stdout) is screen:
            sys.stdout = cast("TextIO", self._file)
        screen.close()

    @property
    def viewing(self) -> bool:
        """Whether there is a live view."""
        return self._screen is not None

    # What the controller says

    def started(self, label: str, log: str) -> None:
        """A step runs from now on."""
        with self._lock:
            self._steps[label] = _Followed(log)
        self._progress.started(label, log)
        if self._log_lines:
            self._line(f"{label} started ({self._progress.done} of {self._progress.total} done)")

    def ended(self, label: str) -> None:
        """Its log is whole now."""
        with self._lock:
            if label in self._steps:
                self._steps[label].ended = True
        self._progress.ended(label)

    def settled(self, records: Iterable[StepRecord]) -> None:
        """These have their outcome."""
        records = list(records)
        self._progress.settled(records)
        if self._log_lines and self._verbosity == 0:  # with -v pytest's own line says it
            for record in records:
                if record.started is not None:
                    self._line(f"{record.label} {record.outcome.value} in {duration(record.seconds)}")

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Somebody else may write to the terminal: no view meanwhile."""
        if self._screen is not None:
            self._screen.step_aside()
        try:
            yield
        finally:
            if self._screen is not None:
                self._screen.come_back()

    def samples(self) -> list[tuple[float, float]]:
        """(seconds since the run began, seconds left that were shown)."""
        return self._progress.samples

    # pytest's own lines, each made of several writes

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_logstart(self) -> Generator[None, object, object]:
        """A line begins."""
        with self._turn:
            return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_logreport(self) -> Generator[None, object, object]:
        """A line is written."""
        with self._turn:
            return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_logfinish(self) -> Generator[None, object, object]:
        """A line ends."""
        with self._turn:
            return (yield)

    # The thread

    def _watch(self) -> None:
        while True:
            last = self._stop.wait(EVERY)
            with self._lock:
                followed = list(self._steps.items())
                ended = {label for label, one in followed if one.ended or last}
                for label in ended:
                    del self._steps[label]
            if self._stream:
                for label, one in followed:
                    self._show(label, one, whole=label in ended)
            if last:
                return
            if self._screen is not None:
                self._draw(self._screen)
            elif time.monotonic() - self._began > LONG:
                self._progress.left()  # for the record, which keeps how good the estimate was
                self._sign_of_life()

    def _draw(self, screen: Screen) -> None:
        if time.monotonic() - self._began < PATIENCE:
            return
        columns, rows = screen.size
        for step in self._progress.now_running():
            step.last = last_line(step.log) or step.last
        screen.show(area(self._progress, columns, rows, colour=self._reporter.hasmarkup))

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
        if not text:
            return
        if self._screen is not None:
            self._screen.above(text)
        elif self._reporter is not None:
            with self._turn:
                self._new_line()
                self._reporter.write(text, flush=True)
        else:
            sys.stdout.write(text)

    def _line(self, text: str) -> None:
        with self._turn:
            self._new_line()
            self._reporter.write_line(f"build: {text}")
            self._reporter.flush()

    def _new_line(self) -> None:
        """pytest's own `ensure_newline` knows nothing of a line that ends in letters."""
        if self._reporter._tw.width_of_current_line:  # noqa: SLF001 - pytest has no other way to it
            self._reporter._tw.line()  # noqa: SLF001
        self._reporter.currentfspath = None

    def _sign_of_life(self) -> None:
        now = time.monotonic()
        if self._verbosity < 0 or self._reporter is None or now - self._spoke < SIGN_OF_LIFE:
            return
        self._spoke = now
        progress = self._progress
        if running := [f"{step.label} ({rough(now - step.started)})" for step in progress.now_running()]:
            left = progress.left()
            until = f"; about {rough(left)} left" if left is not None else ""
            self._line(f"{progress.done} of {progress.total} done, still running: {', '.join(running)}{until}")


def in_ci(environ: Any) -> bool:
    """Whether `CI` is set, and says so."""
    return environ.get("CI", "").lower() not in ("", "0", "false")


def wants_view(config: pytest.Config, reporter: Any, environ: Any) -> bool:
    """Whether there is a terminal that can show a view, and somebody in front of it."""
    file = reporter._tw._file  # noqa: SLF001 - pytest has no other way to it
    return (
        config.get_verbosity() >= 0
        and not config.getoption("usepdb", False)
        and not in_ci(environ)
        and environ.get("TERM", "dumb") not in ("", "dumb")
        and hasattr(file, "fileno")
        and bool(file.isatty())
    )


def last_line(path: str) -> str:
    """The last line of a log that says something, fit for a terminal; "" where there is none."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - GLANCE))
            data = file.read(GLANCE)
    except OSError:
        return ""
    lines = data.replace(b"\r", b"\n").decode("utf-8", "replace").split("\n")
    found = next((text for line in reversed(lines) if (text := scrub(line).strip())), "")
    return found.replace("\t", " ")
