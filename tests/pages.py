"""What a page of the documentation tells its reader to do, and a terminal in which it is done.

In a `console` block a line behind `$ ` is a command, and the lines below it must appear in what it prints, in that
order; times, sizes, names of runs and commits, and rulers aside; `…` ends a line that is cut, or stands for lines. It must end
with 0, unless the page shows that something failed, or asks with `echo $?` what it ended with. A block below a line that
begins with a file's name in backticks, and ends with a colon, is that file. What a reader has already, and the page
does not say, stands in comments: `<!-- setup`, lines for the shell, `-->`. There $REPOSITORY is this checkout, and $TOOLS a folder on PATH.
"""

import importlib.metadata
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

from faces.commands import environment

ROOT = Path(__file__).parent.parent
SECONDS = 120
"""After which a command counts as hung."""
PAGES = sorted([*(ROOT / "docs").glob("*.md"), *ROOT.glob("*.md")])
PART = re.compile(
    r"^<!-- setup\n(?P<setup>.*?)^-->$|(?P<before>[^\n]*)\n+^```(?P<language>\w*)\n(?P<body>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
FILE = re.compile(r"`(?P<name>[\w./-]+)`.*:")
FAILED = re.compile(r"\b[1-9]\d* failed\b")
NOISE = [
    (re.compile(r"\x1b\[[0-9;]*m|\s\[ *\d+%\]|[=_]{2,}"), " "),
    (re.compile(r"\d{8}T\d{6}\.\d+-\d+"), "RUN"),
    (re.compile(r"\b(since|at) [0-9a-f]{7,}\b"), r"\1 COMMIT"),
    (re.compile(r"\d+(\.\d+)? ?m?s\b"), "TIME"),
    (re.compile(r"\d+(\.\d+)? [kM]?B\b"), "SIZE"),
    (re.compile(r"\s+"), " "),
]
GIT = {
    "GIT_AUTHOR_NAME": "reader", "GIT_AUTHOR_EMAIL": "reader@example.org", "GIT_COMMITTER_NAME": "reader",
    "GIT_COMMITTER_EMAIL": "reader@example.org", "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null",
}  # fmt: skip


@dataclass
class File:
    name: str
    text: str


@dataclass
class Setup:
    text: str


@dataclass
class Command:
    text: str
    shown: list[str] = field(default_factory=list)


def blocks(text):
    """Each block of a page: its language, what stands in it."""
    return [(part["language"], part["body"]) for part in PART.finditer(text) if part["body"] is not None]


def read(text):
    """The files, commands and setups of a page, in its order."""
    for part in PART.finditer(text):
        if part["setup"] is not None:
            yield Setup(part["setup"])
        elif part["language"] == "console":
            yield from commands(part["body"])
        elif file := FILE.fullmatch(part["before"]):
            yield File(file["name"], part["body"])


def commands(body):
    found = []
    for line in body.splitlines():
        if line.startswith("$ "):
            found.append(Command(line[2:]))
        elif line.strip() and found:
            found[-1].shown.append(line)
    return found


def plain(line):
    for pattern, by in NOISE:
        line = pattern.sub(by, line)
    return line.strip()


def missing(shown, printed):
    """The first shown line that does not appear, in order; None if all do."""
    lines = iter([plain(line) for line in printed.splitlines()])
    return next(
        (line for line in shown if not any(plain(line).removesuffix("…").rstrip() in one for one in lines)), None
    )


class Shell:
    """A terminal in a fresh folder: remembers where it is and how the last command ended."""

    def __init__(self, ws, **more):
        self.folder, self.status, self.note = Path(ws.root), 0, Path(ws.root).parent / "where"
        tools = str(Path(sys.executable).parent)
        path = f"{ws.bin}:{tools}:{ws.environ['PATH']}"
        self.environ = environment(ws, COLUMNS="80", PATH=path, REPOSITORY=str(ROOT), TOOLS=str(ws.bin), **GIT, **more)

    def start(self, text):
        script = f"trap 'pwd >{shlex.quote(str(self.note))}' EXIT\n(exit {self.status})\n{text}"
        return subprocess.Popen(
            ["bash", "-c", script], cwd=self.folder, env=self.environ, stdin=subprocess.DEVNULL, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip

    def run(self, text):
        if installed := re.fullmatch(r"pip install '?(?P<name>[\w-]+)(\[(?P<extra>\w+)\])?'?", text):
            assert installed["extra"] in {
                None,
                *importlib.metadata.metadata(installed["name"]).get_all("Provides-Extra"),
            }
            return importlib.metadata.version(installed["name"])
        process = self.start(text)
        printed, _ = process.communicate(timeout=SECONDS)
        self.folder, self.status = Path(self.note.read_text().strip()), process.returncode
        return printed

    def watch(self, command):
        """A command that goes on until it has shown what the page says, and is then told to stop, as with Ctrl-C."""
        process, printed = self.start(command.text), ""
        hung = threading.Timer(SECONDS, os.killpg, (process.pid, signal.SIGKILL))
        hung.start()
        while missing(command.shown, printed) is not None and (line := process.stdout.readline()):
            printed += line
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
        rest, _ = process.communicate()
        hung.cancel()
        self.status = process.returncode
        return printed + rest


def follow(shell, page):
    """What goes another way than the page says; None if nothing does."""
    for now, then in zip(page, [*page[1:], None], strict=True):
        if isinstance(now, File):
            (shell.folder / now.name).write_text(now.text)
            continue
        if isinstance(now, Setup):
            printed, shown, fails = shell.run(f"true; set -e\n{now.text}"), [], False
        else:
            printed = shell.watch(now) if now.text.startswith("pytest-build watch") else shell.run(now.text)
            shown = now.shown
            fails = any(map(FAILED.search, shown)) or (isinstance(then, Command) and then.text == "echo $?")
        if shell.status and not fails:
            return f"$ {now.text}\n{printed}\nended with {shell.status}"
        if line := missing(shown, printed):
            return f"$ {now.text}\n{printed}\ndoes not show: {line}"
    return None
