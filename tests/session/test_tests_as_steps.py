"""Tests as steps, of any kind: chosen by what changed, cached like any other step, their cases and coverage kept."""

import xml.etree.ElementTree as ET

import pytest

from build_tests.testing import BuildWorkspace, Outcome

RUNNER = """#!/bin/sh
# A test runner: one case a line of tests.txt ("name" or "name!" for one that fails), coverage in coverage/.
mkdir -p coverage
cat ../lib/code.txt >coverage/lines.txt
{
    echo "<testsuites><testsuite>"
    while read -r name; do
        case $name in
            *!) echo "<testcase classname='t' name='${name%!}'><failure message='no'/></testcase>"; bad=1 ;;
            *) echo "<testcase classname='t' name='$name'/>" ;;
        esac
    done <tests.txt
    echo "</testsuite></testsuites>"
} >report-$1.xml
exit ${bad:-0}
"""
REPORTS = ("report.xml", ".build/reports/junit.xml")


def step(**fields):
    return {
        "command": ["./runner", "1"],
        "inputs": ["tests.txt", "//lib/code.txt"],
        "outputs": ["report-1.xml", "coverage/"],
        "junit": ["report-*.xml"],
        **fields,
    }


def workspace(ws, **fields):
    ws.components(lib={"steps": {"build": {"command": "cp code.txt out.txt", "inputs": ["code.txt"], "outputs": ["out.txt"]}}}, t={"steps": {"unit": step(**fields)}})
    ws.write("lib/code.txt", "code\n")
    ws.write("t/runner", RUNNER, executable=True)
    ws.write("t/tests.txt", "one\ntwo\n")
    return ws


def cases(ws, report=REPORTS[1], step="t:unit"):
    suites = {suite.get("name"): suite for suite in ET.parse(ws.root / report).iter("testsuite")}
    return [case.get("name") for case in suites[step].iter("testcase")] if step in suites else []


def test_an_edit_runs_the_tests_that_it_concerns(build_workspace):
    ws = workspace(build_workspace)
    assert set(ws.build().ran) == {"lib:build", "t:unit"}
    ws.write("t/README", "no test")
    assert ws.build().ran == []
    ws.write("t/tests.txt", "one\n")
    assert ws.build().ran == ["t:unit"]
    ws.write("lib/code.txt", "other\n")
    assert set(ws.build().ran) == {"lib:build", "t:unit"}


def test_cases_and_coverage_come_back_from_the_cache_in_another_checkout(build_workspace, tmp_path):
    ws = workspace(build_workspace)
    ws.build("--junitxml=report.xml")
    other = BuildWorkspace(tmp_path / "other", ws.environ)
    workspace(other)
    other.environ["XDG_CACHE_HOME"] = ws.environ["XDG_CACHE_HOME"]
    result = other.build("--junitxml=report.xml")
    assert result["t:unit"] is Outcome.RESTORED, result.output
    assert other.read("t/coverage/lines.txt") == "code\n"
    for report in REPORTS:
        assert cases(other, report) == cases(ws, report) == ["one", "two"]


@pytest.mark.parametrize("mode", [(), ("-n2",)])
def test_a_failed_run_is_not_cached_and_its_cases_say_which(build_workspace, mode):
    ws = workspace(build_workspace)
    ws.write("t/tests.txt", "one\ntwo!\n")
    for _ in range(2):
        result = ws.build("--junitxml=report.xml", *mode)
        assert result["t:unit"] is Outcome.FAILED
        for report in REPORTS:
            (failed,) = [case.get("name") for case in ET.parse(ws.root / report).iter("testcase") if case.get("classname") == "t" and len(case)]
            assert failed == "two"


UNSTEADY = """
echo x >>"$0.count"
n=$(wc -l <"$0.count")
mkdir coverage
echo "<testsuite><testcase name='case $n'>$([ $n -gt 1 ] || echo "<failure message='no'/>")</testcase></testsuite>" >report-$n.xml
[ $n -gt 1 ] || { echo "ECONNRESET: the server is not up"; exit 1; }
"""


def unsteady(ws, **retries):
    tool = ws.tool("unsteady", UNSTEADY)
    outputs = ["report-1.xml", "report-2.xml", "coverage/"]
    workspace(ws, command="unsteady && touch report-1.xml", outputs=outputs, retries={"count": 2, "backoff": "10ms", **retries})
    return tool


def test_a_flaky_test_passes_and_is_told_without_the_cases_of_the_first_attempt(build_workspace):
    ws = build_workspace
    tool = unsteady(ws)
    result = ws.build("--junitxml=report.xml", "-v")
    assert result["t:unit"] is Outcome.BUILT, result.output
    assert tool.calls == 2
    assert "flaky: passed at attempt 2" in result.output
    assert result.steps["t:unit"].flaky == "exit status 1"
    for report in REPORTS:
        assert cases(ws, report) == ["case 2"]
        (flaky,) = ET.parse(ws.root / report).iter("flakyFailure")
        assert flaky.get("message") == "exit status 1"
    assert ws.build().ran == []


def test_only_what_is_named_is_tried_again(build_workspace):
    tool = unsteady(build_workspace, when=["ETIMEDOUT"])
    assert build_workspace.build()["t:unit"] is Outcome.FAILED
    assert tool.calls == 1
    unsteady(build_workspace, when=["ETIMEDOUT", "ECONNRESET"])
    assert build_workspace.build()["t:unit"] is Outcome.BUILT


def test_the_next_attempt_begins_like_the_first(build_workspace):
    ws = build_workspace
    tool = ws.tool("once", 'test ! -e out && test ! -e env && mkdir env && echo x >out && echo x >>"$0.n" && test $(wc -l <"$0.n") -gt 1')
    outputs = ["out", {"path": "env/", "identity": "installed"}]
    ws.components(a={"steps": {"make": {"command": ["once"], "outputs": outputs, "retries": {"count": 1, "backoff": "10ms"}}}})
    result = ws.build()
    assert result["a:make"] is Outcome.BUILT, result.output
    assert tool.calls == 2


def test_a_report_that_an_earlier_run_left_is_not_taken_for_this_ones(build_workspace):
    ws = workspace(build_workspace, outputs=["coverage/"])
    ws.build()
    assert cases(ws) == ["one", "two"]
    ws.write("t/tests.txt", "one\n")
    ws.write("t/runner", "#!/bin/sh\nexit 3\n", executable=True)
    # The tool died before it wrote anything: the report that lies there is that of the run before.
    assert ws.build()["t:unit"] is Outcome.FAILED
    assert cases(ws) == []


def test_the_tag_flaky_selects_steps_and_has_them_tried_again(build_workspace):
    ws = build_workspace
    assert "rerunfailures" not in ws.without_plugins  # it has a marker of this name, and must not run a step beside us
    once, never = ws.tool("once", 'echo x >>"$0.count"; [ $(wc -l <"$0.count") -gt 1 ] || exit 75'), ws.tool("never", "exit 76")
    steps = {
        "once": {"command": ["once"], "tags": ["flaky"]},
        "steady": {"command": "exit 77"},
        "never": {"command": ["never"], "tags": ["flaky"], "retries": {"count": 3, "backoff": "10ms"}},
        "told": {"command": "exit 78", "tags": ["flaky"], "retries": 0},
    }
    ws.components(t={"steps": steps})
    result = ws.build("-n2", "-m", "flaky", "--strict-markers")
    assert result.outcomes() == {"t:once": "built", "t:never": "failed", "t:told": "failed"}
    assert (once.calls, never.calls) == (2, 4)
    assert [result.steps[f"t:{name}"].attempts for name in ("once", "never", "told")] == [2, 4, 1]
    assert "build: t:once is flaky: it passed at attempt 2, after exit status 75" in result.output
    assert "1 rerun" not in result.output
    rest = ws.build("-m", "not flaky", "--strict-markers")
    assert rest.outcomes() == {"t:steady": "failed"}


def test_in_one_process_no_plugin_reruns_a_flaky_step_either(build_workspace):
    ws = build_workspace
    tool = ws.tool("never", "exit 76")
    ws.components(t={"tags": ["flaky"], "steps": {"never": {"command": ["never"], "retries": {"count": 1, "backoff": "10ms"}}}})
    assert ws.build()["t:never"] is Outcome.FAILED
    assert tool.calls == 2


def test_a_conftest_may_leave_reruns_to_the_plugin(build_workspace):
    ws = build_workspace
    tool = ws.tool("never", "exit 76")
    ws.components(t={"steps": {"never": {"command": ["never"]}}})
    ws.write("conftest.py", "import pytest\n\ndef pytest_collection_modifyitems(items):\n    items[0].add_marker(pytest.mark.flaky(reruns=2))\n")
    assert ws.build()["t:never"] is Outcome.FAILED
    assert tool.calls == 3


def test_any_builders_step_may_be_declared_flaky(build_workspace):
    ws = build_workspace
    ws.components(app={"kind": "python", "steps": {"test": {"tags": ["flaky"]}}})
    ws.write("app/pyproject.toml", "[project]\nname = 'app'\nversion = '1'\n")
    ws.write("app/tests/test_a.py", "def test(): pass\n")
    counter = 'echo x >>"$0.count"; [ $(wc -l <"$0.count") -gt 1 ] && mkdir -p .reports && echo "<testsuite/>" >.reports/pytest.xml'
    made = f"#!/bin/sh\ncase $2 in pytest) {counter} ;; *) mkdir -p $4; touch $4/x ;; esac\n"
    ws.write("python", made, executable=True)
    ws.tool("python3", "echo Python 3.12.1")
    ws.tool("uv", f"for last; do :; done; case $3 in venv) mkdir -p $last/bin; cp {ws.root}/python $last/bin/python ;; *) echo uv 1 ;; esac")
    result = ws.build("-k", "test")
    assert result["app:test"] is Outcome.BUILT, result.output
    assert result.steps["app:test"].attempts == 2
