"""What tracing costs: one command with and without `--build-trace`'s tracer, by turns.

    python benchmarks/trace.py ROOT FOLDER RUNS COMMAND [REMOVED …]

With LOOKS in the environment also the calls that open nothing are traced, as `--build-trace` does and strict rules
alone do not. ROOT is the repository, FOLDER where the command runs; REMOVED are removed before each run. Prints the medians of the
wall time and of the processor time (the tool, strace and the reading of its trace), and the medians of the ratios of neighbouring
runs, which a machine that is busy disturbs least. For all of examples/shop: trace_shop.py.
"""

from __future__ import annotations

import os
import resource
import shutil
import statistics
import sys
import tempfile

from build_tests.core.globs import PathSet
from build_tests.run.step import Order, Runner
from build_tests.run.trace_strace import find


def order(folder: str, command: str, log: str, trace: dict[str, object] | None) -> Order:
    """One step of this command, with what the caller's environment has."""
    return Order(
        label="a:step", argv=["sh", "-e", "-c", command], folder=folder, environment=dict(os.environ), secrets=[],
        key="k", log=log, outputs=[], patterns=[], inputs=[], known=[], manifest=[], interrupted=True, clean=False,
        state=[], drop_state=False, timeout=None, retries=[0, 1.0, []], daemons=[], junit=[], hints={}, trace=trace,
    )  # fmt: skip


def main() -> None:
    """See the module's text."""
    root, folder, runs, command, *removed = sys.argv[1:]
    strace = find(os.environ)
    if isinstance(strace, str):
        sys.exit(strace)
    traced = {"strace": strace.path, "looks": "LOOKS" in os.environ, "readable": ["/"]}
    seconds: dict[bool, list[float]] = {False: [], True: []}
    processor: dict[bool, list[float]] = {False: [], True: []}
    calls = 0
    with tempfile.TemporaryDirectory() as logs:
        # The first pair fills the system's caches and is not counted.
        for number in range(2 * int(runs) + 2):
            on = number % 2 == 1
            for name in removed:
                shutil.rmtree(os.path.join(root, folder, name), ignore_errors=True)
            before = spent()
            runner = Runner(root, PathSet())
            result = runner.run(order(folder, command, os.path.join(logs, "log"), traced if on else None))
            runner.guardian.close()  # only now is the time of what it started known
            if not result.ok:
                sys.exit(f"{result.message}\n{result.tail}")
            calls = result.trace["calls"] if result.trace else calls
            if number > 1:
                seconds[on].append(result.seconds)
                processor[on].append(spent() - before)
    for what, taken in (("wall", seconds), ("processor", processor)):
        ratio = statistics.median(on / off for off, on in zip(taken[False], taken[True], strict=True))
        without, with_it = statistics.median(taken[False]), statistics.median(taken[True])
        print(f"{what:9} without {without:.2f} s, with {with_it:.2f} s, ratio {ratio:.2f}")
    print(f"{calls} calls")


def spent() -> float:
    """Seconds of processor time, of this process and of all that it has waited for."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


if __name__ == "__main__":
    main()
