"""Nothing changed, by the commands: `pytest-build build`, `status` and `explain` beside ninja, doit and Turborepo.

One generated workspace, each tool in a copy of its own, repetitions interleaved (see run.py). Turborepo takes part at 50
steps, with `--turborepo`: it runs a step through npm, so that a thousand would take many minutes to build. npm must be
there, and installs it under build/.

    python benchmarks/fast.py [--turborepo] [--rounds N]
"""

import argparse
import json
import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import measure
import run
import workspace
from measure import Taken
from workspace import Workspace

RESULTS = os.path.join(run.HERE, "fast.md")
COMMAND = os.path.join(run.TOOLS, "bin", "pytest-build")
TURBO = os.path.join(run.ROOT, "build", "bench-turbo")
INPUTS = 10
OURS = {
    "pytest-build build": [COMMAND, "build", "-q", "-n", "2"], "pytest-build status": [COMMAND, "status"],
    "pytest-build explain": [COMMAND, "explain"],
}  # fmt: skip


@dataclass(slots=True)
class Contender:
    """One tool in a workspace that it has built."""

    root: str
    commands: dict[str, Sequence[str]]
    """Each changes nothing."""
    runs: dict[str, list[Taken]] = field(default_factory=dict)

    def round(self) -> None:
        """Each command once."""
        for name, command in self.commands.items():
            self.runs.setdefault(name, []).append(measure.take(command, self.root))


def contenders(made: Workspace, folder: str, *, turborepo: bool) -> list[Contender]:
    """Those that are compared, ours first, each with everything built."""
    by_name = {tool.name: tool for tool in run.tools()}
    found = []
    for name in ("pytest-build", "ninja", "doit", "doit, one process"):
        tool = by_name[name]
        root = os.path.join(folder, name.replace(", ", "-").replace(" ", "-"))
        run.set_up(made, tool, root)
        measure.take(tool.command, root)
        commands = OURS if name == "pytest-build" else {name: tool.command}
        found.append(Contender(root=root, commands=commands))
    if turborepo:
        found.append(turbo(made, os.path.join(folder, "turbo")))
    for contender in found:
        contender.round()  # young files are looked at once more; and our command asks pytest what it is like here
        contender.runs.clear()
    return found


def turbo(made: Workspace, root: str) -> Contender:
    """The same graph as packages, a package a step."""
    program = os.path.join(TURBO, "node_modules", ".bin", "turbo")
    if not os.path.exists(program):
        os.makedirs(TURBO, exist_ok=True)
        install = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", TURBO, "turbo"]
        subprocess.run(install, check=True)
    os.environ.update(TURBO_TELEMETRY_DISABLED="1", DO_NOT_TRACK="1")
    write_packages(made, root)
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    command = [program, "run", "build", "--output-logs=none", "--concurrency=2"]
    measure.take(command, root)
    return Contender(root=root, commands={"Turborepo": command})


def write_packages(made: Workspace, root: str) -> None:
    """Turborepo's workspace: package.json for each step, a lock, turbo.json."""

    def name(output: str) -> str:
        return output.replace("/out/", "-").removesuffix(".txt")

    packages: dict[str, object] = {"": {"name": "bench", "workspaces": ["packages/*"]}}
    for step in made.steps:
        own, folder = [os.path.basename(path) for path in step.inputs], f"packages/{name(step.output)}"
        os.makedirs(os.path.join(root, folder), exist_ok=True)
        for file in own:
            workspace.write(os.path.join(root, folder, file), f"{file}\n")
        needs = [name(need) for need in step.needs]
        script = f"cksum {' '.join([*own, *(f'../{need}/out.txt' for need in needs)])} >out.txt"
        package = {"name": name(step.output), "version": "1.0.0", "dependencies": dict.fromkeys(needs, "*")}
        text = json.dumps({**package, "scripts": {"build": script}})
        workspace.write(os.path.join(root, folder, "package.json"), text)
        packages[folder] = package
        packages[f"node_modules/{name(step.output)}"] = {"resolved": folder, "link": True}
    lock = {"name": "bench", "lockfileVersion": 3, "requires": True, "packages": packages}
    top = {"name": "bench", "private": True, "packageManager": "npm@10.0.0", "workspaces": ["packages/*"]}
    task = {"dependsOn": ["^build"], "outputs": ["out.txt"], "inputs": ["*.txt", "!out.txt"]}
    for file, document in (
        ("package.json", top), ("package-lock.json", lock), ("turbo.json", {"tasks": {"build": task}}),
    ):  # fmt: skip
        workspace.write(os.path.join(root, file), json.dumps(document))
    workspace.write(os.path.join(root, ".gitignore"), "node_modules\n.turbo\nout.txt\n")


def medians(layers: int, width: int, rounds: int, folder: str, *, turborepo: bool) -> dict[str, float]:
    """Command → seconds."""
    measure.say(f"{layers * width:,} steps")
    made = workspace.layered(layers=layers, width=width, inputs=INPUTS)
    found = contenders(made, folder, turborepo=turborepo)
    for number in range(rounds):
        measure.say(f"round {number + 1}")
        for contender in found:
            contender.round()
    return {name: measure.median(runs) for contender in found for name, runs in contender.runs.items()}


def report(rounds: int, *, turborepo: bool) -> str:
    """Measure, and write it all down."""
    with measure.scratch() as folder:
        os.environ["XDG_CACHE_HOME"] = os.path.join(folder, "cache")
        small = medians(5, 10, rounds, os.path.join(folder, "small"), turborepo=turborepo)
        large = medians(10, 100, rounds, os.path.join(folder, "large"), turborepo=False)
    rows = [[name, _seconds(small.get(name)), _seconds(large.get(name))] for name in {**small, **large}]
    fastest = min(large["doit"], large["doit, one process"])
    build = large["pytest-build build"]
    goals: list[tuple[str, float, float, Callable[[float], str]]] = [
        ("1,000 steps, in units of doit", build / fastest, 1.0, _times),
        ("50 steps", small["pytest-build build"], 0.15, _seconds),
        ("status of 1,000 steps, in units of build", large["pytest-build status"] / build, 1.2, _times),
        ("explain of 1,000 steps, in units of build", large["pytest-build explain"] / build, 1.2, _times),
    ]
    targets = [[name, show(value), f"≤ {show(most)}", "yes" if value <= most else "no"] for name, value, most, show in goals]
    return (
        f"# Nothing changed, by the commands\n\nSteps of {INPUTS} inputs each; medians of {rounds} interleaved runs, in "
        f"seconds. Made by `python benchmarks/fast.py{' --turborepo' if turborepo else ''}`.\n\n{run.versions()}\n\n"
        f"{measure.table(['', '50 steps', '1,000 steps'], rows)}\n"
        f"{measure.table(['', 'measured', 'target', 'met'], targets)}"
    )


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f} s"


def _times(value: float) -> str:
    return f"{value:.2f}x"


def main() -> None:
    """Measure, print, write down."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--turborepo", action="store_true", help="with Turborepo, at 50 steps")
    parser.add_argument("--rounds", type=int, default=7, help="the medians of how many (default: 7)")
    options = parser.parse_args()
    measure.need("ninja", "git")
    run.get_tools()
    text = report(options.rounds, turborepo=options.turborepo)
    print(text)
    workspace.write(RESULTS, text)


if __name__ == "__main__":
    main()
