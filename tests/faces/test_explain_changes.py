"""Each kind of change: what explain says before the run, what ran, and what explain --last says after it. One table.

The table is a story in one workspace; golden_explain.txt holds every word of it. UPDATE_GOLDEN=1 writes it anew.
"""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from stories import Story, assert_golden, cut_off, told_of

GOLDEN = Path(__file__).with_name("golden_explain.txt")
BUILDER = """
from dataclasses import dataclass
from build_tests.core.builder import Output, Step

@dataclass(frozen=True, kw_only=True)
class Options:
    pass

class NoteBuilder:
    kind = "note"
    options = Options

    def plan(self, component, workspace):
        words = tuple(workspace.read_text(f"{component.path}/note.cfg").split())
        yield Step(
            component=component.name, name="write", kind="note", path=component.path,
            command=("sh", "-c", 'echo "$*" >note.txt', "note", *words), inputs=(f"{component.path}/note.cfg",),
            outputs=(Output(path=f"{component.path}/note.txt"),),
        )
"""
STEPS = {
    "proto": {"gen": {
        "command": "mkdir gen; protogen shop.proto >gen/api.txt", "inputs": ["*.proto"], "outputs": ["gen/"],
        "tools": [{"name": "protogen", "version_command": ["protogen", "--version"]}],
    }},
    "web": {
        "bundle": {
            "command": "cat ../proto/gen/api.txt src/* >out.js; echo $FLAVOUR $MODE >>out.js",
            "inputs": ["//proto/gen/", "src/**"], "outputs": ["out.js"], "pass_env": ["FLAVOUR"],
            "env": {"MODE": "fast"}, "secrets": ["TOKEN"], "timeout": "5m",
        },
        "image": {"command": ["./pack.sh", "out.js"], "inputs": ["out.js"], "outputs": ["image"]},
    },
    "docs": {"page": {"command": "cat one.md >page.html", "inputs": ["one.md"], "outputs": ["page.html"]}},
}  # fmt: skip

IGNORED = """/web/out.js
/web/image
/proto/gen/
/docs/page.html
/docs/list.txt
/more/note.txt
.pytest_cache
__pycache__
"""


class Small(Story):
    """The workspace with the steps as they are now."""

    def __init__(self, folder):
        super().__init__(folder)
        self.environ.pop("FLAVOUR", None)
        self.steps = json.loads(json.dumps(STEPS))
        self.note = {}
        """What the build file says of the builder's own step."""
        self.ws.write("notebuilder.py", BUILDER)
        self.ws.write("more/note.cfg", "first words\n")
        self.ws.write("proto/shop.proto", "message Shop\n")
        self.ws.write("web/src/a.ts", "a\n")
        self.ws.write("web/src/b.ts", "b\n")
        self.ws.write("web/pack.sh", '#!/bin/sh\ncat "$1" >image\n', executable=True)
        self.ws.write("docs/one.md", "one\n")
        self.ws.write("docs/two.md", "two\n")
        self.ws.write(".gitignore", IGNORED)
        self.protogen("1.0")
        self.lay_out()
        self.git("init", "-q", "-b", "main")
        self.commit("first")

    def lay_out(self):
        self.ws.components(
            {"builders": {"note": "notebuilder:NoteBuilder"}, "targets": {"all": {}, "again": {"cache_strategy": "off"}},
             "default_target": "all"},
            **{name: {"steps": steps} for name, steps in self.steps.items()},
            more={"kind": "note", "steps": {"write": self.note}},
        )  # fmt: skip

    def step(self, label, **fields):
        component, name = label.split(":")
        self.steps[component][name].update(fields)
        self.lay_out()

    def protogen(self, version):
        self.ws.tool("protogen", f'[ "$1" = --version ] && echo {version} && exit\ngrep -v "^//" "$1"')


def same_size_and_time(story):
    target = story.ws.root / "docs/one.md"
    times = target.stat()
    target.write_text("eno\n")
    os.utime(target, ns=(times.st_atime_ns, times.st_mtime_ns))


def off_the_tool(story):
    (story.ws.bin / "protogen").rename(story.ws.bin / "gone")


CHANGES = {
    "nothing was built yet": lambda s: None,
    "nothing changed": lambda s: None,
    "a file is edited": lambda s: s.append("web/src/a.ts", "more\n"),
    "and edited back": lambda s: s.ws.write("web/src/a.ts", "a\n"),
    "a file is only touched": lambda s: (s.ws.root / "web/src/a.ts").touch(),
    "an edit of the same size, its time put back": same_size_and_time,
    "a file is added": lambda s: s.ws.write("web/src/c.ts", "c\n"),
    "a file is renamed": lambda s: (s.ws.root / "web/src/c.ts").rename(s.ws.root / "web/src/d.ts"),
    "a file is removed": lambda s: s.remove("web/src/d.ts"),
    "a file's mode changes": lambda s: (s.ws.root / "web/src/b.ts").chmod(0o755),
    "a dependency runs, and its output stays the same": lambda s: s.append("proto/shop.proto", "// a comment\n"),
    "a dependency's output changes": lambda s: s.append("proto/shop.proto", "message Cart\n"),
    "a variable is set": lambda s: s.environ.update(FLAVOUR="mint"),
    "a variable has another value": lambda s: s.environ.update(FLAVOUR="lemon"),
    "a variable is gone": lambda s: s.environ.pop("FLAVOUR"),
    "a secret has another value": lambda s: s.environ.update(TOKEN="hush-hush-hush"),
    "a declared variable changes": lambda s: s.step("web:bundle", env={"MODE": "slow"}),
    "the command changes": lambda s: s.step("docs:page", command="cat one.md one.md >page.html"),
    "an input is declared": lambda s: s.step("docs:page", inputs=["one.md", "two.md"]),
    "an output is declared": lambda s: s.step(
        "docs:page", command="cat one.md >page.html; : >list.txt", outputs=["page.html", "list.txt"]
    ),
    "a timeout changes": lambda s: s.step("web:bundle", timeout="6m"),
    "a dependency is declared": lambda s: s.step("docs:page", depends_on=["more:write"]),
    "a program of the repository is edited": lambda s: s.append("web/pack.sh", "# better\n"),
    "a manifest that a builder reads changes": lambda s: s.ws.write("more/note.cfg", "second words\n"),
    "a tool has another version": lambda s: s.protogen("2.0"),
    "a tool is not there": off_the_tool,
    "the tool is back": lambda s: (s.ws.bin / "gone").rename(s.ws.bin / "protogen"),
    "an output is deleted": lambda s: s.remove("docs/page.html"),
    "an output is deleted, and the cache as well": lambda s: (
        s.remove("web/image"), shutil.rmtree(s.environ["XDG_CACHE_HOME"])
    ),
    "an output is edited by hand": lambda s: s.ws.write("docs/page.html", "by hand\n"),
    "a file is put into an output": lambda s: s.ws.write("proto/gen/extra.txt", "mine\n"),
    "another branch is checked out": lambda s: (
        s.commit("so far"), s.git("checkout", "-q", "-b", "other"), s.ws.write("web/src/a.ts", "of the other branch\n"), s.commit("other")
    ),
    "and the first one again": lambda s: s.git("checkout", "-q", "main", "-f"),
    "the hashes are cleared": lambda s: s.remove(".pytest_cache"),
    "a step comes to fail": lambda s: s.step("docs:page", command="exit 3"),
    "a step failed": lambda s: None,
    "the step is mended": lambda s: s.step("docs:page", command="cat two.md >page.html; : >list.txt"),
    "a run was cut off": lambda s: cut_off(s, "docs:page"),
    "an input can't be read": lambda s: (s.remove("docs/two.md"), os.mkfifo(s.ws.root / "docs/two.md")),
    "and can again": lambda s: (s.remove("docs/two.md"), s.ws.write("docs/two.md", "two\n")),
    "a step is never kept": lambda s: (s.note.update(cache=False), s.lay_out()),
    "a target believes nothing": lambda s: setattr(s, "target", "again"),
}


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """The whole story as text, checked as it goes on."""
    story = Small(tmp_path_factory.mktemp("story"))
    try:
        return told_of(story, CHANGES)
    finally:
        sys.modules.pop("notebuilder", None)


def test_every_word(told):
    assert_golden(told, GOLDEN)


def test_there_are_at_least_thirty_kinds_of_change():
    assert len(CHANGES) >= 30


def test_no_value_of_a_secret_is_told(told):
    assert "hush" not in told
