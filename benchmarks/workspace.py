"""The workspace of the benchmarks: one layered graph, written for pytest-build, ninja, doit and make alike.

Every step reads a few small files of its own and the outputs of three steps of the layer above, and runs the same
shell line in all four tools, so what differs is the tools. Knows nothing of how they are started.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass

ABOVE = (0, 1, 3)
"""A step needs these places of the layer above, counted from its own: an edit spreads, but not to everything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One action. Paths are relative to the workspace."""

    component: str
    name: str
    inputs: tuple[str, ...]
    needs: tuple[str, ...]
    """Outputs of other steps."""
    output: str
    command: str
    """For a shell in the workspace's root."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """Layers of equally many steps; the first layer's steps are the roots, the last one's the leaves."""

    steps: tuple[Step, ...]

    @property
    def root_input(self) -> str:
        """A file at the beginning of the graph."""
        return self.steps[0].inputs[0]

    @property
    def leaf_input(self) -> str:
        """A file that one last step alone reads."""
        return self.steps[-1].inputs[0]

    @property
    def outputs(self) -> list[str]:
        """Every step's."""
        return [step.output for step in self.steps]


def layered(*, layers: int, width: int, inputs: int, action: str = "cksum {sources} >{output}") -> Workspace:
    """A graph of `width` steps in each of `layers` with `inputs` files each.

    Args:
        layers: the length of the critical path, in steps.
        width: how many steps of a layer depend on nothing in it.
        inputs: small files of each step's own.
        action: the shell line, with the places `{sources}` and `{output}`.
    """
    return Workspace(steps=tuple(_steps(layers, width, inputs, action)))


def _steps(layers: int, width: int, inputs: int, action: str) -> Iterator[Step]:
    for layer in range(layers):
        for place in range(width):
            folder, name = f"layer{layer}", f"s{place}"
            sources = tuple(f"{folder}/in/{name}.{number}.txt" for number in range(inputs))
            above = sorted({(place + offset) % width for offset in ABOVE}) if layer else []
            needs = tuple(_output(layer - 1, other) for other in above)
            output = _output(layer, place)
            command = action.format(sources=" ".join(sources + needs), output=output)
            yield Step(component=folder, name=name, inputs=sources, needs=needs, output=output, command=command)


def _output(layer: int, place: int) -> str:
    return f"layer{layer}/out/s{place}.txt"


def write_sources(workspace: Workspace, root: str) -> None:
    """The steps' own files, each with its path as its text; and the folders of the outputs, which make needs."""
    for step in workspace.steps:
        os.makedirs(os.path.join(root, os.path.dirname(step.output)), exist_ok=True)
        for path in step.inputs:
            os.makedirs(os.path.join(root, os.path.dirname(path)), exist_ok=True)
            write(os.path.join(root, path), f"{path}\n")


def write(path: str, text: str) -> None:
    """One file."""
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def build_yml(workspace: Workspace) -> str:
    """For pytest-build. JSON is YAML; steps run in the root (`path: //`), so that the shell line is everybody's."""
    components: dict[str, dict[str, object]] = {}
    for step in workspace.steps:
        steps = components.setdefault(step.component, {"kind": "command", "path": "//", "steps": {}})["steps"]
        steps[step.name] = {"command": step.command, "inputs": [*step.inputs, *step.needs], "outputs": [step.output]}
    return json.dumps({"version": "2.0", "components": components}, indent=1)


def build_ninja(workspace: Workspace) -> str:
    """For ninja."""
    lines = ["rule run", "  command = $cmd"]
    for step in workspace.steps:
        lines += [f"build {step.output}: run {' '.join(step.inputs + step.needs)}", f"  cmd = {step.command}"]
    return "\n".join(lines) + "\n"


def makefile(workspace: Workspace) -> str:
    """For make, by time stamps."""
    lines = [f"all: {' '.join(workspace.outputs)}", ".PHONY: all"]
    for step in workspace.steps:
        lines += [f"{step.output}: {' '.join(step.inputs + step.needs)}", f"\t@{step.command}"]
    return "\n".join(lines) + "\n"


def dodo(workspace: Workspace) -> str:
    """For doit."""
    tasks = [
        {
            "name": f"{step.component}:{step.name}", "actions": [step.command],
            "file_dep": [*step.inputs, *step.needs], "targets": [step.output],
        }
        for step in workspace.steps
    ]  # fmt: skip
    return f"DOIT_CONFIG = {{'verbosity': 0}}\nTASKS = {json.dumps(tasks)}\n\n\ndef task_all():\n    yield from TASKS\n"
