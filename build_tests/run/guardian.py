"""Runs one tool at a time for one worker, and lets nobody outlive it. Knows no step and nothing else of this package.

A script of its own, started as `python -I -S guardian.py CANCEL_FD` with a socket as standard input; `process.py` is
the other end. Requests and replies are a length of four bytes and a dict in `marshal`: it is built in, so that this
process is up within a few milliseconds, and both ends are the same interpreter.

Why a process in between: the parent-death signal of Linux is bound to the parent's *thread* and reaches only direct
children. The guardian is the "subreaper" of every process below it, so also of daemons that left their group; it has
one thread; and at end of file on its socket, however its worker died, it ends them all.

It is a pair of processes: the outer one only waits for the inner one, which serves, and ends what the inner one leaves
behind when that itself is killed.
"""

from __future__ import annotations

import errno
import marshal
import os
import select
import stat
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from typing import Any

    from build_tests.run.masking import Masker
else:
    try:
        # The public module makes enums of everything, which is most of this process's start-up time.
        import _signal as signal
    except ImportError:
        import signal

LINUX = sys.platform == "linux"
ORPHAN_GRACE = 4.0
"""Seconds from SIGTERM to SIGKILL once the worker is gone: nobody may outlive it by five."""
STRAGGLER_PATIENCE = 0.1
"""Seconds for the children of a tool that ended well to end by themselves."""
STRAGGLER_GRACE = 1.0
"""Seconds from SIGTERM to SIGKILL for those that did not."""
TRACER_PATIENCE = 10.0
"""Seconds for a tracer to write the last of its trace, once everyone that it traced is gone."""
KILL_LIMIT = 2.0
"""Seconds after which a process that SIGKILL does not end (it hangs in the kernel) is given up."""
TICK = 0.02
CHUNK = 1 << 20
PREFIX = 4
NAME_LIMIT = 120
ROOM = 64 * 1024
"""Bytes; a disk with less room than this may have swallowed the end of a log."""

PR_SET_CHILD_SUBREAPER, F_SETPIPE_SZ = 36, 1031
# A handler that does nothing, not SIG_IGN: a tool gets back the default at exec, without a call of ours.
UNHEARD = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD)


def main() -> None:
    """Become a guardian. Returns never."""
    cancel = int(sys.argv[1])
    # Every path we are given is absolute, and nobody's folder shall be busy because of us.
    os.chdir("/")
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in UNHEARD:
        signal.signal(number, unheard)
    if LINUX:
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        inner = os.fork()
        if inner:
            watch(inner, cancel)
        prctl(PR_SET_CHILD_SUBREAPER, 1)
    serve(Wires(cancel))
    os._exit(0)


def unheard(*_: object) -> None:
    """Take a signal that is not for us."""


def watch(inner: int, cancel: int) -> None:
    """The outer process: when the inner one was killed, end what it left. Returns never."""
    null = os.open(os.devnull, os.O_RDWR)
    # Our copies of the wires would keep the worker from seeing that the inner process is gone.
    os.dup2(null, 0)
    os.close(cancel)
    _, status = os.waitpid(inner, 0)
    limit = time.monotonic() + KILL_LIMIT
    while status and time.monotonic() < limit and (left := descendants({})):
        send_signal(left, signal.SIGKILL)
        reap_all()
        time.sleep(TICK)
    code = os.waitstatus_to_exitcode(status)
    # As a shell says it: 128 and the signal.
    os._exit(code if code >= 0 else 128 - code)


def serve(wires: Wires) -> None:
    """Answer requests until the worker is gone."""
    spared: dict[int, str] = {}
    while (request := wires.receive()) is not None:
        wires.reply(answer(request, wires, spared))


def answer(request: dict[str, Any], wires: Wires, spared: dict[int, str]) -> dict[str, Any]:
    """Run one command; what the log or the secrets make impossible is an answer as well."""
    try:
        log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    except OSError as error:
        return {"write_error": error.errno}
    try:
        return Run(request, log, wires, spared).execute()
    except ValueError as error:
        return {"error": ("request", 0, str(error))}
    finally:
        os.close(log)


class Wires:
    """What the guardian listens to beside its tool: the worker's socket, cancel requests, the end of children."""

    def __init__(self, cancel: int) -> None:
        self.cancel = cancel
        self.null = os.open(os.devnull, os.O_RDONLY)
        self.wake, wake_end = os.pipe()
        for fd in (cancel, self.wake, wake_end):
            os.set_blocking(fd, False)
        os.set_inheritable(cancel, False)
        signal.set_wakeup_fd(wake_end, warn_on_full_buffer=False)
        self.inbox = b""
        self.cancelled = 0
        self.orphaned = False

    def receive(self) -> dict[str, Any] | None:
        """The next request; None when the worker is gone."""
        size = PREFIX
        while not self.orphaned:
            if len(self.inbox) >= PREFIX:
                size = PREFIX + int.from_bytes(self.inbox[:PREFIX], "big")
            if len(self.inbox) >= size > PREFIX:
                body, self.inbox = self.inbox[PREFIX:size], self.inbox[size:]
                request: dict[str, Any] = marshal.loads(body)  # noqa: S302 - our own worker's end of a socket pair
                return request
            self.read_worker()
        return None

    def reply(self, values: dict[str, Any]) -> None:
        """Send an answer; a worker that is gone by now needs none."""
        body = marshal.dumps(values)
        data = memoryview(len(body).to_bytes(PREFIX, "big") + body)
        try:
            while data:
                data = data[os.write(0, data) :]
        except OSError:
            self.orphaned = True

    def tell(self, pid: int) -> None:
        """Say which session runs: should we and the outer process be killed at once, the worker can still end it."""
        try:
            os.write(self.cancel, pid.to_bytes(8, "big"))
        except OSError:
            # It does not read them, or is gone.
            return

    def stops(self, number: int) -> bool:
        """Whether command `number` shall end early."""
        return self.orphaned or self.cancelled >= number

    def listen(self, seconds: float | None, output: int | None) -> bool:
        """Wait for anything to happen, `seconds` at most; whether `output` can be read."""
        poll = select.poll()
        # A wire at its end is always ready: it would wake us for ever.
        for fd in (self.wake, output, *(() if self.orphaned else (0, self.cancel))):
            if fd is not None:
                poll.register(fd, select.POLLIN)
        ready = {fd for fd, _ in poll.poll(None if seconds is None else max(0.0, seconds) * 1000)}
        if 0 in ready:
            self.read_worker()
        if self.cancel in ready:
            self.read_cancel()
        if self.wake in ready:
            os.read(self.wake, 4096)
        return output in ready

    def read_worker(self) -> None:
        """Take what the worker sent; nothing is end of file."""
        try:
            data = os.read(0, CHUNK)
        except OSError:
            data = b""
        self.orphaned = not data
        self.inbox += data

    def read_cancel(self) -> None:
        """Take the numbers of the commands to cancel. End of file tells nothing the socket does not tell."""
        data = os.read(self.cancel, 4096)
        numbers = (int.from_bytes(data[i : i + 8], "big") for i in range(0, len(data), 8))
        self.cancelled = max((self.cancelled, *numbers))
        self.orphaned = self.orphaned or not data


class Run:
    """One command, from its request to its answer."""

    def __init__(self, request: dict[str, Any], log: int, wires: Wires, spared: dict[int, str]) -> None:
        self.request = request
        self.tracer: bytes = request["tracer"][0] if request["tracer"] else b""
        self.number: int = request["number"]
        self.log = log
        self.wires = wires
        self.spared = spared
        self.masker = load_masker(request["secrets"])
        self.output: int | None = None
        self.write_error = 0
        self.main = 0
        self.status: int | None = None
        self.childless = False
        self.started = time.time()
        self.clock = time.monotonic()
        self.seconds = self.cpu_seconds = 0.0
        self.max_rss = 0
        self.leftovers: list[str] = []
        self.daemons: list[tuple[int, str]] = []

    def execute(self) -> dict[str, Any]:
        """Run the tool, wait for it, leave nobody behind."""
        failure = self.spawn()
        timeout = self.request["timeout"]
        limit = None if timeout is None else self.clock + timeout
        while self.status is None and not self.wires.stops(self.number) and before(limit):
            self.pump(limit)
        cancelled = self.status is None and self.wires.stops(self.number)
        timed_out = self.status is None and not cancelled
        if self.status is None:
            self.end(self.request["grace"])
        else:
            self.sweep()
        if self.tracer:
            self.await_tracer()
        self.finish_output()
        code = None if self.status is None else os.waitstatus_to_exitcode(self.status)
        return {
            "exit": code if code is not None and code >= 0 and not failure else None,
            "signal": -code if code is not None and code < 0 else None,
            "started": self.started,
            # From the steady clock: the wall clock may have jumped meanwhile.
            "ended": self.started + self.seconds,
            "seconds": self.seconds,
            "cpu_seconds": self.cpu_seconds,
            "max_rss_bytes": self.max_rss,
            "timed_out": timed_out,
            "cancelled": cancelled,
            "leftovers": self.leftovers,
            "daemons": self.daemons,
            "error": failure,
            "write_error": self.write_error,
        }

    def spawn(self) -> tuple[str, int, str] | None:
        """Start the tool; what kept it from starting as (what we did, errno, path or message)."""
        target = self.log
        if self.masker:
            self.output, target = os.pipe()
            os.set_blocking(self.output, False)
            enlarge(self.output)
        try:
            self.main = start(self.request, self.wires.null, target)
            self.wires.tell(self.main)
        except StartError as error:
            self.status, self.childless = 0, True
            return error.args
        finally:
            if self.masker:
                os.close(target)
        return None

    def pump(self, limit: float | None) -> None:
        """Wait for one thing to happen, until `limit` at most, and take it in."""
        if self.wires.listen(None if limit is None else limit - time.monotonic(), self.output):
            self.copy_output()
        self.reap()

    def reap(self) -> None:
        """Collect whoever has ended."""
        while True:
            try:
                dead, tracer = self.next_dead() if self.tracer else (-1, False)
                pid, status, usage = os.wait4(dead, os.WNOHANG)
            except ChildProcessError:
                self.childless = True
                return
            if not pid:
                return
            if not tracer:
                self.cpu_seconds += usage.ru_utime + usage.ru_stime
                self.max_rss = max(self.max_rss, usage.ru_maxrss * (1024 if LINUX else 1))
            self.spared.pop(pid, None)
            if pid == self.main:
                self.status, self.seconds = status, time.monotonic() - self.clock

    def sweep(self) -> None:
        """End what the tool left running, but for declared daemons."""
        if self.nobody():
            return
        # Meanwhile a daemon that was just forked becomes what it is: before its exec it has its parent's command line.
        patience = time.monotonic() + STRAGGLER_PATIENCE
        while not self.nobody() and before(patience) and not self.wires.orphaned:
            self.pump(min(patience, time.monotonic() + TICK))
        self.spare_daemons()
        self.leftovers = [self.mask(name_of(pid)) for pid in self.survivors()]
        self.end(min(self.request["grace"], STRAGGLER_GRACE))

    def end(self, grace: float) -> None:
        """SIGTERM to everyone below us; SIGKILL to those who are there after `grace` seconds."""
        limit = time.monotonic() + grace
        orphaned = False
        self.kill(signal.SIGTERM)
        while not self.nobody() and before(limit):
            if self.wires.orphaned and not orphaned:
                orphaned = True
                limit = min(limit, time.monotonic() + ORPHAN_GRACE)
            self.pump(min(limit, time.monotonic() + TICK))
        limit = time.monotonic() + KILL_LIMIT
        while not self.nobody() and before(limit):
            self.kill(signal.SIGKILL)
            self.pump(time.monotonic() + TICK)

    def kill(self, number: int) -> None:
        """Send a signal to everyone below us."""
        send_signal(self.survivors(), number)

    def nobody(self) -> bool:
        """Whether everyone is gone whom we must not leave."""
        self.reap()
        return (self.childless and LINUX) or not self.survivors()

    def survivors(self) -> list[int]:
        """Everyone below us, but for spared daemons and what is below those."""
        # Without subreapers a tool's group is all we can know of.
        found = descendants(self.spared) if LINUX else group_of(self.main)
        return [pid for pid in found if not self.is_tracer(pid)] if self.tracer else found

    def is_tracer(self, pid: int) -> bool:
        """Whether this is the tracer, which ends by itself after everyone else, and must not be ended before."""
        try:
            return pid != self.main and os.readlink(b"/proc/%d/exe" % pid) == self.tracer
        except OSError:
            return False

    def next_dead(self) -> tuple[int, bool]:
        """Who is to be collected (-1 = whoever), and whether it is the tracer, whose cost is not the tool's."""
        dead = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if dead is None:
            return -1, False
        try:
            with open(f"/proc/{dead.si_pid}/comm", "rb") as file:
                name = file.read().strip()
        except OSError:
            name = b""
        return dead.si_pid, dead.si_pid != self.main and name == os.path.basename(self.tracer)

    def await_tracer(self) -> None:
        """The tracer may write what it has yet to write; then it is ended."""
        limit = time.monotonic() + TRACER_PATIENCE
        self.reap()
        while not self.childless and (left := [pid for pid in descendants(self.spared) if self.is_tracer(pid)]):
            if not before(limit) or self.wires.orphaned:
                send_signal(left, signal.SIGKILL)
            if not before(limit + KILL_LIMIT):
                return
            self.pump(time.monotonic() + TICK)

    def spare_daemons(self) -> None:
        """Take declared daemons out of our care; their names are the texts that their command lines hold."""
        names = self.request["daemons"]
        for pid in self.survivors() if names else ():
            line = name_of(pid, limit=CHUNK).lower()
            for name in names:
                if name.lower() in line and pid not in self.spared:
                    self.spared[pid] = birth_of(pid)
                    self.daemons.append((pid, name))

    def mask(self, text: str) -> str:
        """The text without secrets."""
        return self.masker.mask_text(text) if self.masker else text

    def copy_output(self) -> None:
        """Take in what the tool wrote, masked."""
        if self.output is None or self.masker is None:
            return
        try:
            data = os.read(self.output, CHUNK)
        except BlockingIOError:
            return
        if data:
            self.write(self.masker.feed(data))
        else:
            os.close(self.output)
            self.output = None

    def finish_output(self) -> None:
        """Whatever is still in the pipe; a spared daemon may hold its other end, so nobody waits for that."""
        if self.output is not None and self.masker is not None:
            while data := read_or_nothing(self.output):
                self.write(self.masker.feed(data))
            os.close(self.output)
            self.output = None
        if self.masker is not None:
            self.write(self.masker.finish())
        else:
            self.write_error = probe(self.log, failed=self.status != 0)

    def write(self, data: bytes) -> None:
        """Append to the log. After an error the tool's output is read and dropped: it must not hang on a full pipe."""
        view = memoryview(data)
        try:
            while view and not self.write_error:
                view = view[os.write(self.log, view) :]
        except OSError as error:
            self.write_error = error.errno or errno.EIO


def before(limit: float | None) -> bool:
    """Whether the time limit lies ahead."""
    return limit is None or time.monotonic() < limit


def load_masker(secrets: list[bytes]) -> Masker | None:
    """The masker, or None without secrets: then `re` is never imported. Raises ValueError for one that is too short."""
    if not secrets:
        return None
    folder = os.path.dirname(os.path.abspath(__file__))
    if folder not in sys.path:
        # At the end: a module of ours must never hide one of the standard library.
        sys.path.append(folder)
    masker: Masker = __import__("masking").Masker(secrets)
    return masker


def enlarge(pipe: int) -> None:
    """Fewer switches between the tool and us; a system that refuses just has more of them."""
    if LINUX:
        import fcntl

        try:
            fcntl.fcntl(pipe, F_SETPIPE_SZ, CHUNK)
        except OSError:
            return


def read_or_nothing(fd: int) -> bytes:
    """What can be read without waiting."""
    try:
        return os.read(fd, CHUNK)
    except BlockingIOError:
        return b""


def probe(log: int, *, failed: bool) -> int:
    """0, or the errno of writing to a log that the tool wrote by itself: only the tool has seen the error."""
    state = os.fstat(log)
    try:
        if not stat.S_ISREG(state.st_mode):
            os.write(log, b"\n")
        elif (failed or nearly_full(log)) and hasattr(os, "posix_fallocate"):
            os.posix_fallocate(log, state.st_size, ROOM)
            os.ftruncate(log, state.st_size)
    except OSError as error:
        return 0 if error.errno in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENODEV) else error.errno or 0
    return 0


def nearly_full(log: int) -> bool:
    """Whether the disk has hardly any room left."""
    room = os.fstatvfs(log)
    return room.f_bavail * room.f_frsize < ROOM


class StartError(Exception):
    """(what we did, errno, path or message)."""

    args: tuple[str, int, str]


def start(request: dict[str, Any], null: int, output: int) -> int:
    """Start the tool in a session of its own; its pid.

    By posix_spawn, which forks without copying this process: a fraction of what `fork` costs an interpreter.

    Raises:
        StartError: it can't be started.
    """
    argv: list[bytes] = request["argv"]
    files = [(os.POSIX_SPAWN_DUP2, source, to) for source, to in ((null, 0), (output, 1), (output, 2))]
    stage, path = "folder", os.fsdecode(request["cwd"])
    try:
        os.chdir(request["cwd"])
        stage, path = "exec", os.fsdecode(argv[0])
        program = look_up(argv[0], request["env"])
        path = os.fsdecode(program)
        if request["tracer"] and os.path.isfile(program) and os.access(program, os.X_OK):
            program, argv = request["tracer"][0], [*request["tracer"], *argv]
        return os.posix_spawn(program, argv, request["env"], file_actions=files, setsid=True)
    except OSError as error:
        raise StartError(stage, error.errno or 0, path) from None
    except (ValueError, TypeError) as error:
        raise StartError("request", 0, str(error)) from None
    finally:
        # Nobody's folder shall be busy because of us.
        os.chdir("/")


def look_up(name: bytes, env: dict[bytes, bytes]) -> bytes:
    """The program that a name means in the PATH of `env`, as execvp finds it: the first that is there and may be run.

    Where none is, the first file of that name: starting it says what is wrong. Raises FileNotFoundError.
    """
    if b"/" in name:
        return name
    refused = b""
    for folder in env.get(b"PATH", os.fsencode(os.defpath)).split(b":"):
        path = os.path.join(folder, name)
        if os.path.isfile(path):
            if os.access(path, os.X_OK):
                return path
            refused = refused or path
    if not refused:
        raise FileNotFoundError(errno.ENOENT, "", name)
    return refused


def prctl(option: int, value: int) -> None:
    """A setting of this process."""
    libc().prctl(option, value, 0, 0, 0)


def libc(loaded: list[Any] = []) -> Any:  # noqa: B006 - the list is the memory between calls
    """The C library, loaded once, so before any fork."""
    if not loaded:
        import ctypes

        loaded.append(ctypes.CDLL(None))
    return loaded[0]


def send_signal(pids: list[int], number: int) -> None:
    """Send it to each that is still there; a stopped one must run again to hear SIGTERM."""
    for pid in pids:
        for each in (number, signal.SIGCONT) if number == signal.SIGTERM else (number,):
            try:
                os.kill(pid, each)
            except (ProcessLookupError, PermissionError):  # noqa: PERF203 - as has each process
                break


def reap_all() -> None:
    """Collect whoever has ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


def descendants(spared: dict[int, str]) -> list[int]:
    """Everyone below this process, parents first; not the spared ones (pid → birth), nor what is below those."""
    children: dict[int, list[int]] = {}
    births: dict[int, str] = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (fields := stat_of(int(name))):
            births[int(name)] = fields[19]
            children.setdefault(int(fields[1]), []).append(int(name))
    found = [os.getpid()]
    for parent in found:
        found += [pid for pid in children.get(parent, ()) if spared.get(pid) != births[pid]]
    return found[1:]


def stat_of(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the name: state, parent, … birth (19th); [] when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            data = file.read(4096)
    except OSError:
        return []
    return data[data.rindex(b")") + 2 :].decode("ascii").split()


def birth_of(pid: int) -> str:
    """When the process was born, in the kernel's ticks: with the pid, a name that is never used twice."""
    fields = stat_of(pid)
    return fields[19] if fields else ""


def name_of(pid: int, limit: int = NAME_LIMIT) -> str:
    """The command line of a process, cut; "process PID" when there is none to be seen."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb", buffering=0) as file:
            data = file.read(limit)
    except OSError:
        data = b""
    return data.replace(b"\0", b" ").decode("utf-8", "replace").strip() or f"process {pid}"


def group_of(leader: int) -> list[int]:
    """The tool's process group as one address for `kill`, or nothing when it is empty."""
    if not leader:
        return []
    try:
        os.killpg(leader, 0)
    except (ProcessLookupError, PermissionError):
        return []
    return [-leader]


if __name__ == "__main__":
    main()
