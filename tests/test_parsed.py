"""A parsed build file is kept as long as every answer that builders were given would be the same."""

import os
import sys
import time

import pytest

from build_tests.core.assemble import read
from build_tests.parsed import remembered
from build_tests.registry import Registry

BUILDER = """
from dataclasses import dataclass
from build_tests.core.builder import Output, Step

PLANNED = []

@dataclass(frozen=True, kw_only=True)
class Options:
    pass

class LeafBuilder:
    kind = "leaf"
    options = Options

    def plan(self, component, workspace):
        PLANNED.append(component.name)
        files = workspace.glob(f"{component.path}/**/*.leaf")
        text = workspace.read_text(f"{component.path}/leaf.txt")
        locked = workspace.exists(f"{component.path}/lock")
        yield Step(
            component=component.name, name="grow", kind="leaf", path=component.path, command=("echo", text, str(locked)),
            inputs=tuple(files), outputs=(Output(path=f"{component.path}/out.leaf"),),
        )
"""


@pytest.fixture
def root(tmp_path, monkeypatch):
    (tmp_path / "leafbuilder.py").write_text(BUILDER)
    (tmp_path / "build.yml").write_text(
        'version: "2.0"\nbuilders: {leaf: "leafbuilder:LeafBuilder"}\ncomponents:\n  oak: {kind: leaf}\n'
    )
    for path in ("oak/leaf.txt", "oak/a.leaf", "oak/deep/b.leaf", "oak/other.txt"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("text")
    age(tmp_path)
    yield tmp_path
    sys.modules.pop("leafbuilder", None)


def age(root):
    """Old enough for the stat short cut to be taken."""
    then = time.time_ns() - 10**10
    for path in [root, *root.rglob("*")]:
        if ".build" not in path.parts:
            os.utime(path, ns=(then, then))
    time.sleep(0.03)  # the change time is the kernel's: two of its ticks


def look(root):
    """The graph as it is remembered, and whether the builder was asked for it."""
    planned = getattr(sys.modules.get("leafbuilder"), "PLANNED", [])
    before = len(planned)
    _, graph, _ = remembered(str(root / "build.yml"), None, Registry())
    return graph, len(sys.modules["leafbuilder"].PLANNED) > before or sys.modules["leafbuilder"].PLANNED is not planned


def edit_and_put_the_time_back(path, text):
    times = os.stat(path)
    path.write_text(text)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


CHANGES = {
    "a manifest": lambda root: (root / "oak/leaf.txt").write_text("other"),
    "a manifest, of the same size and time": lambda root: edit_and_put_the_time_back(root / "oak/leaf.txt", "TEXT"),
    "a new file": lambda root: (root / "oak/c.leaf").write_text("c"),
    "a new file in a folder below": lambda root: (root / "oak/deep/c.leaf").write_text("c"),
    "a new folder": lambda root: [(root / "oak/new").mkdir(), (root / "oak/new/c.leaf").write_text("c")],
    "a file removed": lambda root: (root / "oak/a.leaf").unlink(),
    "a file renamed": lambda root: (root / "oak/a.leaf").rename(root / "oak/z.leaf"),
    "a file that was not there": lambda root: (root / "oak/lock").write_text(""),
    "the build file": lambda root: (root / "build.yml").write_text((root / "build.yml").read_text() + "# more\n"),
    "the builder": lambda root: (root / "leafbuilder.py").write_text(BUILDER.replace("echo", "print")),
}
NO_CHANGES = {
    "nothing": lambda _root: None,
    "a manifest touched": lambda root: (root / "oak/leaf.txt").touch(),
    "the content of a file that was only listed": lambda root: (root / "oak/a.leaf").write_text("other"),
    "a file of another name": lambda root: (root / "oak/readme.txt").write_text("new"),
    "an output": lambda root: (root / "oak/out.leaf").write_text("made"),
    "the manifest written again as it was": lambda root: (root / "oak/leaf.txt").write_text("text"),
}


@pytest.mark.parametrize("aged", [True, False], ids=["old", "young"])
@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_seen(root, name, aged):
    if not aged:
        (root / "oak/leaf.txt").write_text("text")
    before, _ = look(root)
    CHANGES[name](root)
    if name == "the builder":
        sys.modules.pop("leafbuilder")
    after, asked = look(root)
    assert asked
    assert after.steps == read(str(root / "build.yml"), registry=Registry())[1].steps
    assert (after.digest == before.digest) == (after == before)


@pytest.mark.parametrize("name", NO_CHANGES)
def test_the_builder_is_not_asked_without_need(root, name):
    before, _ = look(root)
    NO_CHANGES[name](root)
    for _ in range(2):
        after, asked = look(root)
        assert not asked
        assert after == before
        assert after.digest == before.digest


def test_an_environment_has_its_own(root):
    (root / "config/environments").mkdir(parents=True)
    (root / "config/environments/dev.yml").write_text("components: {oak: {tags: [dev]}}\n")
    look(root)
    _, graph, _ = remembered(str(root / "build.yml"), "dev", Registry())
    assert graph.steps["oak:grow"].tags == ("dev",)
    assert look(root)[0].steps["oak:grow"].tags == ()
