from pytest_build_zig import ZigBuilder, ZigOptions

from build_tests.core.builder import Component
from build_tests.testing import Outcome

pytest_plugins = ["build_tests.testing"]

ZIG = """
case $1 in
    version) echo 0.15.1 ;;
    build) mkdir -p zig-out .zig-cache && cat src/*.zig >zig-out/app ;;
esac
"""


class Files(set):
    exists = set.__contains__


def test_the_step_as_a_value():
    component = Component(name="app", kind="zig", path="tools/app", options=ZigOptions(optimize="Debug"))
    (step,) = ZigBuilder().plan(component, Files({"tools/app/build.zig"}))
    assert step.label == "app:build"
    assert step.command == ("zig", "build", "-Doptimize=Debug")
    assert step.inputs == ("tools/app/build.zig*", "tools/app/src/")


def test_its_folder_is_recognised():
    assert ZigBuilder.detect("tools/app", Files({"tools/app/build.zig"}))
    assert not ZigBuilder.detect("tools", Files({"tools/app/build.zig"}))


def zig_workspace(ws):
    ws.components(app={"kind": "zig", "optimize": "ReleaseFast"})
    ws.write("app/build.zig", "// how to build")
    ws.write("app/src/main.zig", "one")
    return ws.tool("zig", ZIG)


def test_it_runs_once_and_again_after_an_edit(build_workspace):
    ws = build_workspace
    zig = zig_workspace(ws)
    first = ws.build()
    assert first.status == 0, first.output
    assert first["app:build"] is Outcome.BUILT
    assert zig.arguments.count("build -Doptimize=ReleaseFast") == 1
    assert ws.build()["app:build"] is Outcome.FRESH
    ws.write("app/src/main.zig", "two")
    assert ws.build("-n2")["app:build"] is Outcome.BUILT
    assert ws.read("app/zig-out/app") == "two"
    assert zig.arguments.count("build -Doptimize=ReleaseFast") == 2


def test_a_missing_manifest_is_told_with_its_hint(build_workspace):
    ws = build_workspace
    zig = zig_workspace(ws)
    (ws.root / "app/build.zig").unlink()
    result = ws.build()
    assert result.status == 4
    assert "app/build.zig is missing" in result.output
    assert "zig init" in result.output
    assert zig.calls == 0
