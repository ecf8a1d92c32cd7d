"""pytest-build beside ninja, doit and make on one generated workspace: `python benchmarks/run.py`, or `make bench`.

All tools get the same graph and the same shell lines, each in a copy of its own. Repetitions are interleaved (every
tool once, then again), so that a slow minute of the machine meets all of them. Prints Markdown and writes it to
`benchmarks/results.md`. ninja and make come from the system; pytest-build (the wheel of this checkout) and doit are
installed into an environment under build/ that has nothing else, so that no plugin of ours weighs on either side.
"""

import argparse
import os
import platform
import shutil
import subprocess
import time
import venv
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import measure
import workspace
from measure import Taken
from workspace import Workspace

HERE = os.path.dirname(os.path.abspath(__file__))
RESULTS = os.path.join(HERE, "results.md")
ROOT = os.path.dirname(HERE)
TOOLS = os.path.join(ROOT, "build", "bench-venv")
PYTHON = os.path.join(TOOLS, "bin", "python")
WORKERS = "-n2"
NO_TESTS = 5
"""pytest's exit status where it found nothing to do."""
PYTEST = [PYTHON, "-m", "pytest", "-q"]
BUILD = [*PYTEST, WORKERS, "build.yml"]


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much is measured."""

    layers: int = 10
    width: int = 100
    inputs: int = 10
    rounds: int = 5
    cold_rounds: int = 3
    chain: int = 100
    naps: int = 200
    large: bool = False


QUICK = Sizes(layers=5, width=10, inputs=3, rounds=2, cold_rounds=1, chain=20, naps=20)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """One build tool with its copy of the workspace."""

    name: str
    command: Sequence[str]
    files: dict[str, Callable[[Workspace], str]]
    leftovers: Sequence[str]
    """What it remembers a build by, for `rm -rf`."""


@dataclass(slots=True)
class Comparison:
    """The runs of each scenario, by tool."""

    runs: dict[str, dict[str, list[Taken]]] = field(default_factory=dict)

    def add(self, scenario: str, tool: str, taken: Taken) -> None:
        """One more run."""
        self.runs.setdefault(scenario, {}).setdefault(tool, []).append(taken)


def tools() -> list[Tool]:
    """Those that are compared, ours first."""
    doit = os.path.join(TOOLS, "bin", "doit")
    dodo = {"dodo.py": workspace.dodo}
    state = [".doit.db", ".doit.db.db", ".doit.db.dat", ".doit.db.dir", ".doit.db.bak", "__pycache__"]
    return [
        Tool(
            name="pytest-build", command=BUILD, files={"build.yml": workspace.build_yml},
            leftovers=[".build", ".pytest_cache"],
        ),
        Tool(
            name="ninja", command=["ninja", "-j2", "--quiet"], files={"build.ninja": workspace.build_ninja},
            leftovers=[".ninja_log", ".ninja_deps"],
        ),
        Tool(name="doit", command=[doit, "-n", "2"], files=dodo, leftovers=state),
        Tool(name="doit, one process", command=[doit], files=dodo, leftovers=state),
        Tool(name="make", command=["make", "-s", "-j2"], files={"Makefile": workspace.makefile}, leftovers=[]),
    ]  # fmt: skip


def get_tools() -> None:
    """Install the checkout as it is now, and doit where it is not yet."""
    measure.say("installing pytest-build and doit")
    if not os.path.exists(os.path.join(TOOLS, "bin", "doit")):
        venv.create(TOOLS, with_pip=True, clear=True)
        subprocess.run([PYTHON, "-m", "pip", "install", "--quiet", "doit", ROOT], check=True)
    pip = [PYTHON, "-m", "pip", "install", "--quiet", "--force-reinstall", "--no-deps", ROOT]
    subprocess.run(pip, check=True)
    # As a user has it who has run it before; variables of the session must not keep Python from its caches.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def set_up(made: Workspace, tool: Tool, root: str) -> None:
    """Write the sources and the tool's own file."""
    workspace.write_sources(made, root)
    for name, render in tool.files.items():
        workspace.write(os.path.join(root, name), render(made))


def forget() -> None:
    """Empty the artifact cache: nothing is restored where building is measured."""
    shutil.rmtree(os.environ["XDG_CACHE_HOME"], ignore_errors=True)


def wipe(made: Workspace, tool: Tool, root: str) -> None:
    """Back to a fresh clone on a fresh machine."""
    forget()
    subprocess.run(["rm", "-rf", *tool.leftovers, *made.outputs], cwd=root, check=True)


def edit(root: str, path: str) -> None:
    """Another content, so that tools that compare contents see it as well as those that compare times."""
    with open(os.path.join(root, path), "a", encoding="utf-8") as file:
        file.write(f"{time.time_ns()}\n")


def compare(sizes: Sizes, folder: str) -> Comparison:
    """Every tool, every scenario, interleaved."""
    made = workspace.layered(layers=sizes.layers, width=sizes.width, inputs=sizes.inputs)
    roots = {tool.name: os.path.join(folder, f"tool{at}") for at, tool in enumerate(tools())}
    comparison = Comparison()
    for tool in tools():
        set_up(made, tool, roots[tool.name])
    for number in range(max(sizes.rounds, sizes.cold_rounds)):
        measure.say(f"round {number + 1}")
        for tool in tools():
            one_round(made, tool, roots[tool.name], comparison, cold=number < sizes.cold_rounds)
        bare = os.path.join(folder, "bare")
        os.makedirs(bare, exist_ok=True)
        comparison.add("nothing changed", "bare pytest", measure.take(PYTEST, bare, good=[NO_TESTS]))
    return comparison


def one_round(made: Workspace, tool: Tool, root: str, comparison: Comparison, *, cold: bool) -> None:
    """All scenarios of one tool."""
    if cold:
        wipe(made, tool, root)
        comparison.add("everything", tool.name, measure.take(tool.command, root))
        # The first look after a build reads young outputs once more (the racy rule); that belongs to the build.
        measure.take(tool.command, root)
    comparison.add("nothing changed", tool.name, measure.take(tool.command, root))
    for scenario, path in (("one leaf edited", made.leaf_input), ("one root edited", made.root_input)):
        edit(root, path)
        comparison.add(scenario, tool.name, measure.take(tool.command, root))


def behind_the_root(made: Workspace) -> int:
    """How many steps an edit at the root runs."""
    touched = {made.steps[0].output}
    for step in made.steps:
        if not touched.isdisjoint(step.needs):
            touched.add(step.output)
    return len(touched)


def comparison_table(comparison: Comparison) -> str:
    """Medians in seconds, and in brackets ours in units of theirs."""
    names = [tool.name for tool in tools()]
    rows = []
    for scenario in ("nothing changed", "one leaf edited", "one root edited", "everything"):
        medians = {name: measure.median(runs) for name, runs in comparison.runs[scenario].items()}
        ours = medians[names[0]]
        rows.append(
            [scenario, f"{ours:.2f}", *(f"{medians[name]:.2f} ({ours / medians[name]:.1f}x)" for name in names[1:])]
        )
    return measure.table(["seconds (ours / theirs)", *names], rows)


# What one tool costs by itself


def built(made: Workspace, folder: str, name: str) -> Taken:
    """The workspace built by pytest-build in a new folder."""
    root = os.path.join(folder, name)
    forget()
    set_up(made, tools()[0], root)
    return measure.take(BUILD, root)


def chain_overhead(sizes: Sizes, folder: str) -> float:
    """Milliseconds a step of a chain takes beyond its own command, at two workers."""
    action = ": {sources} >{output}"
    long, short = [], []
    for number in range(sizes.rounds):
        one = workspace.layered(layers=1, width=1, inputs=1, action=action)
        many = workspace.layered(layers=sizes.chain + 1, width=1, inputs=1, action=action)
        short.append(built(one, folder, f"chain{number}-short"))
        long.append(built(many, folder, f"chain{number}-long"))
    return (measure.least(long) - measure.least(short)) / sizes.chain * 1000 - shell_milliseconds(sizes.chain)


def shell_milliseconds(times: int) -> float:
    """What one shell costs here that does nothing."""
    began = time.perf_counter()
    for _ in range(times):
        subprocess.run(["sh", "-e", "-c", ":"], check=True)
    return (time.perf_counter() - began) / times * 1000


def naps_over_bound(sizes: Sizes, folder: str) -> tuple[float, float]:
    """(seconds of work beyond start-up, their lower bound) for steps of 0.1 s each at two workers."""
    action, width = "sleep 0.1; : {sources} >{output}", 5
    layers = sizes.naps // width
    two = workspace.layered(layers=1, width=2, inputs=1, action=action)
    all_of_them = workspace.layered(layers=layers, width=width, inputs=1, action=action)
    starts, runs = [], []
    for number in range(sizes.cold_rounds):
        starts.append(built(two, folder, f"naps{number}-short"))
        runs.append(built(all_of_them, folder, f"naps{number}-long"))
    took = measure.least(runs) - (measure.least(starts) - 0.1)
    return took, max(layers * 0.1, sizes.naps * 0.1 / 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """What one size of workspace costs."""

    steps: int
    inputs: int
    cold: Taken
    again: Taken


def scale(layers: int, width: int, inputs: int, folder: str) -> Scale:
    """Build a workspace, then build it again."""
    measure.say(f"{layers * width:,} steps")
    made = workspace.layered(layers=layers, width=width, inputs=inputs)
    name = f"scale{layers * width}x{inputs}"
    cold = built(made, folder, name)
    root = os.path.join(folder, name)
    measure.take(BUILD, root)
    return Scale(steps=layers * width, inputs=inputs, cold=cold, again=measure.take(BUILD, root))


def scale_table(scales: Sequence[Scale]) -> str:
    """One row a size."""
    rows = [
        [
            f"{one.steps:,} x {one.inputs}", f"{one.cold.seconds:.1f} s", f"{one.cold.peak_mb:.0f} MB",
            f"{one.again.seconds:.2f} s", f"{one.again.peak_mb:.0f} MB",
        ]
        for one in scales
    ]  # fmt: skip
    return measure.table(["steps x inputs", "everything", "peak", "nothing changed", "peak"], rows)


# The report


def own_table(sizes: Sizes, comparison: Comparison, folder: str) -> str:
    """What has a target: the number, the target, whether it is met."""
    nothing = {name: measure.median(runs) for name, runs in comparison.runs["nothing changed"].items()}
    root = {name: measure.median(runs) for name, runs in comparison.runs["one root edited"].items()}
    measure.say("chain")
    overhead = chain_overhead(sizes, folder)
    measure.say("naps")
    took, bound = naps_over_bound(sizes, folder)
    peak = max(run.peak_mb for run in comparison.runs["everything"]["pytest-build"])
    extra = nothing["pytest-build"] - nothing["bare pytest"]
    fastest_doit = min(root["doit"], root["doit, one process"])
    rows = [
        ("nothing changed, beyond bare pytest", extra, 0.3, "s"),
        ("one root edited, in units of doit", root["pytest-build"] / fastest_doit, 2.5, "x"),
        (f"a chain of {sizes.chain} steps: overhead a step", overhead, 5.0, "ms"),
        (f"{sizes.naps} steps of 0.1 s: in units of the lower bound", took / bound, 1.15, "x"),
        (f"controller's memory at {sizes.layers * sizes.width:,} steps", peak, 150.0, "MB"),
    ]
    return measure.table(
        ["", "measured", "target", "met"],
        [[name, f"{value:.2f} {unit}", f"≤ {most:g} {unit}", "yes" if value <= most else "no"]
         for name, value, most, unit in rows],
    )  # fmt: skip


def report(sizes: Sizes) -> str:
    """Measure, and write it all down."""
    made = workspace.layered(layers=sizes.layers, width=sizes.width, inputs=1)
    with measure.scratch() as folder:
        os.environ["XDG_CACHE_HOME"] = os.path.join(folder, "cache")
        comparison = compare(sizes, folder)
        own = own_table(sizes, comparison, folder)
        scales = [scale(sizes.layers // 2, sizes.width, sizes.inputs, folder)]
        scales.append(scale(sizes.layers, sizes.width, sizes.inputs, folder))
        if sizes.large:
            scales += [scale(sizes.layers, sizes.width, 2, folder), scale(20, 500, 2, folder)]
    return (
        f"# Benchmarks\n\n{len(made.steps):,} steps of kind `command` in {sizes.layers} layers, {sizes.inputs} small "
        f"files each, one `cksum` a step, two jobs; an edit at the root runs {behind_the_root(made)} steps. Medians of "
        f"{sizes.rounds} interleaved runs (everything: {sizes.cold_rounds}). Made by `make bench`.\n\n{versions()}\n\n"
        f"{comparison_table(comparison)}\n{own}\n{scale_table(scales)}"
    )


def versions() -> str:
    """Of what was compared, in a line."""
    import pytest
    import xdist

    doit = [PYTHON, "-c", "import importlib.metadata as m; print(m.version('doit'))"]
    found = {
        "Python": platform.python_version(), "pytest": pytest.__version__, "xdist": xdist.__version__,
        "ninja": measure.version(["ninja", "--version"]), "doit": measure.version(doit),
        "make": measure.version(["make", "--version"]),
    }  # fmt: skip
    return ", ".join(f"{name} {text}" for name, text in found.items()) + f"; {os.cpu_count()} CPUs."


def main() -> None:
    """Measure, print, write down."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a small workspace, to see that it works; writes no file")
    parser.add_argument("--large", action="store_true", help="also 10,000 steps of 2 inputs each")
    parser.add_argument("--rounds", type=int, default=Sizes.rounds, help="the medians of how many (default: 5)")
    options = parser.parse_args()
    measure.need("ninja", "make")
    get_tools()
    full = Sizes(large=options.large, rounds=options.rounds, cold_rounds=min(options.rounds, Sizes.cold_rounds))
    text = report(QUICK if options.quick else full)
    print(text)
    if not options.quick:
        workspace.write(RESULTS, text)


if __name__ == "__main__":
    main()
