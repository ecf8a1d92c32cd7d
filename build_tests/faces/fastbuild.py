"""A build without pytest, where nothing has to run: the same decisions, record, report, summary line and exit status.

Where something has to run, or pytest must see the build for another reason, pytest is started; what was decided by then
is handed to it.
"""

from __future__ import annotations

import os
import sys
import time

from build_tests.checkout import Begun, Checkout, Wishes, worker_count
from build_tests.core.collector import collector_paused
from build_tests.core.errors import BuildError
from build_tests.core.model import Outcome
from build_tests.project import Project, load_project

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from build_tests.pytestside import Note
    from build_tests.run.record import StepRecord

SHOWN = {
    Outcome.FRESH: "up to date", Outcome.RESTORED: "restored", Outcome.UNAVAILABLE: "unavailable",
}  # fmt: skip
"""The outcomes that need no pytest, as its summary calls them."""
MARKERS = frozenset({
    "anyio", "asyncio", "benchmark", "build_step", "dependency", "filterwarnings", "hypothesis", "parametrize",
    "run", "skip", "skipif", "timeout", "trylast", "tryfirst", "usefixtures", "xdist_group", "xfail",
})  # fmt: skip
"""A tag called so may be refused: pytest knows."""


def answer(options: argparse.Namespace, file: str, arguments: list[str], note: Note) -> int | Begun | None:
    """The exit status; or what was begun, for pytest to finish; or None where pytest must do all of it.

    Args:
        options: the command's.
        file: the build file, absolute.
        arguments: the pytest command line that the command means: it enters the record.
        note: what is known of pytest here.
    """
    started = time.time()
    asked = _workers(options.n, note)
    in_github = os.environ.get("GITHUB_ACTIONS") == "true"  # whose page of the run the session writes
    if asked is None or in_github or note["why"] or not _is_there(note["state"]):
        return None
    try:
        with collector_paused():
            return _begun(options, file, arguments, note, asked, started)
    except BuildError:
        return None  # pytest says it its own way


def _begun(  # noqa: PLR0913, PLR0917
    options: argparse.Namespace, file: str, arguments: list[str], note: Note, asked: int, started: float
) -> int | Begun | None:
    project = load_project(file, target=options.target, environment=options.build_env)
    chosen, named = project.chosen(options.selectors, target_named=bool(options.target))
    labels = frozenset(project.graph.closure(chosen))
    if not labels or any(not MARKERS.isdisjoint(step.tags) for step in project.graph.steps.values()):
        return None
    wishes = Wishes(workers=worker_count(project, asked), argv=tuple(arguments))
    checkout = Checkout(project=project, state_folder=note["state"], wishes=wishes, say=_say)
    try:
        build = checkout.begin(labels, {}, chosen)
        begun = Begun(checkout=checkout, build=build, labels=labels)
        return _Answer(begun, named=named, started=started, verbosity=note["verbosity"] + (not options.quiet)).given()
    except BuildError:
        checkout.abandon()  # pytest, in this very process, would wait for our lock
        raise


def _is_there(folder: str | None) -> bool:
    """Whether pytest's cache folder is: pytest makes it with what belongs into it."""
    return folder is None or os.path.isdir(folder)


def _workers(wanted: str, note: Note) -> int | None:
    if wanted == "auto":
        found: int | None = note["auto"]
        return found
    return int(wanted) if wanted.isascii() and wanted.isdigit() else None


def _say(line: str) -> None:
    print(f"build: {line}")


class _Answer:
    """One build, begun; the checkout's lock is held."""

    def __init__(self, begun: Begun, *, named: set[str], started: float, verbosity: int) -> None:
        self._begun = begun
        self._checkout = begun.checkout
        self._build = begun.build
        self._named = named
        self._started = started
        self._verbosity = verbosity

    def given(self) -> int | Begun:
        """Decide, and end the build if that is all."""
        from build_tests.run.signals import interruptible

        build = self._build
        records: list[StepRecord] = []
        try:
            with interruptible():
                records = build.advance()
        except KeyboardInterrupt:
            records = [*build.records.values(), *build.cancel("the run was stopped")]
            return self._end(records, 2)
        if len(build.frontier) or any(record.outcome not in SHOWN for record in records):
            self._begun.settled.extend(records)
            return self._begun
        return self._end(records, 0)

    def _end(self, records: list[StepRecord], status: int) -> int:
        checkout = self._checkout
        checkout.note(records)
        if not status:
            status = int(checkout.failed_otherwise(self._build, self._named))
        checkout.close(status, self._started)
        self._print(records)
        checkout.release()
        return status

    def _print(self, records: Sequence[StepRecord]) -> None:
        project = self._checkout.project
        if self._verbosity >= 0:
            print(header(project))
        for record in records:
            if record.outcome is Outcome.RESTORED and self._verbosity > 0:
                print(f"{record.label} {_words(record)}")
            for warning in record.warnings:
                _say(f"{record.label}: {warning}")
        for line in (*self._checkout.warnings, *self._checkout.notes):
            _say(line)
        if self._verbosity >= -1:
            deselected = len(project.graph.steps) - len(self._begun.labels)
            counts = _counts(records, deselected)
            print(summary(counts, time.time() - self._started, wide=self._verbosity >= 0))


def header(project: Project) -> str:
    """The line on what is built."""
    config = project.config
    environment = f", environment {config.environment}" if config.environment else ""
    return f"build: {config.file}, target {project.target.name}{environment}"


def _words(record: StepRecord) -> str:
    from build_tests.core.fingerprint import Reason
    from build_tests.run.text import scrub

    why = f"; {Reason(**record.reasons[0])}" if record.reasons else ""
    return scrub(f"restored in {record.seconds:.2f} s ({record.message}{why})")


def _counts(records: Sequence[StepRecord], deselected: int) -> list[str]:
    """As pytest's summary has them: what it knows itself first, then in the order in which they came."""
    counts: dict[str, int] = {}
    for record in records:
        word = SHOWN.get(record.outcome, record.outcome.value)
        counts[word] = counts.get(word, 0) + 1
    return [*([f"{deselected} deselected"] if deselected else []), *(f"{n} {word}" for word, n in counts.items())]


def summary(counts: Sequence[str], seconds: float, *, wide: bool) -> str:
    """pytest's last line, in its colours where standard output is a terminal."""
    paint = "\x1b[33m{}\x1b[0m".format if _colours() else str
    bold = "\x1b[33m\x1b[1m{}\x1b[0m".format if _colours() else str
    took = f"{seconds:.2f}s"
    if seconds >= 60:  # noqa: PLR2004
        minutes, rest = divmod(int(seconds), 60)
        took += f" ({minutes // 60}:{minutes % 60:02d}:{rest:02d})"
    plain = f"{', '.join(counts)} in {took}"
    text = ", ".join(map(bold, counts)) + paint(f" in {took}")
    if not wide:
        return text
    width = _width()
    fill = "=" * max((width - len(plain) - 2) // 2, 1)
    end = "=" if 2 * len(fill) + len(plain) + 3 <= width else ""
    return f"{paint(fill)} {text} {paint(fill + end)}"


def _colours() -> bool:
    environ = os.environ
    if environ.get("PY_COLORS") in ("0", "1"):
        return environ["PY_COLORS"] == "1"
    if environ.get("NO_COLOR"):
        return False
    return bool(environ.get("FORCE_COLOR")) or (sys.stdout.isatty() and environ.get("TERM") != "dumb")


def _width() -> int:
    """Of the terminal, as pytest takes it. (shutil has this too, and costs more to import than all else here.)"""
    try:
        width = int(os.environ.get("COLUMNS", ""))
    except ValueError:
        width = 0
    if width <= 0:
        try:
            width = os.get_terminal_size(sys.__stdout__.fileno() if sys.__stdout__ else 1).columns
        except (OSError, ValueError):
            width = 80
    return width if width >= 40 else 80  # noqa: PLR2004 - pytest believes no narrower terminal
