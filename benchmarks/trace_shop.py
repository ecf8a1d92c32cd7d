"""What `--build-trace` costs over all of examples/shop: `python benchmarks/trace_shop.py`.

Every build is a cold one, in a fresh clone at the same place, without and with the tracer by turns. Processor time counts
the tools, strace and ourselves (what a daemon or the container engine does is in neither); a machine that is busy disturbs it
less than wall time. Prints Markdown. Needs what the shop needs (docs: examples/shop/README.md).
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import measure
from measure import Taken

from build_tests.run import record
from build_tests.run.record import StepRecord

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = (os.path.join(os.path.dirname(sys.executable), "pytest-build"), "build", "-q", "-n2")
"""The script: `python -m` would take the clone's own folder `build_tests` for the installed package."""
SHORT = 0.5
"""Seconds; the rows of shorter steps would be noise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """One cold build."""

    taken: Taken
    steps: Mapping[str, StepRecord]


def build(folder: str, repository: str, *, traced: bool) -> Built:
    """Build everything in a fresh clone, restoring nothing."""
    root = os.path.join(folder, "shop")
    os.environ["XDG_CACHE_HOME"] = os.path.join(folder, "cache")
    for name in (root, os.environ["XDG_CACHE_HOME"]):
        shutil.rmtree(name, ignore_errors=True)
    subprocess.run(["git", "clone", "--quiet", repository, root], check=True)
    measure.say("with the tracer" if traced else "without")
    taken = measure.take([*BUILD, *(["--", "--build-trace"] if traced else [])], root)
    (run,) = record.list_runs(os.path.join(root, ".build", "runs"))
    steps = record.read(os.path.join(root, ".build", "runs"), run).steps
    return Built(taken=taken, steps={step.label: step for step in steps})


def row(name: str, plain: Sequence[float], traced: Sequence[float], *more: str) -> list[str]:
    """Medians, and the median of the ratios of neighbouring runs."""
    ratio = statistics.median(on / off for off, on in zip(plain, traced, strict=True))
    figures = (f"{statistics.median(plain):.1f} s", f"{statistics.median(traced):.1f} s", f"{(ratio - 1) * 100:+.0f} %")
    return [name, *figures, *more]


def rows(plain: Sequence[Built], traced: Sequence[Built]) -> Iterator[list[str]]:
    """All of it by processor time and by the clock, then the steps that are no short ones, by the clock."""
    calls = sum(step.trace.get("calls", 0) for step in traced[-1].steps.values())

    def whole(of: Callable[[Taken], float]) -> list[list[float]]:
        return [[of(built.taken) for built in side] for side in (plain, traced)]

    yield row("all of it, processor time", *whole(lambda taken: taken.processor), f"{calls:,}")
    yield row("all of it, `-n2`", *whole(lambda taken: taken.seconds), f"{calls:,}")
    for label, step in sorted(traced[-1].steps.items(), key=lambda item: -item[1].seconds):
        times = [[built.steps[label].seconds for built in side] for side in (plain, traced)]
        if statistics.median(times[0]) >= SHORT and step.trace:
            yield row(f"`{label}`", *times, f"{step.trace.get('calls', 0):,}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="pairs of builds; one build before them is not counted")
    parser.add_argument("--repository", default=os.path.dirname(HERE), help="what is cloned (its last commit)")
    options = parser.parse_args()
    measure.need("git", "strace", "mvn", "npm", "protoc", "docker", "gradle", "pnpm", "uv", "poetry", "go")
    plain, traced = [], []
    with measure.scratch() as folder:
        build(folder, options.repository, traced=False)
        for _ in range(options.rounds):
            plain.append(build(folder, options.repository, traced=False))
            traced.append(build(folder, options.repository, traced=True))
    print(measure.table(["examples/shop, cold", "without", "`--build-trace`", "costs", "calls"], rows(plain, traced)))


if __name__ == "__main__":
    main()
