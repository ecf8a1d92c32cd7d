"""Names that tools stumble over, links that go round, folders with nothing in them."""

import os
import shutil
import xml.etree.ElementTree as ET

import pytest

from build_tests.core.globs import escape

ODD = (
    b"caf\xe9.txt", b"new\nline.txt", b"-dash.txt", b"a::b.txt", b"br[ack.txt", b"quo'te\".txt", b" spa ce .txt", b"back\\slash.txt",
    b"$(dollar).txt", b"star*.txt", b"tab\t.txt", b"\x01control.txt", "ünï→.txt".encode(), b"]]>.txt", b"#hash.txt", b"!bang.txt",
)  # fmt: skip
MODES = pytest.mark.parametrize("mode", ["-n0", "-n2"])


def names(folder):
    return sorted(os.listdir(os.fsencode(folder)))


@MODES
def test_odd_names_as_inputs_and_outputs(build_workspace, mode):
    ws = build_workspace
    ws.components(
        a={"steps": {"copy": {"command": "mkdir out; cp -- src/* out/", "inputs": ["src/*"], "outputs": ["out/"]}}},
        b={
            "steps": {
                "count": {"command": "ls -A ../a/out | wc -c >count", "inputs": ["//a/out/"], "outputs": ["count"]}
            }
        },
    )
    source = os.fsencode(ws.root / "a/src")
    os.makedirs(source)
    for name in ODD:
        with open(os.path.join(source, name), "wb") as file:
            file.write(name)
    first = ws.build(mode, "--junitxml=report.xml")
    assert first.outcomes() == {"a:copy": "built", "b:count": "built"}, first.output
    assert names(ws.root / "a/out") == sorted(ODD)
    assert ws.build(mode).outcomes() == {"a:copy": "fresh", "b:count": "fresh"}
    for name in ODD:
        with open(os.path.join(source, name), "ab") as file:
            file.write(b" more")
        dry = ws.pytest("build.yml", "--build-dry-run")
        assert dry.returncode == 0, dry.stdout
        result = ws.build(mode, "--junitxml=report.xml", "-v") if name in ODD[:3] else None
        if result is not None:
            assert result["a:copy"].value == "built", result.output
            assert result.status == 0
            ET.parse(ws.root / "report.xml")
    assert ws.build(mode)["a:copy"].value == "built"
    with open(os.path.join(os.fsencode(ws.root / "a/out"), ODD[0]), "rb") as file:
        assert file.read() == ODD[0] + b" more"
    os.unlink(os.path.join(source, ODD[1]))
    gone = ws.build(mode)
    assert gone["a:copy"].value == "built"
    assert names(ws.root / "a/out") == sorted(set(ODD) - {ODD[1]})
    os.unlink(os.path.join(os.fsencode(ws.root / "a/out"), ODD[0]))
    assert ws.build(mode).outcomes() == {"a:copy": "restored", "b:count": "fresh"}


@pytest.mark.parametrize(
    "name",
    [
        "a::b",
        "quo'te\"",
        " spa ce ",
        "-dash",
        "ünï→",
        "]]>",
        "#hash",
        "$(x)",
        "new\nline",
        "tab\t",
        "br[ack",
        "wh?t",
        "st*r",
        "back\\slash",
    ],
)
def test_odd_names_written_in_the_build_file_work_or_are_refused_clearly(build_workspace, name):
    ws = build_workspace
    ws.components(a={"steps": {"copy": {
        "command": ["sh", "-c", 'cp -- "$1" "$2"', "sh", f"./{name}", f"./out {name}"], "inputs": [escape(name)], "outputs": [f"out {name}"]
    }}})  # fmt: skip
    ws.write(f"a/{name}", "one\n")
    result = ws.build("-n0", "--junitxml=report.xml")
    assert "matches nothing" not in result.output
    assert result.status in (0, 4), result.output
    assert "Traceback" not in result.output
    if result.status == 4:
        assert "build.yml:" in result.output
        return
    assert result.outcomes() == {"a:copy": "built"}
    assert ws.read(f"a/out {name}") == "one\n"
    ws.write(f"a/{name}", "two\n")
    assert ws.build("-n0").outcomes() == {"a:copy": "built"}
    assert ws.read(f"a/out {name}") == "two\n"
    assert ws.build("-n0").outcomes() == {"a:copy": "fresh"}
    ET.parse(ws.root / "report.xml")


def test_a_name_that_means_something_else_as_a_pattern_is_told(build_workspace):
    ws = build_workspace
    ws.components(
        a={"steps": {"copy": {"command": "cp 'back\\slash' out", "inputs": ["back\\slash"], "outputs": ["out"]}}}
    )
    ws.write("a/back\\slash", "one\n")
    assert "matches nothing" in ws.build("-n0").steps["a:copy"].warnings[0]


@MODES
def test_an_empty_folder_is_an_output(build_workspace, mode):
    ws = build_workspace
    ws.components(
        a={"steps": {"make": {"command": "mkdir -p out deep/er/est", "outputs": ["out/", "deep/"]}}},
        b={"steps": {"use": {"command": "ls -A ../a/out >list", "inputs": ["//a/out/"], "outputs": ["list"]}}},
    )
    assert set(ws.build(mode).outcomes().values()) == {"built"}
    assert set(ws.build(mode).outcomes().values()) == {"fresh"}
    (ws.root / "a/out").rmdir()
    assert ws.build(mode).outcomes() == {"a:make": "restored", "b:use": "fresh"}
    shutil.rmtree(ws.root / "a/deep/er")
    assert ws.build(mode).outcomes() == {"a:make": "restored", "b:use": "fresh"}
    assert (ws.root / "a/deep/er/est").is_dir()


def test_an_empty_file_and_no_file_are_not_the_same(build_workspace):
    ws = build_workspace
    ws.components(a={"steps": {"make": {"command": "ls src >list", "inputs": ["src/**"], "outputs": ["list"]}}})
    ws.write("a/src/one", "")
    ws.build("-n0")
    ws.write("a/src/two", "")
    assert ws.build("-n0")["a:make"].value == "built"
    (ws.root / "a/src/two").unlink()
    assert ws.build("-n0")["a:make"].value == "restored"
    assert ws.read("a/list") == "one\n"


def test_links_that_go_round_dangle_or_lead_out(build_workspace):
    ws = build_workspace
    outside = ws.root.parent / "outside"
    outside.mkdir()
    (outside / "file").write_text("one\n")
    ws.components(a={"steps": {"list": {
        "command": "cd src; for l in loop up dangling out; do readlink $l; done >../links", "inputs": ["src/**"], "outputs": ["links"]
    }}})  # fmt: skip
    ws.write("a/src/real", "x")
    links = {"loop": "loop", "up": "..", "dangling": "nowhere", "out": str(outside), "there": "back", "back": "there"}
    for name, target in links.items():
        (ws.root / "a/src" / name).symlink_to(target)
    assert ws.build("-n0").outcomes() == {"a:list": "built"}
    assert ws.read("a/links") == f"loop\n..\nnowhere\n{outside}\n"
    assert ws.build("-n0").outcomes() == {"a:list": "fresh"}
    # What a link leads to out of the tree is not declared, the link is.
    (outside / "file").write_text("two\n")
    assert ws.build("-n0").outcomes() == {"a:list": "fresh"}
    (ws.root / "a/src/dangling").unlink()
    (ws.root / "a/src/dangling").symlink_to("elsewhere")
    assert ws.build("-n0").outcomes() == {"a:list": "built"}
    assert "elsewhere" in ws.read("a/links")


@MODES
def test_links_in_outputs_are_kept_as_links(build_workspace, mode):
    ws = build_workspace
    command = "mkdir out; cp in.txt out/file; ln -s file out/good; ln -s loop out/loop; ln -s .. out/up; ln -s nowhere out/dangling; ln -s out/file link"
    ws.components(a={"steps": {"make": {"command": command, "inputs": ["in.txt"], "outputs": ["out/", "link"]}}})
    ws.write("a/in.txt", "one\n")
    assert ws.build(mode).outcomes() == {"a:make": "built"}
    assert ws.build(mode).outcomes() == {"a:make": "fresh"}
    for name, target in (("good", "other"), ("loop", "pool")):
        (ws.root / "a/out" / name).unlink()
        (ws.root / "a/out" / name).symlink_to(target)
        assert ws.build(mode).outcomes() == {"a:make": "restored"}
    assert os.readlink(ws.root / "a/out/loop") == "loop"
    ws.write("a/in.txt", "two\n")
    assert ws.build(mode).outcomes() == {"a:make": "built"}
    assert ws.read("a/link") == "two\n"


def test_cleaning_never_follows_a_link(build_workspace):
    ws = build_workspace
    outside = ws.root.parent / "outside"
    outside.mkdir()
    (outside / "precious").write_text("theirs\n")
    ws.components(
        a={
            "steps": {
                "make": {
                    "command": "mkdir out; ln -s ../../../outside out/link; cp in.txt out/",
                    "inputs": ["in.txt"],
                    "outputs": ["out/"],
                }
            }
        }
    )
    ws.write("a/in.txt", "one\n")
    ws.build("-n0")
    ws.write("a/in.txt", "two\n")
    assert ws.build("-n0").outcomes() == {"a:make": "built"}
    # Nor does one that was put in an output's place.
    shutil.rmtree(ws.root / "a/out")
    (ws.root / "a/out").symlink_to(outside)
    ws.write("a/in.txt", "three\n")
    ws.build("-n0")
    assert (outside / "precious").read_text() == "theirs\n"


def test_an_input_that_can_not_be_read_is_named(build_workspace):
    ws = build_workspace
    ws.components(
        a={
            "steps": {
                "make": {"command": "true", "inputs": ["pipe"]},
                "after": {"command": "true", "depends_on": ["a:make"]},
            }
        },
        b={"steps": {"fine": {"command": "true"}}},
    )
    os.mkfifo(ws.root / "a/pipe")
    result = ws.build("-n0")
    assert result.outcomes() == {"a:make": "failed", "a:after": "blocked", "b:fine": "built"}
    assert "a/pipe" in result.steps["a:make"].message
    assert "fifo" in result.steps["a:make"].message


def test_a_folder_becomes_a_file_and_a_file_a_folder(build_workspace):
    ws = build_workspace
    ws.components(
        a={
            "steps": {
                "make": {"command": "find src -type f | sort | xargs cat >out", "inputs": ["src/"], "outputs": ["out"]}
            }
        }
    )
    ws.write("a/src/x/one", "1\n")
    ws.write("a/src/y", "2\n")
    assert ws.build("-n0")["a:make"].value == "built"
    shutil.rmtree(ws.root / "a/src/x")
    ws.write("a/src/x", "3\n")
    (ws.root / "a/src/y").unlink()
    ws.write("a/src/y/two", "4\n")
    assert ws.build("-n0")["a:make"].value == "built"
    assert ws.read("a/out") == "3\n4\n"
    assert ws.build("-n0")["a:make"].value == "fresh"
