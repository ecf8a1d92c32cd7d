"""`pytest-build build` without pytest against the same with it, over a table of situations."""

import fcntl
import json
import os
import re
import shutil
import subprocess
import time

import commands
import pytest

from build_tests.testing import BuildWorkspace

NOTE = ".build/pytest.json"
STEPS = {
    "a": {"command": "cat in.txt >out/a.txt", "inputs": ["in.txt"], "outputs": ["out/a.txt"]},
    "b": {"command": "cat out/a.txt more/*.txt >out/b.txt", "inputs": ["out/a.txt", "more/*.txt"],
          "outputs": ["out/b.txt"], "tags": ["late"]},
    "c": {"command": "echo $FLAVOUR >out/c.txt", "pass_env": ["FLAVOUR"], "outputs": ["out/c.txt"],
          "tags": ["flaky"]},
}  # fmt: skip
OTHER = {
    "lacking": {"command": ["no-such-tool-at-all"], "outputs": ["out/l.txt"]},
    "after": {"command": "cp out/l.txt out/m.txt", "inputs": ["out/l.txt"], "outputs": ["out/m.txt"]},
    "bad": {"command": "exit 3", "outputs": ["out/x.txt"], "on_request": True},
}  # fmt: skip
TARGETS = {
    "all": {"components": ["app"]}, "late": {"tags": ["late"]}, "kept": {"components": ["app"], "artifacts": True},
    "sure": {"components": ["app"], "cache_strategy": "conservative"},
}  # fmt: skip


@pytest.fixture(scope="module")
def ws(tmp_path_factory):
    """A workspace that was built, with a note on its pytest."""
    ws = BuildWorkspace(tmp_path_factory.mktemp("fast") / "ws")
    ws.components({"targets": TARGETS, "default_target": "all"}, app={"steps": STEPS}, other={"steps": OTHER})
    ws.write("config/environments/staging.yml", 'targets: {all: {description: "of staging"}}\n')
    for path in ("app/in.txt", "app/more/1.txt", "app/more/2.txt"):
        ws.write(path, path)
    learn(ws)
    return ws


def learn(ws, *arguments):
    """Until the note is there: none is taken while settings are younger than the clock's ticks."""
    (ws.root / NOTE).unlink(missing_ok=True)
    for _ in range(10):
        done = commands.run(ws, "build", *arguments)
        if (ws.root / NOTE).exists():
            return json.loads(ws.read(NOTE))["why"]
    raise AssertionError(done.stdout + done.stderr)


def nothing(_ws):
    pass


def lose(*paths):
    def change(ws):
        for path in paths:
            (ws.root / path).unlink(missing_ok=True)

    return change


def edit(ws):
    ws.write("app/in.txt", str(time.time_ns()))


def added(ws):
    ws.write(f"app/more/{time.time_ns()}.txt", "new")


SITUATIONS = {
    # name: what is done before, the command's arguments, variables, whether pytest must run, exit status
    "nothing": (nothing, [], {}, False, 0),
    "quiet": (nothing, ["-q"], {}, False, 0),
    "one process": (nothing, ["-n0"], {}, False, 0),
    "three workers": (nothing, ["-n", "3"], {}, False, 0),
    "a component": (nothing, ["app"], {}, False, 0),
    "two steps": (nothing, ["app:c", "app:a"], {}, False, 0),
    "a target": (nothing, ["-t", "late"], {}, False, 0),
    "a target as selector": (nothing, ["late"], {}, False, 0),
    "target and selector": (nothing, ["-t", "late", "app"], {}, False, 0),
    "conservative": (nothing, ["-t", "sure"], {}, False, 0),
    "artifacts": (nothing, ["-t", "kept"], {}, False, 0),
    "environment": (nothing, ["--build-env", "staging"], {}, False, 0),
    "the build file named": (nothing, ["--build-file", "build.yml"], {}, False, 0),
    "an output lost": (lose("app/out/b.txt"), [], {}, False, 0),
    "all outputs lost": (lose("app/out/a.txt", "app/out/b.txt", "app/out/c.txt"), [], {}, False, 0),
    "a tool missing": (nothing, ["other", "app"], {}, False, 0),
    "a tool of the named missing": (nothing, ["other:after"], {}, False, 1),
    "an edit and a lost output": (lambda ws: (edit(ws), lose("app/out/c.txt")(ws)), [], {}, True, 0),
}
"""Each run twice: once as it comes, once with the note away, so that pytest does it all."""


@pytest.mark.parametrize("name", SITUATIONS)
def test_both_ways_are_the_same(ws, name):
    change, arguments, variables, through_pytest, status = SITUATIONS[name]
    change(ws)
    ours = outcome_of(ws, arguments, variables)
    (ws.root / NOTE).rename(ws.root / "note")
    change(ws)
    theirs = outcome_of(ws, arguments, variables)
    (ws.root / "note").rename(ws.root / NOTE)
    shown = ours.pop("out"), theirs.pop("out")
    assert (ours.pop("pytest"), theirs.pop("pytest")) == (through_pytest, True), shown
    assert lines(ours) == lines(theirs), shown
    assert ours["status"] == status, shown


THROUGH = {
    # name: the command's arguments, variables, exit status
    "a failing step": (["app", "other:bad"], {}, 1),
    "no such target": (["-t", "latte"], {}, 4),
    "no such step": (["app:z"], {}, 4),
    "an expression": (["-k", "late"], {}, 0),
    "an option of pytest's": (["--", "--tb=short"], {}, 0),
    "a variable for pytest": ([], {"PYTEST_ADDOPTS": "--junitxml=its.xml"}, 0),
    "an unknown variable for pytest": ([], {"PYTEST_SOMETHING": "1"}, 0),
    "a job of GitHub's": ([], {"GITHUB_ACTIONS": "true"}, 0),
}


@pytest.mark.parametrize("name", THROUGH)
def test_pytest_does_what_it_alone_can(ws, name):
    arguments, variables, status = THROUGH[name]
    note = ws.read(NOTE)
    found = outcome_of(ws, arguments, variables)
    ws.write(NOTE, note)
    assert (found["pytest"], found["status"]) == (True, status), found["out"]


def lines(outcome):
    """For a readable difference."""
    return json.dumps(outcome, indent=1, sort_keys=True).splitlines()


def outcome_of(ws, arguments, variables):
    runs = set(os.listdir(ws.root / ".build/runs"))
    report = ws.root / ".build/reports/junit.xml"
    report.unlink(missing_ok=True)
    done = commands.run(ws, "build", *arguments, **variables)
    new = sorted(set(os.listdir(ws.root / ".build/runs")) - runs)
    return {
        "status": done.returncode, "summary": summary_of(done.stdout),
        "record": [record_of(ws.root / ".build/runs" / run) for run in new],
        "junit": timeless(report.read_text()) if report.exists() else None,
        "artifacts": sorted(str(p) for p in (ws.root / ".build/artifacts").rglob("*")),
        "pytest": "test session starts" in done.stdout or "usage:" in done.stderr or done.returncode == 4,
        "out": done.stdout + done.stderr,
    }


def summary_of(out):
    lines = [line for line in out.splitlines() if re.search(r" in \d+\.\d\ds", line)]
    return re.sub(r"=+", "=", re.sub(r"\d+\.\d\ds", "T", lines[-1])) if lines else ""


def timeless(junit):
    return re.sub(r'(time|timestamp)="[^"]*"', "", junit)


def record_of(path):
    """The run's lines, without what differs between any two runs."""
    volatile = {
        "id", "started", "ended", "ready", "seconds", "predicted", "log", "key", "fingerprint", "cpu_seconds",
        "max_rss_bytes",
    }  # fmt: skip
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    kept = [{name: value for name, value in line.items() if name not in volatile} for line in lines]
    # Steps that settle at a time have no order; edits in a table of situations are never the same text.
    return [kept[0], *sorted(kept[1:-1], key=lambda line: line["label"]), kept[-1]]


SETTINGS = {
    # what is written, and why pytest must see each build; "" = it need not
    "options that say nothing": ("pytest.ini", "[pytest]\naddopts = -ra --strict-markers -p no:randomly\n", ""),
    "an option that writes": ("pytest.ini", "[pytest]\naddopts = --junitxml=x.xml\n", "option --junitxml=x.xml"),
    "a plugin by option": ("pytest.ini", "[pytest]\naddopts = -p pytester\n", "option -p"),
    "a setting": ("pytest.ini", "[pytest]\nlog_file = x.log\n", "setting log_file"),
    "in pyproject.toml": ("pyproject.toml", '[tool.pytest.ini_options]\naddopts = "-x"\n', "option -x"),
    "fixtures alone": ("conftest.py", "import pytest\n@pytest.fixture\ndef one(): return 1\n", ""),
    "hooks of items that run": ("conftest.py", "def pytest_runtest_setup(item): raise SystemExit(9)\n", ""),
    "a hook": ("conftest.py", "def pytest_sessionfinish(): print('bye')\n", "plugin {root}/conftest.py: pytest_s"),
    "a variable": ("conftest.py", "import os\nos.environ['FLAVOUR'] = 'x'\n", "a conftest or plugin changes variables"),
}  # fmt: skip


@pytest.mark.parametrize("name", SETTINGS)
def test_what_pytest_must_see_and_what_not(ws, name):
    path, text, why = SETTINGS[name]
    file = ws.write(path, text)
    try:
        said = learn(ws, "app:c")
        assert said.startswith(why.format(root=ws.root)) if why else not said
        again = commands.run(ws, "build", "app:c")
        assert ("test session starts" in again.stdout) == bool(why)
        assert again.returncode == 0
    finally:
        file.unlink()
        (ws.root / "x.xml").unlink(missing_ok=True)
    if path == "pytest.ini":
        # What the note rests on has changed.
        assert "test session starts" in commands.run(ws, "build", "app:c").stdout


def test_the_state_lies_where_pytests_cache_is(tmp_path):
    ws = BuildWorkspace(tmp_path / "ws")
    ws.components(app={"steps": {"a": STEPS["a"]}})
    ws.write("app/in.txt", "1")
    ws.write("pytest.ini", "[pytest]\ncache_dir = elsewhere\n")
    assert learn(ws) == ""
    done = commands.run(ws, "build")
    assert "test session starts" not in done.stdout
    assert "1 up to date" in done.stdout
    shutil.rmtree(ws.root / "elsewhere")
    # pytest's own files are to be in its folder as well, so pytest makes it.
    assert "test session starts" in commands.run(ws, "build").stdout
    assert (ws.root / "elsewhere/.gitignore").exists()


def test_what_was_restored_is_not_decided_again(ws):
    learn(ws)
    edit(ws)
    lose("app/out/c.txt")(ws)
    done = commands.run(ws, "build")
    assert re.search(r"app:c restored", done.stdout), done.stdout
    run = max(os.listdir(ws.root / ".build/runs"))
    steps = [json.loads(line) for line in (ws.root / ".build/runs" / run).read_text().splitlines()][1:-1]
    assert sorted((step["label"], step["outcome"]) for step in steps) == [
        ("app:a", "built"), ("app:b", "built"), ("app:c", "restored"),
    ]  # fmt: skip


def test_two_commands_wait_for_each_other(ws):
    learn(ws)
    with open(ws.root / ".build/lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        waiting = commands.start(ws, "build")
        assert waiting.stdout.readline().startswith("build: waiting for another build")
        fcntl.flock(lock, fcntl.LOCK_UN)
        out, _ = waiting.communicate(timeout=60)
    assert waiting.returncode == 0
    assert "up to date" in out


def test_a_damaged_note_is_asked_again(ws):
    learn(ws)
    whole = ws.read(NOTE)
    for text in ("", whole[:50], "[]", '{"version": 99}'):
        ws.write(NOTE, text)
        done = commands.run(ws, "build")
        assert done.returncode == 0
        assert "test session starts" in done.stdout
        assert ws.read(NOTE) != text



def test_pytest_does_not_wait_for_what_the_command_began(tmp_path):
    ws = BuildWorkspace(tmp_path / "ws")
    ws.components(app={"steps": {"a": STEPS["a"]}})
    ws.write("app/in.txt", "1")
    ws.write("app/kept.txt", "a source")
    for arguments in (["init", "-q"], ["add", "app/kept.txt"]):
        subprocess.run(["git", *arguments], cwd=ws.root, env=ws.environ, check=True)
    assert learn(ws) == ""
    ws.components(app={"steps": {"a": STEPS["a"], "z": {"command": "true", "outputs": ["kept.txt"]}}})
    done = commands.run(ws, "build")
    assert done.returncode == 4
    assert "is tracked by git: app/kept.txt" in done.stderr
