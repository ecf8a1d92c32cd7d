"""How long `pytest-build watch` takes from an edit to the start of the step that it affects.

    python benchmarks/watch.py [--steps 6 1000] [--edits 20]

The edit's time is the file's own, the start is that of the step's record. The debounce is counted off. Wall times hold for an
idle machine only; the load is shown beside them.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from build_tests.testing import BuildWorkspace

COMMAND = str(Path(sys.executable).with_name("pytest-build"))
DEBOUNCE_MS = 50
WIDTH = 5


def workspace(folder, steps):
    ws = BuildWorkspace(folder / "ws")
    copy = {f"s{i}": {"command": f"cat in{i}.txt >out{i}", "inputs": [f"in{i}.txt"], "outputs": [f"out{i}"]} for i in range(WIDTH)}
    ws.components(**{f"c{c}": {"steps": copy} for c in range(max(1, steps // WIDTH))})
    for component in range(max(1, steps // WIDTH)):
        for i in range(WIDTH):
            ws.write(f"c{component}/in{i}.txt", "0")
    return ws


@contextlib.contextmanager
def watching(ws, log):
    with log.open("w") as file:
        process = subprocess.Popen(
            [COMMAND, "watch", "-q", "--debounce", str(DEBOUNCE_MS)], cwd=ws.root, env=ws.environ,
            stdin=subprocess.DEVNULL, stdout=file, stderr=file,
        )  # fmt: skip
        try:
            yield lambda: log.read_text().count("waiting for edits")
        finally:
            process.terminate()
            process.wait()


def latency(ws, waited, number):
    """Milliseconds from one edit to the start of its step, without the debounce."""
    before = waited()
    edited = ws.write("c0/in3.txt", f"edit {number}").stat().st_ctime
    while waited() == before:
        time.sleep(0.005)
    lines = [json.loads(line) for line in max((ws.root / ".build/runs").iterdir()).read_text().splitlines()]
    (started,) = [line["started"] for line in lines if line.get("outcome") == "built"]
    return (started - edited) * 1000 - DEBOUNCE_MS


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", nargs="+", type=int, default=[6, 1000])
    parser.add_argument("--edits", type=int, default=20)
    options = parser.parse_args()
    for steps in options.steps:
        with tempfile.TemporaryDirectory() as name:
            ws = workspace(Path(name), steps)
            with watching(ws, Path(name) / "log") as waited:
                while not waited():
                    time.sleep(0.05)
                found = [latency(ws, waited, number) for number in range(options.edits)]
        print(
            f"{steps:5} steps: median {statistics.median(found):.0f} ms, best {min(found):.0f} ms, worst {max(found):.0f} ms "
            f"(load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors)"
        )


if __name__ == "__main__":
    main()
