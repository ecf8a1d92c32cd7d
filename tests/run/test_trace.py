"""Tools traced for real, alone: what they use and do not declare, and that they are as they would be without us."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from build_tests.core.globs import PathSet
from build_tests.run.step import Order, Runner
from build_tests.run.trace_strace import Strace, find

pytestmark = [pytest.mark.real("strace"), pytest.mark.skipif(sys.platform != "linux", reason="only Linux traces")]


@pytest.fixture
def rig(tmp_path):
    return Rig(tmp_path)


class Rig:
    """A repository of two folders, `a` where the tool runs and `b`, and one step in it."""

    def __init__(self, tmp_path):
        self.root = tmp_path / "repository"
        self.outside = tmp_path / "outside"
        self.log = tmp_path / "log.txt"
        for folder in (self.root / "a", self.root / "b", self.outside):
            folder.mkdir(parents=True)
        for path in ("a/in.txt", "b/other.txt"):
            self.write(path, path)
        self.strace = find(os.environ)
        assert isinstance(self.strace, Strace), self.strace

    def write(self, path, text=""):
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)

    def order(self, argv, *, traced=True, looks=True, readable=(), **fields):
        return Order(**{
            "label": "a:step", "argv": argv, "folder": "a", "environment": {"PATH": os.environ["PATH"]}, "secrets": [],
            "key": "k", "log": str(self.log), "outputs": [["a/out", True, "content", False]], "patterns": ["a/*.txt"],
            "inputs": [["a/in.txt", "f", "d"]], "known": [], "manifest": [], "interrupted": True, "clean": True,
            "state": ["a/state"], "drop_state": False, "timeout": 60.0, "retries": [0, 0.1, []], "daemons": [],
            "junit": [], "hints": {},
            "trace": {"strace": self.strace.path, "looks": looks, "readable": list(readable)} if traced else None,
        } | fields)  # fmt: skip

    def run(self, argv, **options):
        runner = Runner(str(self.root), PathSet.of(["a/out/"]))
        try:
            return runner.run(self.order(argv, **options))
        finally:
            runner.guardian.close()

    def sh(self, script, **options):
        """The trace of a script that ends well."""
        result = self.run(["sh", "-e", "-c", f"mkdir -p out; {script}"], **options)
        assert result.exit == 0, self.log.read_text()
        return Seen(result.trace)

    def python(self, script, **options):
        result = self.run([sys.executable, "-S", "-I", "-c", f"import os; os.makedirs('out')\n{script}"], **options)
        assert result.exit == 0, self.log.read_text()
        return Seen(result.trace)


class Seen:
    def __init__(self, trace):
        self.status, self.why = trace["status"], trace.get("why", [])
        self.reads, self.writes = trace.get("reads", []), trace.get("writes", [])
        self.missing, self.seen, self.listed = (trace.get(name, []) for name in ("missing", "seen", "listed"))

    def __repr__(self):
        return str(vars(self))


def clean(seen):
    return (seen.status, seen.reads, seen.writes) == ("clean", [], [])


# What is declared


def test_declared_files_are_clean(rig):
    seen = rig.sh("cat in.txt >out/x; cat out/x; echo >state; cat state; cat /etc/hosts ../b/other.txt", readable=["b", "b/"])
    assert clean(seen), seen


def test_undeclared_files_are_found_wherever_they_are_named_from(rig):
    seen = rig.sh("cat ../b/other.txt; cd ../b; cat other.txt; echo >new.txt; cp other.txt ../a/beside")
    assert (seen.status, seen.reads) == ("undeclared", ["b/other.txt"])
    assert seen.writes == ["a/beside", "b/new.txt"]


def test_relative_to_open_folders_and_after_fchdir(rig):
    seen = rig.python(
        "folder = os.open('../b', os.O_RDONLY)\n"
        "os.open('other.txt', os.O_RDONLY, dir_fd=folder)\n"
        "os.fchdir(folder); os.rename('other.txt', 'renamed')\n"
    )
    assert seen.reads == ["b/other.txt"]
    assert seen.writes == ["b/other.txt", "b/renamed"]


def test_write_and_rename_is_a_write_of_the_target(rig):
    seen = rig.sh("echo >.tmp1; mv .tmp1 beside; echo >.tmp2; mv .tmp2 out/x; echo >out/y; mv out/y ../b/y")
    assert seen.writes == ["a/beside", "b/y"]


def test_what_was_made_and_removed_again_is_nobodys_concern(rig):
    seen = rig.python(
        "for i in range(3):\n    open('tmp', 'w').write('x'); open('tmp').read(); os.unlink('tmp')\n"
        "held = open('held', 'w'); os.unlink('held'); open(f'/proc/self/fd/{held.fileno()}').close()\n"
        "os.mkdir('d'); open('d/f', 'x').close(); os.rename('d', 'e'); os.unlink('e/f'); os.rmdir('e')\n"
    )
    assert clean(seen), seen


def test_a_source_that_is_removed_changed_or_made_executable_is_written(rig):
    for path in ("b/gone", "b/touched", "b/mode", "b/locked"):
        rig.write(path, "x")
        os.utime(rig.root / path, (1, 1))
    seen = rig.sh("rm ../b/gone; echo >>../b/touched; chmod +x ../b/mode; echo >>in.txt")
    assert seen.writes == ["a/in.txt", "b/gone", "b/mode", "b/touched"]


def test_opened_for_writing_is_not_written(rig):
    time.sleep(0.1)  # older than the clock's tick, as every checkout is
    seen = rig.python("os.open('in.txt', os.O_RDWR); os.open('../b/other.txt', os.O_RDWR)")
    assert (seen.reads, seen.writes) == (["b/other.txt"], [])


def test_links(rig):
    (rig.root / "a/link").symlink_to("../b/other.txt")
    (rig.root / "a/folder").symlink_to("../b")
    seen = rig.sh("cat link; cat folder/other.txt; ln -s nowhere made; ln in.txt hard")
    assert seen.reads == ["a/link", "b/other.txt"]
    assert seen.writes == ["a/hard", "a/made"]


def test_the_repository_by_another_name(rig):
    (rig.outside / "alias").symlink_to(rig.root)
    seen = rig.sh(f"cat {rig.outside}/alias/b/other.txt; echo >{rig.outside}/alias/b/new; cat {rig.outside}/alias/a/in.txt")
    assert (seen.reads, seen.writes) == (["b/other.txt"], ["b/new"])


def test_names_of_any_bytes(rig):
    for name in (b"\xff\xfe", b"new\nline", b'q"<>\\', "größe".encode()):
        (os.fsencode(rig.root) + b"/b/" + name)
        with open(os.fsencode(rig.root) + b"/b/" + name, "wb"):
            pass
    seen = rig.sh("cat ../b/*")
    wanted = sorted(["b/\udcff\udcfe", "b/new\nline", 'b/q"<>\\', "b/größe", "b/other.txt"])
    assert seen.reads == wanted


def test_what_is_looked_for_looked_at_and_listed_is_kept_apart(rig):
    seen = rig.sh("test ! -e ../b/no.cfg; test ! -e new.txt; test -e ../b/other.txt; ls ../b; ls .; test -d ../b")
    assert seen.status == "clean"
    assert seen.missing == ["b/no.cfg"]  # new.txt is meant by a pattern: the step would run again
    assert seen.seen == ["b/other.txt"]
    assert seen.listed == ["b"]


def test_without_looks_findings_are_the_same(rig):
    script = "test ! -e ../b/no.cfg; cat ../b/other.txt; cat none 2>&1 || true; mv ../b/other.txt ../b/new"
    seen = rig.sh(script)
    (rig.root / "b/new").rename(rig.root / "b/other.txt")
    less = rig.sh(script, looks=False)
    assert (seen.reads, seen.writes) == (less.reads, less.writes) == (["b/other.txt"], ["b/new", "b/other.txt"])
    assert seen.missing == ["a/none", "b/no.cfg"]
    assert less.missing == ["a/none"]


def test_git_and_caches(rig):
    rig.write(".git/HEAD", "ref")
    rig.write("a/__pycache__/x.pyc")
    assert clean(rig.sh("cat __pycache__/x.pyc; echo >__pycache__/y; test -e ../.git/HEAD"))
    assert rig.sh("cat ../.git/HEAD").reads == [".git"]


# How tools are


def test_threads_children_and_programs(rig):
    seen = rig.python(
        "import threading, subprocess\n"
        "def read(i):\n"
        "    open('../b/other.txt').read()\n"
        "    subprocess.run(['/bin/sh', '-c', f'cd ../b; echo >made{i}'], check=True)\n"
        "threads = [threading.Thread(target=read, args=(i,)) for i in range(8)]\n"
        "[t.start() for t in threads]; [t.join() for t in threads]\n"
        "os.rename('../b/made7', '../b/last')\n"
    )
    assert seen.reads == ["b/other.txt"]
    assert seen.writes == ["b/last", *(f"b/made{i}" for i in range(7))]
    assert not seen.why


def test_a_storm_of_processes(rig):
    seen = rig.sh("i=0; while [ $i -lt 300 ]; do (cd ../b; cat other.txt & cat other.txt | cat >f$((i % 3)); wait); i=$((i+1)); done >out/x")
    assert (seen.reads, seen.writes, seen.why) == (["b/other.txt"], ["b/f0", "b/f1", "b/f2"], [])


@pytest.mark.real("go")
def test_a_static_program(rig):
    rig.write("a/main.go", 'package main\nimport "os"\nfunc main() { b, _ := os.ReadFile("../b/other.txt"); os.WriteFile("w", b, 0o644) }\n')
    subprocess.run(["go", "build", "-o", str(rig.outside / "tool"), "main.go"], cwd=rig.root / "a", check=True, env=os.environ | {"CGO_ENABLED": "0"})
    result = rig.run([str(rig.outside / "tool")], outputs=[])
    assert (result.trace["reads"], result.trace["writes"]) == (["b/other.txt"], ["a/w"])


@pytest.mark.parametrize(
    ("script", "status", "number"),
    [("exit 7", 7, None), ("kill -9 $$", None, signal.SIGKILL), ("kill -TERM $$", None, signal.SIGTERM), ("nonsense-tool", 127, None)],
)
def test_status_and_signal_are_the_tools_own(rig, script, status, number):
    result = rig.run(["sh", "-c", script])
    plain = rig.run(["sh", "-c", script], traced=False)
    assert (result.exit, result.signal, result.message) == (status, number, plain.message)
    assert result.trace["status"] == "clean", result.trace


@pytest.mark.parametrize("argv", [["no-such-tool"], ["./in.txt"], ["./script"], ["./empty"]])
def test_what_can_not_start_is_told_as_ever(rig, argv):
    rig.write("a/script", "#!/no/such/interpreter\n")
    rig.write("a/empty", "not a program")
    (rig.root / "a/script").chmod(0o755)
    (rig.root / "a/empty").chmod(0o755)
    result, plain = rig.run(argv), rig.run(argv, traced=False)
    assert result.message == plain.message != ""
    assert result.trace["status"] == "unverified"


def test_the_tool_is_the_guardians_own_child_in_a_session_of_its_own(rig):
    asking = ["sh", "-c", "cut -d' ' -f4-6 /proc/self/stat; ps -o sid=,pgid=,pid= -p $$; cat /proc/$PPID/comm"]
    rig.run(asking)
    session, group, pid = rig.log.read_text().splitlines()[1].split()
    assert session == group == pid
    assert "python" in rig.log.read_text().splitlines()[2]


def test_a_timeout_ends_the_tool_and_the_tracer(rig):
    result = rig.run(["sh", "-c", "cat ../b/other.txt; sleep 1000 & sleep 1000"], timeout=1.0)
    assert result.message == "timed out after 1s"
    assert result.trace["reads"] == ["b/other.txt"]
    assert tracers(rig) == []


def test_leftovers_are_ended_as_ever(rig):
    result = rig.run(["sh", "-c", "mkdir -p out; sleep 1000 & setsid sleep 1000 &"])
    assert result.ok
    assert len(result.warnings) == 1
    assert "sleep 1000" in result.warnings[0]
    assert "strace" not in result.warnings[0]
    assert result.trace["status"] == "clean", result.trace
    assert tracers(rig) == []


def test_a_cancelled_step_leaves_nobody(rig):
    runner = Runner(str(rig.root), PathSet())
    results = []
    thread = threading.Thread(target=lambda: results.append(runner.run(rig.order(["sh", "-c", "echo >started; sleep 1000"]))))
    thread.start()
    while not (rig.root / "a/started").exists():
        time.sleep(0.01)
    runner.guardian.cancel()
    thread.join()
    runner.guardian.close()
    assert results[0].message == "cancelled"
    assert tracers(rig) == []


def tracers(rig):
    """The straces that run with this rig's files."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/cmdline", "rb") as file:
                line = file.read()
        except OSError:
            continue
        if line.startswith(rig.strace.path.encode()) and f"/proc/{os.getpid()}/fd/".encode() in line:
            found.append(name)
    return found


def test_the_cost_of_tracing_is_not_counted_as_the_tools(rig):
    rig.sh("for i in 1 2 3; do cat in.txt; done >out/x")
    assert rig.run(["sh", "-c", "mkdir out; exec sleep 0"]).cpu_seconds < 5  # a number, not a sum that ran away


# What is not verified


def test_a_program_with_rights_of_its_own_runs_again_without_trace(rig):
    setuid = rig.outside / "setuid"
    subprocess.run(["cp", "/bin/cat", str(setuid)], check=True)
    setuid.chmod(0o4755)
    seen = rig.sh(f"{setuid} in.txt >out/x")
    assert seen.status == "unverified"
    assert "setuid" in seen.why[0]


def test_a_tool_that_traces_itself_runs_again_without(rig):
    result = rig.run(["sh", "-c", "mkdir -p out; strace -o /dev/null true"])
    assert result.ok, rig.log.read_text()
    assert result.trace["status"] == "unverified"
    assert "ran again without" in result.trace["why"][-1]


def test_another_program_of_this_machine(rig):
    import socket

    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(rig.outside / "s"))
        server.listen()
        seen = rig.python(f"import socket; socket.socket(socket.AF_UNIX).connect({str(rig.outside / 's')!r})")
    assert seen.status == "unverified"
    assert str(rig.outside / "s") in seen.why[0]
    assert clean(rig.python(
        "import socket, threading\n"
        "for family, at in ((socket.AF_UNIX, 'out/s'), (socket.AF_INET, ('127.0.0.1', 0))):\n"
        "    server = socket.socket(family); server.bind(at); server.listen()\n"
        "    socket.socket(family).connect(server.getsockname())\n"
        "os.unlink('out/s')\n"
    ))  # fmt: skip


def test_io_uring_is_refused(rig):
    seen = rig.python("import ctypes; assert ctypes.CDLL(None).syscall(425, 8, ctypes.create_string_buffer(200)) == -1")
    assert clean(seen), seen


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("exit 3", "strace may not trace here (status 3)"),
        ("echo 'strace: ptrace(PTRACE_SEIZE): Operation not permitted' >&2; exit 1", "Operation not permitted"),
        ("exec real-strace \"$@\" | sed 's/<[^>]*>//g'", "strace may not trace here"),
    ],
)
def test_a_strace_that_does_not_work_here(tmp_path, script, why):
    fake = tmp_path / "strace"
    fake.write_text(f"#!/bin/sh\n{script}\n")
    fake.chmod(0o755)
    assert why in find({"PATH": str(tmp_path)})


def test_no_strace():
    assert "strace is not installed" in find({"PATH": "/nowhere"})
