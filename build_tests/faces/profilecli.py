"""The command `pytest-build profile`: where the time of the last run went. Reads the record of runs only."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from build_tests.core.errors import BuildError
from build_tests.faces.common import build_file, count_text, plain, size_text
from build_tests.run.text import duration

if TYPE_CHECKING:
    import argparse

    from build_tests.faces.profiledata import Comparison, Profile
    from build_tests.run.record import Run, StepRecord

SHOWN = 10
"""Lines of one list."""


def declare(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.description = (
        "Where the time of the last run in which something ran went: critical path, slowest steps, waiting and "
        "working, what the caches saved, what would gain most, and what changed since the run before."
    )
    parser.add_argument("--trace", metavar="FILE", help="write the run as a trace that ui.perfetto.dev opens")
    parser.add_argument("--run", dest="id", metavar="RUN", help="this run: last, last~1 …, or the beginning of an id")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.add_argument("--build-file", metavar="PATH", help="default: build.yml, or config/build.yml")
    parser.set_defaults(run=_profile)


def _profile(options: argparse.Namespace, extra: list[str]) -> int:
    from build_tests.core.locate import root_of
    from build_tests.faces.profiledata import profile
    from build_tests.run.places import FOLDER

    if extra:
        raise BuildError("profile takes nothing behind --")
    folder = os.path.join(root_of(build_file(options.build_file)), FOLDER, "runs")
    run, later, earlier = _choose(folder, options.id)
    found = profile(run, earlier)
    if options.trace:
        _write_trace(run, options.trace)
    if options.json:
        print(json.dumps({**found.to_json(), "later_runs": later}, indent=1))
        return 0
    if later:
        print(f"in the last {count_text(later, 'run')} nothing ran; this is the one before\n")
    for line in lines(found):
        print(plain(line))
    return 0


def _choose(folder: str, named: str | None) -> tuple[Run, int, Run | None]:
    """The run, how many later ones did nothing, and the one before of the same target. Raises BuildError."""
    from build_tests.faces.profiledata import timed
    from build_tests.faces.runs import find
    from build_tests.run.record import list_runs, read

    runs = list_runs(folder)
    if named is not None:
        runs = runs[: runs.index(find(runs, named)) + 1]
    chosen: Run | None = None
    later = 0
    for name in reversed(runs):
        try:
            run = read(folder, name)
        except OSError:
            continue  # pruned meanwhile
        if chosen is None and (named is not None or timed(run)):
            chosen = run
        elif chosen is None:
            later += 1
        elif timed(run) and run.run.get("target") == chosen.run.get("target"):
            return chosen, later, run
    if chosen is None:
        raise BuildError(f"there is no record of a run in which something ran ({folder})")
    return chosen, later, None


def _write_trace(run: Run, path: str) -> None:
    from build_tests.faces.profiletrace import trace

    try:
        with open(path, "w", encoding="utf-8") as file:
            json.dump(trace(run), file, separators=(",", ":"))
    except OSError as error:
        raise BuildError(f"--trace {path}: {error.strerror}") from error
    print(f"{path}: open it at ui.perfetto.dev", file=sys.stderr)


def lines(found: Profile) -> Iterator[str]:
    """The profile for people."""
    yield f"run {found.run}: target {found.target}, {count_text(found.workers, 'worker')}, {duration(found.seconds)}"
    yield from _totals(found)
    yield from _list(
        f"critical path, {duration(sum(step.seconds for step in found.critical))}:",
        [f"{duration(step.seconds):>12}  {step.label}" for step in found.critical],
    )
    yield from _list("slowest:", [_slow(step) for step in found.slowest])
    yield from _list(
        "what would gain most:", [f"{duration(gain.seconds):>12}  less if {_if(gain.what)}" for gain in found.gains[:5]]
    )
    if found.comparison is not None:
        yield from _against(found, found.comparison)


def _if(what: str) -> str:
    return what if what.endswith("no time") else f"there were {what}"


def _totals(found: Profile) -> Iterator[str]:
    counts = ", ".join(f"{n} {'up to date' if outcome == 'fresh' else outcome}" for outcome, n in found.counts.items())
    yield f"  steps      {counts}"
    yield (
        f"  time       {duration(found.before_steps)} before the first step, {duration(found.span)} with steps, "
        f"{duration(found.after_steps)} after the last"
    )
    yield (
        f"  working    {duration(found.working)} of all steps, {duration(found.cpu)} of it on the CPU; "
        f"they waited {duration(found.waiting)} for a worker or a resource"
    )
    yield f"  parallel   {found.achieved:.1f} steps at a time; {found.possible:.1f} with workers without end"
    if found.saved:
        yield f"  caches     saved {duration(found.saved)} of building"
    if found.estimate_errors:
        yield f"  estimate   {', '.join(_off(name, error) for name, error in found.estimate_errors.items())}"


def _off(name: str, error: float) -> str:
    when = "the start" if name == "start" else "half time"
    return f"{abs(error):.0%} too {'long' if error > 0 else 'short'} at {when}"


def _slow(step: StepRecord) -> str:
    from build_tests.faces.profiledata import waited

    memory = f", {size_text(step.max_rss_bytes)}" if step.max_rss_bytes else ""
    waiting = f", waited {duration(waited(step))}" if waited(step) >= 0.1 else ""  # noqa: PLR2004
    cpu = f"CPU {duration(step.cpu_seconds)}{memory}" if step.cpu_seconds else f"from {step.tier}" if step.tier else ""
    return f"{duration(step.seconds):>12}  {step.label}  {cpu}{waiting}".rstrip()


def _against(found: Profile, other: Comparison) -> Iterator[str]:
    change = found.seconds - other.seconds
    share = f" ({change / other.seconds:+.0%})" if other.seconds else ""
    word = "longer" if change >= 0 else "shorter"
    yield ""
    ran = count_text(other.ran, "step")
    yield f"against the run before ({other.run}, {ran} ran): {duration(abs(change))} {word}{share}"
    for one in other.steps[:5]:
        sign = "+" if one.now >= one.before else "-"
        times = f"{duration(one.before)} → {duration(one.now)}"
        yield f"{sign + duration(abs(one.now - one.before)):>12}  {one.label}  ({times})"


def _list(title: str, shown: list[str]) -> Iterator[str]:
    if not shown:
        return
    yield ""
    yield title
    yield from shown[:SHOWN]
    if len(shown) > SHOWN:
        yield f"{'…':>12}  and {len(shown) - SHOWN} more"
