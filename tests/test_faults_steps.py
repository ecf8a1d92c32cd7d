"""Steps that misbehave: outputs that are not there, noise that no report can hold, tools that are not tools."""

import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from build_tests.testing import BuildWorkspace, Outcome

MODES = pytest.mark.parametrize("mode", ["-n0", "-n2"])


# What no report can hold

LINE = int(os.environ.get("LINE_MB", "50")) * 1_000_000
"""Bytes of the longest line."""
NOISE = {
    "utf8": r"printf 'before \377\376\200 after\n'",
    "nul": r"printf 'before \000 after\n'",
    "cdata": "echo 'before ]]> after <![CDATA[ &amp; </failure>'",
    "ansi": r"printf '\033[31mbefore\033[0m \033]0;title\007 after\r\n'",
    "surrogates": r"printf 'before \355\240\200 \355\277\277 after\n'",
    "control": r"printf 'before \001\010\013\014\037\177 \357\277\276\357\277\277 after\n'",
    "line": rf"head -c {LINE} /dev/zero | tr '\000' x; echo ' after'",
}


PEAK = """
import resource

def pytest_unconfigure(config):
    if not hasattr(config, "workerinput"):
        with open("peak.txt", "w") as file:
            file.write(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))
"""
"""What the controller needed, in kB."""


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    """Every noise twice: of a step that fails, and of one that ends well."""
    ws = BuildWorkspace(tmp_path_factory.mktemp("noisy") / "ws")
    ws.write("conftest.py", PEAK)
    steps = {f"{name}-bad": {"command": f"{noise}; exit 1"} for name, noise in NOISE.items()}
    steps |= {f"{name}-good": {"command": noise} for name, noise in NOISE.items()}
    ws.components(a={"steps": steps})
    return ws, ws.build("-n2", "-v", "--junitxml=report.xml")


def test_noise_never_ends_green_and_silent(noisy):
    _, result = noisy
    assert result.status == 1, result.output[:5000]
    assert result.outcomes() == {
        **{f"a:{name}-bad": "failed" for name in NOISE}, **{f"a:{name}-good": "built" for name in NOISE}
    }  # fmt: skip
    assert f"{len(NOISE)} failed" in result.output
    assert "INTERNALERROR" not in result.output


@pytest.mark.parametrize("name", NOISE)
def test_noise_keeps_its_words_and_its_whole_log(noisy, name):
    ws, result = noisy
    record = result.steps[f"a:{name}-bad"]
    log = (ws.root / record.log).read_bytes()
    assert b"after" in log
    assert len(log) > LINE or name != "line"
    assert "after" in record.tail
    assert len(record.tail) < 1_000_000
    # The report is text that any terminal and file takes.
    record.tail.encode()


def test_the_whole_report_stays_bounded(noisy):
    ws, result = noisy
    assert len(result.output) < 2_000_000
    assert sum(path.stat().st_size for path in (ws.root / ".build/runs").iterdir()) < 2_000_000


def test_the_controller_does_not_grow_with_the_noise(noisy, build_workspace):
    loud, _ = noisy
    quiet = build_workspace
    quiet.write("conftest.py", PEAK)
    quiet.components(a={"steps": {f"s{number}": {"command": "exit 1"} for number in range(2 * len(NOISE))}})
    quiet.build("-n2", "-v", "--junitxml=report.xml")
    assert int(loud.read("peak.txt")) - int(quiet.read("peak.txt")) < 50_000


@pytest.mark.parametrize("report", ["report.xml", ".build/reports/junit.xml"])
def test_junit_of_noise_is_valid_and_names_every_failure(noisy, report):
    from lxml import etree

    ws, _ = noisy
    document = etree.parse(str(ws.root / report))
    cases = {case.get("name"): case for case in document.iter("testcase")}
    assert len(cases) == len(list(document.iter("testcase"))) == 2 * len(NOISE)
    for name in NOISE:
        assert cases[f"a:{name}-bad"].find("failure") is not None
        assert cases[f"a:{name}-good"].find("failure") is None
    if schema := os.environ.get("JUNIT_XSD"):
        etree.XMLSchema(etree.parse(schema)).assertValid(document)


@MODES
def test_noise_may_be_shown_live(build_workspace, mode):
    ws = build_workspace
    shown = {name: noise for name, noise in NOISE.items() if name != "line"}
    ws.components(a={"steps": {name: {"command": noise} for name, noise in shown.items()}})
    result = ws.build(mode, "--build-output=all")
    assert result.status == 0, result.output
    assert result.output.count("before") >= len(shown)
    assert not set(result.output) & {"\0", "\1", "\x08", "\x7f"}


def test_the_one_to_write_first(build_workspace):
    """xdist can end with 0 and say nothing when a report can't travel."""
    ws = build_workspace
    ws.components(a={"steps": {"bad": {"command": r"printf '\355\240\200\377'; exit 1"}}})
    result = ws.build("-n2")
    assert result.status == 1
    assert result.outcomes() == {"a:bad": "failed"}
    assert "1 failed" in result.output


# Tools and folders that are not what they should be


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    ws = BuildWorkspace(tmp_path_factory.mktemp("odd") / "ws")
    ws.write("a/not-executable", "#!/bin/sh\n")
    ws.write("a/no-interpreter", "#!/no/such/interpreter\n", executable=True)
    ws.write("a/wrong-format", b"\x7fELF\x02\x01\x01" + b"\0" * 60, executable=True)
    (ws.root / "a/folder-tool").mkdir()
    ws.components(
        a={"steps": {
            "missing": {"command": ["no-such-tool", "x"]},
            "not-executable": {"command": ["./not-executable"]},
            "no-interpreter": {"command": ["./no-interpreter"]},
            "wrong-format": {"command": ["./wrong-format"]},
            "folder-tool": {"command": ["./folder-tool"]},
            "too-long": {"command": ["true", "x" * 3_000_000]},
            "stdin": {"command": "cat >read; read -r line && exit 3; test ! -t 0", "outputs": ["read"]},
            "missing-output": {"command": "true", "outputs": ["never"]},
            "two-missing": {"command": "echo >one", "outputs": ["one", "two", "three"]},
            "dangling": {"command": "ln -s nowhere dangling", "outputs": ["dangling"]},
            "file-for-folder": {"command": "echo >place", "outputs": ["place/"]},
            "empty-output": {"command": ": >empty", "outputs": ["empty"]},
            "after": {"command": "echo >after", "inputs": ["never"], "outputs": ["after"]},
            "fine": {"command": "echo >fine", "outputs": ["fine"]},
        }},
    )  # fmt: skip
    return ws, ws.build("-n2"), ws.build("-n0")


WORDS = {
    "missing": "no-such-tool",
    "not-executable": "not-executable",
    "no-interpreter": "no-interpreter",
    "wrong-format": "wrong-format",
    "folder-tool": "folder-tool",
    "too-long": "too long",
    "missing-output": "declared output not produced: a/never",
    "two-missing": "declared output not produced: a/two, a/three",
    "dangling": "declared output not produced: a/dangling",
    "file-for-folder": "declared output not produced: a/place",
}


@pytest.mark.parametrize("name", WORDS)
def test_what_is_wrong_is_said_in_plain_words_and_nothing_is_cached(odd, name):
    _, first, second = odd
    for result in (first, second):
        record = result.steps[f"a:{name}"]
        assert record.outcome in (Outcome.FAILED, Outcome.UNAVAILABLE)
        assert WORDS[name].lower() in record.message.lower()


def test_the_rest_of_an_odd_build_goes_on_without_a_traceback(odd):
    _, first, second = odd
    assert (first.status, second.status) == (1, 1)
    for name in ("stdin", "empty-output", "fine"):
        assert (first[f"a:{name}"], second[f"a:{name}"]) == (Outcome.BUILT, Outcome.FRESH), first.steps[f"a:{name}"]
    assert (first["a:after"], first.steps["a:after"].culprit) == (Outcome.BLOCKED, "a:missing-output")
    for result in (first, second):
        assert "Traceback" not in result.output
        assert "INTERNALERROR" not in result.output


def test_a_step_reads_end_of_file(odd):
    ws, _, _ = odd
    assert ws.read("a/read") == ""


def test_a_folder_that_is_gone_is_named(build_workspace):
    ws = build_workspace
    ws.components(
        a={"path": "gone", "steps": {"make": {"command": "true"}}}, b={"steps": {"make": {"command": "true"}}}
    )
    (ws.root / "gone").rmdir()
    done = ws.pytest("build.yml", "-n0")
    assert done.returncode in (1, 4), done.stdout
    assert "gone" in done.stdout
    assert "Traceback" not in done.stdout


# Inputs that move


@MODES
def test_an_input_changed_meanwhile_is_told_and_built_again(build_workspace, mode):
    ws = build_workspace
    edit = "cp in.txt out.txt; test -e ../edited || { echo two >in.txt; touch ../edited; }"
    ws.components(
        a={"steps": {
            "make": {"command": edit, "inputs": ["in.txt"], "outputs": ["out.txt"]},
            "use": {"command": "cp out.txt used.txt", "inputs": ["out.txt"], "outputs": ["used.txt"]},
        }},
    )  # fmt: skip
    ws.write("a/in.txt", "one\n")
    first = ws.build(mode)
    assert first.outcomes() == {"a:make": "built", "a:use": "built"}
    assert "a/in.txt" in first.steps["a:make"].warnings[0]
    assert "will be built again" in first.output
    second = ws.build(mode)
    assert second.outcomes() == {"a:make": "built", "a:use": "built"}, second.output
    assert second.steps["a:make"].reasons[0]["kind"] == "input-raced"
    assert ws.read("a/used.txt") == "two\n"
    assert set(ws.build(mode).outcomes().values()) == {"fresh"}


@pytest.mark.parametrize(
    "edit",
    ["touch src/new.txt", "rm src/a.txt", "chmod +x src/a.txt", "sleep 0.05; t=$(stat -c %y src/a.txt); printf B >src/a.txt; touch -d \"$t\" src/a.txt"],
    ids=["added", "removed", "mode", "same-size-same-time"],
)  # fmt: skip
def test_every_way_an_input_can_move_is_seen(build_workspace, edit):
    ws = build_workspace
    command = f"cat src/*.txt >out.txt; test -e ../edited || {{ touch ../edited; {edit}; }}"
    ws.components(a={"steps": {"make": {"command": command, "inputs": ["src/*.txt"], "outputs": ["out.txt"]}}})
    ws.write("a/src/a.txt", "A")
    ws.write("a/src/b.txt", "B")
    assert "will be built again" in ws.build("-n0").output
    assert ws.build("-n0").outcomes() == {"a:make": "built"}
    assert ws.build("-n0").outcomes() == {"a:make": "fresh"}


def test_a_step_that_always_edits_its_input_is_never_taken_for_built(build_workspace):
    ws = build_workspace
    ws.components(
        a={
            "steps": {
                "make": {"command": "echo more >>in.txt; cp in.txt out", "inputs": ["in.txt"], "outputs": ["out"]}
            }
        }
    )
    ws.write("a/in.txt", "one\n")
    for _ in range(3):
        result = ws.build("-n0")
        assert (result.status, result["a:make"]) == (0, Outcome.BUILT)
        assert result.steps["a:make"].warnings


def strict(ws):
    text = ws.read("build.yml").replace(
        '"components"', '"targets": {"strict": {"validation": "strict"}}, "components"', 1
    )
    ws.write("build.yml", text)


@MODES
def test_undeclared_writes_are_told_and_refused_under_strict(build_workspace, mode):
    ws = build_workspace
    ws.components(a={"steps": {
        "make": {"command": "echo >out; echo >stray; rm -f gone; echo x >>kept", "inputs": ["in.txt"], "outputs": ["out"]}
    }})  # fmt: skip
    strict(ws)
    for name in ("in.txt", "kept", "gone"):
        ws.write(f"a/{name}", "one\n")
    result = ws.build(mode)
    assert result.status == 0, result.output
    for line in (
        "a/stray was written during the run and is declared by no step",
        "a/gone was removed during the run",
        "a/kept was changed during the run and is no output",
    ):
        assert line in result.output
    assert "a/out " not in "".join(line for line in result.output.splitlines() if "during the run" in line)
    ws.write("a/in.txt", "two\n")
    refused = ws.build(mode, "--build-target", "strict")
    assert refused.status == 1, refused.output
    assert "a/kept" in refused.output


def edited_meanwhile(ws, tmp_path, *options):
    """A build during which the user edits a file that a step has read by then."""
    said, go = tmp_path / "said", tmp_path / "go"
    os.mkfifo(said)
    os.mkfifo(go)
    ws.components(
        a={"steps": {"slow": {"command": f"echo >{said}; read line <{go}; echo >out", "outputs": ["out"], "depends_on": ["b:use"]}}},
        b={"steps": {"use": {"command": "cp in.txt out", "inputs": ["in.txt"], "outputs": ["out"]}}},
    )
    strict(ws)
    ws.write("b/in.txt", "one\n")
    command = ws.command("build.yml", "-n0", *options)
    build = subprocess.Popen(command, cwd=ws.root, env=ws.environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    said.read_text()
    ws.write("b/in.txt", "two\n")
    ws.write("b/notes.txt", "mine\n")
    go.write_text("on\n")
    output, _ = build.communicate()
    return build.returncode, output


def test_an_input_that_the_user_edits_is_no_undeclared_write(build_workspace, tmp_path):
    status, output = edited_meanwhile(build_workspace, tmp_path)
    assert status == 0, output
    assert "build: inputs were edited during the run, for the next build: b/in.txt" in output
    assert "b/in.txt was changed" not in output
    # Of a new file nobody can tell without a trace who wrote it.
    assert "b/notes.txt was written during the run and is declared by no step" in output


@pytest.mark.real("strace")
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux traces")
def test_under_strict_rules_whatever_no_step_wrote_is_the_users_own(build_workspace, tmp_path):
    status, output = edited_meanwhile(build_workspace, tmp_path, "--build-target", "strict")
    assert status == 0, output
    assert "trace: 2 clean" in output
    assert "during the run" not in output


@MODES
def test_a_moved_input_is_refused_under_strict(build_workspace, mode):
    ws = build_workspace
    ws.components(a={"steps": {"make": {"command": "echo more >>in.txt", "inputs": ["in.txt"]}}})
    strict(ws)
    ws.write("a/in.txt", "one\n")
    assert ws.build(mode, "--build-target", "strict").status == 1


def test_writes_into_another_steps_output_are_made_good(build_workspace):
    ws = build_workspace
    ws.components(
        a={"steps": {"make": {"command": "echo mine >out", "outputs": ["out"]}}},
        b={"steps": {"spoil": {"command": "echo theirs >../a/out", "depends_on": ["a:make"]}}},
    )
    ws.build("-n0")
    again = ws.build("-n0", "-k", "make")
    assert again["a:make"].value in ("built", "restored")  # whether it could be kept before it was spoiled or not
    assert ws.read("a/out") == "mine\n"


# Size and shape


@MODES
def test_a_failing_diamond_names_its_culprit_once(build_workspace, mode):
    ws = build_workspace
    ws.components(a={"steps": {
        "top": {"command": "echo 'error: broken top'; exit 1"},
        "left": {"command": "true", "depends_on": ["a:top"]},
        "right": {"command": "true", "depends_on": ["a:top"]},
        "bottom": {"command": "true", "depends_on": ["a:left", "a:right"]},
        "other": {"command": "exit 2"},
        "both": {"command": "true", "depends_on": ["a:bottom", "a:other"]},
    }})  # fmt: skip
    result = ws.build(mode)
    assert result.status == 1
    blocked = {label for label, outcome in result.outcomes().items() if outcome == "blocked"}
    assert blocked == {"a:left", "a:right", "a:bottom", "a:both"}
    assert {result.steps[label].culprit for label in ("a:left", "a:right", "a:bottom")} == {"a:top"}
    assert result.steps["a:both"].culprit in ("a:top", "a:other")
    assert len(result.steps) == 6
    summary = result.output.rpartition("short test summary")[2]
    assert summary.count("FAILED build.yml::a:top") == 1
    assert summary.count("broken top") == 1


@pytest.mark.slow
def test_a_chain_of_hundreds_through_pytest(build_workspace):
    ws = build_workspace
    steps = {"s0": {"command": "cp in.txt o0", "inputs": ["in.txt"], "outputs": ["o0"]}}
    for i in range(1, 300):
        steps[f"s{i}"] = {"command": f"cp o{i - 1} o{i}", "inputs": [f"o{i - 1}"], "outputs": [f"o{i}"]}
    ws.components(a={"steps": steps})
    ws.write("a/in.txt", "end to end\n")
    result = ws.build("-n0")
    assert result.status == 0, result.output[-3000:]
    assert len(result.steps) == 300
    assert ws.read("a/o299") == "end to end\n"
    assert set(ws.build("-n0").outcomes().values()) == {"fresh"}
    (ws.root / "a/in.txt").unlink()
    broken = ws.build("-n0")
    assert broken.status == 1
    assert {step.culprit for step in broken.steps.values() if step.outcome is Outcome.BLOCKED} == {"a:s0"}
    assert len(broken.steps) == 300


def test_nothing_of_ours_lies_outside_our_folders(build_workspace):
    ws = build_workspace
    ws.components(a={"steps": {"make": {"command": "cp in.txt out", "inputs": ["in.txt"], "outputs": ["out"]}}})
    ws.write("a/in.txt", "one\n")
    ws.build("-n2")
    files = {str(path.relative_to(ws.root)) for path in ws.root.rglob("*") if path.is_file()}
    ours = {path for path in files if path.split("/")[0] in (".build", ".pytest_cache")}
    assert files - ours == {"build.yml", "a/in.txt", "a/out"}
    assert ET.parse(ws.root / ".build/reports/junit.xml").getroot().tag == "testsuites"
    assert Path(ws.root / ".build/.gitignore").read_text() == "*\n"


@pytest.mark.parametrize("ci", ["", "true"], ids=["laptop", "ci"])
def test_a_declared_daemon_outlives_its_step_and_in_ci_not_the_run(build_workspace, ci):
    ws = build_workspace
    ws.environ["CI"] = ci
    # Started in a session of its own, as Gradle starts its daemon; found by its command line.
    ws.write("a/daemon-of-mine", "#!/bin/sh\necho $$ >pid\nexec sleep 300 daemon-of-mine 2>/dev/null || exec sleep 300\n", executable=True)
    ws.write("a/daemon.py", "import os, time\nopen('pid', 'w').write(str(os.getpid()))\ntime.sleep(300)\n")
    command = "setsid python3 daemon.py daemon-of-mine >/dev/null 2>&1 & until [ -s pid ]; do sleep 0.05; done; echo 1 >out"
    ws.components(a={"steps": {"make": {
        "command": command, "outputs": ["out"], "state": ["pid"], "daemons": ["daemon-of-mine"], "tools": ["python3"],
    }}})  # fmt: skip
    result = ws.build("-n0")
    assert result.outcomes() == {"a:make": "built"}, result.output
    assert result.steps["a:make"].warnings == []
    pid = int(ws.read("a/pid"))
    listed = (ws.root / ".build/daemons").read_text().splitlines() if not ci else []
    try:
        assert alive(pid) == (not ci)
        assert listed == ([] if ci else [f"{pid} daemon-of-mine"])
        assert not ci or not (ws.root / ".build/daemons").exists()
    finally:
        if alive(pid):
            os.kill(pid, 9)


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
