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
LOOKS_AT_A_TOOL = 5
"""To resolve one program and to see whether it is the one whose version is known."""
SETTINGS = 10
"""Files that pytest would read if they were there, in the build file's own folder."""
WORKSPACES: dict[int, str] = {}
FAST = {
    "checkout", "core", "core.collector", "core.commands", "core.digest", "core.errors", "core.fingerprint", "core.frontier",
    "core.globs", "core.graph", "core.locate", "core.model", "core.plan", "faces", "faces.buildcli", "faces.cli",
    "faces.common", "faces.fastbuild", "parsed", "project", "pytestside", "registry", "run", "run.build",
    "run.decide", "run.journal", "run.junit", "run.locks", "run.outputs", "run.places", "run.record", "run.resources",
    "run.signals", "run.state", "run.text", "run.toolchain",
}  # fmt: skip
"""All of ours that a build needs in which nothing changed."""
SLOW_TO_IMPORT = {
    "asyncio", "email", "http", "importlib.metadata", "logging", "multiprocessing", "sqlite3", "ssl", "unittest",
    "urllib.request", "xml",
}  # fmt: skip
"""Of the standard library; each costs more than deciding a hundred steps."""
SPY = """
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
"""
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
        source, output = f"in/{name}.txt", f"out/{name}.txt"
        inputs = [f"in/{name}/*.txt", source, *above]
        yield name, {"command": ["cp", source, output], "inputs": inputs, "outputs": [output]}


def probe(ws: BuildWorkspace, *command):
    script = Path(__file__).with_name("counts_probe.py")
    done = subprocess.run(
        [sys.executable, script, ws.root, *command], env=ws.environ, cwd=ws.root, stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout)


@pytest.fixture(scope="module", params=SIZES)
def looks(request, tmp_path_factory):
    """(how many steps, what the probe counted in two looks) in a workspace that was just built."""
    steps = request.param
    folder = tmp_path_factory.mktemp("counts")
    WORKSPACES[steps] = folder.name
    ws = workspace(folder / "ws", steps)
    built = ws.build("-n0", "-q")
    assert built.status == 0, built.output
    found = [probe(ws), probe(ws)]
    assert [(look["steps"], look["expected"]) for look in found] == [(steps, ["up to date"])] * 2
    return steps, found


def test_each_path_is_looked_at_once(looks):
    steps, found = looks
    for look in found:
        stats = look["stats"]
        assert {times for path, times in stats.items() if path.startswith("layer")} == {1}
        # Each input, each output, and for the pattern each step's own folder.
        inside = sum(times for path, times in stats.items() if not path.startswith(".."))
        assert steps * (INPUTS + 1) < inside <= steps * (INPUTS + 1 + 1) + OWN


def test_a_tool_is_looked_for_once_whatever_the_number_of_steps(looks):
    for look in looks[1]:
        outside = {path: times for path, times in look["stats"].items() if path.startswith("..")}
        assert any(path.endswith("/cp") for path in outside)
        assert max(outside.values()) <= LOOKS_AT_A_TOOL, outside


def test_no_folder_is_listed_again(looks):
    assert [look["listed"] for look in looks[1]] == [[], []]


def test_nothing_is_read_again(looks):
    for look in looks[1]:
        assert look["hashes"] == 0
        assert "build.yml" in look["opened"]
        assert len(look["opened"]) <= OWN, look["opened"]


def test_no_process_is_started(looks):
    assert [look["spawned"] for look in looks[1]] == [[], []]


def test_only_what_is_needed_is_imported(looks):
    first, second = looks[1]
    assert set(first["third_party"]) <= {"xxhash", "yaml"}
    # By now the parsed build file is remembered.
    assert second["third_party"] == ["xxhash"]
    for look in (first, second):
        assert SLOW_TO_IMPORT.isdisjoint(look["modules"])


@pytest.fixture(scope="module")
def build_looks(looks, tmp_path_factory):
    """The same of `pytest-build build`, once pytest has told that it need not see it."""
    steps, _ = looks
    ws = BuildWorkspace(tmp_path_factory.getbasetemp() / WORKSPACES[steps] / "ws")
    probe(ws, "build", "-q")
    return steps, [probe(ws, "build", "-q"), probe(ws, "build", "-q")]


def test_the_command_needs_no_pytest(build_looks):
    steps, found = build_looks
    for look in found:
        assert look["status"] == 0
        assert f" {steps} up to date in " in look["out"]
        assert look["third_party"] == ["xxhash"]
        assert SLOW_TO_IMPORT.isdisjoint(look["modules"])
        ours = {name for name in look["modules"] if name.startswith("build_tests.")}
        assert ours == {f"build_tests.{name}" for name in FAST}


def test_the_command_asks_no_more_of_the_machine_than_the_decision(build_looks):
    steps, found = build_looks
    for look in found:
        assert {times for path, times in look["stats"].items() if path.startswith("layer")} == {1}
        inside = sum(times for path, times in look["stats"].items() if not path.startswith(".."))
        assert inside <= steps * (INPUTS + 1 + 1) + OWN + SETTINGS
        # Its own files for reading, and those that it writes: record, report, and the report's temporary name.
        assert len(look["opened"]) <= OWN + 2, look["opened"]
        assert look["listed"] == [".build/runs"]
        assert look["spawned"] == []


@pytest.mark.parametrize("command", ["status", "explain", "graph", "log"])
def test_commands_that_look_are_no_dearer(build_looks, tmp_path_factory, command):
    steps, _ = build_looks
    look = probe(BuildWorkspace(tmp_path_factory.getbasetemp() / WORKSPACES[steps] / "ws"), command)
    assert look["status"] == 0
    assert set(look["third_party"]) <= {"xxhash"}
    assert SLOW_TO_IMPORT.isdisjoint(look["modules"])
    assert {times for path, times in look["stats"].items() if path.startswith("layer")} <= {1}
    assert len(look["opened"]) <= OWN, look["opened"]
    assert set(look["listed"]) <= {".build/runs"}
    assert look["spawned"] == []


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
