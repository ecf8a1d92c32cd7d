"""Death at any moment: of the controller, a worker, a tool; and two builds in one checkout.

KILLS sets how many random moments are tried (20 otherwise).
"""

import json
import os
import random
import re
import signal
import subprocess
import time
import uuid
from pathlib import Path

import pytest

from build_tests.testing import BuildWorkspace

KILLS = int(os.environ.get("KILLS", "20"))
PROMISED = 5.0
"""Seconds after which nothing of a dead run may be left."""
HANG = "echo $$ >../pid; until test -e ../go; do sleep 0.05; done; echo done >out"


class Marked:
    """A workspace whose every process carries a mark in its environment."""

    def __init__(self, root: Path) -> None:
        self.ws = BuildWorkspace(root)
        self.mark = f"mark-{uuid.uuid4()}"
        self.ws.environ["BUILD_TEST_MARK"] = self.mark

    def step(self, **fields):
        return {"env": {"BUILD_TEST_MARK": self.mark}, **fields}

    def start(self, *arguments):
        return subprocess.Popen(
            self.ws.command("build.yml", *arguments), cwd=self.ws.root, env=self.ws.environ, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def processes(self):
        """pid → command line of every living process that carries the mark."""
        found = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    if self.mark.encode() in (entry / "environ").read_bytes() and alive(entry):
                        found[int(entry.name)] = (
                            (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                        )
                except OSError:
                    continue
        return found

    def survivors(self):
        """Who is still there when the promised time is over."""
        end = time.monotonic() + PROMISED
        while (left := self.processes()) and time.monotonic() < end:
            time.sleep(0.02)
        return left


def alive(entry):
    return (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[0] not in "ZX"


def wait_for(path, process):
    """Until a step has written it."""
    end = time.monotonic() + 120
    while not (path.exists() and path.read_text().strip()):
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < end, f"{path} never came"
        time.sleep(0.01)
    return path.read_text().strip()


@pytest.fixture
def marked(tmp_path):
    made = Marked(tmp_path / "ws")
    yield made
    # Never leave anything behind, whatever a test has found out.
    for pid in made.processes():
        os.kill(pid, signal.SIGKILL)


WIDTH, DEPTH = 4, 3


def layered(marked):
    """Twelve steps in three layers; each writes its outputs in two halves, with time to die in between."""
    steps = {}
    for layer in range(DEPTH):
        for i in range(WIDTH):
            name, pause = f"s{layer}{i}", 0.02 + 0.01 * ((layer + i) % 5)
            needs = [f"//a/out/s{layer - 1}{i}", f"//a/out/s{layer - 1}{(i + 1) % WIDTH}"] if layer else []
            read = " ".join(f"out/s{layer - 1}{j % WIDTH}" for j in (i, i + 1)) if layer else "in.txt"
            steps[name] = marked.step(
                command=f"printf 'first {name}\\n' >out/{name}; sleep {pause}; cat {read} >>out/{name}",
                inputs=["in.txt", *needs],
                outputs=[f"out/{name}"],
            )
    marked.ws.components(a={"steps": steps})


def clean(text):
    """What a clean build gives, said here and not by a build."""
    made = {}
    for layer in range(DEPTH):
        for i in range(WIDTH):
            read = made[f"s{layer - 1}{i}"] + made[f"s{layer - 1}{(i + 1) % WIDTH}"] if layer else text
            made[f"s{layer}{i}"] = f"first s{layer}{i}\n{read}"
    return made


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "kills"), [("-n0", KILLS * 3 // 5), ("-n2", KILLS - KILLS * 3 // 5)])
def test_a_controller_killed_at_any_moment_harms_nothing(marked, mode, kills):
    ws = marked.ws
    layered(marked)
    ws.write("a/in.txt", "0\n")
    started = time.monotonic()
    assert ws.build(mode).status == 0
    lasts = time.monotonic() - started
    chance = random.Random(f"{mode} {kills}")
    for number in range(1, kills + 1):
        text = f"{number}\n"
        ws.write("a/in.txt", text)
        run = marked.start(mode)
        journal = ws.root / ".build/journal"
        if number % 4:
            # Most often among the steps, the rest anywhere.
            while run.poll() is None and not journal.exists():
                time.sleep(0.002)
            time.sleep(chance.uniform(0, lasts / 2))
        else:
            time.sleep(chance.uniform(0, lasts))
        run.kill()
        run.communicate()
        assert marked.survivors() == {}
        result = ws.build(mode)
        assert result.status == 0, result.output
        assert len(result.steps) == WIDTH * DEPTH
        assert {path.name: path.read_text() for path in (ws.root / "a/out").iterdir()} == clean(text)
        assert set(result.outcomes().values()) <= {"built", "fresh"}
    assert [str(path) for path in ws.root.rglob("*.tmp")] == []
    assert set(ws.build(mode).outcomes().values()) == {"fresh"}


def test_a_killed_worker_fails_its_step_and_the_rest_goes_on(marked):
    ws = marked.ws
    # This shell's parent is a guardian of two processes, and theirs is the worker.
    above = "set -- $(cat /proc/$PPID/stat); set -- $(cat /proc/$4/stat)"
    kill = f'{above}; echo half >out; kill -9 "$4"; exec sleep 600'
    ws.components(
        a={"steps": {
            "die": marked.step(command=kill, outputs=["out"]),
            "after": marked.step(command="true", depends_on=["a:die"]),
            **{f"other{i}": marked.step(command=f"echo {i} >o{i}", outputs=[f"o{i}"]) for i in range(6)},
        }},
    )  # fmt: skip
    result = ws.build("-n2")
    assert result.status == 1, result.output
    assert result.outcomes() == {"a:die": "failed", "a:after": "blocked", **{f"a:other{i}": "built" for i in range(6)}}
    assert "crashed" in result.steps["a:die"].message
    assert "crashed" in result.output
    assert result.steps["a:after"].culprit == "a:die"
    assert marked.survivors() == {}
    again = ws.build("-n2")
    assert (again["a:die"].value, again["a:other0"].value) == ("failed", "fresh")


@pytest.mark.parametrize("mode", ["-n0", "-n2"])
def test_a_killed_tool_is_named_with_its_signal_and_not_trusted(marked, mode):
    ws = marked.ws
    ws.components(
        a={"steps": {
            "die": marked.step(command="echo half >out; test -e ../go || kill -9 $$; echo whole >out", outputs=["out"]),
            "after": marked.step(command="cat out >after", inputs=["out"], outputs=["after"]),
        }},
    )  # fmt: skip
    result = ws.build(mode)
    assert result.status == 1
    assert result.outcomes() == {"a:die": "failed", "a:after": "blocked"}
    assert "SIGKILL" in result.steps["a:die"].message
    assert result.steps["a:die"].signal == signal.SIGKILL
    assert marked.survivors() == {}
    ws.write("go", "")
    assert ws.build(mode).outcomes() == {"a:die": "built", "a:after": "built"}
    assert ws.read("a/after") == "whole\n"


def hanging(marked):
    """`a:done`, and `a:hang` after it, which waits for the file `go`."""
    marked.ws.components(
        a={"steps": {
            "done": marked.step(command="echo fine >fine", outputs=["fine"]),
            "hang": marked.step(command=HANG, outputs=["out"], depends_on=["a:done"]),
            "after": marked.step(command="cat out >after", inputs=["out"], outputs=["after"]),
        }},
    )  # fmt: skip


@pytest.mark.parametrize("mode", ["-n0", "-n2"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda n: n.name)
def test_a_signal_to_the_controller_alone_ends_all_and_keeps_what_is_done(marked, mode, number):
    ws = marked.ws
    hanging(marked)
    run = marked.start(mode)
    wait_for(ws.root / "pid", run)
    run.send_signal(number)
    output, _ = run.communicate(timeout=60)
    assert run.returncode == 2, output
    assert marked.survivors() == {}
    ws.write("go", "")
    result = ws.build(mode)
    assert result.outcomes() == {"a:done": "fresh", "a:hang": "built", "a:after": "built"}, result.output
    assert result.steps["a:hang"].reasons[0]["kind"] in ("interrupted", "failed")
    assert ws.read("a/after") == "done\n"


def test_every_step_of_an_interrupted_run_has_an_outcome(marked):
    ws = marked.ws
    hanging(marked)
    run = marked.start("-n2")
    wait_for(ws.root / "pid", run)
    run.send_signal(signal.SIGINT)
    run.communicate(timeout=60)
    [record] = (ws.root / ".build/runs").glob("*.jsonl")
    lines = [json.loads(line) for line in record.read_text().splitlines()]
    ended = {line["label"]: line["outcome"] for line in lines if line["type"] == "step"}
    assert ended.pop("a:hang") in ("cancelled", "failed")
    assert ended == {"a:done": "built", "a:after": "cancelled"}
    assert lines[-1]["type"] == "end"
    assert lines[-1]["exit"] == 2


def test_a_second_build_waits_and_names_the_holder(marked):
    ws = marked.ws
    hanging(marked)
    first = marked.start("-n0")
    wait_for(ws.root / "pid", first)
    for more in ([], ["--lf"]):
        refused = ws.pytest("build.yml", "-n0", "--build-no-wait", *more)
        assert refused.returncode == 4, refused.stdout
        said = refused.stdout
        assert re.search(rf"another build runs in this checkout: process {first.pid}, since \d\d:\d\d:\d\d", said)
        assert "Traceback" not in said
    second = marked.start("-n0")
    told = []
    for line in second.stdout:
        told.append(line)
        if "waiting for another build" in line:
            break
    assert f"process {first.pid}" in told[-1], "".join(told)
    ws.write("go", "")
    assert (first.wait(60), second.wait(60)) == (0, 0)
    assert "3 up to date" in second.stdout.read()
    first.stdout.close()
    second.stdout.close()


def test_a_dead_holders_lock_is_free(marked):
    ws = marked.ws
    hanging(marked)
    run = marked.start("-n0")
    wait_for(ws.root / "pid", run)
    run.kill()
    run.communicate()
    ws.write("go", "")
    result = ws.build("-n0", "--build-no-wait")
    assert result.status == 0, result.output
    assert "another build" not in result.output
