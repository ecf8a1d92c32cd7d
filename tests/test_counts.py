"""What a build in which nothing changed may ask of the machine. Counts, not clocks: equal on every machine."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from build_tests.testing import BuildWorkspace

SIZES = (25, 100, pytest.param(1000, marks=pytest.mark.slow))
WIDTH = 5
"""Steps of a component."""
INPUTS = 3
"""Files of a step's own: two by a pattern, one by its name."""
OWN = 10
"""Files of ours (build file, overlays, state, journal, ignore file), whatever the size."""
SLOW_TO_IMPORT = {
    "asyncio", "email", "http", "importlib.metadata", "logging", "multiprocessing", "sqlite3", "ssl", "unittest",
    "urllib.request", "xml",
}  # fmt: skip
"""Of the standard library; each costs more than deciding a hundred steps."""
SPY = '''
import sys

SPAWNS = {"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.exec", "os.system"}


def note(event, arguments):
    if event in SPAWNS:
        with open("spawned.txt", "a") as file:
            file.write(f"{event} {arguments}\\n")


def pytest_xdist_setupnodes(config, specs):
    with open("workers.txt", "a") as file:
        file.write(f"{len(specs)}\\n")


sys.addaudithook(note)
'''
"""A conftest.py that writes down every process and every start of workers."""


def workspace(root: Path, steps: int) -> BuildWorkspace:
    """Layers of five steps; each needs the one above it."""
    ws = BuildWorkspace(root)
    layers = range(steps // WIDTH)
    ws.components(**{f"layer{layer}": {"steps": dict(layer_steps(layer))} for layer in layers})
    for layer in layers:
        for name in map(str, range(WIDTH)):
            for file in (f"s{name}/a.txt", f"s{name}/b.txt", f"s{name}.txt"):
                ws.write(f"layer{layer}/in/{file}", f"{layer} {file}\n")
    return ws


def layer_steps(layer: int):
    for place in range(WIDTH):
        name = f"s{place}"
        above = [f"//layer{layer - 1}/out/{name}.txt"] if layer % 4 else []
        command = ["cp", f"in/{name}.txt", f"out/{name}.txt"]
        yield name, {"command": command, "inputs": [f"in/{name}/*.txt", f"in/{name}.txt", *above], "outputs": [command[2]]}


def probe(ws: BuildWorkspace):
    script = Path(__file__).with_name("counts_probe.py")
    done = subprocess.run(
        [sys.executable, script, ws.root], env=ws.environ, cwd=ws.root, stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout)


@pytest.fixture(scope="module", params=SIZES)
def counts(request, tmp_path_factory):
    """(how many steps, what the probe counted) in a workspace that was just built."""
    steps = request.param
    ws = workspace(tmp_path_factory.mktemp("counts") / "ws", steps)
    built = ws.build("-n0", "-q")
    assert built.status == 0, built.output
    found = probe(ws)
    assert (found["steps"], found["expected"]) == (steps, ["up to date"])
    return steps, found


def test_each_path_is_looked_at_once(counts):
    steps, found = counts
    twice = {path: times for path, times in found["stats"].items() if times > 1 and path.startswith("layer")}
    assert not twice
    # Each input, each output, and for the pattern each step's own folder.
    needed = steps * (INPUTS + 1 + 1)
    seen = sum(found["stats"].values())
    assert steps * (INPUTS + 1) < seen <= needed + OWN


def test_no_folder_is_listed_again(counts):
    assert counts[1]["listed"] == []


def test_nothing_is_read_again(counts):
    _, found = counts
    assert found["hashes"] == 0
    assert "build.yml" in found["opened"]
    assert len(found["opened"]) <= OWN, found["opened"]


def test_no_process_is_started(counts):
    assert counts[1]["spawned"] == []


def test_only_what_is_needed_is_imported(counts):
    _, found = counts
    assert found["third_party"] == ["xxhash", "yaml"]
    assert SLOW_TO_IMPORT.isdisjoint(found["modules"])


def test_the_probe_sees_what_it_counts(tmp_path):
    ws = workspace(tmp_path / "ws", 5)
    ws.components(one={"steps": {"s": {"command": "cat *.txt >o/out", "inputs": ["*.txt"], "outputs": ["o/out"]}}})
    ws.write("one/a.txt", "a")
    assert ws.build("-n0").status == 0
    ws.write("one/b.txt", "b")
    found = probe(ws)
    assert found["expected"] == ["build"]
    assert found["listed"] == ["one"]
    assert found["hashes"] == 1
    assert "one/b.txt" in found["opened"]


def test_through_pytest_no_worker_and_no_process_is_started(tmp_path):
    ws = workspace(tmp_path / "ws", 25)
    ws.write("conftest.py", SPY)
    assert ws.build("-n2").status == 0
    # The spy works: two workers, and at least their processes.
    assert ws.read("workers.txt") == "2\n"
    assert len(ws.read("spawned.txt").splitlines()) >= 2
    (ws.root / "workers.txt").unlink()
    (ws.root / "spawned.txt").unlink()
    again = ws.build("-n2")
    assert set(again.outcomes().values()) == {"fresh"}, again.output
    assert not (ws.root / "workers.txt").exists()
    assert not (ws.root / "spawned.txt").exists(), ws.read("spawned.txt")
