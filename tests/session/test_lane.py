"""Short rebuilds under `-n`: over before a worker is up, and as parallel, however long they take after all."""

import os
import signal
import subprocess
import time

import pytest

from build_tests.session.lane import are_enough


def three(ws, command="cat in >out"):
    """`a:make`, `b:make` and `c:make`, each with its own input."""
    step = {"command": command, "inputs": ["in"], "outputs": ["out"]}
    ws.components(**{name: {"steps": {"make": step}} for name in "abc"})
    for name in "abc":
        ws.write(f"{name}/in", "1")


def test_a_short_rebuild_starts_no_worker(build_workspace):
    ws = build_workspace
    three(ws)
    first = ws.build("-n2")
    assert {step.worker for step in first.steps.values()} <= {"gw0", "gw1"}
    assert "created: 2/2 workers" in first.output
    ws.write("a/in", "2")
    second = ws.build("-n2")
    assert second.outcomes() == {"a:make": "built", "b:make": "fresh", "c:make": "fresh"}
    assert "created:" not in second.output
    assert second.steps["a:make"].worker == ""
    assert "1 built" in second.output
    assert ws.read("a/out") == "2"


def test_steps_of_a_short_rebuild_run_at_a_time(build_workspace):
    """Two steps that now wait for each other: nothing but running them at once lets the build end."""
    ws = build_workspace
    meet = "cat in >out; if [ -e ../meet ]; then touch here; until [ -e ../{}/here ]; do sleep 0.05; done; fi"
    ws.components(
        a={"steps": {"make": {"command": meet.format("b"), "inputs": ["in"], "outputs": ["out"]}}},
        b={"steps": {"make": {"command": meet.format("a"), "inputs": ["in"], "outputs": ["out"]}}},
    )
    for name in "ab":
        ws.write(f"{name}/in", "1")
    ws.build("-n2")
    ws.write("meet", "")
    for name in "ab":
        ws.write(f"{name}/in", "2")
    result = ws.build("-n2")
    assert result.status == 0, result.output
    assert result.outcomes() == {"a:make": "built", "b:make": "built"}
    assert "created:" not in result.output


@pytest.mark.parametrize("option", [(), ("-x",)], ids=["on", "x"])
def test_a_failure_in_the_lane_is_one_like_any_other(build_workspace, option):
    ws = build_workspace
    three(ws, "grep -v bad in >out")
    ws.build("-n2")
    for name in "abc":
        ws.write(f"{name}/in", "bad" if name == "a" else "good")
    result = ws.build("-n2", *option)
    assert result.status == 1
    assert result["a:make"].value == "failed"
    assert set(result.outcomes()) == {"a:make", "b:make", "c:make"}
    assert "a:make" in result.output.rpartition("short test summary")[2]
    mended = ws.build("-n2", "--lf") if not option else None
    assert mended is None or mended["a:make"].value == "failed"


def test_hooks_of_a_conftest_are_not_passed_over(build_workspace):
    ws = build_workspace
    three(ws)
    ws.write("conftest.py", "def pytest_runtest_setup(item):\n    open('seen', 'a').write(item.name + '\\n')\n")
    ws.build("-n2")
    ws.write("a/in", "2")
    ws.build("-n2")
    assert ws.read("seen").splitlines().count("a:make") == 2


def test_an_interrupt_ends_what_runs_in_the_lane(build_workspace):
    ws = build_workspace
    three(ws, "cat in >out; if [ -e ../hang ]; then echo $$ >../pid; exec sleep 300; fi")
    ws.build("-n2")
    ws.write("hang", "")
    ws.write("a/in", "2")
    run = subprocess.Popen(
        ws.command("build.yml", "-n2"), cwd=ws.root, env=ws.environ, stdout=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
    )  # fmt: skip
    limit = time.monotonic() + 60
    while not (ws.root / "pid").exists() or not ws.read("pid").strip():
        assert time.monotonic() < limit
        assert run.poll() is None
        time.sleep(0.02)
    pid = int(ws.read("pid"))
    run.send_signal(signal.SIGINT)
    output, _ = run.communicate(timeout=60)
    assert run.returncode == 2, output
    assert not os.path.exists(f"/proc/{pid}")
    (ws.root / "hang").unlink()
    assert ws.build("-n2")["a:make"].value == "built"


def test_lanes_are_for_what_is_known_to_be_short():
    assert not are_enough(None, 2)
    assert are_enough(1.5, 2)
    assert not are_enough(30.0, 2)


def test_a_chain_runs_in_one_process_and_two_branches_in_two(build_workspace):
    ws = build_workspace
    steps = {
        "one": {"command": "echo 1 >one", "outputs": ["one"]},
        "two": {"command": "cat one >two", "inputs": ["one"], "outputs": ["two"]},
        "three": {"command": "cat one two >three", "inputs": ["one", "two"], "outputs": ["three"]},
    }
    ws.components(a={"steps": steps})
    chain = ws.build("-n2")
    assert set(chain.outcomes().values()) == {"built"}
    assert "created:" not in chain.output
    ws.components(a={"steps": {**steps, "three": {"command": "cat one >three", "inputs": ["one"], "outputs": ["three"]}}})
    for name in ("one", "two", "three"):
        (ws.root / "a" / name).unlink()
    fork = ws.build("-n2", "--cache-clear", "--build-cache", "off")
    assert set(fork.outcomes().values()) == {"built"}
    assert "created: 2/2 workers" in fork.output
