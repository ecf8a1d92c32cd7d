"""State that is damaged, in the way, full or read-only; disks that fail at the n-th call; clocks that jump.

A build here is the product's own machinery driven in this process, where every call can be made to fail; what only
shows with pytest around it runs pytest.
"""

import builtins
import contextlib
import errno
import itertools
import json
import os
import random
import shlex
import shutil
import subprocess
from dataclasses import asdict

import pytest

from build_tests.checkout import Checkout, Wishes
from build_tests.core.globs import PathSet
from build_tests.project import load_project
from build_tests.run import journal, state
from build_tests.run.state import Entry, StateStore
from build_tests.run.step import Runner
from build_tests.testing import BuildWorkspace, Outcome


def chain(ws):
    """`a:strip` (drops comments) → `a:shout` → `b:box` (a folder)."""
    ws.components(
        a={"steps": {
            "strip": {"command": "grep -v '^#' in.txt >lines", "inputs": ["in.txt"], "outputs": ["lines"]},
            "shout": {"command": "tr a-z A-Z <lines >loud", "inputs": ["lines"], "outputs": ["loud"]},
        }},
        b={"steps": {"box": {"command": "mkdir box; cp ../a/loud box/one", "inputs": ["//a/loud"], "outputs": ["box/"]}}},
    )  # fmt: skip


def right(ws, text):
    """Whether the outputs are those of a clean build over this input."""
    kept = "".join(line + "\n" for line in text.splitlines() if not line.startswith("#"))
    made = {"a/lines": kept, "a/loud": kept.upper(), "b/box/one": kept.upper()}
    assert {path: ws.read(path) for path in made} == made


class Here:
    """Builds in this process."""

    def __init__(self, ws):
        self.ws = ws
        self.warnings = []

    def build(self):
        project = load_project(str(self.ws.root / "build.yml"))
        checkout = Checkout(
            project=project, wishes=Wishes(), say=self.warnings.append, environ=self.ws.environ,
            state_folder=str(self.ws.root / ".pytest_cache/d/build"),
        )  # fmt: skip
        try:
            # A process that dies lets go of its lock wherever it was; this one must do it itself.
            build = checkout.begin(project.graph.order, {})
            excluded = build.decider.excluded
            paths = PathSet([p for p in excluded if not p.endswith("/")], [p[:-1] for p in excluded if p.endswith("/")])
            runner = Runner(project.config.root, paths)
            with contextlib.closing(runner.guardian):
                checkout.note(build.advance())
                while (order := build.take()) is not None:
                    checkout.note(build.finish(order.label, runner.run(order)))
                    checkout.note(build.advance())
            checkout.close(0, 0.0)
        finally:
            checkout.release()
            self.warnings += checkout.warnings
        return {label: record.outcome for label, record in build.records.items()}


@pytest.fixture
def here(build_workspace):
    chain(build_workspace)
    build_workspace.write("a/in.txt", "# note\none\n")
    return Here(build_workspace)


@pytest.fixture
def built(here):
    assert set(here.build().values()) == {Outcome.BUILT}
    return here


def state_file(here):
    return here.ws.root / ".pytest_cache/d/build/hashes"


def loaded(tmp_path, data, lines=b""):
    """What a store makes of these bytes: its entries as JSON texts, and its warnings."""
    folder = tmp_path / "damaged"
    folder.mkdir(exist_ok=True)
    (folder / "hashes").write_bytes(data)
    (folder / "journal").write_bytes(lines)
    warnings = []
    memory = StateStore(str(folder), str(folder / "journal"), warnings.append).load()
    return {label: json.dumps(asdict(entry)) for label, entry in memory.entries.items()}, warnings


# The file itself


def test_a_state_file_cut_at_every_length_is_never_believed(built, tmp_path):
    whole = state_file(built).read_bytes()
    original, _ = loaded(tmp_path, whole)
    assert len(original) == 3
    for length in range(len(whole)):
        entries, warnings = loaded(tmp_path, whole[:length])
        assert entries == {}, length
        assert len(warnings) == 1


def test_ten_thousand_flipped_bits_are_never_believed(built, tmp_path):
    whole = state_file(built).read_bytes()
    original, _ = loaded(tmp_path, whole)
    chance = random.Random(3)
    for _ in range(10_000):
        damaged = bytearray(whole)
        for _ in range(chance.choice((1, 1, 1, 2, 8))):
            damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        entries, warnings = loaded(tmp_path, bytes(damaged))
        # Space in the header may change and mean the same.
        assert entries == {} or entries == original
        assert entries or len(warnings) == 1


def test_a_journal_cut_at_every_length_or_damaged_holds_only_what_was_written(tmp_path):
    folder = tmp_path / "live"
    folder.mkdir()
    store = StateStore(str(folder), str(folder / "journal"), lambda _: None)
    legitimate = set()

    def seen():
        legitimate.update((label, json.dumps(asdict(entry))) for label, entry in store.memory.entries.items())

    for number, label in enumerate(["a:x", "a:y", "a:x"]):
        store.started(label)
        seen()
        store.ended(label, Entry(key=f"k{number}", outputs=[[label, "f", str(number)]], digests={label: str(number)}))
        seen()
    lines = (folder / "journal").read_bytes()
    chance = random.Random(4)
    for length in range(len(lines) + 1):
        entries, _ = loaded(tmp_path, b"", lines[:length])
        assert set(entries.items()) <= legitimate
    # A lost line leaves another true moment of one step, so each entry is one that was.
    interrupted = {json.dumps(asdict(Entry(status="interrupted", outputs=o))) for o in ([], [["a:x", "f", "0"]])}
    for _ in range(3000):
        damaged = bytearray(lines)
        damaged[chance.randrange(len(lines))] ^= 1 << chance.randrange(8)
        entries, _ = loaded(tmp_path, b"", bytes(damaged))
        assert all(item in legitimate or item[1] in interrupted for item in entries.items())


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-20]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes().replace(b"[1,", b"[0,", 1)),
        lambda path: (path.unlink(), path.mkdir()),
        lambda path: (path.unlink(), path.symlink_to(path.name)),
        lambda path: shutil.rmtree(path.parent),
        lambda path: (shutil.rmtree(path.parent), path.parent.write_text("in the way")),
    ],
    ids=["cut", "empty", "older", "folder", "loop", "gone", "folder-is-a-file"],
)
def test_whatever_lies_in_the_states_place_the_build_is_right(built, damage):
    damage(state_file(built))
    built.ws.write("a/in.txt", "two\n")
    assert set(built.build().values()) == {Outcome.BUILT}
    right(built.ws, "two\n")


def test_a_newer_state_stays_as_it_is(built):
    theirs = b'[2, "0"]\n{"of": "another release"}'
    state_file(built).write_bytes(theirs)
    assert set(built.build().values()) == {Outcome.RESTORED}
    assert state_file(built).read_bytes() == theirs
    assert any("newer release" in line for line in built.warnings)


def test_damage_is_one_warning_and_a_rebuild_through_pytest(build_workspace):
    ws = build_workspace
    chain(ws)
    ws.write("a/in.txt", "one\n")
    ws.build()
    path = ws.root / ".pytest_cache/v/../d/build/hashes"
    path.write_bytes(b"\0" * 100)
    result = ws.build()
    assert result.status == 0, result.output
    assert set(result.outcomes().values()) == {"restored"}
    assert result.output.count("everything counts as not built") == 1
    assert set(ws.build().outcomes().values()) == {"fresh"}


# The n-th call fails


class Failing:
    """Makes the n-th of some calls fail."""

    def __init__(self, n, number):
        self.n, self.number, self.count = n, number, 0

    def shim(self, real):
        def called(*args, **kwargs):
            self.count += 1
            if self.count == self.n:
                raise OSError(self.number, os.strerror(self.number))
            return real(*args, **kwargs)

        return called


class Shimmed:
    """A module like `os` with some functions replaced."""

    def __init__(self, real, **replaced):
        self._real = real
        self.__dict__.update(replaced)

    def __getattr__(self, name):
        return getattr(self._real, name)


def failing(monkeypatch, n, number):
    """open, write, rename, fsync, unlink and makedirs of the state and its journal fail at their n-th call together."""
    fault = Failing(n, number)
    names = ("open", "write", "replace", "fsync", "unlink", "makedirs")
    shimmed = Shimmed(os, **{name: fault.shim(getattr(os, name)) for name in names})
    monkeypatch.setattr(state, "os", shimmed)
    monkeypatch.setattr(journal, "os", shimmed)
    for module in (state, journal):
        monkeypatch.setattr(module, "open", fault.shim(builtins.open), raising=False)
    return fault


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EACCES, errno.EMFILE], ids=errno.errorcode.get)
def test_the_nth_call_of_the_state_store_fails_and_no_result_is_wrong(built, monkeypatch, number):
    for n in itertools.count(1):
        text = f"# note {n}\nline {n}\n"
        built.ws.write("a/in.txt", text)
        with monkeypatch.context() as patched:
            fault = failing(patched, n, number)
            outcomes = built.build()
        assert all(outcome.ok for outcome in outcomes.values()), (n, outcomes, built.warnings)
        right(built.ws, text)
        # Nor is what it left wrong for the next, with the outputs spoilt meanwhile.
        built.ws.write("a/loud", "by hand\n")
        assert all(outcome.ok for outcome in built.build().values())
        right(built.ws, text)
        if fault.count < n:
            break
    assert n > 8  # the journal's lines, the file, and the rename at least
    assert set(built.build().values()) == {Outcome.FRESH}


def test_a_run_cut_off_after_any_call_leaves_nothing_wrong(built, monkeypatch):
    class PowerCutError(BaseException):
        pass

    def cut(_self, real):
        def called(*args, **kwargs):
            fault.count += 1
            if fault.count >= fault.n:
                raise PowerCutError
            return real(*args, **kwargs)

        return called

    monkeypatch.setattr(Failing, "shim", cut)
    for n in itertools.count(1, 2):
        fault = Failing(n, 0)
        text = f"# note {n}\nline {n}\n"
        built.ws.write("a/in.txt", text)
        with monkeypatch.context() as patched:
            patched.setattr(
                "test_faults_state.Failing" if __name__ == "test_faults_state" else f"{__name__}.Failing",
                lambda *_: fault,
            )
            failing(patched, n, 0)
            finished = False
            with contextlib.suppress(PowerCutError):
                built.build()
                finished = True
        assert all(outcome.ok for outcome in built.build().values())
        right(built.ws, text)
        if finished:
            break
    assert n > 8


# Folders that can't be written


def namespaced(ws, prepare, *arguments):
    """pytest in a mount namespace of its own, where `prepare` (shell) has mounted something."""
    command = shlex.join(ws.command("build.yml", *arguments))
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    return subprocess.run(
        ["unshare", *user, "--mount", "sh", "-e", "-c", f"{prepare}\nexec {command}"], cwd=ws.root, env=ws.environ, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
    )  # fmt: skip


def read_only(folder):
    return f"mount --bind {folder} {folder}; mount -o remount,ro,bind {folder}"


@pytest.mark.parametrize("mode", ["-n0", "-n2"])
@pytest.mark.parametrize("folder", [".build", ".pytest_cache"])
def test_read_only_folders_of_ours_cost_a_warning(build_workspace, mode, folder):
    ws = build_workspace
    chain(ws)
    ws.write("a/in.txt", "one\n")
    assert ws.build().status == 0
    ws.write("a/in.txt", "two\n")
    done = namespaced(ws, read_only(folder), mode)
    assert done.returncode == 0, done.stdout
    right(ws, "two\n")
    assert folder in done.stdout
    assert "can't be written" in done.stdout
    assert "Traceback" not in done.stdout
    # And once it can be written again, nothing is taken for built that is not.
    ws.write("a/in.txt", "three\n")
    assert ws.build().status == 0
    right(ws, "three\n")


def test_a_read_only_checkout_is_a_clear_failure(build_workspace, tmp_path_factory):
    ws = build_workspace
    chain(ws)
    ws.write("a/in.txt", "one\n")
    temporary = tmp_path_factory.mktemp("temporary")
    ws.environ["TMPDIR"] = str(temporary)
    done = namespaced(ws, f"{read_only(ws.root)}; cd {ws.root}", "-n0")
    assert done.returncode == 1, done.stdout
    (stand_in,) = temporary.glob("pytest-build-*")  # for its record and its logs, and no other
    assert f"go to {stand_in}" in done.stdout
    assert "Traceback" not in done.stdout
    assert "a:strip" in done.stdout.rpartition("short test summary")[2]


@pytest.mark.parametrize("name", [".build", ".pytest_cache"])
def test_a_file_in_place_of_our_folder(build_workspace, name):
    ws = build_workspace
    chain(ws)
    ws.write("a/in.txt", "one\n")
    ws.write(name, "somebody's\n")
    done = ws.pytest("build.yml", "-n0")
    assert done.returncode == 0, done.stdout
    assert "Traceback" not in done.stdout
    right(ws, "one\n")
    assert ws.read(name) == "somebody's\n"


FULL = {"out": "a/big", "logs": ".build/logs", "state": ".pytest_cache", "ours": ".build"}


@pytest.mark.parametrize("where", FULL)
def test_a_full_disk(build_workspace, where):
    ws = build_workspace
    noise = "head -c 300000 /dev/zero | tr '\\0' x; " if where in ("logs", "ours") else ""
    size = 300_000 if where == "out" else 10
    ws.components(
        a={"steps": {
            "make": {"command": f"{noise}mkdir -p big; head -c {size} /dev/zero >big/one", "inputs": ["in.txt"], "outputs": ["big/"]},
            "use": {"command": "wc -c <big/one >count", "inputs": ["big/"], "outputs": ["count"]},
        }},
    )  # fmt: skip
    if where == "out":
        # The output's folder is the full disk's own, so the step makes its file below it.
        ws.write(
            "build.yml",
            ws.read("build.yml")
            .replace("big/one", "big/d/one")
            .replace("mkdir -p big", "mkdir -p big/d")
            .replace('"big/"', '"big/d/"'),
        )
    ws.write("a/in.txt", "one\n")
    folder = ws.root / FULL[where]
    folder.mkdir(parents=True)
    done = namespaced(ws, f"mount -t tmpfs -o size=64k tmpfs {folder}; head -c 40000 /dev/zero >{folder}/fill", "-n0")
    assert "Traceback" not in done.stdout, done.stdout
    if where == "out":
        assert done.returncode == 1, done.stdout
        assert "No space left on device" in done.stdout
    else:
        # A log, a record or a state that has no room costs what it holds, or fails its step; it never goes unsaid.
        assert done.returncode in (0, 1), done.stdout
    result = ws.build("-n0")
    assert result.status == 0, result.output
    assert int(ws.read("a/count")) == size
    assert set(ws.build("-n0").outcomes().values()) == {"fresh"}


# Clocks

CLOCK = """
import os, time

shift = int(os.environ["CLOCK_SHIFT"])
real, real_ns = time.time, time.time_ns
time.time = lambda: real() + shift
time.time_ns = lambda: real_ns() + shift * 10**9
"""
YEAR = 365 * 86400


def test_a_clock_that_jumps_between_builds(build_workspace):
    ws = build_workspace
    chain(ws)
    (ws.bin / "shifted_clock.py").write_text(CLOCK)
    ws.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ws.bin), os.environ.get("PYTHONPATH")]))
    ws.write("a/in.txt", "one\n")

    def build(shift):
        ws.environ["CLOCK_SHIFT"] = str(shift)
        result = ws.build("-n0", "-p", "shifted_clock")
        assert result.status == 0, result.output
        assert all(step.seconds >= 0 and (step.ended or 0) >= (step.started or 0) for step in result.steps.values())
        assert result.run["seconds"] >= 0
        return set(result.outcomes().values())

    assert build(0) == {"built"}
    assert build(YEAR) == {"fresh"}
    for shift, text in ((YEAR, "two\n"), (-YEAR, "six\n"), (0, "ten\n")):
        target = ws.root / "a/in.txt"
        stat = target.stat()
        target.write_text(text)
        os.utime(target, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # the same size, and the time put back
        assert build(shift) == {"built"}
        right(ws, text)
        assert build(-shift) == {"fresh"}


def test_files_from_the_future_and_the_past(here):
    target = here.ws.root / "a/in.txt"
    for years, text in ((1, "one\n"), (-40, "two\n"), (50, "six\n")):
        target.write_text(text)
        when = target.stat().st_ctime_ns + years * YEAR * 10**9
        os.utime(target, ns=(when, when))
        assert set(here.build().values()) == {Outcome.BUILT}
        right(here.ws, text)
        assert set(here.build().values()) == {Outcome.FRESH}
        changed = text.replace(text[0], "X")
        target.write_text(changed)
        os.utime(target, ns=(when, when))
        assert Outcome.BUILT in here.build().values()
        right(here.ws, changed)


def test_an_edit_within_the_timestamp_of_the_state_write(here):
    target = here.ws.root / "a/in.txt"
    for number in range(10):
        target.write_text(f"v{number}\n")
        assert Outcome.BUILT in here.build().values()
        saved = state_file(here).stat().st_mtime_ns
        # At once, of the same size, and with the very time of the state file.
        target.write_text(f"w{number}\n")
        os.utime(target, ns=(saved, saved))
        assert Outcome.BUILT in here.build().values()
        right(here.ws, f"w{number}\n")


def test_the_parsed_build_file_damaged_in_any_way_is_read_anew(build_workspace):
    ws = build_workspace
    chain(ws)
    ws.write("a/in.txt", "one\n")
    driver = Here(ws)
    driver.build()
    kept = [path for path in (ws.root / ".build").glob("parsed-*")]
    load_project(str(ws.root / "build.yml"))
    chance = random.Random(5)
    for path in kept:
        whole = path.read_bytes()
        for _ in range(300):
            damaged = bytearray(whole)
            damaged[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
            path.write_bytes(bytes(damaged) if chance.random() < 0.7 else whole[: chance.randrange(len(whole))])
            project = load_project(str(ws.root / "build.yml"))
            assert list(project.graph.order) == ["a:strip", "a:shout", "b:box"]


def test_an_empty_workspace_needs_no_state(tmp_path):
    ws = BuildWorkspace(tmp_path / "ws")
    ws.components(a={"steps": {"x": {"command": "true"}}})
    assert Here(ws).build() == {"a:x": Outcome.BUILT}
