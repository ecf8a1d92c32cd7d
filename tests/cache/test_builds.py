"""What a user sees of the cache in builds of one machine: what is put back, what never is, and what is not even opened."""

import os
import shutil
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from builds import BUILT, FRESH, LABELS, OUTPUTS, RESTORED, cached, elsewhere, lay_out, noted, right, seen, wipe

MODES = pytest.mark.parametrize("mode", [("-n0",), ("-n2",), ("-p", "no:xdist")], ids=["n0", "n2", "no-xdist"])


def store_of(ws):
    return Path(ws.environ["XDG_CACHE_HOME"])


def holds(folder, secret):
    """The files below a folder that hold these bytes."""
    return [str(path) for path in folder.rglob("*") if path.is_file() and secret in path.read_bytes()]


@MODES
@pytest.mark.parametrize("state", [False, True], ids=["outputs-deleted", "all-deleted"])
def test_what_was_built_is_put_back_byte_for_byte(build_workspace, mode, state):
    ws = build_workspace
    tick = lay_out(ws)
    first = ws.build(*mode)
    right(ws, first, seen(ws), BUILT)
    made = seen(ws)
    assert made["lib/out/deep/run"] == (0o755, b"#!/bin/sh\necho hi\n")
    assert {made["lib/out/empty"], made["lib/out/other/empty"]} == {("folder", "")}
    assert (made["lib/latest"], made["lib/out/other/dangling"]) == (("link", "tool"), ("link", "nowhere"))
    wipe(ws, state=state)
    back = ws.build(*mode)
    # A check has nothing to delete: it is up to date where its run is remembered and its inputs are the same again.
    right(ws, back, made, RESTORED if state else {**RESTORED, "app:check": "fresh"})
    assert "6 restored" in back.output if state else "5 restored" in back.output
    assert tick.calls == len(LABELS)
    again = ws.build(*mode)
    right(ws, again, made, FRESH)
    assert tick.calls == len(LABELS)
    # What was put back is as good as what was built: an edit builds what needs it and no more.
    ws.write("lib/in.txt", "one\n# another note\n")
    edited = ws.build(*mode)
    assert edited.outcomes() == {**BUILT, "lib:head": "fresh"}, edited.output
    assert ws.read("app/used") == "one\n# another note\none\na\n"


def test_a_restored_output_is_nobodys_copy(build_workspace):
    ws = build_workspace
    lay_out(ws)
    ws.build("-n0")
    made = seen(ws)
    wipe(ws)
    assert ws.build("-n0").outcomes() == RESTORED
    for path in ("lib/out/plain", "lib/tool", "lib/out/deep/run"):
        with open(ws.root / path, "r+b") as file:  # in place, as a careless tool does
            file.write(b"spoilt")
    wipe(ws)
    right(ws, ws.build("-n0"), made, RESTORED)


def test_another_checkout_in_another_path_is_restored(build_workspace, tmp_path):
    ws = build_workspace
    tick = lay_out(ws)
    first = ws.build("-n2")
    assert first.outcomes() == BUILT, first.output
    clone = elsewhere(ws, tmp_path / "quite" / "another place")
    right(clone, clone.build("-n0"), seen(ws), RESTORED)
    assert tick.calls == len(LABELS)


def test_another_checkout_with_a_cache_of_its_own_builds(build_workspace, tmp_path):
    ws = build_workspace
    tick = lay_out(ws)
    ws.build("-n0")
    clone = elsewhere(ws, tmp_path / "other", own_cache=True)
    right(clone, clone.build("-n0"), seen(ws), BUILT)
    assert tick.calls == 2 * len(LABELS)


def git(ws, *arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main"]
    subprocess.run(["git", *identity, *arguments], cwd=ws.root, check=True, capture_output=True)


@pytest.mark.parametrize("mode", ["-n0", "-n2"])
def test_switching_between_branches_runs_no_tool_after_the_first_round(build_workspace, mode):
    ws = build_workspace
    tick = lay_out(ws)
    ws.write(".gitignore", "\n".join([".build", ".pytest_cache", *OUTPUTS]))
    git(ws, "init", "-q")
    git(ws, "add", "-A")
    git(ws, "commit", "-qm", "one")
    git(ws, "switch", "-qc", "other")
    lay_out(ws, trim={"command": "tick trim; wc -l <in.txt >trimmed"})  # another command
    ws.write("lib/in.txt", "two\n")  # another input
    ws.write("app/src/b.txt", "b\n")  # one more input
    git(ws, "add", "-A")
    git(ws, "commit", "-qm", "two")
    made = {}
    for branch in ("main", "other"):
        git(ws, "switch", "-q", branch)
        right(ws, ws.build(mode), seen(ws))
        made[branch] = seen(ws)
    assert made["main"] != made["other"]
    calls = tick.calls
    for branch in ("main", "other") * 5:
        git(ws, "switch", "-q", branch)
        result = ws.build(mode)
        right(ws, result, made[branch])
        assert set(result.outcomes().values()) <= {"restored", "fresh"}, result.output
        assert tick.calls == calls


# What is not put back, and what is not kept


@pytest.mark.parametrize(
    ("top", "arguments", "environ"),
    [
        ({}, ["--build-cache", "off"], {}),
        ({}, [], {"PYTEST_BUILD_CACHE": "off"}),
        (cached({"enabled": False}), [], {}),
        ({"targets": {"t": {"cache_strategy": "off"}}, "default_target": "t"}, [], {}),
    ],
    ids=["option", "environment", "build-file", "strategy"],
)
def test_a_cache_that_is_off_is_neither_read_nor_written(build_workspace, top, arguments, environ):
    ws = build_workspace
    tick = lay_out(ws)
    ws.build("-n0")
    wipe(ws)
    lay_out(ws, top)
    ws.environ.update(environ)
    assert ws.build("-n0", *arguments).outcomes() == BUILT
    assert tick.calls == 2 * len(LABELS)
    wipe(ws, cache=True)
    assert ws.build("-n0", *arguments).outcomes() == BUILT
    assert not store_of(ws).exists()


def test_read_only_concerns_what_others_share(build_workspace):
    ws = build_workspace
    lay_out(ws)
    assert ws.build("-n0", "--build-cache", "ro").outcomes() == BUILT
    wipe(ws)
    assert ws.build("-n0", "--build-cache", "ro").outcomes() == RESTORED


def test_a_step_that_is_not_cached_always_runs_and_is_not_kept(build_workspace, tmp_path):
    ws = build_workspace
    tick = lay_out(ws, trim={"cache": False})
    ws.build("-n0")
    made = seen(ws)
    wipe(ws)
    # Its output is what it was, so those that need it are put back.
    right(ws, ws.build("-n0"), made, {**RESTORED, "lib:trim": "built"})
    assert tick.arguments.count("trim") == 2
    assert tick.calls == len(LABELS) + 1
    lay_out(ws, trim={})
    clone = elsewhere(ws, tmp_path / "clone")
    # Nor is there anything of it for those who would take it.
    assert clone.build("-n0")["lib:trim"].value == "built"


@pytest.mark.parametrize("mode", ["-n0", "-n2"])
def test_conservative_restores_too_and_looks_at_every_byte(build_workspace, mode):
    ws = build_workspace
    tick = lay_out(ws, {"targets": {"t": {"cache_strategy": "conservative"}}, "default_target": "t"})
    ws.build(mode)
    made = seen(ws)
    wipe(ws)
    right(ws, ws.build(mode), made, RESTORED)
    target = ws.root / "lib/head"
    before = target.stat()
    target.write_text("eno\n")
    os.utime(target, ns=(before.st_atime_ns, before.st_mtime_ns))
    result = ws.build(mode)
    right(ws, result, made)
    assert (result["lib:head"].value, result["lib:make"].value) == ("restored", "fresh")
    assert tick.calls == len(LABELS)


def test_not_incremental_runs_everything_and_keeps_the_results(build_workspace):
    ws = build_workspace
    tick = lay_out(ws, {"targets": {"all": {"incremental": False}, "normal": {}}, "default_target": "normal"})
    for calls in (1, 2):
        assert ws.build("-n0", "--build-target", "all").outcomes() == BUILT
        assert tick.calls == calls * len(LABELS)
    wipe(ws)
    assert ws.build("-n0").outcomes() == RESTORED


def test_force_runs_what_is_selected_and_takes_the_rest_from_the_cache(build_workspace):
    ws = build_workspace
    tick = lay_out(ws)
    ws.build("-n0")
    made = seen(ws)
    wipe(ws)
    result = ws.build("-n0", "--build-force", "-k", "head")
    assert result.outcomes() == {"lib:trim": "restored", "lib:head": "built"}
    assert tick.calls == len(LABELS) + 1
    right(ws, ws.build("-n0"), made)
    assert tick.calls == len(LABELS) + 1


def test_what_was_made_from_a_tools_own_memory_is_not_kept(build_workspace):
    ws = build_workspace
    tick = ws.tool("tick")
    # The output says how the tool was run, which a real tool's should not, but might.
    command = "tick $(cat in.txt); if test -e memory; then echo again; else echo anew; fi | cat - in.txt >out; : >memory"
    ws.components(
        a={"steps": {"s": {"command": command, "inputs": ["in.txt"], "outputs": ["out"], "state": ["memory"]}}}
    )

    def build(text, outcome, words):
        ws.write("a/in.txt", text)
        result = ws.build("-n0")
        assert (result["a:s"].value, ws.read("a/out").split()) == (outcome, words), result.output

    build("one", "built", ["anew", "one"])
    build("two", "built", ["again", "two"])
    build("one", "restored", ["anew", "one"])
    # Not kept; and the memory belonged to what is no longer there.
    build("two", "built", ["anew", "two"])
    build("one", "restored", ["anew", "one"])
    build("two", "restored", ["anew", "two"])
    assert tick.arguments == ["one", "two", "two"]


def test_an_output_with_a_secret_is_not_kept_and_that_is_said(build_workspace):
    ws = build_workspace
    secret = "hush-hush-hush"
    ws.environ["TOKEN"] = secret
    ws.components(
        a={"steps": {
            "leak": {"command": "echo x$TOKEN >out", "outputs": ["out"], "secrets": ["TOKEN"]},
            "quiet": {"command": "echo fine >fine", "outputs": ["fine"], "secrets": ["TOKEN"]},
            "after": {"command": "wc -c <out >size", "inputs": ["out"], "outputs": ["size"]},
        }},
    )  # fmt: skip
    result = ws.build("-n0")
    assert result.outcomes() == dict.fromkeys(["a:leak", "a:quiet", "a:after"], "built"), result.output
    assert "a:leak: a/out holds a secret: the outputs are not kept in a cache" in result.output
    assert secret not in result.output
    assert store_of(ws).is_dir()
    assert holds(store_of(ws), secret.encode()) == []
    for name in ("out", "fine", "size"):
        (ws.root / "a" / name).unlink()
    again = ws.build("-n0").outcomes()
    assert again == {"a:leak": "built", "a:quiet": "restored", "a:after": "restored"}


def test_behind_an_installed_folder_steps_are_shared_and_the_folder_is_not(build_workspace, tmp_path):
    ws = build_workspace
    tick = ws.tool("tick")
    install = "tick install; mkdir modules; pwd >modules/where; cat lock >modules/what"
    ws.components(
        a={"steps": {
            "install": {
                "command": install, "inputs": ["lock"], "outputs": [{"path": "modules/", "identity": "installed"}],
            },
            "pack": {"command": "tick pack; cat modules/what >packed", "outputs": ["packed"], "depends_on": ["a:install"]},
        }},
    )  # fmt: skip
    ws.write("a/lock", "1\n")
    assert ws.build("-n0").outcomes() == {"a:install": "built", "a:pack": "built"}
    clone = elsewhere(ws, tmp_path / "clone")
    shutil.rmtree(clone.root / "a/modules")
    (clone.root / "a/packed").unlink()
    assert clone.build("-n0").outcomes() == {"a:install": "built", "a:pack": "restored"}
    assert clone.read("a/modules/where").strip() == str(clone.root / "a")
    assert tick.arguments == ["install", "pack", "install"]
    clone.write("a/lock", "2\n")
    assert clone.build("-n0").outcomes() == {"a:install": "built", "a:pack": "built"}
    # Nothing of the folder lies in the store.
    assert holds(store_of(ws), str(ws.root).encode()) == []


def test_a_failed_step_is_not_kept(build_workspace):
    ws = build_workspace
    tick = lay_out(ws, pack={"command": "tick pack; echo half >tool; ln -s tool latest; exit 1"})
    assert ws.build("-n0")["lib:pack"].value == "failed"
    wipe(ws)
    result = ws.build("-n0")
    assert {**result.outcomes()} == {**RESTORED, "lib:pack": "failed"}
    assert tick.arguments.count("pack") == 2


def test_an_input_that_changes_meanwhile_is_not_kept(build_workspace):
    ws = build_workspace
    tick = lay_out(ws, trim={"command": "tick trim; cp in.txt trimmed; test -e go || echo new >in.txt; : >go"})
    ws.build("-n0", "-k", "trim")
    assert ws.read("lib/in.txt") == "new\n"
    ws.write("lib/in.txt", "one\n# a note\n")
    wipe(ws)
    assert ws.build("-n0", "-k", "trim").outcomes() == {"lib:trim": "built"}
    assert tick.calls == 2


# What is said


CASES = "<testsuite name='x'><testcase classname='c' name='told-by-the-tool' time='1'/></testsuite>"


@pytest.mark.parametrize("mode", ["-n0", "-n2"])
def test_the_cases_of_a_steps_own_tool_are_there_when_it_is_restored(build_workspace, mode):
    ws = build_workspace
    ws.components(
        a={"steps": {"s": {
            "command": f'echo "{CASES}" >report.xml; echo done >out', "outputs": ["out"], "junit": ["report.xml"],
        }}},
    )  # fmt: skip

    def cases(result):
        told = {}
        for path in ("report.xml", ".build/reports/junit.xml"):
            root = ET.parse(ws.root / path).getroot()
            told[path] = [case.get("name") for s in root.iter("testsuite") if s.get("name") == "a:s" for case in s]
        return result["a:s"].value, told

    expected = {key: ["told-by-the-tool"] for key in ["report.xml", ".build/reports/junit.xml"]}
    assert cases(ws.build(mode, "--junitxml=report.xml")) == ("built", expected)
    for path in ("a/out", "a/report.xml", "report.xml"):
        (ws.root / path).unlink()
    shutil.rmtree(ws.root / ".build")
    shutil.rmtree(ws.root / ".pytest_cache")
    assert cases(ws.build(mode, "--junitxml=report.xml")) == ("restored", expected)


def test_a_dry_run_tells_what_will_be_restored_and_so_it_is(build_workspace):
    ws = build_workspace
    tick = lay_out(ws)
    ws.build("-n0")
    made = seen(ws)
    (ws.root / "app/used").unlink()
    (ws.root / "lib/tool").unlink()
    done = ws.pytest("build.yml", "--build-dry-run")
    planned = {line.split()[0]: line.split()[1] for line in done.stdout.splitlines() if line.startswith("  ")}
    assert {label for label, word in planned.items() if word == "restore"} == {"app:use", "lib:pack"}, done.stdout
    assert "2 restore" in done.stdout
    assert not (ws.root / "app/used").exists()
    result = ws.build("-n0")
    right(ws, result, made)
    assert {label for label, word in result.outcomes().items() if word == "restored"} == {"app:use", "lib:pack"}
    # With the artifacts gone the plan says so, and is right again.
    (ws.root / "lib/tool").unlink()
    shutil.rmtree(store_of(ws))
    done = ws.pytest("build.yml", "--build-dry-run")
    assert "1 build" in done.stdout
    assert "restore" not in done.stdout
    assert not store_of(ws).exists()
    assert ws.build("-n0")["lib:pack"].value == "built"
    assert tick.calls == len(LABELS) + 1


def test_one_line_says_what_the_cache_did(build_workspace):
    ws = build_workspace
    lay_out(ws)
    assert noted(ws.build("-n0"), "cache:") == []
    wipe(ws)
    [line] = noted(ws.build("-n0"), "cache:")
    assert "6 from local" in line
    assert "0 missed" in line


# What is not opened


PROBE = """
import os, sys

def pytest_unconfigure(config):
    kind = "worker" if hasattr(config, "workerinput") else "controller"
    with open(os.environ["PROBE"], "a") as file:
        file.write(" ".join([kind, *sorted(sys.modules)]) + "\\n")
"""
BIG = {"boto3", "botocore", "redis", "grpc", "cryptography", "google.protobuf"}
OURS = {f"build_tests.cache.{name}" for name in ("local", "evict", "redis", "s3", "reapi", "tiers", "guarded", "trust")}


def imported(ws, *arguments):
    """What each process of a build has imported, with the build's result."""
    (ws.bin / "imports_probe.py").write_text(PROBE)
    probe = ws.bin / "imports"
    probe.unlink(missing_ok=True)
    environ = {"PYTHONPATH": str(ws.bin), "PROBE": str(probe)}
    before = dict(ws.environ)
    ws.environ.update(environ)
    result = ws.build("-p", "imports_probe", *arguments)
    ws.environ.clear()
    ws.environ.update(before)
    return result, [set(line.split()[1:]) for line in probe.read_text().splitlines()]


@MODES
def test_without_a_remote_no_library_of_one_is_imported(build_workspace, mode):
    ws = build_workspace
    lay_out(ws)
    for outcomes in (BUILT, RESTORED):
        result, processes = imported(ws, *mode)
        assert result.outcomes() == outcomes, result.output
        assert processes
        assert [modules & BIG for modules in processes] == [set()] * len(processes)
        assert any("build_tests.cache.local" in modules for modules in processes)
        wipe(ws)


@MODES
@pytest.mark.parametrize("storage", ["local", ["local", "redis", "s3", "reapi"]], ids=["local", "remotes"])
def test_where_nothing_changed_no_store_is_opened(build_workspace, mode, storage):
    ws = build_workspace
    settings = {
        "storage": storage, "redis": {"url": "redis://127.0.0.1:1/0"}, "s3": {"bucket": "b"},
        "reapi": {"url": "grpc://127.0.0.1:1"},
    }  # fmt: skip
    lay_out(ws, cached(settings))
    ws.build(*mode, "--build-cache", "off")
    shutil.rmtree(store_of(ws), ignore_errors=True)
    result, processes = imported(ws, *mode)
    assert result.outcomes() == FRESH, result.output
    assert len(processes) == 1
    assert processes[0] & (BIG | OURS) == set()
    assert not store_of(ws).exists()
    assert noted(result, "cache ") == []
