"""A component's steps and what their keys are made of, without any tool: for tests of what must rebuild and what not."""

import os

from build_tests.core.builder import Component, Step
from build_tests.core.fingerprint import definition_of
from build_tests.core.globs import Tree
from build_tests.core.graph import build_graph
from build_tests.core.workspace import FileWorkspace, output_paths


class Derived:
    """A component over files in a folder. `keys` gives, by step, all that decides whether it is up to date."""

    def __init__(self, root, builder, files, *others, path="app", **options):
        self.root = root
        self.builder = builder
        self.others = others
        """Components beside it."""
        self.path = path
        self.options = options
        for name, text in files.items():
            self.write(name, text)

    def write(self, name, text):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def append(self, name, text):
        self.write(name, (self.root / name).read_text(encoding="utf-8") + text)

    def steps(self):
        component = Component(
            name="app", kind=self.builder.kind, path=self.path, options=self.builder.options(**self.options)
        )
        outputs = []
        for _ in range(2):  # as for a fresh clone: what the steps make is not seen
            workspace = FileWorkspace(str(self.root), (component, *self.others), outputs)
            steps = list(self.builder().plan(component, workspace))
            outputs = [output for step in steps for output in step.outputs]
        return steps

    def keys(self, **versions):
        """`versions`: what tools tell, other than 1."""
        steps = self.steps()
        owned = output_paths(output for step in steps for output in step.outputs)
        return {step.name: self._key(step, owned, versions) for step in steps}

    def rebuilt_by(self, change):
        """The steps that an edit has run again, by name."""
        before = self.keys()
        change(self)
        return changed(before, self.keys())

    def _key(self, step, owned, versions):
        files = Tree(str(self.root)).select(step.inputs, exclude=owned.contains)
        tools = tuple((tool.name, versions.get(tool.name.replace("-", "_"), "1")) for tool in step.tools)
        return definition_of(step), step.env, tuple((name, *self._content(name)) for name in files), tools

    def _content(self, name):
        path = self.root / name
        if path.is_symlink():
            return ("link", os.readlink(path))
        return (bool(path.stat().st_mode & 0o100), path.read_bytes())


def needs_beside_a_maker_of(output, steps, label):
    """What a step waits for where a step `maker:make` makes this output."""
    maker = Step(component="maker", name="make", kind="command", command=("make",), outputs=(output,))
    return build_graph([maker, *steps.values()]).needs[label]


def changed(before, after):
    """The names of the steps whose keys differ."""
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
