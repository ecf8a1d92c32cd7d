"""`--build-trace` and strict rules as a user meets them: in one process, in lanes, in workers."""

import shutil
import xml.etree.ElementTree as ET

import pytest
import yaml

from build_tests.testing import Outcome

pytestmark = pytest.mark.real("strace")

SNEAKY = "cat in.txt other.cfg ../shared/theme.css >out.txt; echo log >tool.log"
STRICT = {"targets": {"ci": {"validation": "strict"}}}


def sneaky(ws, command=SNEAKY, top=None, **more):
    ws.components(
        top or {},
        app={"steps": {"make": {"command": command, "inputs": ["in.txt"], "outputs": ["out.txt"]} | more}},
        lib={"steps": {"make": {"command": "cat in.txt >out.txt", "inputs": ["in.txt"], "outputs": ["out.txt"]}}},
        use={"steps": {"make": {"command": "cat ../lib/out.txt >out.txt", "inputs": ["//lib/out.txt"], "outputs": ["out.txt"]}}},
    )  # fmt: skip
    for path in ("app/in.txt", "app/other.cfg", "shared/theme.css", "lib/in.txt"):
        ws.write(path, path)


@pytest.mark.parametrize("how", [["-n0"], ["-n2"]])
def test_undeclared_files_are_told_with_the_line_to_paste(build_workspace, how):
    ws = build_workspace
    sneaky(ws)
    result = ws.build(*how, "--build-trace", "--junitxml=report.xml")
    assert result.status == 0, result.output
    assert "app:make: reads 2 files that it does not declare: app/other.cfg, shared/theme.css" in result.output
    assert "app:make: writes 1 file that it does not declare: app/tool.log" in result.output
    assert 'extra_inputs: ["other.cfg", "//shared/theme.css"], extra_outputs: ["tool.log"]' in result.output
    assert "trace: 2 clean, 1 with undeclared files" in result.output
    assert "app/tool.log was written during the run" not in result.output
    trace = result.steps["app:make"].trace
    assert (trace["status"], trace["reads"], trace["writes"]) == (
        "undeclared", ["app/other.cfg", "shared/theme.css"], ["app/tool.log"],
    )  # fmt: skip
    assert result.steps["use:make"].trace["status"] == "clean"
    for report in ("report.xml", ".build/reports/junit.xml"):
        case = ET.parse(ws.root / report).find(".//testcase[@name='app:make']")
        assert "app/other.cfg" in case.find("system-out").text


def test_pasted_as_told_it_is_clean(build_workspace):
    ws = build_workspace
    sneaky(ws)
    told = ws.build("--build-trace").output
    line = next(line for line in told.splitlines() if "extra_inputs" in line).partition(":     ")[2]
    build = yaml.safe_load(ws.read("build.yml"))
    build["components"]["app"]["steps"]["make"] |= yaml.safe_load("{" + line.strip() + "}")
    ws.write("build.yml", yaml.safe_dump(build))
    result = ws.build("--build-trace", "--build-force")
    assert "trace: 3 clean" in result.output
    ws.write("app/other.cfg", "edited")
    assert ws.build()["app:make"] is Outcome.BUILT


def test_it_never_enters_the_key(build_workspace):
    ws = build_workspace
    sneaky(ws)
    traced = ws.build("--build-trace")
    plain = ws.build()
    assert set(plain.outcomes().values()) == {"fresh"}
    forced = ws.build("--build-force")
    assert forced.steps["app:make"].key == traced.steps["app:make"].key


def test_in_lanes(build_workspace):
    ws = build_workspace
    sneaky(ws)
    ws.build()
    ws.write("app/in.txt", "edited")
    ws.write("lib/in.txt", "edited")
    result = ws.build("-n2", "--build-trace")
    assert result.steps["app:make"].worker == ""
    assert result.steps["app:make"].trace["status"] == "undeclared"
    assert {result.steps[label].trace["status"] for label in ("lib:make", "use:make")} == {"clean"}


@pytest.mark.parametrize("how", ["-n0", "-n2"])
def test_strict_rules_make_it_a_failure_that_stays_one(build_workspace, how):
    ws = build_workspace
    sneaky(ws, top=STRICT)
    for _ in range(2):
        result = ws.build(how, "--build-target", "ci", f"--junitxml={how}.xml")
        assert result.status == 1
        assert result["app:make"] is Outcome.FAILED
        assert result.steps["app:make"].message == "reads 2 files that it does not declare and writes 1 file that it does not declare"
        assert "extra_inputs" in result.steps["app:make"].first_error
    assert result["use:make"] is Outcome.FRESH
    failure = ET.parse(ws.root / f"{how}.xml").find(".//testcase[@name='app:make']/failure")
    assert "app/other.cfg" in failure.text


def without_strace(ws, tmp_path):
    """PATH with all but strace."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("sh", "cat", "echo", "python3", "git"):
        (tools / name).symlink_to(shutil.which(name))
    ws.environ["PATH"] = str(tools)


@pytest.mark.parametrize(
    ("options", "status"),
    [
        (["--build-trace"], 0),
        (["--build-target", "ci"], 0),
        (["--build-target", "ci", "--build-trace"], 1),
    ],
)
def test_without_strace_nothing_is_called_clean(build_workspace, tmp_path, options, status):
    ws = build_workspace
    sneaky(ws, command="cat in.txt >out.txt", top=STRICT)
    without_strace(ws, tmp_path)
    result = ws.build(*options)
    assert result.status == status, result.output
    assert "trace: 3 unverified" in result.output
    assert "strace is not installed (apt install strace)" in result.output
    assert {record.trace["status"] for record in result.steps.values()} == {"unverified"}
    assert ("the run fails: strict rules and --build-trace" in result.output) == bool(status)
    assert "trace: 3 not run and so not traced" in ws.build("--build-trace").output


def test_steps_with_daemons_are_not_verified(build_workspace):
    ws = build_workspace
    sneaky(ws, command="cat in.txt >out.txt", daemons=["gradle"])
    result = ws.build("--build-trace")
    assert "trace: 2 clean, 1 unverified" in result.output
    assert "its daemons (gradle) work outside of it" in result.output


def test_what_failed_is_traced_too(build_workspace):
    ws = build_workspace
    sneaky(ws, command="cat other.cfg; exit 3")
    result = ws.build("--build-trace")
    assert result.steps["app:make"].message == "exit status 3"
    assert "reads 1 file that it does not declare: app/other.cfg" in result.output


def test_a_builders_step_is_told_where_its_component_stands(build_workspace):
    ws = build_workspace
    ws.write("tools/two.py", BUILDER)
    ws.components({"builders": {"two": "tools.two:Two"}}, app={"kind": "two", "steps": {}}, own={"kind": "two", "steps": {"b": {"timeout": "1m"}}})
    for path in ("app/in.txt", "app/x.cfg", "own/in.txt", "own/x.cfg"):
        ws.write(path, path)
    result = ws.build("--build-trace")
    assert result.status == 0, result.output
    assert 'under app:' in result.output
    assert 'steps: {a: {extra_inputs: ["x.cfg"]}}' in result.output
    assert 'under steps:' in result.output
    assert 'a: {extra_inputs: ["x.cfg"]}' in result.output
    assert 'under b:' in result.output


BUILDER = '''
from dataclasses import dataclass
from build_tests.core.builder import Step

@dataclass(frozen=True, kw_only=True)
class Options:
    pass

class Two:
    kind = "two"
    options = Options

    def plan(self, component, workspace):
        for name in ("a", "b"):
            yield Step(
                component=component.name, name=name, kind="two", path=component.path,
                command="cat in.txt x.cfg", inputs=(f"{component.path}/in.txt",),
            )
'''
