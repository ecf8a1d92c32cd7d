"""`pytest-build watch`: the loop as values, and the command on real files.

The property test at the end makes PYTEST_BUILD_BURSTS random bursts of edits (a few by default), many of them while a
build runs.
"""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commands import COMMAND, environment

from build_tests.faces.watchinterest import Interest, look
from build_tests.faces.watchloop import PAUSES, Cancel, LeaveAlone, Loop, Start
from build_tests.faces.watchwarm import Warm

sys.path.insert(0, str(Path(__file__).parents[1] / "session"))
from terminal import Terminal

BURSTS = int(os.environ.get("PYTEST_BUILD_BURSTS", "12"))
SECONDS = 90.0


def test_that_the_process_which_forks_has_ended_is_told_and_no_broken_pipe():
    warm = Warm()
    warm._process.kill()
    warm._process.wait()
    warm.ask("build", argv=[])
    assert {"id": 0, "gone": True} in warm.news()
    warm.close()


# The loop: told the time, so each case is exact


def loop(*, restart=True):
    """After a first build, which began at 0 and ended at 1."""
    made = Loop(debounce=0.1, restart=restart)
    made.ask(0.0)
    assert made.due(0.0) == Start(labels=None, paths=())
    made.ended(1.0, finished=True)
    assert made.next(1.0) is None
    return made


def test_an_edit_waits_for_quiet():
    it = loop()
    it.changed({"a": 2.0}, {"x"}, 2.0)
    it.changed({"b": 2.05}, {"y"}, 2.05)
    assert it.due(2.1) is None
    assert it.next(2.1) == pytest.approx(0.05)
    assert it.due(2.16) == Start(labels=frozenset({"x", "y"}), paths=("a", "b"))
    assert it.building
    assert it.due(2.2) is None


def test_who_never_stops_is_not_waited_for():
    it = loop()
    for i in range(100):
        at = 2.0 + i * 0.05
        it.changed({f"f{i}": at}, {"x"}, at)
        if it.due(at):
            break
    assert at == pytest.approx(3.0)


def test_restart_ends_the_build_and_loses_nothing():
    it = loop()
    it.changed({"a": 2.0}, {"x"}, 2.0)
    assert it.due(2.2) == Start(labels=frozenset({"x"}), paths=("a",))
    it.changed({"b": 2.3}, {"y"}, 2.3)
    assert it.due(2.35) is None
    assert it.due(2.45) == Cancel()
    assert it.due(2.5) is None
    it.ended(2.6, finished=False)
    assert it.due(2.6) == Start(labels=frozenset({"x", "y"}), paths=("b", "a"))


def test_queue_builds_after_it():
    it = loop(restart=False)
    it.changed({"a": 2.0}, {"x"}, 2.0)
    assert it.due(2.2)
    it.changed({"b": 2.3}, {"y"}, 2.3)
    assert it.due(9.0) is None
    assert it.next(9.0) is None
    it.ended(9.0, finished=True)
    assert it.due(9.0) == Start(labels=frozenset({"y"}), paths=("b",))


def test_what_can_not_begin_is_tried_again_after_a_change_only():
    it = loop()
    it.changed({"build.yml": 2.0}, None, 2.0)
    assert it.due(2.2)
    it.ended(2.3, finished=False, possible=False)
    assert it.due(99.0) is None
    assert it.next(99.0) is None
    it.changed({"build.yml": 100.0}, None, 100.0)
    assert it.due(100.2) == Start(labels=None, paths=("build.yml",))


def test_a_file_that_every_build_writes_is_left_alone_in_the_end():
    it = loop()
    now, starts, actions = 2.0, [], []
    it.changed({"gen": now}, {"x"}, now)
    while len(starts) < 50:
        match it.due(now):
            case Start():
                starts.append(now)
                it.changed({"gen": now + 0.01}, {"x"}, now + 0.01)  # the step writes it
            case Cancel():
                it.ended(now, finished=False)
                actions.append("cancel")
            case LeaveAlone(paths=paths):
                actions.append(paths)
                break
            case None:
                pass
        if it.building and starts[-1] + 0.5 < now:
            it.ended(now, finished=True)
        now += 0.01
    assert actions[-1] == ("gen",)
    assert actions.count("cancel") <= 2
    assert len(starts) <= len(PAUSES) + 1
    assert it.next(now) is None
    # Edited while nothing runs, it is somebody's own work again.
    it.changed({"gen": now + 5}, {"x"}, now + 5)
    assert it.due(now + 6) == Start(labels=frozenset({"x"}), paths=("gen",))


def test_somebody_who_saves_one_file_again_and_again_is_not_taken_for_a_step():
    it = loop(restart=False)
    now, built = 2.0, 0.0
    chance = random.Random(1)
    for _ in range(100):
        it.changed({"mine": now}, {"x"}, now)
        end = now + chance.uniform(0.05, 1.0)
        while now < end:
            action = it.due(now)
            assert not isinstance(action, LeaveAlone)
            if isinstance(action, Start):
                built = now
            if it.building and now > built + 0.3:
                it.ended(now, finished=True)
            now += 0.01
    while it.building or it.waiting:
        if isinstance(it.due(now), Start):
            built = now
        if it.building and now > built + 0.3:
            it.ended(now, finished=True)
        now += 0.01
    assert built > end - 1.0


# Whom a path concerns


@pytest.fixture
def interest(build_workspace):
    ws = build_workspace
    ws.components(
        a={"steps": {
            "gen": {"command": "true", "inputs": ["src/**/*.txt", "!src/tmp/"], "outputs": ["out/", "one.txt"]},
            "use": {"command": "true", "inputs": ["one.txt", "lit.cfg"], "state": [".memory"]},
            "all": {"command": "true", "inputs": ["*.txt"]},
        }},
        py={"kind": "python", "path": "py"},
    )  # fmt: skip
    ws.write("py/pyproject.toml", '[project]\nname = "p"\nversion = "1"\n')
    ws.write("py/p.py", "")
    return Interest(look(str(ws.root / "build.yml"), None, None))


@pytest.mark.parametrize(
    ("path", "labels"),
    [
        ("a/src/x.txt", {"a:gen"}),
        ("a/src/deep/er/x.txt", {"a:gen"}),
        ("a/src/tmp/x.txt", set()),
        ("a/README.md", set()),
        ("a/lit.cfg", {"a:use"}),
        ("a/two.txt", {"a:all"}),
        ("a/one.txt", set()),  # an output, also where a pattern would match it
        ("a/out/x.txt", set()),
        ("a/.memory/x", set()),
        (".git/index", set()),
        (".build/logs/x", set()),
        ("a/__pycache__/x.txt", set()),
        ("build.yml", None),
        ("config/environments/prod.yml", set()),
        ("py/pyproject.toml", None),  # a manifest: the steps may be others now
    ],
)
def test_whom_an_edit_concerns(interest, path, labels):
    found = interest.affected({path}, set())
    assert found.labels == (None if labels is None else labels)
    assert found.paths == ((path,) if labels != set() else ())


def test_folders_and_what_is_behind(interest):
    assert interest.affected({"a/src/new"}, {"a/src/new"}).labels == {"a:gen"}
    assert interest.affected({"a"}, {"a"}).labels == {"a:gen", "a:use", "a:all"}
    assert interest.affected({"elsewhere"}, {"elsewhere"}).labels == set()
    assert interest.behind({"a:gen", "gone:step"}) == {"a:gen", "a:use"}
    assert interest.affected({f"x/{i}" for i in range(10_000)}, set()).labels is None


# The command


class Watch:
    def __init__(self, ws, *arguments):
        self.ws = ws
        self.log = ws.root.parent / "watch.log"
        self.runs = ws.root / ".build" / "runs"
        self.file = self.log.open("w")
        self.process = subprocess.Popen(
            [COMMAND, "watch", *arguments], cwd=ws.root, env=environment(ws), stdin=subprocess.DEVNULL,
            stdout=self.file, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            assert self.process.wait(timeout=30) == 0, self.text
        finally:
            self.process.kill()
            self.file.close()

    @property
    def text(self):
        return self.log.read_text()

    def until(self, seen, seconds=SECONDS):
        end = time.monotonic() + seconds
        while not seen():
            assert self.process.poll() is None, self.text
            assert time.monotonic() < end, self.text
            time.sleep(0.02)

    def idle(self, times):
        """Until it has waited for edits so many times."""
        self.until(lambda: self.text.count("waiting for edits") >= times)

    def reads(self, path):
        """An output's text; "" while it is made anew."""
        try:
            return self.ws.read(path)
        except FileNotFoundError:
            return ""

    def steps(self):
        """label → outcome in the newest run."""
        lines = [json.loads(line) for line in max(self.runs.iterdir()).read_text().splitlines()]
        return {line["label"]: line["outcome"] for line in lines if line["type"] == "step"}

    def cpu_seconds(self):
        """Of the watching process and the warm one."""
        ticks = 0
        for pid in [self.process.pid, *children_of(self.process.pid)]:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def looks(self):
        """How often its threads have waited by now: it wakes fifty times a second to look for edits."""
        found = Path(f"/proc/{self.process.pid}/task").glob("*/status")
        return sum(int(re.search(r"^voluntary_ctxt_switches:\s*(\d+)", one.read_text(), re.MULTILINE)[1]) for one in found)

    def settle(self):
        """The number of runs, once it has looked for edits fifty times and begun none. A build is the warm one's child."""
        seen = (-1, 0)

        def quiet():
            nonlocal seen
            runs = len(list(self.runs.iterdir()))
            if runs != seen[0] or any(children_of(warm) for warm in children_of(self.process.pid)):
                seen = (runs, self.looks())
            return self.looks() - seen[1] >= 50

        self.until(quiet)
        return seen[0]


def children_of(pid):
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def two_chains(ws):
    copy = {"command": "cat in.txt >out.txt", "inputs": ["in.txt"], "outputs": ["out.txt"]}
    use = {"command": "tr a-z A-Z <out.txt >last.txt", "inputs": ["out.txt"], "outputs": ["last.txt"]}
    always = {"command": "echo x >>../always.log", "cache": False}
    ws.components(a={"steps": {"copy": copy, "use": use}}, b={"steps": {"copy": copy, "always": always}})
    ws.write("a/in.txt", "one")
    ws.write("b/in.txt", "one")
    return ws


def test_only_what_an_edit_affects_is_built(build_workspace):
    ws = two_chains(build_workspace)
    with Watch(ws) as watch:
        watch.idle(1)
        assert set(watch.steps()) == {"a:copy", "a:use", "b:copy", "b:always"}
        # Saved as editors do it: written beside, then renamed over.
        ws.write("a/.in.txt.swp", "two")
        (ws.root / "a/.in.txt.swp").rename(ws.root / "a/in.txt")
        watch.idle(2)
        assert watch.steps() == {"a:copy": "built", "a:use": "built"}
        assert ws.read("a/last.txt") == "TWO"
        assert "a/in.txt changed" in watch.text
        ws.write("README.md", "nobody's input")
        before = watch.cpu_seconds()
        began = time.monotonic()
        assert watch.settle() == 2
        # Idle: a share of a processor, which a busy machine can only make smaller.
        assert watch.cpu_seconds() - before < 0.1 * (time.monotonic() - began)
        assert ws.read("always.log") == "x\n"


def test_a_broken_build_file_is_survived(build_workspace):
    ws = two_chains(build_workspace)
    good = ws.read("build.yml")
    with Watch(ws) as watch:
        watch.idle(1)
        ws.write("build.yml", good.replace('"inputs"', '"inptus"'))
        watch.until(lambda: "can't be used as it is now" in watch.text)
        assert "inptus" in watch.text
        ws.write("a/in.txt", "two")
        watch.settle()
        ws.write("build.yml", good.replace("tr a-z A-Z", "tr a-z b-za"))
        watch.until(lambda: watch.reads("a/last.txt") == "uxp")


def test_it_may_be_broken_from_the_beginning(build_workspace):
    ws = two_chains(build_workspace)
    good = ws.read("build.yml")
    ws.write("build.yml", "version: [")
    with Watch(ws) as watch:
        watch.until(lambda: "can't be used as it is now" in watch.text)
        ws.write("build.yml", good)
        watch.until(lambda: (ws.root / "a/last.txt").exists())


def test_a_failure_is_remembered_until_it_is_mended(build_workspace):
    ws = two_chains(build_workspace)
    with Watch(ws) as watch:
        watch.idle(1)
        (ws.root / "b/in.txt").unlink()
        watch.until(lambda: "failing: b:copy" in watch.text)
        ws.write("a/in.txt", "two")
        watch.until(lambda: watch.text.count("failing: b:copy") == 2)
        assert set(watch.steps()) == {"a:copy", "a:use"}  # not tried again
        ws.write("b/in.txt", "two")
        watch.until(lambda: "well after" in watch.text.splitlines()[-1])


@pytest.mark.parametrize("how", ["restart", "queue"])
def test_an_edit_during_a_build(build_workspace, how):
    ws = build_workspace
    command = "cat in.txt >out.txt; touch ../began-$(cat in.txt); while [ ! -e ../go-$(cat in.txt) ]; do sleep 0.02; done"
    ws.components(a={"steps": {"slow": {"command": command, "inputs": ["in.txt", "x.txt"], "outputs": ["out.txt"]}}})
    ws.write("a/in.txt", "0")
    ws.write("a/x.txt", "")
    ws.write("go-0", "")
    with Watch(ws, "--on-edit", how) as watch:
        watch.idle(1)
        ws.write("a/in.txt", "1")
        watch.until((ws.root / "began-1").exists)
        ws.write("a/x.txt", "edited")
        if how == "queue":
            ws.write("a/in.txt", "2")
            ws.write("go-1", "")  # the tool goes on with what it has read
        else:
            watch.until(lambda: "a/x.txt, a/in.txt changed" in watch.text)  # begun anew, though the tool waits
        ws.write("go-2", "")
        ws.write("a/in.txt", "2")
        watch.until(lambda: watch.reads("a/out.txt") == "2")
        watch.until(lambda: watch.text.rstrip().endswith("waiting for edits"))


def test_new_folders_and_ten_thousand_files(build_workspace):
    ws = build_workspace
    gather = {"command": "find src -name '*.txt' | sort | xargs cat >all.txt", "inputs": ["src/**/*.txt"], "outputs": ["all.txt"]}
    ws.components(a={"steps": {"gather": gather}})
    ws.write("a/src/one.txt", "1")
    with Watch(ws) as watch:
        watch.idle(1)
        ws.write("a/src/new/er/two.txt", "2")
        watch.until(lambda: watch.reads("a/all.txt") in ("12", "21"))
        for i in range(10_000):
            ws.write(f"a/src/many/{i % 50}/{i}.txt", "x")
        watch.until(lambda: watch.reads("a/all.txt").count("x") == 10_000)
        before = watch.settle()
        assert before < 40
        subprocess.run(["rm", "-r", "many", "new"], cwd=ws.root / "a/src", check=True)
        watch.until(lambda: watch.reads("a/all.txt") == "1")


@pytest.mark.parametrize("content", ["same", "other"])
def test_an_undeclared_output_that_is_an_input_does_not_loop(build_workspace, content):
    ws = build_workspace
    write = "echo same >gen.txt" if content == "same" else "date +%s%N >gen.txt"
    ws.components(a={"steps": {"own": {"command": f"cat in.txt >out; {write}", "inputs": ["*.txt"], "outputs": ["out"]}}})
    ws.write("a/in.txt", "1")
    with Watch(ws) as watch:
        if content == "other":
            watch.until(lambda: "a/gen.txt: written by every build" in watch.text)
        else:
            watch.idle(1)
        assert watch.settle() < 12
        ws.write("a/in.txt", "2")
        watch.until(lambda: watch.reads("a/out") == "2")


def test_a_program_is_started_again_after_each_good_build(build_workspace):
    ws = two_chains(build_workspace)
    server = "trap 'echo ended >>served.log; exit' TERM; cat a/last.txt >>served.log; echo >>served.log; while :; do sleep 0.05; done"
    ws.write("serve.sh", server)
    with Watch(ws, "--run", "sh serve.sh") as watch:
        served = ws.root / "served.log"
        watch.until(lambda: served.exists() and served.read_text() == "ONE\n")
        ws.write("a/in.txt", "two")
        watch.until(lambda: served.read_text() == "ONE\nended\nTWO\n")
        (ws.root / "a/in.txt").unlink()
        watch.until(lambda: "failing" in watch.text)
        assert served.read_text() == "ONE\nended\nTWO\n"
    assert served.read_text() == "ONE\nended\nTWO\nended\n"


def test_a_compose_service_is_made_anew(build_workspace):
    ws = two_chains(build_workspace)
    docker = ws.tool("docker")
    with Watch(ws, "--compose", "web") as watch:
        watch.until(lambda: docker.calls == 1)
        ws.write("a/in.txt", "two")
        watch.until(lambda: docker.calls == 2)
    assert set(docker.arguments) == {"compose up --detach --no-deps --force-recreate web"}


def test_nothing_survives_it(build_workspace):
    ws = build_workspace
    ws.components(a={"steps": {"slow": {"command": "echo $$ >pid; sleep 300"}}})
    with Watch(ws) as watch:
        pid = ws.root / "a/pid"
        watch.until(lambda: pid.exists() and pid.read_text().strip())
        watch.process.send_signal(signal.SIGKILL)
        watch.process.wait()
        tool = int(pid.read_text())
        end = time.monotonic() + 30
        while Path(f"/proc/{tool}").exists() and time.monotonic() < end:
            time.sleep(0.05)
        assert not Path(f"/proc/{tool}").exists()
        watch.process = subprocess.Popen(["true"])
        watch.process.wait()


def test_keys_in_a_terminal(build_workspace):
    ws = two_chains(build_workspace)
    with Terminal([COMMAND, "watch"], cwd=ws.root, env=ws.environ, rows=100) as seen:
        seen.until("waiting for edits (r rebuilds, e explains, q quits)")
        seen.send("e")
        seen.until("never built here")  # why what was built was built
        seen.send("r")
        seen.until(lambda text: text.count("waiting for edits") == 2)
        ws.write("a/in.txt", "two")
        seen.until("a/in.txt changed")
        seen.until(lambda text: text.count("waiting for edits") == 3)
        seen.send("q")
        assert seen.finish() == 0
        assert "Traceback" not in seen.all_text


def test_ctrl_c_during_a_build(build_workspace):
    ws = build_workspace
    ws.components(a={"steps": {"slow": {"command": "touch ../began; sleep 300"}}})
    with Terminal([COMMAND, "watch"], cwd=ws.root, env=ws.environ) as seen:
        seen.until(lambda text: (ws.root / "began").exists())
        seen.send("\x03")
        assert seen.finish() == 0, seen.all_text
        assert "Traceback" not in seen.all_text


# The property


def made_by(files):
    """What a clean build would make of these files."""
    texts = [text for _, text in sorted(files.items())]
    all_text = "".join(texts)
    return {"all.txt": all_text, "upper.txt": all_text.upper(), "count.txt": f"{len(files)}\n"}


def burst(ws, files, chance):
    """A few edits at once, of the kinds that editors, people and git make."""
    for _ in range(chance.randint(1, 6)):
        name = f"{chance.choice(['', 'x/', 'y/', 'y/z/'])}{chance.choice('abcde')}.txt"
        path = ws.root / "w/src" / name
        kind = chance.random()
        if kind < 0.2 and name in files and len(files) > 1:
            path.unlink()
            del files[name]
            continue
        text = f"{chance.choice(['one', 'two', 'three'])}{chance.randrange(100)}\n"
        if kind < 0.6:
            ws.write(f"w/src/{name}~", text).rename(path)
        else:
            ws.write(f"w/src/{name}", text)
        files[name] = text


@pytest.mark.parametrize("how", ["restart", "queue"])
def test_after_any_edits_the_last_state_is_built_and_then_there_is_peace(build_workspace, how):
    ws = build_workspace
    find = "find src -name '*.txt' | LC_ALL=C sort"
    nap = "sleep 0.$(shuf -i 0-9 -n 1)"
    ws.components(
        w={"steps": {
            "all": {"command": f"{find} | xargs cat >all.txt; {nap}", "inputs": ["src/**/*.txt"], "outputs": ["all.txt"]},
            "count": {"command": f"{nap}; {find} | wc -l >count.txt", "inputs": ["src/**/*.txt"], "outputs": ["count.txt"]},
            "upper": {"command": "tr a-z A-Z <all.txt >upper.txt", "inputs": ["all.txt"], "outputs": ["upper.txt"]},
        }}
    )  # fmt: skip
    seed = random.randrange(10**6)
    chance, files = random.Random(seed), {}
    ws.write("w/src/a.txt", "first\n")
    files["a.txt"] = "first\n"

    def built():
        try:
            return {name: ws.read(f"w/{name}") for name in ("all.txt", "upper.txt", "count.txt")}
        except FileNotFoundError:
            return {}

    with Watch(ws, "--on-edit", how) as watch:
        watch.idle(1)
        for _ in range(BURSTS):
            burst(ws, files, chance)
            time.sleep(chance.uniform(0, 0.6))  # some during a build, some not
        print(f"seed {seed}")
        watch.until(lambda: built() == made_by(files))
        runs = watch.settle()
        assert built() == made_by(files), f"seed {seed}"
        assert runs <= 2 * BURSTS * (1 if how == "queue" else 2) + 4
        assert "written by every build" not in watch.text
