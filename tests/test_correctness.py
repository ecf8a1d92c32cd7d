"""The one predicate: after any edits and any builds, the outputs are those of a clean build, byte for byte.

What a clean build gives is told by plain `sh`, in the order of the graph, in an empty folder: not by the thing under
test. A rebuilder that believes whatever it has built before must fail the same predicate. PYTEST_BUILD_EXAMPLES sets
the number of examples.
"""

import itertools
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from build_tests.testing import BuildWorkspace

EXAMPLES = int(os.environ.get("PYTEST_BUILD_EXAMPLES", "0"))
FILTERS = (
    "cat",
    "tr a-z A-Z",
    "{ grep -v '^#' || true; }",  # drops information: equal outputs stop a rebuild early
    "sort",
    "head -n 1",
    "sed s/one/1/",
    "wc -l",
)
TEXTS = ("one\n", "two\n", "# note\none\n", "one\ntwo\n", "two\none\n# end\n", "")
FILES = ("a.txt", "b.txt", "c.txt", "d.dat")


@dataclass(frozen=True)
class Made:
    """One step: what it reads, how it changes that, and where it puts it."""

    component: str
    name: str
    globbed: bool
    literals: tuple
    by_path: tuple  # steps whose outputs it names as inputs
    by_label: tuple  # steps it only depends on
    folder: bool
    filter: str
    modes: bool
    fails: bool = False

    @property
    def label(self):
        return f"{self.component}:{self.name}"

    @property
    def output(self):
        return f"{self.component}/out/{self.name}"

    def command(self):
        sources = [f"src/{name}" for name in self.literals]
        made = [f"../{other.output}" for other in (*self.by_path, *self.by_label)]
        read = [f"cat /dev/null {' '.join(sources)}"] if sources else []
        read += ["find src -name '*.txt' -type f | LC_ALL=C sort | xargs cat /dev/null"] if self.globbed else []
        read += [f"find {path} -type f | LC_ALL=C sort | xargs cat /dev/null" for path in made]
        if self.modes:
            read += ["find src -name '*.txt' -type f -perm -u+x | LC_ALL=C sort"]
        flow = f"{{ {'; '.join(read) or 'echo nothing'}; }} | {self.filter}"
        if self.folder:
            split = 'n=0; while read -r line; do n=$((n+1)); printf "%s\\n" "$line" >$o/$n; done <$o/all'
            flow = f"o=out/{self.name}; mkdir $o; {flow} >$o/all; {split}"
        else:
            flow = f"{flow} >out/{self.name}"
        # A step that fails leaves half its output.
        return f"{flow}; exit 1" if self.fails else flow

    def spec(self):
        inputs = [f"src/{name}" for name in self.literals] + (["src/*.txt"] if self.globbed else [])
        inputs += [f"//{other.output}{'/' if other.folder else ''}" for other in self.by_path]
        return {
            "command": self.command(),
            "inputs": inputs,
            "outputs": [f"out/{self.name}{'/' if self.folder else ''}"],
            "depends_on": [other.label for other in self.by_label],
        }


@dataclass
class World:
    """The steps and sources as they are now."""

    steps: dict
    sources: dict
    executable: set = field(default_factory=set)

    def current(self, label):
        """A step with its dependencies as they are now."""
        step = self.steps[label]
        return replace(
            step,
            by_path=tuple(self.steps[other.label] for other in step.by_path),
            by_label=tuple(self.steps[other.label] for other in step.by_label),
        )

    def lay_out(self, ws):
        components = {}
        for label in self.steps:
            step = self.current(label)
            components.setdefault(step.component, {"steps": {}})["steps"][step.name] = step.spec()
        ws.components(**components)

    def clean_build(self):
        """label → content of its output by path below it, or None where it can't be built: by plain sh, from nothing."""
        root = Path(tempfile.mkdtemp())
        try:
            for path, text in self.sources.items():
                target = root / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(text)
                target.chmod(0o755 if path in self.executable else 0o644)
            made = {}
            for label in self.steps:
                made[label] = self._run(root, self.current(label), made)
            return made
        finally:
            shutil.rmtree(root)

    def _run(self, root, step, made):
        if any(made[other.label] is None for other in (*step.by_path, *step.by_label)):
            return None
        folder = root / step.component
        (folder / "out").mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            ["sh", "-e", "-c", step.command()],
            cwd=folder,
            check=False,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        return None if done.returncode else snapshot(root / step.output)


def snapshot(path):
    if path.is_dir():
        return {str(p.relative_to(path)): p.read_bytes() for p in sorted(path.rglob("*")) if not p.is_dir()}
    return path.read_bytes() if path.exists() else "absent"


def wrong(ws, world, result, *, whole=True):
    """THE PREDICATE. In how many ways what lies here is not what a clean build of the same sources gives."""
    told = []
    clean = world.clean_build()
    if whole:
        told += [f"{label} got no outcome" for label in clean.keys() - result.steps.keys()]
    for label, record in result.steps.items():
        if record.outcome.ok != (clean[label] is not None):
            told.append(f"{label} is {record.outcome.value}, a clean build says {clean[label]}: {record.message}")
        elif record.outcome.ok and (here := snapshot(ws.root / world.steps[label].output)) != clean[label]:
            told.append(f"{label} is {record.outcome.value} and holds {here}, a clean build gives {clean[label]}")
    if (result.status == 0) != all(record.outcome.ok for record in result.steps.values()):
        told.append(f"exit status {result.status}")
    return told


@st.composite
def worlds(draw):
    components = [f"c{i}" for i in range(draw(st.integers(1, 3)))]
    sources = {f"{c}/src/{name}": draw(st.sampled_from(TEXTS)) for c in components for name in FILES}
    steps = {}
    for i in range(draw(st.integers(3, 8))):
        needed = draw(st.lists(st.sampled_from(list(steps.values())), max_size=2, unique=True)) if steps else []
        by_label = draw(st.booleans())
        step = Made(
            component=draw(st.sampled_from(components)),
            name=f"s{i}",
            globbed=draw(st.booleans()),
            literals=tuple(draw(st.lists(st.sampled_from(FILES), max_size=2, unique=True))),
            by_path=tuple(needed[:1] if by_label else needed),
            by_label=tuple(needed[1:] if by_label else ()),
            folder=draw(st.booleans()),
            filter=draw(st.sampled_from(FILTERS)),
            modes=False,
        )
        # The modes of sources are seen only where the sources are inputs.
        steps[step.label] = replace(step, modes=step.globbed and draw(st.booleans()))
    return World(steps=steps, sources=sources)


EDITS = (
    "write", "write", "same-size", "add", "remove", "chmod", "touch", "output-edit", "output-remove", "command", "nothing",
    "partial", "fail",
)  # fmt: skip


class Editor:
    """Makes the edits, to the workspace and to the world alike."""

    def __init__(self, ws, world):
        self.ws, self.world = ws, world
        self.count = itertools.count()
        world.lay_out(ws)
        for path, text in world.sources.items():
            ws.write(path, text)

    def source(self, number):
        return sorted(self.world.sources)[number % len(self.world.sources)]

    def step(self, number):
        return list(self.world.steps.values())[number % len(self.world.steps)]

    def set_step(self, step):
        self.world.steps[step.label] = step
        self.world.lay_out(self.ws)

    def edit(self, kind, number, text):
        """Apply one edit; returns the arguments of the build that follows."""
        path = self.source(number)
        match kind:
            case "write":
                self.world.sources[path] = text
                self.ws.write(path, text)
            case "same-size":
                self.same_size(path)
            case "add":
                new = f"{path.rpartition('/')[0]}/new{next(self.count)}.txt"
                self.world.sources[new] = text
                self.ws.write(new, text)
            case "remove":
                if len(self.world.sources) > 1:
                    del self.world.sources[path]
                    self.world.executable.discard(path)
                    (self.ws.root / path).unlink()
            case "chmod":
                self.world.executable ^= {path}
                (self.ws.root / path).chmod(0o755 if path in self.world.executable else 0o644)
            case "touch":
                (self.ws.root / path).touch()
            case "output-edit" | "output-remove":
                self.spoil(self.ws.root / self.step(number).output, remove=kind == "output-remove")
            case "command":
                step = self.step(number)
                others = [f for f in FILTERS if f != step.filter]
                self.set_step(replace(step, filter=others[number % len(others)]))
            case "fail":
                step = self.step(number)
                self.set_step(replace(step, fails=not step.fails))
            case "partial":
                self.world.sources[path] = text
                self.ws.write(path, text)
                return ("-k", self.step(number // 3).name)
        return ()

    def same_size(self, path):
        """Another letter, and the modification time put back."""
        before = self.world.sources[path]
        if before:
            target = self.ws.root / path
            stat = target.stat()
            self.world.sources[path] = after = before[:-2] + ("x" if before[-2:-1] != "x" else "y") + "\n"
            target.write_text(after)
            os.utime(target, ns=(stat.st_atime_ns, stat.st_mtime_ns))

    @staticmethod
    def spoil(output, *, remove):
        if not output.exists():
            return
        target = output / "all" if output.is_dir() else output
        if not remove:
            target.write_text("by hand\n")
        elif output.is_dir():
            shutil.rmtree(output)
        else:
            output.unlink()


def play(world, edits, *mode):
    """Build, edit, build …, and look at the predicate every time."""
    with tempfile.TemporaryDirectory() as folder:
        ws = BuildWorkspace(Path(folder) / "ws")
        editor = Editor(ws, world)
        assert wrong(ws, world, ws.build(*mode)) == []
        for kind, number, text in edits:
            selection = editor.edit(kind, number, text)
            result = ws.build(*mode, *selection)
            assert wrong(ws, world, result, whole=not selection) == [], f"{kind} {number} {text!r}\n{result.output}"
        # Whatever failed is mended, and all is right at last; then nothing is left to do.
        for label, step in world.steps.items():
            if step.fails:
                editor.set_step(replace(world.steps[label], fails=False))
        result = ws.build(*mode)
        assert wrong(ws, world, result) == [], result.output
        assert result.status == 0
        assert set(ws.build(*mode).outcomes().values()) == {"fresh"}


def settled(examples):
    quiet = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]
    return settings(
        derandomize=not EXAMPLES, deadline=None, max_examples=examples, suppress_health_check=quiet, database=None,
        # Shrinking would run builds for hours.
        phases=settings.get_profile("default").phases[:3] if not EXAMPLES else settings.get_profile("default").phases,
    )  # fmt: skip


edits = st.lists(st.tuples(st.sampled_from(EDITS), st.integers(0, 30), st.sampled_from(TEXTS)), min_size=2, max_size=4)


@settled(EXAMPLES or 12)
@given(world=worlds(), edits=edits)
def test_an_incremental_build_is_a_clean_build(world, edits):
    play(world, edits, "-n0")


@settled(EXAMPLES // 3 or 4)
@given(world=worlds(), edits=edits)
def test_an_incremental_build_in_parallel_is_a_clean_build(world, edits):
    play(world, edits, "-n2")


def fixed_world():
    first = Made("c0", "s0", globbed=True, literals=(), by_path=(), by_label=(), folder=True, filter="cat", modes=True)
    second = Made(
        "c1",
        "s1",
        globbed=False,
        literals=("a.txt",),
        by_path=(first,),
        by_label=(),
        folder=False,
        filter="sort",
        modes=False,
    )
    third = Made(
        "c0",
        "s2",
        globbed=False,
        literals=(),
        by_path=(),
        by_label=(second,),
        folder=False,
        filter="wc -l",
        modes=False,
    )
    sources = {f"{c}/src/{name}": f"{name} of {c}\n" for c in ("c0", "c1") for name in FILES}
    return World(steps={step.label: step for step in (first, second, third)}, sources=sources)


def test_each_kind_of_edit():
    play(fixed_world(), [(kind, i, f"one\ntwo\n{i}\n") for i, kind in enumerate(dict.fromkeys(EDITS))], "-n0")


CHEAT = """
from build_tests.run.decide import Decider, Fresh

honest = Decider.decide

def decide(self, label):
    entry = self.memory.entries.get(label)
    return honest(self, label) if entry is None else Fresh(key=entry.key)

Decider.decide = decide
"""


@pytest.mark.parametrize("kind", ["same-size", "add", "output-edit"])
def test_a_rebuilder_that_believes_everything_is_found_out(tmp_path, kind):
    ws, world = BuildWorkspace(tmp_path / "ws"), fixed_world()
    (ws.bin / "always_fresh.py").write_text(CHEAT)
    ws.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ws.bin), os.environ.get("PYTHONPATH")]))
    editor = Editor(ws, world)
    cheat = ("-n0", "-p", "always_fresh")
    assert wrong(ws, world, ws.build(*cheat)) == []
    editor.edit(kind, 0, "one\ntwo\nthree\n")
    result = ws.build(*cheat)
    assert set(result.outcomes().values()) == {"fresh"}, result.output
    assert wrong(ws, world, result) != []
    assert wrong(ws, world, ws.build("-n0")) == []
