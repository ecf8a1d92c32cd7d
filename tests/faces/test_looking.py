"""status, graph, explain and log as commands: what they say, their JSON documents, and that they run nothing."""

import json
import os
import shlex
import subprocess

import commands
import pytest

from build_tests.testing import BuildWorkspace

STEPS = {
    "gen": {"command": "grep -v '^#' in.txt >gen.txt", "inputs": ["in.txt"], "outputs": ["gen.txt"]},
    "use": {"command": "cat gen.txt >use.txt; echo $FLAVOUR >>use.txt; echo using; echo $TOKEN | wc -c",
            "inputs": ["gen.txt"], "outputs": ["use.txt"], "pass_env": ["FLAVOUR"], "secrets": ["TOKEN"]},
    "lone": {"command": "cat lone.in >lone.txt", "inputs": ["lone.in"], "outputs": ["lone.txt"]},
}  # fmt: skip
OTHER = {"bad": {"command": "echo 'oops: no' >&2; exit 3", "outputs": ["x"], "on_request": True}}


@pytest.fixture(scope="module")
def ws(tmp_path_factory):
    """Built; then a build of a step that fails."""
    ws = BuildWorkspace(tmp_path_factory.mktemp("looking") / "ws")
    ws.components({"targets": {"all": {"description": "all"}}, "default_target": "all"},
                  app={"steps": STEPS}, other={"steps": OTHER})  # fmt: skip
    ws.write("app/in.txt", "one\n")
    ws.write("app/lone.in", "one\n")
    assert commands.run(ws, "build", "-n0", FLAVOUR="mint").returncode == 0
    assert commands.run(ws, "build", "-n0", "other:bad").returncode == 1
    ws.write("app/lone.in", "two\n")
    return ws


def said(ws, *arguments, status=0, **more):
    done = commands.run(ws, *arguments, **more)
    assert (done.returncode, done.stderr if not status else "") == (status, "")
    return done.stdout if not status else done.stderr


def document(ws, *arguments, **more):
    found = json.loads(said(ws, *arguments, "--json", **more))
    assert found["version"] == 1
    return found


def runs(ws):
    return sorted(os.listdir(ws.root / ".build/runs"))


def test_status(ws):
    before = runs(ws)
    assert said(ws, "status", FLAVOUR="mint") == (
        "app    2 fresh, 1 stale\n"
        "  lone  stale: app/lone.in changed\n"
        "other  failed last time\n"
        "  bad  failed last time (runs on request)\n"
        "4 steps: 2 fresh, 1 stale, 1 failed last time\n"
    )
    assert runs(ws) == before


def test_status_as_a_document(ws):
    found = document(ws, "status", FLAVOUR="mint")
    assert found["counts"] == {"fresh": 2, "stale": 1, "failed last time": 1}
    states = {step["label"]: step["state"] for part in found["components"] for step in part["steps"]}
    assert states == {"app:gen": "fresh", "app:use": "fresh", "app:lone": "stale", "other:bad": "failed last time"}


def test_states_that_a_cache_and_a_variable_make(ws):
    (ws.root / "app/gen.txt").unlink()
    try:
        out = said(ws, "status", FLAVOUR="lemon")
        assert "gen   restorable: output app/gen.txt is missing" in out
        assert "use   stale: depends on the result of app:gen" in out
        out = said(ws, "explain", "app:use", FLAVOUR="lemon")
        assert "app:gen will be restored from local" in out
        assert "variable FLAVOUR changed: 'mint' → 'lemon'" in out
    finally:
        commands.run(ws, "build", "-n0", "app:gen", FLAVOUR="mint")


def test_graph(ws):
    text = said(ws, "graph", "app").splitlines()
    assert [line.split()[:2] for line in text[:2]] == [["*", "app:gen"], ["*", "app:use"]] or "app:lone" in text[0]
    assert text[-1].startswith("critical path (*): ")
    found = document_of_graph(ws)
    assert {step["label"]: step["needs"] for step in found["steps"]} == {
        "app:gen": [], "app:use": ["app:gen"], "app:lone": [], "other:bad": [],
    }  # fmt: skip
    assert found["critical_path"][0] in {"app:gen", "app:lone", "other:bad"}
    assert '"app:gen" -> "app:use"' in said(ws, "graph", "--format", "dot")
    mermaid = said(ws, "graph", "app:use", "--format", "mermaid").splitlines()
    assert mermaid[0] == "graph LR"
    assert "  s0 ==> s1" in mermaid


def document_of_graph(ws):
    return json.loads(said(ws, "graph", "--format", "json"))


def test_explain_as_a_document_has_no_values(ws):
    out = said(ws, "explain", "--json", FLAVOUR="pistachio")
    assert "pistachio" not in out
    assert "mint" not in out
    found = json.loads(out)
    assert found["version"] == 1
    steps = {step["label"]: step for step in found["steps"]}
    assert steps["app:use"]["expected"] == "build"
    assert steps["app:use"]["reasons"][0]["text"] == "variable FLAVOUR changed"
    assert all(step["fingerprint"] for step in steps.values())


def test_explain_against_another_machine(ws, tmp_path):
    theirs = tmp_path / "theirs.json"
    theirs.write_text(said(ws, "explain", "--json", FLAVOUR="mint"))
    same = said(ws, "explain", "--against", str(theirs), FLAVOUR="mint")
    assert same == "3 of 3 steps are made from the same\n"
    other = said(ws, "explain", "--against", str(theirs), FLAVOUR="lemon")
    assert other.splitlines() == [
        f"app:use is made from something else ({theirs}):", "    variable FLAVOUR changed",
        "2 of 3 steps are made from the same",
    ]  # fmt: skip
    found = document(ws, "explain", "--against", str(theirs), FLAVOUR="lemon")
    assert [step["label"] for step in found["steps"] if not step["same"]] == ["app:use"]


def test_explain_against_an_earlier_run(ws):
    out = said(ws, "explain", "--against", "last", FLAVOUR="lemon")
    assert "    variable FLAVOUR changed" in out
    assert "    app/lone.in changed" in out
    assert "no run is called 'nonsense'" in said(ws, "explain", "--against", "nonsense", status=4)


def test_explain_against_a_file_that_is_none(ws):
    assert "is no `pytest-build explain --json`" in said(ws, "explain", "--against", "build.yml", status=4)


def test_explain_of_the_last_run(ws):
    commands.run(ws, "build", "-n0", "other:bad")
    assert said(ws, "explain", "other:bad", "--last").splitlines()[1:] == [
        "other:bad failed: exit status 3", "    it failed last time",
    ]  # fmt: skip
    found = document(ws, "explain", "other:bad", "app:gen", "--last")
    assert [step["outcome"] for step in found["steps"]] == ["failed"]
    assert found["not_part"] == ["app:gen"]


def test_the_plan_as_a_document(ws):
    found = document(ws, "build", "--dry-run", FLAVOUR="mint")
    assert {step["label"]: step["expected"] for step in found["steps"]} == {
        "app:gen": "up to date", "app:use": "up to date", "app:lone": "build",
    }  # fmt: skip
    assert found["seconds"] > 0


def test_log(ws):
    commands.run(ws, "build", "-n0", "other:bad")
    assert "other:bad  failed: exit status 3" in said(ws, "log")
    out = said(ws, "log", "failed")
    assert "    oops: no" in out
    assert "    whole output: pytest-build log output other:bad" in out
    alone = next(line for line in out.splitlines() if "alone: " in line).partition("alone: ")[2]
    done = subprocess.run(["sh", "-c", alone], env=ws.environ, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (3, "oops: no\n")
    found = document(ws, "log", "failed")
    assert found["steps"][0]["repeat"] == alone
    assert document(ws, "log")["end"]["exit"] == 1


def test_a_steps_whole_output_and_how_to_repeat_it(ws):
    done = commands.run(ws, "log", "output", "app:use", FLAVOUR="mint", TOKEN="hush-hush")
    assert done.stdout == "using\n1\n"
    assert 'TOKEN="$TOKEN"' in done.stderr
    assert "hush" not in done.stderr
    alone = done.stderr.partition("alone: ")[2].strip()
    environ = {**ws.environ, "FLAVOUR": "fresh", "TOKEN": "123456789"}
    again = subprocess.run(["sh", "-c", alone], env=environ, capture_output=True, text=True, check=True)
    assert again.stdout == "using\n10\n"
    assert ws.read("app/use.txt").endswith("fresh\n")
    assert shlex.split(alone)
    ws.write("app/use.txt", "one\nmint\n")
    assert "no recorded run has run 'app:usr'; did you mean" in said(ws, "log", "output", "app:usr", status=4)


def test_the_difference_of_two_runs(ws):
    commands.run(ws, "build", "-n0", FLAVOUR="mint")
    ws.write("app/in.txt", "two\n")
    commands.run(ws, "build", "-n0", FLAVOUR="mint")
    out = said(ws, "log", "diff", "last~1", "last")
    assert "    app/in.txt changed" in out
    found = document(ws, "log", "diff", "last~1", "last")
    assert {"app:gen", "app:use"} <= {step["label"] for step in found["changed"]}
    assert found["only"] == [[], []]
    assert "as in: log" in said(ws, "log", "diff", "last", status=4)
