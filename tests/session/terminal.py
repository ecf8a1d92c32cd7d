"""A real pseudo-terminal with a program in it, and what a person in front of it would see (pyte keeps the screen)."""

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time

import pyte

SECONDS = 60.0
AMBIENT = ("CI", "NO_COLOR", "FORCE_COLOR", "PY_COLORS", "COLUMNS", "LINES", "GITHUB_ACTIONS", "PYTEST_THEME")


class Terminal:
    """Use it as a context; leaving it ends the program."""

    def __init__(self, command, *, cwd, env, columns=100, rows=30, **more):
        self.screen = pyte.HistoryScreen(columns, rows, history=5000, ratio=0.5)
        self.stream = pyte.ByteStream(self.screen)
        self.raw = b""
        self.frames = []
        """(seconds since the start, the screen's text) whenever it changed."""
        self.began = time.monotonic()
        self.master, slave = pty.openpty()
        self._size(columns, rows)
        environ = {name: value for name, value in env.items() if name not in AMBIENT}
        environ.update({"TERM": "xterm-256color", **more})
        self.process = subprocess.Popen(
            command, cwd=cwd, env=environ, stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - what Ctrl-C needs
        )  # fmt: skip
        os.close(slave)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        os.close(self.master)

    def _size(self, columns, rows):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def resize(self, columns, rows=30):
        self._size(columns, rows)
        self.screen.resize(rows, columns)

    def send(self, keys):
        os.write(self.master, keys.encode())

    @property
    def text(self):
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip()

    @property
    def all_text(self):
        """With what has scrolled away."""
        top = ["".join(line[i].data for i in range(self.screen.columns)).rstrip() for line in self.screen.history.top]
        return "\n".join([*top, self.text])

    def pump(self, seconds=0.2):
        """Take in what comes; False at the end."""
        ready, _, _ = select.select([self.master], [], [], seconds)
        if not ready:
            return True
        try:
            data = os.read(self.master, 65536)
        except OSError:
            return False
        self.raw += data
        self.stream.feed(data)
        text = self.text
        if data and (not self.frames or self.frames[-1][1] != text):
            self.frames.append((time.monotonic() - self.began, text))
        return bool(data)

    def until(self, seen, seconds=SECONDS):
        """Wait until `seen(text)`; a text stands for its presence."""
        wanted = seen if callable(seen) else lambda text: seen in text
        end = time.monotonic() + seconds
        while not wanted(self.text):
            assert self.pump(), f"it ended without {seen!r}:\n{self.all_text}"
            assert time.monotonic() < end, f"{seen!r} was never seen:\n{self.all_text}"
        return self.text

    def finish(self, seconds=SECONDS):
        """To the end; the exit status."""
        end = time.monotonic() + seconds
        while self.pump():
            assert time.monotonic() < end, f"it does not end:\n{self.all_text}"
        return self.process.wait(timeout=10)
