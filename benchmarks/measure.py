"""Starting programs and taking their time and memory; medians and Markdown. Knows no build tool."""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

FORGOTTEN = ("PYTHONDONTWRITEBYTECODE", "PYTEST_ADDOPTS", "MAKEFLAGS", "MAKELEVEL", "NINJA_STATUS")
"""Variables of the caller that would change what is measured: without cached bytecode, imports are half of the time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What one run took."""

    seconds: float
    peak_mb: float
    """Of the largest process of the run, in units of 1,000,000 bytes."""
    processor: float
    """Seconds of processor time, of the run and of all that it waited for."""


def environment() -> dict[str, str]:
    """The caller's, without what would change what is measured."""
    kept = {name: value for name, value in os.environ.items() if name not in FORGOTTEN}
    return {**kept, "PATH": os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath)])}


def take(command: Sequence[str], folder: str, *, good: Iterable[int] = (0,)) -> Taken:
    """Run a command and wait for it.

    Raises:
        RuntimeError: it ended with another status than a good one; with the end of its output.
    """
    with tempfile.TemporaryFile() as output:
        began = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=folder, env=environment(), stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in tuple(good):
            output.seek(0)
            tail = output.read()[-3000:].decode(errors="replace")
            raise RuntimeError(f"{' '.join(command)}: exit status {process.returncode}\n{tail}")
    return Taken(
        seconds=seconds,
        peak_mb=usage.ru_maxrss / 1000 * (1.024 if sys.platform == "linux" else 0.001),
        processor=usage.ru_utime + usage.ru_stime,
    )


def median(runs: Sequence[Taken]) -> float:
    """Of the seconds."""
    return statistics.median(run.seconds for run in runs)


def least(runs: Sequence[Taken]) -> float:
    """Of the seconds. For differences of two runs: medians carry the noise of both into a small number."""
    return min(run.seconds for run in runs)


def version(command: Sequence[str]) -> str:
    """What a tool calls its version: the last word of the first line that it prints."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True)
    return done.stdout.splitlines()[0].split()[-1]


def need(*tools: str) -> None:
    """Raises SystemExit, naming the tools that are not there."""
    if missing := [tool for tool in tools if shutil.which(tool, path=environment()["PATH"]) is None]:
        raise SystemExit(f"this benchmark needs {' and '.join(missing)} on PATH")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; all columns but the first are numbers."""
    lines = ["| " + " | ".join(head) + " |", "|---|" + "--:|" * (len(head) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"


@contextmanager
def scratch() -> Iterator[str]:
    """A temporary folder."""
    with tempfile.TemporaryDirectory(prefix="pytest-build-benchmark-") as folder:
        yield os.path.realpath(folder)


def say(text: str) -> None:
    """Progress, on standard error: standard output is the table's."""
    print(text, file=sys.stderr, flush=True)
