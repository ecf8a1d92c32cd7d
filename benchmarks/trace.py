"""What tracing costs: one command with and without `--build-trace`'s tracer, by turns.

    python benchmarks/trace.py ROOT FOLDER RUNS COMMAND [REMOVED …]

With LOOKS in the environment also the calls that open nothing are traced, as `--build-trace` does and strict rules
alone do not. ROOT is the repository, FOLDER where the command runs; REMOVED are removed before each run. Prints the medians of the
wall time, and the median of the ratios of neighbouring runs, which a machine that is busy disturbs least.
"""

from __future__ import annotations

import os
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
    runner = Runner(root, PathSet())
    seconds: dict[bool, list[float]] = {False: [], True: []}
    calls = 0
    with tempfile.TemporaryDirectory() as logs:
        # The first pair fills the system's caches and is not counted.
        for number in range(2 * int(runs) + 2):
            on = number % 2 == 1
            for name in removed:
                shutil.rmtree(os.path.join(root, folder, name), ignore_errors=True)
            result = runner.run(order(folder, command, os.path.join(logs, "log"), traced if on else None))
            if not result.ok:
                sys.exit(f"{result.message}\n{result.tail}")
            calls = result.trace["calls"] if result.trace else calls
            if number > 1:
                seconds[on].append(result.seconds)
    runner.guardian.close()
    ratios = [on / off for off, on in zip(seconds[False], seconds[True], strict=True)]
    print(f"without {statistics.median(seconds[False]):.2f} s (best {min(seconds[False]):.2f})")
    print(f"with    {statistics.median(seconds[True]):.2f} s (best {min(seconds[True]):.2f}), {calls} calls")
    print(f"ratio   {statistics.median(ratios):.2f} (best against best {min(seconds[True]) / min(seconds[False]):.2f})")


if __name__ == "__main__":
    main()
