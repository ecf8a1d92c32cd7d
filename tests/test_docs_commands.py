"""The first hour: what README and the tutorial say is done word for word, in one fresh folder a page.

In a `console` block a line behind `$ ` is a command, and the lines below it must appear in what it prints, in that
order; times, sizes, names of runs and rulers aside. It must end with 0, unless the page asks with `echo $?` what it
ended with. A block below a line that begins with a file's name in backticks, and ends with a colon, is that file.
"""

import importlib.metadata
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from faces.commands import environment

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"(?P<before>[^\n]*)\n+```(?P<language>\w+)\n(?P<body>.*?)```", re.DOTALL)
FILE = re.compile(r"`(?P<name>[\w./-]+)`.*:")
NOISE = [
    (re.compile(r"\x1b\[[0-9;]*m|\s\[ *\d+%\]|[=_]{2,}"), " "),
    (re.compile(r"\d{8}T\d{6}\.\d+-\d+"), "RUN"),
    (re.compile(r"\d+\.\d+ ?s\b"), "TIME"),
    (re.compile(r"\d+(\.\d+)? [kM]?B\b"), "SIZE"),
    (re.compile(r"\s+"), " "),
]


@dataclass
class File:
    name: str
    text: str


@dataclass
class Command:
    text: str
    shown: list[str] = field(default_factory=list)


def read(text):
    """The files and commands of a page, in its order."""
    for block in BLOCK.finditer(text):
        if block["language"] == "console":
            yield from commands(block["body"])
        elif file := FILE.fullmatch(block["before"]):
            yield File(file["name"], block["body"])


def commands(body):
    found = []
    for line in body.splitlines():
        if line.startswith("$ "):
            found.append(Command(line[2:]))
        elif line.strip():
            found[-1].shown.append(line)
    return found


def plain(line):
    for pattern, by in NOISE:
        line = pattern.sub(by, line)
    return line.strip()


def missing(shown, printed):
    """The first shown line that does not appear, in order; None if all do."""
    lines = iter([plain(line) for line in printed.splitlines()])
    return next((line for line in shown if not any(plain(line) in one for one in lines)), None)


class Shell:
    """A terminal in a fresh folder: remembers where it is and how the last command ended."""

    def __init__(self, ws):
        self.folder, self.status, self.note = Path(ws.root), 0, Path(ws.root).parent / "where"
        tools = str(Path(sys.executable).parent)
        self.environ = environment(ws, COLUMNS="80", PATH=f"{tools}:{ws.environ['PATH']}")

    def run(self, text):
        if installed := re.fullmatch(r"pip install ([\w-]+)", text):
            return importlib.metadata.version(installed[1])
        script = f"(exit {self.status})\n{text}\nstatus=$?; pwd >{shlex.quote(str(self.note))}; exit $status"
        done = subprocess.run(
            ["bash", "-c", script], cwd=self.folder, env=self.environ, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120, check=False,
        )  # fmt: skip
        self.folder, self.status = Path(self.note.read_text().strip()), done.returncode
        return done.stdout


def follow(shell, page):
    """What goes another way than the page says; None if nothing does."""
    for now, then in zip(page, [*page[1:], None], strict=True):
        if isinstance(now, File):
            (shell.folder / now.name).write_text(now.text)
            continue
        printed = shell.run(now.text)
        asked = isinstance(then, Command) and then.text == "echo $?"
        if shell.status and not asked:
            return f"$ {now.text}\n{printed}\nended with {shell.status}"
        if line := missing(now.shown, printed):
            return f"$ {now.text}\n{printed}\ndoes not show: {line}"
    return None


def in_yours(text):
    return text[text.index("\n## In yours\n") : text.index("\n## What it promises\n")]


def whole(text):
    return text


@pytest.mark.parametrize(("document", "part"), [("README.md", in_yours), ("docs/tutorial.md", whole)])
def test_the_page_is_true_word_for_word(document, part, build_workspace):
    page = list(read(part((ROOT / document).read_text(encoding="utf-8"))))
    assert sum(isinstance(one, Command) for one in page) > 3
    assert any(isinstance(one, File) for one in page)
    wrong = follow(Shell(build_workspace), page)
    assert wrong is None, wrong


@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        ("$ echo one in 0.10 s\none in 7.35 s\n", None),
        ("$ echo one\ntwo\n", "does not show: two"),
        ("$ printf 'one\\ntwo\\n'\ntwo\none\n", "does not show: one"),
        ("$ false\n", "ended with 1"),
        ("$ false\n$ echo $?\n1\n", None),
        ("$ true\n$ echo $?\n1\n", "does not show: 1"),
        ("$ mkdir sub && cd sub\n$ basename $PWD\nsub\n", None),
    ],
)
def test_a_page_that_is_wrong_is_found_out(body, wrong, build_workspace):
    found = follow(Shell(build_workspace), list(read(f"\n```console\n{body}```\n")))
    assert (found is None) if wrong is None else found.endswith(wrong)
