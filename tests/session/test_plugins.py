"""Builds beside the plugins and options that people have: what their users expect happens."""

import json
import os
import xml.etree.ElementTree as ET

import pytest

from build_tests.testing import Outcome

JUNIT_XSD = os.environ.get("JUNIT_XSD")


def valid(path):
    """The report, checked against the xunit2 schema where CI has fetched it."""
    if JUNIT_XSD:
        from lxml import etree

        etree.XMLSchema(etree.parse(JUNIT_XSD)).assertValid(etree.parse(str(path)))
    return ET.parse(path)


def test_ci_has_the_junit_schema():
    assert JUNIT_XSD or not os.environ.get("CI"), "JUNIT_XSD must name junit-10.xsd in CI"


@pytest.fixture
def ws(build_workspace):
    build_workspace.components(
        a={"steps": {"make": {"command": "echo 1 >out", "outputs": ["out"]}, "bad": {"command": "echo oops >&2; exit 3"}}},
        b={"steps": {"use": {"command": "cat ../a/out", "inputs": ["//a/out"]}}},
    )
    return build_workspace


@pytest.mark.parametrize("mode", [(), ("-n2",)], ids=["plain", "n2"])
def test_rerunfailures_runs_a_failed_step_again(ws, mode):
    tool = ws.tool("third-time", 'n=$(cat "$0.n" 2>/dev/null || echo 0); echo $((n+1)) >"$0.n"; test $n -ge 2')
    ws.components(a={"steps": {"try": {"command": ["third-time"]}}})
    result = ws.build("--reruns", "3", *mode)
    assert result.status == 0, result.output
    assert tool.calls == 3
    assert "2 rerun" in result.output


@pytest.mark.parametrize("mode", [(), ("-n2",)], ids=["plain", "n2"])
def test_html_report_has_every_step(ws, mode):
    ws.without_plugins -= {"html", "metadata"}
    for _ in range(2):
        result = ws.build("--html=report.html", "--self-contained-html", *mode)
        assert result.status == 1
        page = ws.read("report.html")
        for label in ("a:make", "a:bad", "b:use"):
            assert f"build.yml::{label}" in page


@pytest.mark.parametrize("mode", [(), ("-n2",)], ids=["plain", "n2"])
def test_randomly_shuffles_and_order_still_holds(ws, mode):
    ws.without_plugins -= {"randomly"}
    for seed in range(3):
        result = ws.build("--randomly-seed", str(seed), *mode)
        assert result.outcomes()["b:use"] in ("built", "fresh"), result.output


def test_durations_show_steps(ws):
    assert "call     build.yml::a:make" in ws.build("--durations=0", "-vv").output


def test_pdb_stops_in_a_failed_step_and_the_build_ends(ws):
    done = ws.pytest("build.yml", "--pdb", "-k", "bad")
    assert "(Pdb)" in done.stdout
    assert "exit status 3" in done.stdout


def test_without_the_cache_plugin_builds_stay_incremental(ws):
    ws.build("-p", "no:cacheprovider", "-k", "use")
    assert set(ws.build("-p", "no:cacheprovider", "-k", "use").outcomes().values()) == {"fresh"}


def test_cache_clear_forgets_what_was_built(ws):
    ws.build("-k", "use")
    # Hashes are forgotten, artifacts are not.
    assert set(ws.build("-k", "use", "--cache-clear", "-n2").outcomes().values()) == {"restored"}
    forgotten = ws.build("-k", "use", "--cache-clear", "--build-cache", "off", "-n2")
    assert set(forgotten.outcomes().values()) == {"built"}
    assert set(ws.build("-k", "use", "-n2").outcomes().values()) == {"fresh"}


def test_junit_is_valid_whatever_a_step_prints(ws):
    dirty = r"printf 'error: \377\376 \000 ]]> \033[31mred\033[0m \355\240\200\n'; exit 1"
    ws.components(a={"steps": {"dirty": {"command": dirty}, "fine": {"command": "true"}}}, b={"steps": {"off": {"command": "true", "depends_on": ["a:dirty"]}}})
    for mode in ((), ("-n2",)):
        result = ws.build("--junitxml=report.xml", *mode)
        assert result.status == 1
        assert result["a:dirty"] is Outcome.FAILED
        for path in ("report.xml", ".build/reports/junit.xml"):
            names = {case.get("name") for case in valid(ws.root / path).iter("testcase")}
            assert names == {"a:dirty", "a:fine", "b:off"}


def test_own_cases_of_a_tool_join_the_report(ws):
    xml = '<testsuite><testcase classname="k.T" name="one" time="0.1"/><testcase classname="k.T" name="two"><failure message="no">x</failure></testcase></testsuite>'
    ws.components(a={"steps": {"test": {"command": f"echo '{xml}' >r.xml; exit 1", "junit": ["r.xml"]}}})
    ws.build("--junitxml=report.xml")
    for path in ("report.xml", ".build/reports/junit.xml"):
        suites = {suite.get("name"): suite for suite in valid(ws.root / path).iter("testsuite")}
        assert [case.get("name") for case in suites["a:test"].iter("testcase")] == ["one", "two"]
        assert suites["a:test"].get("failures") == "1"


def test_the_record_says_how_each_step_went(ws):
    result = ws.build("-n2")
    assert result.run["target"] == "everything"
    assert result.run["exit"] == 1
    made = result.steps["a:make"]
    assert made.ready <= made.started <= made.ended
    assert made.worker.startswith("gw")
    assert made.max_rss_bytes > 0
    assert made.bytes == 2
    lines = [json.loads(line) for path in (ws.root / ".build/runs").glob("*.jsonl") for line in path.read_text().splitlines()]
    assert lines[0]["version"] == 1
    assert lines[-1]["counts"] == {"built": 2, "failed": 1}


def test_markers_are_registered_and_tags_can_not_be_pytest_s_own(ws):
    assert ws.build("--strict-markers", "-k", "use").status == 0
    ws.components(a={"tags": ["skip"], "steps": {"make": {"command": "true"}}})
    wrong = ws.pytest("build.yml")
    assert wrong.returncode == 4
    assert "skip" in wrong.stdout


def test_strict_validation_refuses_undeclared_writes_and_warnings(ws):
    ws.components(
        {"targets": {"strict": {"validation": "strict"}}, "default_target": "strict"},
        a={"steps": {"sly": {"command": "echo 1 >declared; echo 2 >undeclared", "outputs": ["declared"]}}},
    )
    result = ws.build()
    assert result.status == 1
    assert "a/undeclared" in result.output


def test_a_pattern_that_matches_nothing_is_named(ws):
    ws.components(a={"steps": {"make": {"command": "true", "inputs": ["*.nothing"]}}})
    assert "a:make: input 'a/*.nothing' matches nothing" in ws.build().output


@pytest.mark.parametrize("pin", ["1234", " 1234\n", "\u00e4\u00f6\u00fc", "       "], ids=["short", "padded", "letters", "blank"])
def test_short_secrets_are_refused_by_name(ws, monkeypatch, pin):
    monkeypatch.setitem(ws.environ, "PIN", pin)
    ws.components(a={"steps": {"leak": {"command": "echo $PIN", "secrets": ["PIN"]}}})
    result = ws.build()
    assert result.status == 1
    assert "secret PIN is shorter than 6" in result.output
    assert "INTERNALERROR" not in result.output
    assert not pin.strip() or pin.strip() not in result.output


def test_conservative_reads_again_and_off_trusts_nothing(ws):
    ws.components(
        {"targets": {"careful": {"cache_strategy": "conservative"}, "off": {"cache_strategy": "off"}}},
        a={"steps": {"make": {"command": "cp in out", "inputs": ["in"], "outputs": ["out"]}}},
    )
    ws.write("a/in", "1")
    ws.build()
    assert set(ws.build("--build-target", "careful").outcomes().values()) == {"fresh"}
    assert set(ws.build("--build-target", "off").outcomes().values()) == {"built"}
    assert set(ws.build().outcomes().values()) == {"fresh"}


def test_kept_state_goes_only_with_the_outputs_it_made(ws):
    step = {"command": "cat in >>memory; cp memory out", "inputs": ["in"], "outputs": ["out"], "state": ["memory"]}
    ws.components(a={"steps": {"grow": step}})
    ws.write("a/in", "1\n")
    ws.build()
    ws.write("a/in", "2\n")
    ws.build()
    assert ws.read("a/out") == "1\n2\n"
    ws.write("a/out", "spoilt\n")
    ws.build()
    assert ws.read("a/out") == "2\n"


def test_installed_folders_are_known_by_their_key(ws):
    step = {"command": "mkdir -p mods; cp lock mods/", "inputs": ["lock"], "outputs": [{"path": "mods/", "identity": "installed"}]}
    ws.components(a={"steps": {"install": step, "use": {"command": "true", "depends_on": ["a:install"]}}})
    ws.write("a/lock", "1")
    ws.build()
    ws.write("a/mods/extra", "tools write here as they like")
    assert set(ws.build().outcomes().values()) == {"fresh"}
    ws.write("a/lock", "2")
    assert set(ws.build().outcomes().values()) == {"built"}
    (ws.root / "a/mods/.pytest-build-stamp").unlink()
    spoilt = ws.build()
    # Without its stamp nobody knows whose folder it is: it is not removed unasked.
    assert spoilt["a:install"] is Outcome.FAILED
    assert "not made" in spoilt.output
