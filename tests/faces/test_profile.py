"""`pytest-build profile`: of runs as values, whose every second is known, and of real ones."""

import json

import pytest
from commands import run

from build_tests.core.model import Outcome
from build_tests.faces.profilecli import lines
from build_tests.faces.profiledata import profile
from build_tests.faces.profiletrace import trace
from build_tests.run.record import Run, StepRecord

T = 1_000_000.0
BUILT, FRESH, RESTORED = Outcome.BUILT, Outcome.FRESH, Outcome.RESTORED


def step(label, start, end, *needs, ready=None, outcome=BUILT, **more):
    return StepRecord(
        label=label, kind="command", outcome=outcome, ready=T + (start if ready is None else ready), started=T + start,
        ended=T + end, seconds=end - start, needs=list(needs), **more,
    )  # fmt: skip


def recorded(*steps, seconds=12.0, workers=2, name="r2", **end):
    head = {"id": name, "target": "all", "workers": workers, "started": T}
    return Run(run=head, steps=steps, end={"ended": T + seconds, "seconds": seconds, "exit": 0, **end})


#   w0: [proto 1..3][web 3..9      ]
#   w1:      [lib 3..4][app 4.5..6]     app waited half a second; docs never waits
STEPS = (
    step("proto:gen", 1, 3, worker="gw0", cpu_seconds=1.5),
    step("lib:jar", 3, 4, "proto:gen", worker="gw1"),
    step("web:bundle", 3, 9, "proto:gen", worker="gw0", max_rss_bytes=512_000_000),
    step("app:pack", 4.5, 6, "lib:jar", ready=4, worker="gw1"),
    StepRecord(label="old:one", kind="command", outcome=FRESH, predicted=30.0),
    step("old:two", 1, 1.5, outcome=RESTORED, predicted=10.0, tier="local"),
)


def test_where_the_time_went():
    found = profile(recorded(*STEPS))
    assert (found.before_steps, found.span, found.after_steps) == (1.0, 8.0, 3.0)
    assert found.working == pytest.approx(2 + 1 + 6 + 1.5 + 0.5)
    assert found.waiting == 0.5
    assert found.achieved == pytest.approx(11 / 8)
    assert found.possible == pytest.approx(11 / 8)  # the chain proto, web takes all of it
    assert [one.label for one in found.critical] == ["proto:gen", "web:bundle"]
    assert found.slowest[0].label == "web:bundle"
    assert found.saved == 30 + 9.5
    assert found.counts == {"fresh": 1, "restored": 1, "built": 4}
    assert found.comparison is None


def test_what_would_gain_most():
    gains = {gain.what: gain.seconds for gain in profile(recorded(*STEPS)).gains}
    # Without web, proto → lib → app is left: 2 + 1 + 1.5.
    assert gains["web:bundle took no time"] == pytest.approx(8 - 4.5)
    assert gains["proto:gen took no time"] == pytest.approx(2)
    assert "app:pack took no time" not in gains
    assert "4 workers" not in gains
    wide = recorded(*(step(f"a:{i}", 0, 2) for i in range(4)), workers=2)
    assert profile(wide).gains[0].what == "4 workers"
    assert profile(wide).gains[0].seconds == 2.0


def test_the_estimates_error_is_shown():
    # The steps end at 9 s. At 1 s 12 s were shown, where 8 were true; half-way 4 where 4 were true.
    found = profile(recorded(*STEPS, eta=[[1.0, 12.0], [3.0, 8.0], [5.0, 4.0], [8.0, 0.5]]))
    assert found.estimate_errors == {"start": pytest.approx(0.5), "half": pytest.approx(0.0)}
    assert "  estimate   50% too long at the start, 0% too short at half time" in list(lines(found))


def test_against_the_run_before():
    before = recorded(step("web:bundle", 1, 4), step("proto:gen", 0, 2.5), seconds=8.0, name="r1")
    found = profile(recorded(*STEPS), before).comparison
    assert found.run == "r1"
    assert [(one.label, one.before, one.now) for one in found.steps] == [
        ("web:bundle", 3.0, 6.0),
        ("proto:gen", 2.5, 2.0),
    ]
    text = "\n".join(lines(profile(recorded(*STEPS), before)))
    assert "against the run before (r1, 2 steps ran): 4.0 s longer (+50%)" in text
    assert "+3.0 s  web:bundle  (3.0 s → 6.0 s)" in text
    assert "-0.50 s  proto:gen" in text


def test_a_clock_that_was_set_back_breaks_nothing():
    odd = recorded(step("a:one", 5, 4), step("a:two", 1, 2, "a:one"), step("a:three", 2, 3, "a:two", ready=9))
    found = profile(odd)
    assert found.waiting == 0.0
    assert min(found.before_steps, found.span, found.after_steps) >= 0
    assert all(event.get("dur", 1) > 0 for event in trace(odd)["traceEvents"])


def test_a_run_that_was_cut_off():
    cut = Run(run={"id": "r", "started": T, "workers": 1}, steps=STEPS[:2], end={})
    assert profile(cut).seconds == pytest.approx(4.0)
    assert list(lines(profile(cut)))


# The trace


def test_the_trace():
    document = trace(recorded(*STEPS))
    events = document["traceEvents"]
    names = {e["tid"]: e["args"]["name"] for e in events if e["name"] == "thread_name"}
    assert list(names.values()) == ["worker gw0", "worker gw1", "cache"]
    slices = {e["name"]: e for e in events if e["ph"] == "X"}
    assert set(slices) == {"proto:gen", "lib:jar", "web:bundle", "app:pack", "old:two"}
    web = slices["web:bundle"]
    assert (web["ts"], web["dur"], names[web["tid"]]) == (2_000_000, 6_000_000, "worker gw0")
    assert slices["app:pack"]["args"]["waited_s"] == 0.5
    arrows = [e for e in events if e["ph"] in "sf"]
    assert len(arrows) == 2 * 3
    for start, finish in zip(arrows[::2], arrows[1::2], strict=True):
        assert (start["ph"], finish["ph"], start["id"]) == ("s", "f", finish["id"])
        assert start["ts"] <= finish["ts"]
    counters = [e["args"] for e in events if e["ph"] == "C"]
    assert counters[-1] == {"running": 0, "waiting": 0}
    assert max(c["running"] for c in counters) == 2
    assert min(c["running"] for c in counters) >= 0
    json.dumps(document, allow_nan=False)


def test_steps_of_one_process_get_lanes_that_do_not_overlap():
    events = trace(recorded(*(step(f"a:{i}", i, i + 2.5) for i in range(8))))["traceEvents"]
    by_lane = {}
    for event in sorted((e for e in events if e["ph"] == "X"), key=lambda e: e["ts"]):
        assert by_lane.get(event["tid"], 0) <= event["ts"]
        by_lane[event["tid"]] = event["ts"] + event["dur"]
    assert len(by_lane) == 3


# The command, over real builds


@pytest.fixture
def ws(build_workspace):
    ws = build_workspace
    ws.components(
        a={"steps": {
            "first": {"command": "sleep 0.2; cat in >first", "inputs": ["in"], "outputs": ["first"]},
            "second": {"command": "cat first >second", "inputs": ["first"], "outputs": ["second"]},
            "beside": {"command": "echo x >beside", "outputs": ["beside"]},
        }}
    )  # fmt: skip
    ws.write("a/in", "1")
    return ws


def test_a_real_run(ws):
    assert ws.build("-n2").status == 0
    ws.write("a/in", "2")
    assert ws.build("-n0").status == 0
    assert ws.build("-n0").status == 0  # nothing to do
    shown = run(ws, "profile")
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.startswith("in the last 1 run nothing ran; this is the one before\n")
    assert "steps      1 up to date, 2 built" in shown.stdout
    critical = shown.stdout.partition("critical path")[2].partition("slowest:")[0]
    assert critical.index("a:first") < critical.index("a:second")
    assert "against the run before" in shown.stdout
    found = json.loads(run(ws, "profile", "--json", "--trace", "out.json").stdout)
    assert found["version"] == 1
    assert found["later_runs"] == 1
    assert [one["label"] for one in found["critical"]] == ["a:first", "a:second"]
    assert found["comparison"]["steps"][0]["label"] in ("a:first", "a:second")
    assert 0 <= found["cpu"] <= found["working"] * 4
    slices = [e["name"] for e in json.loads(ws.read("out.json"))["traceEvents"] if e["ph"] == "X"]
    assert sorted(slices) == ["a:first", "a:second"]
    older = run(ws, "profile", "--json", "--run", min((ws.root / ".build/runs").iterdir()).stem)
    assert [one["label"] for one in json.loads(older.stdout)["critical"]] == ["a:first", "a:second"]
    assert len(json.loads(older.stdout)["slowest"]) == 3


def test_what_can_not_be_profiled(ws):
    none = run(ws, "profile")
    assert (none.returncode, none.stdout) == (4, "")
    assert "no record of a run" in none.stderr
    assert ws.build("-n0").status == 0
    assert "no run is called" in run(ws, "profile", "--run", "1999").stderr
    unwritable = run(ws, "profile", "--trace", "no/such/folder.json")
    assert unwritable.returncode == 4
    assert "No such file" in unwritable.stderr


def test_it_needs_no_valid_build_file_and_imports_little(ws):
    assert ws.build("-n0").status == 0
    ws.write("build.yml", "][")
    assert run(ws, "profile").returncode == 0
    seen = run(ws, "profile", PYTHONPROFILEIMPORTTIME="1").stderr
    assert not {line.rpartition("|")[2].strip() for line in seen.splitlines()} & {"pytest", "yaml", "xdist", "docker"}
