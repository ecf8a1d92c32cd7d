"""What a user sees of a build of command steps: outcomes, selection, reports, exit status; serial and under xdist."""

import re
import xml.etree.ElementTree as ET

import pytest

from build_tests.testing import BuildWorkspace, Outcome

MODES = pytest.mark.parametrize("mode", [(), ("-n0",), ("-n2",), ("-p", "no:xdist")], ids=["plain", "n0", "n2", "no-xdist"])


def pair(ws: BuildWorkspace) -> None:
    """`lib:make` → `app:use`, and `app:alone` beside them."""
    ws.components(
        lib={"steps": {"make": {"command": "cat in.txt >out.txt", "inputs": ["in.txt"], "outputs": ["out.txt"]}}},
        app={
            "tags": ["front"],
            "steps": {
                "use": {
                    "command": "tr a-z A-Z <../lib/out.txt >up.txt",
                    "inputs": ["//lib/out.txt"],
                    "outputs": ["up.txt"],
                },
                "alone": {"command": "echo alone >alone.txt", "outputs": ["alone.txt"], "tags": ["slow"]},
            },
        },
    )
    ws.write("lib/in.txt", "hello\n")


@MODES
def test_builds_in_order_and_then_nothing(build_workspace, mode):
    ws = build_workspace
    pair(ws)
    first = ws.build(*mode)
    assert first.status == 0, first.output
    assert first.outcomes() == dict.fromkeys(["lib:make", "app:use", "app:alone"], "built")
    assert ws.read("app/up.txt") == "HELLO\n"
    again = ws.build(*mode)
    assert again.status == 0, again.output
    assert set(again.outcomes().values()) == {"fresh"}
    assert "3 up to date" in again.output
    assert "workers" not in again.output  # nothing must run: no worker ever starts


@MODES
def test_a_failure_blocks_its_dependents_and_nothing_else(build_workspace, mode):
    ws = build_workspace
    pair(ws)
    (ws.root / "lib/in.txt").unlink()
    result = ws.build(*mode)
    assert result.status == 1
    assert result.outcomes() == {"lib:make": "failed", "app:use": "blocked", "app:alone": "built"}
    assert result.steps["app:use"].culprit == "lib:make"
    assert "in.txt" in result.output.rpartition("short test summary")[2]
    ws.write("lib/in.txt", "mended\n")
    mended = ws.build("--lf", *mode)
    assert mended.status == 0, mended.output
    assert mended.outcomes() == {"lib:make": "built", "app:use": "built"}
    assert "run-last-failure: rerun 2 steps without a good result\n" in mended.output
    assert set(ws.build(*mode).outcomes().values()) == {"fresh"}


def test_labels_that_differ_in_a_dot_have_logs_of_their_own(build_workspace):
    ws = build_workspace
    ws.components(**{"a": {"steps": {"b.c": {"command": "echo one"}}}, "a.b": {"steps": {"c": {"command": "echo two"}}}})
    built = ws.build()
    logs = [ws.read(built.steps[label].log) for label in ("a:b.c", "a.b:c")]
    assert logs == ["one\n", "two\n"]


def test_lf_runs_all_of_a_selection_in_which_nothing_failed(build_workspace):
    ws = build_workspace
    ws.components(a={"steps": {"old": {"command": "false"}}}, b={"steps": {"good": {"command": "true"}}})
    ws.build()
    assert set(ws.build("--lf", "-k", "b").outcomes()) == {"b:good"}
    ws.components(a={"steps": {"new": {"command": "true"}}}, b={"steps": {"good": {"command": "true"}}})
    assert ws.build("--lf").outcomes() == {"a:new": "built", "b:good": "fresh"}


def test_lf_builds_the_target_where_nothing_failed(build_workspace):
    ws = build_workspace
    good = {"steps": {"good": {"command": "true"}}}
    ws.components({"targets": {"part": {"components": ["b"]}}, "default_target": "part"}, a=good, b=good)
    ws.build()
    assert set(ws.build("--lf").outcomes()) == {"b:good"}


@pytest.mark.parametrize("mode", [(), ("-n2",)], ids=["plain", "n2"])
@pytest.mark.parametrize(
    ("arguments", "labels"),
    [
        (("-k", "use"), {"lib:make", "app:use"}),
        (("-k", "lib"), {"lib:make"}),
        (("-k", "app:alone or lib"), {"lib:make", "app:alone"}),
        (("-m", "front and not slow"), {"lib:make", "app:use"}),
        (("-m", "slow"), {"app:alone"}),
        (("-m", "command"), {"lib:make", "app:use", "app:alone"}),
        (("--build-select", "app"), {"lib:make", "app:use", "app:alone"}),
        (("-k", "use", "--build-no-deps"), {"app:use"}),
        (("-k", "build"), set()),
        (("-k", "yml"), set()),
    ],
)
def test_selection_brings_what_it_needs(build_workspace, arguments, labels, mode):
    ws = build_workspace
    pair(ws)
    ws.write("lib/out.txt", "here already\n") if "--build-no-deps" in arguments else None
    result = ws.build(*arguments, *mode)
    assert set(result.steps) == labels, result.output
    assert result.status == (0 if labels else 5)


@pytest.mark.parametrize("mode", ["-n0", "-n2"])
def test_a_dot_in_a_name_stays_a_dot(build_workspace, mode):
    ws = build_workspace
    ws.components(a={"steps": {"x.o": {"command": "true"}, "y.o": {"command": "false"}}})
    result = ws.build(mode, "-v")
    assert "build.yml::a:x.o" in result.output
    assert "a:x::o" not in result.output
    assert "a:y.o ___" in result.output


def test_a_node_id_selects_its_step_with_its_needs(build_workspace):
    ws = build_workspace
    pair(ws)
    result = ws.build(file="build.yml::app:use")
    assert set(result.steps) == {"lib:make", "app:use"}
    assert ws.pytest("build.yml::app:nothing").returncode == 4


def test_collect_only_lists_and_runs_nothing(build_workspace):
    ws = build_workspace
    pair(ws)
    done = ws.pytest("build.yml", "--collect-only", "-q", "-k", "use", "-n2")
    assert done.stdout.split()[:2] == ["build.yml::lib:make", "build.yml::app:use"]
    assert not (ws.root / "lib/out.txt").exists()


@MODES
def test_maxfail_stops_with_status_one_and_every_step_has_an_outcome(build_workspace, mode):
    ws = build_workspace
    bad = {f"bad{i}": {"command": "exit 3"} for i in range(6)}
    ws.components(a={"steps": {**bad, "after": {"command": "true", "depends_on": ["a:bad0"]}}})
    result = ws.build("-x", *mode)
    assert result.status == 1, result.output
    assert len(result.steps) == 7
    assert {s.outcome for s in result.steps.values()} <= {Outcome.FAILED, Outcome.BLOCKED, Outcome.CANCELLED}
    assert Outcome.CANCELLED in {s.outcome for s in result.steps.values()}


def test_dry_run_tells_why_and_runs_nothing(build_workspace):
    ws = build_workspace
    pair(ws)
    ws.build()
    ws.write("lib/in.txt", "other\n")
    done = ws.pytest("build.yml", "--build-dry-run")
    assert done.returncode == 0
    assert re.search(r"lib:make +build +lib/in.txt changed", done.stdout)
    assert re.search(r"app:use +depends +depends on the result of lib:make", done.stdout)
    assert re.search(r"app:alone +up to date", done.stdout)
    assert ws.read("lib/out.txt") == "hello\n"


def test_force_runs_the_selection_and_not_what_it_needs(build_workspace):
    ws = build_workspace
    pair(ws)
    ws.build()
    result = ws.build("-k", "use", "--build-force")
    assert result.outcomes() == {"lib:make": "fresh", "app:use": "built"}
    assert result.steps["app:use"].reasons[0]["kind"] == "forced"


def test_equal_outputs_stop_a_rebuild_early(build_workspace):
    ws = build_workspace
    ws.components(
        a={"steps": {"strip": {"command": "grep -v '^#' in.txt >out.txt", "inputs": ["in.txt"], "outputs": ["out.txt"]}}},
        b={"steps": {"use": {"command": "cp ../a/out.txt .", "inputs": ["//a/out.txt"], "outputs": ["out.txt"]}}},
    )
    ws.write("a/in.txt", "data\n")
    ws.build()
    ws.write("a/in.txt", "# a comment\ndata\n")
    assert ws.build().outcomes() == {"a:strip": "built", "b:use": "fresh"}


def test_outputs_edited_removed_or_added_by_hand_are_noticed(build_workspace):
    ws = build_workspace
    ws.components(a={"steps": {"make": {"command": "mkdir -p out; echo 1 >out/one", "outputs": ["out/"]}}})
    ws.build()
    for spoil, kind in (
        (lambda: ws.write("a/out/one", "2\n"), "output-changed"),
        (lambda: (ws.root / "a/out/one").unlink(), "output-missing"),
    ):
        spoil()
        result = ws.build()
        assert result.outcomes() == {"a:make": "restored"}
        assert result.steps["a:make"].reasons[0]["kind"] == kind
        assert ws.read("a/out/one") == "1\n"
    ws.write("a/out/stranger", "not ours\n")
    result = ws.build()
    # Nobody's files are never removed: the step says whose way they are in.
    assert result.status == 1
    assert "a/out/stranger" in result.output
    assert ws.read("a/out/stranger") == "not ours\n"


def test_targets_narrow_and_set_the_policy(build_workspace):
    ws = build_workspace
    pair(ws)
    text = ws.read("build.yml").replace(
        '"components"',
        '"targets": {"just-lib": {"components": ["lib"]}, "all": {"cache_strategy": "off"}}, '
        '"default_target": "just-lib", "components"',
        1,
    )
    ws.write("build.yml", text)
    assert set(ws.build().steps) == {"lib:make"}
    assert set(ws.build("-k", "alone").steps) == {"app:alone"}
    for _ in range(2):
        assert set(ws.build("--build-target", "all").outcomes().values()) == {"built"}
    assert ws.pytest("build.yml", "--build-target", "al").returncode == 4


def test_on_request_steps_run_only_when_named_or_needed(build_workspace):
    ws = build_workspace
    ws.components(
        a={"steps": {"make": {"command": "true"}, "deploy": {"command": "true", "on_request": True, "tags": ["release"]}}}
    )
    assert set(ws.build().steps) == {"a:make"}
    assert set(ws.build("-k", "not make").steps) == set()
    assert set(ws.build("-m", "command").steps) == {"a:make"}
    assert set(ws.build("-k", "deploy").steps) == {"a:deploy"}
    assert set(ws.build("-m", "release").steps) == {"a:deploy"}
    assert set(ws.build(file="build.yml::a:deploy").steps) == {"a:deploy"}


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("echo 'x.c:1:1: error: no ;'; exit 3", "FAILED build.yml::a:make - x.c:1:1: error: no ;\n"),
        ("echo 'x.c:1:1: error: no ;'; kill -9 $$", "FAILED build.yml::a:make - killed by SIGKILL: x.c:1:1: error: no ;\n"),
        ("exit 3", "FAILED build.yml::a:make - exit status 3\n"),
    ],
)
def test_the_short_line_of_a_failure_has_room_for_the_error(build_workspace, command, shown):
    build_workspace.components(a={"steps": {"make": {"command": command}}})
    assert shown in build_workspace.build().output.rpartition("short test summary")[2]


def test_missing_tools_make_steps_unavailable_and_the_rest_is_built(build_workspace):
    ws = build_workspace
    tool = [{"name": "no-such-tool", "hint": "buy one"}]
    ws.components(
        a={"steps": {"make": {"command": "true", "tools": tool}, "use": {"command": "true", "depends_on": ["a:make"]}}},
        b={"steps": {"make": {"command": "true"}}},
    )
    result = ws.build()
    assert result.status == 0
    assert result.outcomes() == {"a:make": "unavailable", "a:use": "unavailable", "b:make": "built"}
    assert "buy one" in result.steps["a:make"].message
    assert result.steps["a:use"].message.endswith("(needed by a:make)")
    assert "build: no-such-tool is not installed (buy one); so not built: a:make, a:use\n" in result.output
    assert ws.build(file="build.yml::a:make").status == 1


def test_environment_is_strict_and_declared_variables_are_ingredients(build_workspace):
    ws = build_workspace
    ws.environ |= {"SNEAKY": "seen", "WANTED": "one"}
    ws.components(
        a={"steps": {"env": {"command": "env >env.txt", "outputs": ["env.txt"], "env": {"MINE": "1"}, "pass_env": ["WANTED"]}}}
    )
    ws.build()
    seen = ws.read("a/env.txt")
    assert "SNEAKY" not in seen
    assert {"MINE=1", "WANTED=one", "LANG=C.UTF-8", "TZ=UTC"} <= set(seen.split())
    ws.environ["SNEAKY"] = "other"
    assert ws.build()["a:env"] is Outcome.FRESH
    ws.environ["WANTED"] = "two"
    changed = ws.build()
    assert changed.steps["a:env"].reasons == [{"kind": "env", "subject": "WANTED", "detail": ""}]


def test_secrets_are_passed_and_masked_everywhere(build_workspace):
    ws = build_workspace
    ws.environ["TOKEN"] = "correct-horse-battery"
    ws.components(a={"steps": {"leak": {"command": 'echo "error: $TOKEN"; exit 1', "secrets": ["TOKEN"]}}})
    result = ws.build("-v", "--junitxml=report.xml", "--build-output=all")
    assert result.status == 1
    assert "error: ***" in result.output
    told = [path for path in ws.root.rglob("*") if path.is_file() and b"correct-horse" in path.read_bytes()]
    assert told == []
    assert "correct-horse" not in result.output


def test_only_what_the_last_attempt_said_decides_on_another_and_is_told(build_workspace):
    ws = build_workspace
    ws.tool("unsteady", 'if mkdir tried; then echo "error: ECONNRESET"; else echo "error: disk full"; fi; exit 1')
    retries = {"count": 5, "backoff": "10ms", "when": ["ECONNRESET"]}
    ws.components(a={"steps": {"try": {"command": ["unsteady"], "retries": retries, "clean": False, "state": ["memory"]}}})
    step = ws.build().steps["a:try"]
    assert (step.attempts, step.first_error) == (2, "error: disk full")


@pytest.mark.parametrize("mode", ["-n0", "-n2"])
def test_one_mistake_that_several_steps_meet_is_shown_once(build_workspace, mode):
    ws = build_workspace
    steps = {name: {"command": "echo 'in.proto:3:5: error: no such type' && exit 1", "inputs": ["in.proto"]} for name in ("go", "java", "ts")}
    steps["other"] = {"command": "echo 'in.proto:9:1: error: no such type' && exit 1", "inputs": ["in.proto"]}
    ws.components(a={"steps": steps})
    ws.write("a/in.proto", "x")
    result = ws.build(mode, "--junitxml=report.xml")
    failures = result.output.partition("= FAILURES =")[2].partition("= short test summary info =")[0]
    assert failures.count("the same error as a:") == 2
    assert failures.count("\nin.proto:3:5: error: no such type\n") == 1
    assert failures.count("\nin.proto:9:1: error: no such type\n") == 1
    assert failures.count("run it alone: pytest-build build a:") == 4
    # Who reads the report reads each case for itself.
    for report in ("report.xml", ".build/reports/junit.xml"):
        found = [failure.text for failure in ET.parse(ws.root / report).iter("failure")]
        assert sum("in.proto:3:5: error" in text for text in found) == 3


def test_retries_make_a_step_flaky_not_failed(build_workspace):
    ws = build_workspace
    tool = ws.tool("unsteady", 'test $(wc -l <"$0.count" 2>/dev/null || echo 0) -ge 2 && exit 0; echo x >>"$0.count"; exit 75')
    ws.components(a={"steps": {"try": {"command": ["unsteady"], "retries": {"count": 3, "backoff": "10ms"}}}})
    result = ws.build("--junitxml=report.xml")
    assert result.status == 0, result.output
    assert tool.calls == 3
    assert result.steps["a:try"].attempts == 3
    case = ET.parse(ws.root / "report.xml").find(".//testcase")
    assert case.find("flakyFailure").get("message") == "exit status 75"


def test_junit_names_classes_and_messages(build_workspace):
    ws = build_workspace
    pair(ws)
    ws.build("-k", "alone")
    (ws.root / "lib/in.txt").unlink()
    ws.build("--junitxml=report.xml")
    for report in ("report.xml", ".build/reports/junit.xml"):
        cases = {case.get("name"): case for case in ET.parse(ws.root / report).iter("testcase")}
        assert {name: case.get("classname") for name, case in cases.items()} == {
            "lib:make": "command.lib",
            "app:use": "command.app",
            "app:alone": "command.app",
        }
        assert cases["app:use"].find("skipped").get("message") == "blocked by lib:make"
        assert cases["app:alone"].find("skipped").get("message") == "up to date: nothing changed"
        assert "in.txt" in cases["lib:make"].find("failure").get("message")


def test_resources_and_locks_hold_across_workers(build_workspace):
    ws = build_workspace
    probe = 'test ! -e ../busy; touch ../busy; sleep 0.1; rm ../busy'
    ws.components(
        a={"steps": {f"s{i}": {"command": probe, "resources": {"locks": ["one"]}} for i in range(4)}},
    )
    result = ws.build("-n3")
    assert set(result.outcomes().values()) == {"built"}, result.output


def test_levels_put_a_barrier_between_them(build_workspace):
    ws = build_workspace
    ws.components(
        {"build_system": {"parallelism": {"dependency_aware": False}}},
        a={"steps": {"slow": {"command": "sleep 0.5; touch done", "outputs": ["done"]}, "fast": {"command": "true"}}},
        b={"steps": {"next": {"command": "test -e ../a/done", "depends_on": ["a:fast"]}}},
    )
    assert ws.build("-n2").status == 0


def test_hand_written_tests_run_after_their_steps(build_workspace):
    ws = build_workspace
    pair(ws)
    ws.write(
        "tests/test_up.py",
        """
import pytest

@pytest.mark.build_step("app:use")
def test_shouts(build_outputs):
    [path] = build_outputs("app:use")
    assert path.read_text() == "HELLO\\n"

@pytest.mark.dependency(depends=["lib:make"], scope="session")
@pytest.mark.build_step("lib:make")
def test_with_dependency_plugin(build_outputs):
    assert [p.name for p in build_outputs()] == ["out.txt"]

def test_ordinary():
    pass
""",
    )
    for mode in ((), ("-n2",)):
        alone = ws.pytest("tests", *mode)
        assert alone.returncode == 0, alone.stdout
        assert "3 passed" in alone.stdout
        for made in ("lib/out.txt", "app/up.txt"):
            (ws.root / made).unlink()
        both = ws.pytest("build.yml", "tests", *mode)
        assert both.returncode == 0, both.stdout
        assert "3 passed" in both.stdout
        for made in ("lib/out.txt", "app/up.txt"):
            (ws.root / made).unlink()
    (ws.root / "lib/in.txt").unlink()
    broken = ws.pytest("tests", "-n2", "-rs")
    assert broken.returncode == 1
    assert "1 passed" in broken.stdout
    assert "blocked by lib:make" in broken.stdout


def test_a_folder_without_a_build_file_is_left_alone(build_workspace):
    ws = build_workspace
    ws.write("test_plain.py", "def test_it(): pass\n")
    done = ws.pytest("-n2", "--trace-config")
    assert "1 passed" in done.stdout
    assert "build-controller" not in done.stdout
    assert not (ws.root / ".build").exists()


def test_parallel_false_is_one_process(build_workspace):
    ws = build_workspace
    pair(ws)
    text = ws.read("build.yml").replace('"components"', '"targets": {"one": {"parallel": false}}, "components"', 1)
    ws.write("build.yml", text)
    result = ws.build("-n2", "--build-target", "one")
    assert result.status == 0
    assert "workers" not in result.output
    assert {step.worker for step in result.steps.values()} == {""}


def test_artifacts_are_collected_with_their_manifest(build_workspace):
    ws = build_workspace
    pair(ws)
    text = ws.read("build.yml").replace('"components"', '"targets": {"ci": {"artifacts": true}}, "components"', 1)
    ws.write("build.yml", text)
    assert ws.build("--build-target", "ci").status == 0
    assert (ws.root / ".build/artifacts/app/use/app/up.txt").read_text() == "HELLO\n"
    assert "app:use" in (ws.root / ".build/artifacts/manifest.json").read_text()


def test_environment_overlays_merge_over_everything(build_workspace):
    ws = build_workspace
    ws.components(a={"steps": {"show": {"command": "echo $WHERE >w.txt", "outputs": ["w.txt"], "env": {"WHERE": "dev"}}}})
    ws.write("config/environments/prod.yml", "components: {a: {steps: {show: {env: {WHERE: prod}}}}}\n")
    ws.build()
    assert ws.read("a/w.txt") == "dev\n"
    ws.build("--build-env", "prod")
    assert ws.read("a/w.txt") == "prod\n"
    wrong = ws.pytest("build.yml", "--build-env", "pord")
    assert wrong.returncode == 4
    assert "prod" in wrong.stdout


def test_inputs_are_the_same_in_a_fresh_clone_and_after_a_build(build_workspace):
    ws = build_workspace
    ws.components(
        a={
            "steps": {
                "one": {"command": "mkdir -p out/deep; cp src.txt out/deep/x", "inputs": ["**"], "outputs": ["out/"]},
                "two": {"command": "cp src.txt two.txt", "inputs": ["**/*.txt"], "outputs": ["two.txt"]},
                "all": {"command": "true", "inputs": ["//**", "!//build.yml"], "depends_on": ["a:one"]},
            }
        }
    )
    ws.write("a/src.txt", "1")
    first = ws.build()
    assert set(first.outcomes().values()) == {"built"}, first.output
    again = ws.build()
    assert set(again.outcomes().values()) == {"fresh"}, again.output
    keys = {label: step.key for label, step in first.steps.items()}
    for made in ("out/deep/x", "two.txt"):
        (ws.root / "a" / made).unlink()
    clean = ws.build()
    assert {label: step.key for label, step in clean.steps.items()} == keys


@pytest.mark.parametrize("option", [(), ("--build-dry-run",)], ids=["run", "plan"])
def test_a_wrong_variable_of_the_caches_is_a_usage_error(build_workspace, monkeypatch, option):
    ws = build_workspace
    pair(ws)
    monkeypatch.setitem(ws.environ, "PYTEST_BUILD_CACHE", "bogus")
    done = ws.pytest("build.yml", *option)
    assert done.returncode == 4
    assert "PYTEST_BUILD_CACHE: 'bogus' is not off, ro or rw" in done.stdout
    assert "INTERNALERROR" not in done.stdout
