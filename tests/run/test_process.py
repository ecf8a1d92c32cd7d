"""Tools as real processes: how they end is told truly, and nobody is left behind."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time
import uuid

import pytest

from build_tests.run import guardian as guardian_module
from build_tests.run.process import Command, Completed, Guardian, describe, strict_environment

LINUX_ONLY = pytest.mark.skipif(sys.platform != "linux", reason="no subreaper here")
PROMISE = 5.0

STUBBORN = """
import os, signal, sys, time
ready = sys.argv[1]
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for depth in range(3):
    if os.fork() == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        open(ready + str(depth), "w").close()
        time.sleep(1000)
while not all(os.path.exists(ready + str(depth)) for depth in range(3)):
    time.sleep(0.01)
open(ready, "w").close()
time.sleep(1000)
"""


@pytest.fixture
def guardian():
    guardian = Guardian()
    yield guardian
    guardian.close()


@pytest.fixture
def make(tmp_path):
    """Makes commands that run in an empty folder."""
    (tmp_path / "work").mkdir()

    def command(*argv, **more):
        defaults = {"cwd": str(tmp_path / "work"), "env": {"PATH": os.environ["PATH"]}, "log": str(tmp_path / "log")}
        return Command(argv=argv, **{**defaults, **more})

    return command


@pytest.fixture
def marker():
    """A word for the command lines of a test's processes; whoever still bears it in the end is killed."""
    word = f"marker-{uuid.uuid4().hex}"
    yield word
    for pid in bearing(word):
        os.kill(pid, signal.SIGKILL)


@pytest.fixture
def stubborn(make, tmp_path, marker):
    """A tool that hears no SIGTERM and has three daemons in sessions of their own; and the file that says it is up."""
    ready = tmp_path / "ready"
    return make(sys.executable, "-S", "-c", STUBBORN, str(ready), marker), ready


def bearing(word):
    """The processes that have the word in their command line; a zombie has no command line."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/cmdline", "rb") as file:
                if word.encode() in file.read():
                    found.append(int(name))
        except OSError:  # noqa: PERF203 - any of them may end meanwhile
            continue
    return found


def wait_for(condition, seconds=30.0):
    """Poll; whether the condition came true."""
    limit = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > limit:
            return False
        time.sleep(0.01)
    return True


def in_thread(guardian, command):
    """Run it beside us; the thread has its result in `.result`."""
    thread = threading.Thread(target=lambda: setattr(thread, "result", guardian.run(command)), daemon=True)
    thread.start()
    return thread


def result_of(thread):
    thread.join(30)
    assert not thread.is_alive()
    return thread.result


def log_of(command):
    with open(command.log, "rb") as file:
        return file.read()


def children_of(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(word) for word in file.read().split()]


# --- how a command ends


def test_a_command_runs_in_its_folder_with_its_environment_and_no_other(guardian, make, monkeypatch):
    monkeypatch.setenv("STRAY", "1")
    command = make("env", env={"PATH": os.environ["PATH"], "MINE": "ä"})
    completed = guardian.run(command)
    assert completed.ok
    assert (completed.exit, completed.signal, completed.error) == (0, None, None)
    assert log_of(command).decode().splitlines() == [f"PATH={os.environ['PATH']}", "MINE=ä"]
    where = make("pwd", log=command.log + "2")
    guardian.run(where)
    assert os.path.samefile(log_of(where).decode().strip(), where.cwd)


def test_both_streams_are_appended_to_the_log(guardian, make):
    command = make("sh", "-c", "echo out; echo err >&2")
    guardian.run(command)
    guardian.run(command)
    assert log_of(command) == b"out\nerr\n" * 2


def test_times_and_rusage_are_told(guardian, make):
    before = time.time()
    script = "b = bytearray(100_000_000); sum(range(2_000_000))"
    completed = guardian.run(make(sys.executable, "-c", script))
    assert before - 1 <= completed.started <= completed.ended <= time.time() + 1
    assert completed.seconds > 0
    assert completed.cpu_seconds > 0
    assert completed.max_rss_bytes >= 100_000_000


def test_a_tool_that_reads_stdin_sees_its_end(guardian, make):
    command = make("sh", "-c", 'cat; read answer; echo "answer <$answer>"')
    assert guardian.run(command).ok
    assert log_of(command) == b"answer <>\n"


def test_a_tool_has_the_default_signals_and_a_session_of_its_own(guardian, make):
    script = (
        "import os, signal as s\n"
        "assert os.getsid(0) == os.getpid() == os.getpgid(0)\n"
        "assert not s.pthread_sigmask(s.SIG_BLOCK, ())\n"
        "status = open('/proc/self/status').read() if os.path.exists('/proc/self/status') else 'SigIgn:\\t0'\n"
        "print(status.split('SigIgn:')[1].split()[0])\n"
    )
    command = make(sys.executable, "-I", "-c", script)
    assert guardian.run(command).ok, log_of(command)
    # Python itself ignores SIGPIPE and SIGXFSZ; from 32 on they are the C library's own, which nobody can set.
    ignored = int(log_of(command), 16) & ((1 << 31) - 1)
    assert ignored & ~(1 << (signal.SIGPIPE - 1) | 1 << (signal.SIGXFSZ - 1)) == 0


@LINUX_ONLY
def test_tools_of_two_guardians_get_no_descriptor_but_their_three(make):
    one, two = Guardian(), Guardian()
    try:
        assert one.run(make("true")).ok
        for index, (guardian, secrets) in enumerate([(two, ()), (one, ()), (two, ("a secret",))]):
            command = make(
                "sh", "-c", "ls /proc/$$/fd", log=make("x").log + str(index), secrets=secrets
            )  # fmt: skip
            assert guardian.run(command).ok
            assert log_of(command).split() == [b"0", b"1", b"2"]
    finally:
        one.close()
        two.close()


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("exit 3", "exit status 3"),
        ("kill -KILL $$", "killed by SIGKILL"),
        ("kill -SEGV $$", "killed by SIGSEGV"),
        ("sh -c 'kill -KILL $$'; exit $?", "exit status 137 (killed by SIGKILL)"),
    ],
)
def test_a_failure_is_described(guardian, make, script, expected):
    command = make("sh", "-c", script)
    completed = guardian.run(command)
    assert not completed.ok
    assert describe(completed, command) == expected


def write(path, data, mode=0o755):
    path.write_bytes(data)
    path.chmod(mode)


@pytest.mark.parametrize(
    ("name", "data", "mode", "kind", "message"),
    [
        ("./gone", None, 0, "missing", "./gone: no such file"),
        ("./plain", b"#!/bin/sh\n", 0o644, "not_executable", "./plain: not executable (chmod +x ./plain)"),
        ("./foreign", b"\x7fELF" + b"\1" * 200, 0o755, "wrong_architecture", "./foreign: wrong architecture"),
        ("./orphan", b"#!/nowhere/python -x\n", 0o755, "missing_interpreter", "interpreter /nowhere/python -x is not"),
        ("./text", b"echo hello\n", 0o755, "not_executable", "./text: neither a program nor a script with a #! line"),
        ("./sub", "folder", 0, "not_executable", "./sub: is a folder, not a program"),
        ("./plain/x", b"", 0o755, "missing", "./plain/x: no such file"),
        ("python9", None, 0, "missing", "python9: command not found"),
    ],
)
def test_a_tool_that_cannot_start(guardian, make, tmp_path, name, data, mode, kind, message):  # noqa: PLR0917
    if data == "folder":
        (tmp_path / "work" / name).mkdir()
    elif name == "./plain/x":
        write(tmp_path / "work" / "plain", b"")
    elif data is not None:
        write(tmp_path / "work" / name, data, mode)
    command = make(name)
    completed = guardian.run(command)
    assert not completed.ok
    assert (completed.error.kind, completed.exit, completed.signal) == (kind, None, None)
    assert message in describe(completed, command)
    assert guardian.run(make("true")).ok


def test_the_tool_is_looked_up_in_the_path_it_is_given(guardian, make, tmp_path):
    for folder, mode in (("one", 0o644), ("two", 0o755)):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / "tool", b"#!/bin/sh\necho $0\n", mode)
    path = f"{tmp_path}/none:{tmp_path}/one:{tmp_path}/two"
    command = make("tool", env={"PATH": path})
    assert guardian.run(command).ok
    assert log_of(command).decode().strip() == f"{tmp_path}/two/tool"
    refused = make("tool", env={"PATH": f"{tmp_path}/one"})
    assert describe(guardian.run(refused), refused) == f"tool: not executable (chmod +x {tmp_path}/one/tool)"


def test_a_folder_that_is_missing_or_none(guardian, make, tmp_path):
    command = make("true", cwd=str(tmp_path / "services"))
    completed = guardian.run(command)
    assert completed.error.kind == "no_folder"
    assert describe(completed, command) == f"folder {tmp_path}/services does not exist"
    write(tmp_path / "services", b"")
    assert describe(guardian.run(command), command) == f"{tmp_path}/services is not a folder"


def test_an_argument_list_too_long(guardian, make):
    command = make("echo", "x" * 5_000_000)
    completed = guardian.run(command)
    assert completed.error.kind == "argument_list_too_long"
    assert "echo: argument list too long: 5,000,006 bytes of arguments" in describe(completed, command)


@pytest.mark.parametrize("argv", [(), ("echo", "a\0b"), ("echo", "\ud800")])
def test_what_no_process_can_be_given_is_an_error_value(guardian, make, argv):
    completed = guardian.run(make(*argv))
    assert completed.error.kind == "os"
    assert not completed.ok


def test_a_request_of_megabytes_arrives_whole(guardian, make):
    command = make("sh", "-c", 'echo $#; echo "$1" | wc -c', "sh", *["x" * 100_000] * 15)
    assert guardian.run(command).ok
    assert log_of(command).split() == [b"15", b"100001"]


# --- output and secrets


@pytest.mark.parametrize("secrets", [(), ("hush-hush",)])
def test_64_mb_of_output_are_in_the_log(guardian, make, secrets):
    command = make("sh", "-c", "yes 0123456789abcde | head -c 67108864", secrets=secrets)
    assert guardian.run(command).ok
    assert os.path.getsize(command.log) == 67_108_864


@LINUX_ONLY
def test_one_line_of_50_mb_is_masked_in_bounded_memory(guardian, make):
    script = "head -c 50000000 /dev/zero | tr '\\0' x; printf hush-; sleep 0.05; printf hush"
    command = make("sh", "-c", script, secrets=("hush-hush",))
    assert guardian.run(command).ok
    assert os.path.getsize(command.log) == 50_000_003
    with open(command.log, "rb") as file:
        file.seek(-5, os.SEEK_END)
        assert file.read() == b"xx***"
    (inner,) = children_of(guardian.pid)
    with open(f"/proc/{inner}/status") as file:
        peak = next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))
    assert peak < 50_000


@pytest.mark.parametrize("secrets", [(), ("hush-hush",)])
def test_binary_output_is_kept_as_it_is(guardian, make, secrets):
    data = bytes(range(256)) * 10
    command = make(sys.executable, "-c", "import os; os.write(1, bytes(range(256)) * 10)", secrets=secrets)
    assert guardian.run(command).ok
    assert log_of(command) == data


def test_a_secret_is_masked_split_over_writes_and_in_base64(guardian, make):
    script = 'printf %s "${T%???}"; sleep 0.05; echo "${T#?????????}"; printf %s "u:$T" | base64; echo "no: $T" >&2'
    env = {"PATH": os.environ["PATH"], "T": "hush-hush-12"}
    command = make("sh", "-c", script, env=env, secrets=("hush-hush-12",))
    assert guardian.run(command).ok
    assert log_of(command) == b"***\ndTp***\nno: ***\n"


def test_a_secret_that_is_too_short_is_refused_before_the_tool_runs(guardian, make, tmp_path):
    command = make("touch", "ran", secrets=("12345",))
    completed = guardian.run(command)
    assert "fewer than 6 characters" in describe(completed, command)
    assert not (tmp_path / "work" / "ran").exists()
    assert guardian.run(make("true")).ok


@LINUX_ONLY
@pytest.mark.parametrize("secrets", [(), ("hush-hush",)])
def test_a_full_disk_under_the_log_is_told_and_hangs_nobody(guardian, make, secrets):
    command = make("sh", "-c", "yes | head -c 3000000; exit 0", log="/dev/full", secrets=secrets)
    completed = guardian.run(command)
    assert not completed.ok
    assert describe(completed, command) == f"the log can't be written: /dev/full: {os.strerror(errno.ENOSPC)}"


def test_a_log_that_cannot_be_opened_is_told_and_nothing_runs(guardian, make, tmp_path):
    command = make("touch", "ran", log=str(tmp_path / "none" / "log"))
    completed = guardian.run(command)
    assert not completed.ok
    assert "none/log: No such file or directory" in describe(completed, command)
    assert not (tmp_path / "work" / "ran").exists()


# --- ends of time


@LINUX_ONLY
def test_the_timeout_ends_the_whole_tree(guardian, stubborn, marker):
    command, ready = stubborn
    command = Command(**{**fields(command), "timeout": 1.5, "grace": 0.1})
    completed = guardian.run(command)
    assert ready.exists()
    assert completed.timed_out
    assert not completed.ok
    assert completed.signal == signal.SIGKILL
    assert describe(completed, command) == "timed out after 1.5s"
    assert bearing(marker) == []
    assert guardian.run(command.__class__(**{**fields(command), "argv": ("true",)})).ok


def fields(command):
    return {name: getattr(command, name) for name in command.__slots__}


def test_at_the_timeout_a_tool_may_end_in_good_order(guardian, make):
    command = make("sh", "-c", "trap 'echo bye; exit 0' TERM; sleep 1000 & wait", timeout=0.3)
    completed = guardian.run(command)
    assert completed.timed_out
    assert not completed.ok
    assert log_of(command) == b"bye\n"


@pytest.mark.parametrize(
    ("seconds", "text"), [(600, "10m"), (0.5, "0.5s"), (5400, "1h 30m"), (61, "1m 1s"), (7200, "2h")]
)
def test_timeouts_are_written_as_people_write_them(make, seconds, text):
    assert describe(Completed(timed_out=True), make("x", timeout=seconds)) == f"timed out after {text}"


def test_cancel_from_another_thread(guardian, make, tmp_path, marker):
    command = make("sh", "-c", "trap 'echo ended; exit 1' TERM; : > ready; sleep 1000 & wait", marker)
    thread = in_thread(guardian, command)
    assert wait_for((tmp_path / "work" / "ready").exists)
    guardian.cancel()
    completed = result_of(thread)
    assert completed.cancelled
    assert describe(completed, command) == "cancelled"
    assert log_of(command) == b"ended\n"
    assert bearing(marker) == []


def test_cancel_concerns_only_the_command_that_runs(guardian, make):
    guardian.cancel()
    assert guardian.run(make("true")).ok
    guardian.cancel()
    assert guardian.run(make("true")).ok


@LINUX_ONLY
def test_cancel_ends_a_stubborn_tree(guardian, stubborn, marker):
    command, ready = stubborn
    thread = in_thread(guardian, Command(**{**fields(command), "grace": 0.1}))
    assert wait_for(ready.exists)
    guardian.cancel()
    assert result_of(thread).cancelled
    assert bearing(marker) == []


@LINUX_ONLY
def test_an_interrupt_while_waiting_ends_the_tool_and_goes_on(guardian, make, tmp_path, marker):
    ready = tmp_path / "work" / "ready"
    command = make("sh", "-c", "trap 'echo ended; exit 1' TERM; : > ready; sleep 1000 & wait", marker)
    main = threading.get_ident()
    thread = threading.Thread(target=lambda: wait_for(ready.exists) and signal.pthread_kill(main, signal.SIGINT))
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        guardian.run(command)
    thread.join()
    assert log_of(command) == b"ended\n"
    assert bearing(marker) == []
    assert guardian.run(make("true")).ok


# --- who is left


@LINUX_ONLY
def test_what_a_tool_leaves_running_is_ended_and_named(guardian, make, marker):
    completed = guardian.run(make("sh", "-c", f"setsid sh -c 'sleep 1000; : {marker}' & exit 0"))
    assert completed.ok
    assert any(marker in name for name in completed.leftovers)
    assert bearing(marker) == []


@LINUX_ONLY
def test_a_child_that_ends_by_itself_at_once_is_no_leftover(guardian, make):
    command = make("sh", "-c", "(sleep 0.02; echo late) & exit 0")
    assert guardian.run(command).leftovers == ()
    assert log_of(command) == b"late\n"


@LINUX_ONLY
def test_a_declared_daemon_outlives_its_step_the_next_ones_and_the_guardian(guardian, make, marker):
    start = make(
        "sh", "-c", f"setsid sh -c 'sleep 1000 & wait; : {marker}' & sleep 1000 & exit 0",
        daemons=(marker.upper(),), secrets=("hush-hush",),
    )  # fmt: skip
    completed = guardian.run(start)
    ((pid, name),) = completed.daemons
    assert name == marker.upper()
    assert completed.leftovers == ("sleep 1000",)
    later = guardian.run(make("true"))
    assert (later.leftovers, later.daemons) == ((), ())
    assert guardian.run(make("sh", "-c", "sleep 1000 & exit 0")).leftovers == ("sleep 1000",)
    guardian.close()
    assert bearing(marker) == [pid]
    os.killpg(pid, signal.SIGKILL)


DRIVER = """
import os, sys, time
from build_tests.run.process import Command, Guardian, die_with_parent
argv, folder, what = sys.argv[3:], sys.argv[1], sys.argv[2]
make = lambda *argv: Command(argv=argv, cwd=folder, env={"PATH": os.environ["PATH"]}, log=folder + "/log")
guardian = Guardian()
if what == "fork":
    assert guardian.run(make("true")).ok
    if os.fork() == 0:
        time.sleep(1000)
if what == "exit":
    assert guardian.run(make("true")).ok
    print(guardian.pid)
else:
    guardian.run(make(*argv))
"""


def driver(tmp_path, what, *argv):
    return subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(tmp_path), what, *argv], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


@LINUX_ONLY
@pytest.mark.parametrize("what", ["plain", "fork"])
def test_nobody_outlives_a_killed_worker_by_more_than_five_seconds(stubborn, tmp_path, marker, what):
    command, ready = stubborn
    with driver(tmp_path, what, *command.argv) as worker:
        assert wait_for(ready.exists)
        # The worker and a fork of it bear the marker too; nobody promised to end that fork.
        tools = {pid for pid in bearing(marker) if cmdline(pid)[1] == "-S"}
        assert len(tools) == 4
        worker.kill()
        assert wait_for(lambda: not tools & set(bearing(marker)), PROMISE), "somebody survived"
        for pid in bearing(marker):
            os.kill(pid, signal.SIGKILL)


def cmdline(pid):
    try:
        with open(f"/proc/{pid}/cmdline") as file:
            return file.read().split("\0")
    except OSError:
        return []


@LINUX_ONLY
def test_a_guardian_ends_with_the_interpreter(tmp_path):
    with driver(tmp_path, "exit") as worker:
        pid = int(worker.stdout.read())
        assert worker.wait(30) == 0
    assert not os.path.exists(f"/proc/{pid}")


@LINUX_ONLY
@pytest.mark.parametrize("which", ["inner", "both"])
def test_a_guardian_that_is_killed_takes_its_tool_along_and_the_next_run_has_another(
    guardian, make, stubborn, marker, which
):
    command, ready = stubborn
    if which == "both":
        # Then only the kernel is left to end the tool itself.
        ready = ready.with_name("alone")
        command = make(sys.executable, "-S", "-c", f"open({str(ready)!r}, 'w'); import time; time.sleep(1000)", marker)
    thread = in_thread(guardian, command)
    assert wait_for(ready.exists)
    outer = guardian.pid
    (inner,) = children_of(outer)
    for pid in [outer, inner] if which == "both" else [inner]:
        os.kill(pid, signal.SIGKILL)
    completed = result_of(thread)
    assert not completed.ok
    assert completed.died
    assert "killed by SIGKILL" in describe(completed, command)
    assert wait_for(lambda: not bearing(marker), PROMISE)
    assert guardian.run(make("true")).ok
    assert guardian.pid != outer


@LINUX_ONLY
def test_the_outer_guardian_alone_is_not_missed(guardian, make, marker):
    assert guardian.run(make("true")).ok
    os.kill(guardian.pid, signal.SIGKILL)
    completed = guardian.run(make("sh", "-c", f"setsid sh -c 'sleep 1000; : {marker}' & exit 0"))
    assert completed.ok
    assert bearing(marker) == []


@LINUX_ONLY
def test_a_guardian_killed_between_commands_is_not_noticed(guardian, make):
    assert guardian.run(make("true")).ok
    outer = guardian.pid
    (inner,) = children_of(outer)
    os.kill(inner, signal.SIGKILL)
    assert wait_for(lambda: state_of(outer) in ("Z", ""))
    assert guardian.run(make("true")).ok


def state_of(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def test_close_is_final_only_until_the_next_command(guardian, make):
    guardian.close()
    assert guardian.run(make("true")).ok
    guardian.close()
    guardian.close()
    assert guardian.pid is None
    assert guardian.run(make("true")).ok


@LINUX_ONLY
def test_close_ends_what_runs(guardian, make, tmp_path, marker):
    thread = in_thread(guardian, make("sh", "-c", ": > ready; sleep 1000; :", marker))
    assert wait_for((tmp_path / "work" / "ready").exists)
    guardian.close()
    assert result_of(thread).died
    assert bearing(marker) == []


def test_the_grace_of_orphans_is_within_the_promise():
    assert guardian_module.ORPHAN_GRACE < PROMISE


def test_the_guardian_is_self_contained_and_imports_little():
    script = (
        "import sys\nbefore = set(sys.modules)\n"
        "exec(compile(open(sys.argv[1]).read(), 'guardian.py', 'exec'), {'__name__': 'guardian'})\n"
        "print(*set(sys.modules) - before)\n"
    )
    argv = [sys.executable, "-I", "-S", "-c", script, guardian_module.__file__]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    slow = {"signal", "enum", "re", "json", "ctypes", "subprocess", "socket", "typing", "build_tests"}
    assert not slow & set(done.stdout.split())


@LINUX_ONLY
def test_a_worker_dies_with_its_controller(tmp_path, marker):
    worker = (
        "import os, sys, time\nfrom build_tests.run.process import die_with_parent\n"
        "die_with_parent(int(sys.argv[1]))\nopen(sys.argv[2], 'w').close()\ntime.sleep(1000)\n"
    )
    controller = (
        "import os, subprocess, sys\n"
        f"subprocess.run([sys.executable, '-c', {worker!r}, str(os.getpid()), sys.argv[1], {marker!r}])\n"
    )
    ready = tmp_path / "ready"
    with subprocess.Popen([sys.executable, "-c", controller, str(ready)]) as process:
        assert wait_for(ready.exists)
        (pid,) = set(bearing(marker)) - {process.pid}
        process.kill()
        assert wait_for(lambda: state_of(pid) in ("Z", ""), PROMISE)


@LINUX_ONLY
def test_a_worker_whose_controller_is_gone_already_dies_at_once():
    script = "from build_tests.run.process import die_with_parent; die_with_parent(1 << 22); print('alive')"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL
    assert done.stdout == b""


# --- environment


def test_the_environment_is_strict():
    caller = {
        "PATH": "/bin",
        "HOME": "/h",
        "USER": "u",
        "TMPDIR": "/t",
        "LANG": "de_DE",
        "TZ": "Europe/Berlin",
        "TERM": "xterm",
        "PYTHONUNBUFFERED": "1",
        "STRAY": "1",
        "SHELL": "/bin/zsh",
        "LC_ALL": "C",
        "https_proxy": "p",
        "NO_PROXY": "n",
        "SSL_CERT_FILE": "c",
        "NODE_EXTRA_CA_CERTS": "x",
        "PIP_INDEX_URL": "i",
        "pip_x": "no",
        "SOURCE_DATE_EPOCH": "0",
        "TOKEN": "hush-hush",
    }
    found = strict_environment(
        {"DECLARED": "d", "PATH": "/opt"},
        pass_env=["SOURCE_DATE_EPOCH", "ABSENT"],
        network_env=["PIP_*"],
        secrets=["TOKEN", "GONE"],
        caller=caller,
    )
    assert found == {
        "DECLARED": "d",
        "PATH": "/opt",
        "HOME": "/h",
        "USER": "u",
        "TMPDIR": "/t",
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "https_proxy": "p",
        "NO_PROXY": "n",
        "SSL_CERT_FILE": "c",
        "NODE_EXTRA_CA_CERTS": "x",
        "PIP_INDEX_URL": "i",
        "SOURCE_DATE_EPOCH": "0",
        "TOKEN": "hush-hush",
    }
    assert list(found) == sorted(found)


def test_language_and_time_zone_are_the_steps_to_declare_or_pass():
    nothing = {"network_env": [], "secrets": []}
    assert strict_environment({"TZ": "Asia/Tokyo"}, pass_env=[], caller={"TZ": "X"}, **nothing)["TZ"] == "Asia/Tokyo"
    assert strict_environment({}, pass_env=["TZ"], caller={"TZ": "X"}, **nothing)["TZ"] == "X"
