"""What a person sees while steps run: on a real pseudo-terminal, in CI logs, through a pipe."""

import json
import os
import re

import pytest
from terminal import Terminal

from build_tests.core.model import Outcome
from build_tests.run.record import StepRecord
from build_tests.session.progress import SAMPLES, Progress, area, rough
from build_tests.session.screen import cells, cut

MODES = pytest.mark.parametrize("mode", ["-n0", "-n2"])
WAIT = "while [ ! -e ../go ]; do sleep 0.02; done"
AREA = re.compile(r"^build: \d+ of \d+ done", re.MULTILINE)


def workspace(ws, *, lanes=False):
    """Two steps that say something and wait for the test, one behind them."""
    wait = f"echo 'begun {{}}'; {WAIT}; echo 'ended {{}}'; echo >{{}}.out"
    steps = {name: {"command": wait.format(name, name, name), "outputs": [f"{name}.out"]} for name in ("one", "two")}
    steps["last"] = {"command": "cat one.out two.out >last.out", "inputs": ["one.out", "two.out"],
                     "outputs": ["last.out"]}  # fmt: skip
    ws.components(a={"steps": steps})
    if lanes:  # known to be short, so that no worker is started
        ws.write("go", "")
        assert ws.build("-n0").status == 0
        (ws.root / "go").unlink()
        for name in ("one", "two", "last"):
            (ws.root / f"a/{name}.out").unlink()
    return ws


def terminal(ws, *arguments, **more):
    return Terminal(ws.command("build.yml", *arguments), cwd=ws.root, env=ws.environ, **more)


def end(ws):
    newest = max((ws.root / ".build/runs").iterdir())
    return json.loads(newest.read_text().splitlines()[-1])


def go(ws):
    ws.write("go", "")


# On a terminal


@pytest.mark.parametrize(("mode", "together"), [("-n0", 1), ("-n2", 2), pytest.param("-n2 lanes", 2, id="lanes")])
@pytest.mark.parametrize("verbose", ["-v", None])
def test_a_live_view_beside_pytests_own_lines(build_workspace, mode, together, verbose):
    ws = workspace(build_workspace, lanes="lanes" in mode)
    more = ["--build-cache=off"] if "lanes" in mode else []
    with terminal(ws, mode.split()[0], *([verbose] if verbose else []), *more) as seen:
        text = seen.until(lambda text: text.count("begun ") == together and f"{together} running" in text)
        assert "build: 0 of 3 done" in text
        assert re.search(r"^  a:one +\d[.\d]* s  begun one$", text, re.MULTILINE)
        go(ws)
        assert seen.finish() == 0, seen.all_text
        # Nothing of the view is left behind, and nothing of pytest's is lost.
        assert not AREA.search(seen.all_text)
        assert "begun" not in seen.all_text
        assert "3 built in" in seen.text
        if verbose:
            assert len(re.findall(r"built in [\d.]+ s \(", seen.all_text)) == 3
            assert len(re.findall(r"build\.yml::a:\w+", seen.all_text)) == 3
        elif together == 1:
            assert "build.yml ..." in seen.text


@MODES
def test_output_streams_above_the_view_with_its_label(build_workspace, mode):
    ws = workspace(build_workspace)
    with terminal(ws, mode, "-v", "--build-output=all", columns=60) as seen:
        seen.until(lambda text: "a:one | begun one" in text and AREA.search(text))
        go(ws)
        assert seen.finish() == 0, seen.all_text
        lines = seen.all_text.splitlines()
        for name in ("one", "two"):
            assert lines.count(f"a:{name} | begun {name}") == lines.count(f"a:{name} | ended {name}") == 1
        assert sum("built in" in line for line in lines) == 4  # and the summary
        assert not AREA.search(seen.all_text)


def test_forty_columns_and_a_change_of_size(build_workspace):
    ws = workspace(build_workspace)
    with terminal(ws, "-n2", "-v", "--build-output=all", columns=40, rows=20) as seen:
        text = seen.until("2 running")
        assert max(map(len, text.splitlines())) <= 40
        before = len(seen.raw)
        for columns in (30, 100, 53):
            seen.resize(columns)
            seen.until(lambda text: text.count("2 running") == 1 and "a:two" in text)
        # Drawn in place: each frame begins with an erasure.
        assert seen.raw[before:].count(b"build: 0 of 3") <= seen.raw[before:].count(b"\x1b[J")
        go(ws)
        assert seen.finish() == 0, seen.all_text
        assert not AREA.search(seen.all_text)
        assert seen.all_text.count("a:one | begun one") == 1


@pytest.mark.parametrize(
    ("arguments", "variables"),
    [
        (["-q"], {}), (["-v"], {"CI": "true"}), (["-v"], {"TERM": "dumb"}), (["-v", "--pdb"], {}),
    ],
)  # fmt: skip
def test_no_view_where_nobody_wants_one(build_workspace, arguments, variables):
    ws = workspace(build_workspace)
    go(ws)
    with terminal(ws, "-n0", *arguments, **variables) as seen:
        assert seen.finish() == 0, seen.all_text
        assert b"\x1b[J" not in seen.raw
        assert b"running" not in seen.raw


def test_no_colour_is_no_colour(build_workspace):
    ws = workspace(build_workspace)
    with terminal(ws, "-n0", "-v", NO_COLOR="1") as seen:
        seen.until("a:one")
        seen.until("1 running")
        go(ws)
        assert seen.finish() == 0
        assert not re.search(rb"\x1b\[[\d;]*m", seen.raw)


def test_hand_written_tests_have_the_terminal_to_themselves(build_workspace):
    ws = workspace(build_workspace)
    ws.write(
        "test_it.py",
        "import os, time, pytest\n@pytest.mark.build_step('a:last')\ndef test_it():\n"
        "    os.write(1, b'said by the test\\n')\n    time.sleep(0.3)\n    os.write(1, b'and more\\n')\n",
    )
    with terminal(ws, "-n0", "-s", "test_it.py") as seen:
        seen.until("1 running")
        go(ws)
        assert seen.finish() == 0
        assert "said by the test\nand more\n" in seen.all_text
        assert not AREA.search(seen.all_text)


def test_ctrl_c_leaves_a_clean_terminal(build_workspace):
    ws = workspace(build_workspace)
    with terminal(ws, "-n2", "-v") as seen:
        seen.until("2 running")
        seen.send("\x03")
        assert seen.finish() == 2, seen.all_text
        assert not AREA.search(seen.all_text)
        assert "3 cancelled" in seen.text or "cancelled" in seen.text


# The estimate


def test_a_first_build_has_no_estimate_and_the_next_one_has(build_workspace):
    ws = build_workspace
    ws.components(
        a={"steps": {f"s{i}": {"command": f"sleep 0.5; cat in >out{i}", "inputs": ["in"], "outputs": [f"out{i}"]}
                     for i in range(6)}}
    )  # fmt: skip
    ws.write("a/in", "1")
    with terminal(ws, "-n0", "-v") as seen:
        assert seen.finish() == 0
        assert "left" not in "".join(text for _, text in seen.frames)
    assert "eta" not in end(ws)
    ws.write("a/in", "2")
    with terminal(ws, "-n0", "-v") as seen:
        seen.until(lambda text: re.search(r"\d of 6 done, about \d s left, 1 running", text))
        assert seen.finish() == 0
    samples = end(ws)["eta"]
    assert [at for at, _ in samples] == sorted(at for at, _ in samples)
    # Slept through alone: six times half a second are left at the start, whatever the machine.
    assert samples[0][1] > 2


# In logs


def test_ci_logs_have_a_line_at_starts_and_ends(build_workspace):
    ws = workspace(build_workspace)
    go(ws)
    ws.environ["CI"] = "true"
    brief = ws.build("-n0")
    lines = [re.sub(r"[\d.]+ s", "T", line) for line in brief.output.splitlines() if line.startswith("build: a:")]
    assert lines == [
        "build: a:one started (0 of 3 done)", "build: a:one built in T",
        "build: a:two started (1 of 3 done)", "build: a:two built in T",
        "build: a:last started (2 of 3 done)", "build: a:last built in T",
    ]  # fmt: skip
    assert "\x1b" not in brief.output
    for name in ("one", "two", "last"):
        (ws.root / f"a/{name}.out").unlink()
    whole = ws.build("-n2", "-v", "--build-cache=off").output.splitlines()
    assert [line for line in whole if " started (" in line][-1] == "build: a:last started (2 of 3 done)"
    assert sum("built in" in line for line in whole) == 4  # pytest's own, and its summary
    quiet = ws.build("-n0", "-q", "--build-force", "--build-cache=off")
    assert "started" not in quiet.output


def test_a_sign_of_life_every_now_and_then(build_workspace):
    ws = workspace(build_workspace)
    # Thirty seconds are long for a test.
    ws.write("conftest.py", "import build_tests.session.live as live\nlive.SIGN_OF_LIFE, live.LONG = 0.3, 0.0\n")
    ws.components(a={"steps": {"long": {"command": f"( sleep 1; touch ../go ) & {WAIT}"}}})
    result = ws.build("-n0")
    assert result.status == 0, result.output
    assert re.search(r"^build: 0 of 1 done, still running: a:long \(\d s\)$", result.output, re.MULTILINE)


@MODES
def test_piped_output_is_plain_lines(build_workspace, mode):
    ws = workspace(build_workspace)
    go(ws)
    ws.environ.pop("CI", None)
    result = ws.build(mode, "-v", "--build-output=all")
    assert result.status == 0, result.output
    assert not set(result.output) & {"\x1b", "\r"}
    lines = result.output.splitlines()
    assert not any(line.startswith("build: 0 of") or " started (" in line for line in lines)
    for name in ("one", "two"):
        assert lines.count(f"a:{name} | begun {name}") == lines.count(f"a:{name} | ended {name}") == 1


# The view as values


def record(label, seconds=1.0, outcome=Outcome.BUILT):
    return StepRecord(label=label, kind="command", outcome=outcome, started=1.0, seconds=seconds)


class Estimate:
    def __init__(self, left):
        self.left = left
        self.heard = []

    def started(self, label, now):
        self.heard.append(label)

    def settled(self, label, seconds):
        self.heard.append((label, seconds))

    def show(self, now):
        return self.left


def test_the_view_is_cut_to_the_terminal():
    estimate = Estimate(205.0)
    progress = Progress(total=40, forecast=lambda: estimate)
    for i in range(30):
        progress.started(f"component{i}:a-step-with-a-long-name", os.devnull)
    for step in progress.now_running():
        step.last = "漢字" * 100
    progress.settled([record("x:y"), record("x:z", outcome=Outcome.FAILED)])
    for columns, rows in ((200, 50), (80, 24), (40, 10), (20, 5), (10, 3)):
        lines = area(progress, columns, rows, colour=False)
        assert len(lines) < rows
        assert max(map(cells, lines)) < columns
    wide = area(progress, 200, 50, colour=False)
    assert wide[0] == "build: 2 of 40 done, 1 failed, about 3 min 20 s left, 30 running"
    assert wide[-1] == "  ... and 22 more"
    assert area(progress, 40, 10, colour=False)[0] == "build: 2 of 40 done, 1 failed"
    assert estimate.heard[-2:] == [("x:y", 1.0), ("x:z", None)]


def test_the_samples_stay_few():
    progress = Progress(total=1, forecast=lambda: Estimate(5.0))
    for i in range(500):
        progress._sample(float(i), 1.0)
    assert len(progress.samples) <= SAMPLES
    assert progress.samples[0] == (0.0, 1.0)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "1 s"), (59.6, "60 s"), (135, "2 min 10 s"), (3600, "1 h 00 min"), (7500, "2 h 05 min")]
)
def test_rough_times(seconds, text):
    assert rough(seconds) == text


@pytest.mark.parametrize(
    ("text", "columns", "start"), [("abc", 2, "ab"), ("漢字", 3, "漢"), ("é́x", 1, "é́"), ("a", 0, "")]
)
def test_cut(text, columns, start):
    assert cut(text, columns) == start
