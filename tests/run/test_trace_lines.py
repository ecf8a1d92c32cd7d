"""Strace's lines, as it writes them: each kind of call, and how calls of several processes lie among each other."""

import pytest

from build_tests.run.step import StepResult
from build_tests.run.trace_build import Tracing
from build_tests.run.trace_lines import Lines, unescape


class Heard:
    """A sink that writes down what it is told."""

    def __init__(self):
        self.accesses, self.moves, self.programs, self.obstacles, self.hindered = [], [], [], [], False

    def access(self, how, path, real):
        self.accesses.append((how.value, path.decode(), real.decode()) if real else (how.value, path.decode()))

    def moved(self, old, new):
        self.moves.append((old.decode(), new.decode()))

    def ran(self, path):
        self.programs.append(path.decode())

    def obstacle(self, why, *, hinders=False):
        self.obstacles += [why] if why else []
        self.hindered = self.hindered or hinders


START = '7 execve("/bin/tool", 0x7ffc, 0x7ffd) = 0\n'
END = "7 +++ exited with 0 +++\n"


def hear(text, *, named=(), roots=(b"",), start=START, end=END, piece=1 << 20):
    sink = Heard()
    lines = Lines(sink, b"/r/c", frozenset(named), roots)
    data = (start + text + end).encode()
    for at in range(0, len(data), piece):
        lines.feed(data[at : at + piece])
    lines.close()
    return sink


def accesses(text, **options):
    sink = hear(text, **options)
    assert sink.obstacles == []
    assert sink.accesses[0] == ("read", "/bin/tool")
    return sink.accesses[1:]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('openat(AT_FDCWD</r/c>, "a", O_RDONLY|O_CLOEXEC) = 3</r/c/a>', [("read", "/r/c/a", "/r/c/a")]),
        ('openat(4</r/d>, "a", O_RDONLY) = 3</r/d/a>', [("read", "/r/d/a", "/r/d/a")]),
        ('openat(AT_FDCWD</r/c>, "/l/a", O_RDONLY) = 3</r/a>', [("read", "/l/a", "/r/a")]),
        ('openat(AT_FDCWD</r/c>, "/proc/self/fd/5", O_RDONLY) = 6</r/t>(deleted)', [("read", "/proc/self/fd/5")]),
        ('openat(AT_FDCWD</r/c>, "x y) = 1", O_RDONLY) = 3</r/c/x y) = 1>', [("read", "/r/c/x y) = 1", "/r/c/x y) = 1")]),
        ('openat(AT_FDCWD</r/c>, "d", O_RDONLY|O_DIRECTORY) = 3</r/c/d>', []),
        ('openat(AT_FDCWD</r/c>, "a", O_RDONLY|O_PATH) = 3</r/c/a>', [("seen", "/r/c/a", "/r/c/a")]),
        ('openat(AT_FDCWD</r/c>, "a", O_WRONLY|O_CREAT|O_TRUNC, 0666) = 3</r/c/a>', [("make", "/r/c/a", "/r/c/a")]),
        ('openat(AT_FDCWD</r/c>, "a", O_WRONLY|O_APPEND) = 3</r/c/a>', [("write", "/r/c/a", "/r/c/a")]),
        ('openat(AT_FDCWD</r/c>, "a", O_RDWR) = 3</r/c/a>', [("read", "/r/c/a", "/r/c/a"), ("write", "/r/c/a", "/r/c/a")]),
        ('openat(AT_FDCWD</r/c>, ".", O_RDWR|O_TMPFILE, 0600) = 3</r/c/#12>(deleted)', []),
        ('openat2(AT_FDCWD</r/c>, "a", {flags=O_RDONLY|O_CLOEXEC, mode=0, resolve=0}, 24) = 3</r/c/a>', [("read", "/r/c/a", "/r/c/a")]),
        ('open("a", O_RDONLY) = 3</r/c/a>', [("read", "/r/c/a", "/r/c/a")]),
        ('openat(AT_FDCWD</r/c>, "a", O_RDONLY) = -1 ENOENT (No such file or directory)', [("missing", "/r/c/a")]),
        ('openat(AT_FDCWD</r/c>, "a/b", O_RDONLY) = -1 ENOTDIR (Not a directory)', [("missing", "/r/c/a/b")]),
        ('openat(AT_FDCWD</r/c>, "a", O_RDONLY) = -1 EACCES (Permission denied)', []),
        ('openat(AT_FDCWD</r/c>, "a", O_WRONLY|O_CREAT, 0666) = -1 ENOENT (No such file or directory)', []),
        ('openat(AT_FDCWD</r/c>, NULL, O_RDONLY) = -1 EFAULT (Bad address)', []),
        ('openat(AT_FDCWD</r/c>, "a", O_RDONLY) = ? ERESTARTSYS (To be restarted if SA_RESTART is set)', []),
        ('newfstatat(AT_FDCWD</r/c>, "a", 0x7ffe, 0) = 0', [("seen", "/r/c/a")]),
        ('newfstatat(3</r/c/a>, "", 0x7ffe, AT_EMPTY_PATH) = 0', []),
        ('statx(AT_FDCWD</r/c>, "a", AT_STATX_SYNC_AS_STAT, STATX_ALL, 0x7ffe) = -1 ENOENT (No such file or directory)', [("missing", "/r/c/a")]),
        ('access("a", R_OK) = -1 ENOENT (No such file or directory)', [("missing", "/r/c/a")]),
        ('readlink("a", 0x7ffe, 4096) = -1 EINVAL (Invalid argument)', [("seen", "/r/c/a")]),
        ('readlinkat(AT_FDCWD</r/c>, "a", "b", 4096) = 1', [("seen", "/r/c/a")]),
        ("getdents64(3</r/c/d>, 0x55, 32768) = 72", [("listed", "/r/c/d")]),
        ("getdents64(3</r/c/d>, 0x55, 32768) = 0", []),
        ('unlink("a") = 0', [("remove", "/r/c/a")]),
        ('unlinkat(AT_FDCWD</r/c>, "d", AT_REMOVEDIR) = 0', []),
        ('mkdir("d", 0777) = 0', [("folder", "/r/c/d")]),
        ('link("a", "b") = 0', [("read", "/r/c/a"), ("make", "/r/c/b")]),
        ('symlink("a", "b") = 0', [("make", "/r/c/b")]),
        ('symlinkat("a", AT_FDCWD</r/c>, "b") = 0', [("make", "/r/c/b")]),
        ('fchmodat(AT_FDCWD</r/c>, "a", 0755) = 0', [("write", "/r/c/a")]),
        ("fchmod(3</r/c/a>, 0755) = 0", [("write", "/r/c/a")]),
        ('execve("/bin/x", 0x1, 0x2) = -1 ENOENT (No such file or directory)', [("missing", "/bin/x")]),
        ("--- SIGCHLD {si_signo=SIGCHLD, si_code=CLD_EXITED} ---", []),
    ],
)  # fmt: skip
def test_each_call(line, told):
    assert accesses(f"7 {line}\n") == told


def test_renames():
    sink = hear(
        '7 rename("a", "b") = 0\n'
        '7 renameat2(AT_FDCWD</r/c>, "b", 5</r/d>, "c", RENAME_NOREPLACE) = 0\n'
        '7 rename("c", "d") = -1 ENOENT (No such file or directory)\n'
    )
    assert sink.moves == [("/r/c/a", "/r/c/b"), ("/r/c/b", "/r/d/c")]


@pytest.mark.parametrize("piece", [1, 7, 1 << 20])
def test_calls_of_several_processes_lie_among_each_other(piece):
    told = accesses(
        '7 clone(child_stack=NULL, flags=CLONE_CHILD_SETTID|SIGCHLD <unfinished ...>\n'
        '8 chdir("d" <unfinished ...>\n'
        "7 <... clone resumed>, child_tidptr=0x7f) = 8\n"
        "8 <... chdir resumed>) = 0\n"
        '8 open("a", O_RDONLY <unfinished ...>\n'
        '7 open("a", O_RDONLY) = 3</r/c/a>\n'
        "8 <... open resumed>) = 3</r/c/d/a>\n"
        "8 +++ exited with 0 +++\n",
        piece=piece,
    )
    assert told == [("read", "/r/c/a", "/r/c/a"), ("read", "/r/c/d/a", "/r/c/d/a")]


def test_threads_share_their_folder_and_children_do_not():
    told = accesses(
        "7 clone3({flags=CLONE_VM|CLONE_FS|CLONE_THREAD} => {parent_tid=[8]}, 88) = 8\n"
        "7 vfork( <unfinished ...>\n"
        '9 chdir("/r/elsewhere") = 0\n'
        '9 execve("/bin/x", 0x1, 0x2 <unfinished ...>\n'
        "7 <... vfork resumed>) = 9\n"
        "9 <... execve resumed>) = 0\n"
        "9 +++ exited with 0 +++\n"
        '8 chdir("d") = 0\n'
        '7 stat("a", 0x7ffe) = 0\n'
        "8 +++ exited with 0 +++\n"
    )
    assert told == [("read", "/bin/x"), ("seen", "/r/c/d/a")]


def test_a_child_whose_parent_is_not_known_yet_waits_for_it():
    told = accesses(
        "7 clone3({flags=CLONE_VM|CLONE_THREAD} => {parent_tid=[8]}, 88) = 8\n"
        '8 chdir("/r/d") = 0\n'
        "7 vfork( <unfinished ...>\n8 vfork( <unfinished ...>\n"
        '9 stat("a", 0x7ffe) = 0\n9 +++ exited with 0 +++\n'
        '10 stat("b", 0x7ffe) = 0\n10 +++ exited with 0 +++\n'
        "7 <... vfork resumed>) = 10\n8 <... vfork resumed>) = 9\n"
        "8 +++ exited with 0 +++\n"
    )
    assert told == [("seen", "/r/c/b"), ("seen", "/r/d/a")]


def test_a_thread_that_starts_a_program_takes_its_process_over():
    told = accesses(
        "7 clone3({flags=CLONE_VM|CLONE_FS|CLONE_THREAD} => {parent_tid=[8]}, 88) = 8\n"
        '8 execve("/bin/cat", 0x1, 0x2 <pid changed to 7 ...>\n'
        "7 +++ superseded by execve in pid 8 +++\n"
        "7 <... execve resumed>) = -1 (errno 18446744073709551595)\n"
        '7 open("a", O_RDONLY) = 3</r/c/a>\n'
    )
    assert told == [("read", "/bin/cat"), ("read", "/r/c/a", "/r/c/a")]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('7 openat(AT_FDCWD</r/c>, "a"\n', "not understood"),
        ('7 stat("a", 0x7ffe\n', "not understood"),
        ("7 unheard_of(1) = 0\n", "not understood"),
        ('7 openat(AT_FDCWD, "a", O_RDONLY) = -1 ENOENT (No such file)\n7 openat(5, "a", O_RDONLY) = 3</r/c/a>\n', "folder"),
        ("7 clone(child_stack=NULL, flags=SIGCHLD) = 8\n", "ends before"),
        ('9 stat("a", 0x7ffe) = 0\n', "ends before"),
        ("7 unshare(CLONE_NEWNS) = 0\n", "view of the files of its own"),
        ("7 clone(child_stack=NULL, flags=CLONE_NEWUSER|SIGCHLD) = 8\n8 +++ exited with 0 +++\n", "view of the files of its own"),
        ('7 chroot("/x") = 0\n', "view of the files of its own"),
        ("7 ptrace(PTRACE_TRACEME) = -1 EPERM (Operation not permitted)\n", "refused"),
        ('7 connect(3<socket:[1]>, {sa_family=AF_UNIX, sun_path="/run/docker.sock"}, 23) = 0\n', "/run/docker.sock"),
        ('7 connect(3<socket:[1]>, {sa_family=AF_INET, sin_port=htons(80), sin_addr=inet_addr("127.0.0.1")}, 16) = 0\n', "port 80"),
    ],
)  # fmt: skip
def test_what_makes_a_trace_incomplete(text, why):
    sink = hear(text)
    assert any(why in obstacle for obstacle in sink.obstacles), sink.obstacles


@pytest.mark.parametrize(
    "text",
    [
        '7 connect(3<socket:[1]>, {sa_family=AF_UNIX, sun_path="/run/docker.sock"}, 23) = -1 ENOENT (No such file)\n',
        '7 connect(3<socket:[1]>, {sa_family=AF_UNIX, sun_path="/var/run/nscd/socket"}, 110) = 0\n',
        '7 connect(3<socket:[1]>, {sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("127.0.0.53")}, 16) = 0\n',
        '7 connect(3<socket:[1]>, {sa_family=AF_INET, sin_port=htons(443), sin_addr=inet_addr("10.1.2.3")}, 16) = 0\n',
        '7 connect(3<socket:[1]>, {sa_family=AF_INET, sin_port=htons(3128), sin_addr=inet_addr("127.0.0.1")}, 16) = 0\n',
        (
            '7 bind(4<socket:[2]>, {sa_family=AF_UNIX, sun_path=@"own"}, 6) = 0\n'
            '7 connect(3<socket:[1]>, {sa_family=AF_UNIX, sun_path=@"own"}, 6) = 0\n'
        ),
        (
            '7 getsockname(4<socket:[2]>, {sa_family=AF_INET6, sin6_port=htons(4000), inet_pton(AF_INET6, "::", &sin6_addr)}, [28]) = 0\n'
            '7 connect(3<socket:[1]>, {sa_family=AF_INET, sin_port=htons(4000), sin_addr=inet_addr("127.0.0.1")}, 16) = 0\n'
        ),
        "7 unshare(CLONE_FILES) = 0\n",
        "7 clone(child_stack=NULL, flags=CLONE_NEWUSER|SIGCHLD) = -1 EPERM (Operation not permitted)\n",
    ],
)  # fmt: skip
def test_what_does_not(text):
    assert hear(text, named=[3128]).obstacles == []


def test_a_trace_without_end_or_beginning_is_told():
    assert hear("", end="").obstacles == ["the trace ends before its processes do"]
    assert hear("", start="", end="").obstacles == ["strace showed nothing of it"]
    assert hear("", start='7 stat("a", 0x1) = 0\n').obstacles == ["the trace has no beginning"]


def test_what_fails_at_its_start_was_hindered():
    assert hear("", start='7 execve("/bin/tool", 0x1, 0x2) = -1 ENOEXEC (Exec format error)\n').hindered
    assert not hear("").hindered


def test_names_of_any_bytes():
    assert unescape(rb"d\0741\76/\377\376\"\n\\") == b'd<1>/\xff\xfe"\n\\'


def test_only_what_holds_the_root_is_looked_at():
    """Most lines of most traces; a line about elsewhere is not even taken apart."""
    text = '7 openat(AT_FDCWD</x>, "/usr/lib/a"?!\n7 openat(AT_FDCWD</r/c>, "a", O_RDONLY) = 3</r/c/a>\n'
    assert accesses(text, roots=(b"/r",)) == [("read", "/r/c/a", "/r/c/a")]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        # Not because the process stands in the root.
        ('openat(AT_FDCWD</r/c>, "/usr/lib/a"?!', []),
        ('statx(AT_FDCWD</r/c>, "/usr/lib/a"?!', []),
        ('stat("/usr/lib/a"?!', []),
        ('openat(AT_FDCWD</r/c>, "/l/a", O_RDONLY) = 3</r/a>', [("read", "/l/a", "/r/a")]),
        ('openat(4</usr>, "../r/a", O_RDONLY) = 3</r/a>', [("read", "/usr/../r/a", "/r/a")]),
        ('newfstatat(4</r/x>, "a>, \\"/b", 0x7ffe, 0) = 0', [("seen", '/r/x/a>, "/b')]),
        ('stat("a", 0x7ffe) = 0', [("seen", "/r/c/a")]),
        # What only tried to change something and failed.
        ('mkdir("/r/c/d", 0777) = -1 EEXIST (File exists)', []),
        ('unlinkat(AT_FDCWD</r/c>, "a", 0) = -1 ENOENT (No such file or directory)', []),
    ],
)
def test_lines_about_elsewhere_from_a_tool_that_stands_in_the_root(line, told):
    assert accesses(f"7 {line}\n", roots=(b"/r",)) == told


def test_memory_does_not_grow_with_the_trace():
    import tracemalloc

    sink = Heard()
    sink.access = lambda *_: None
    lines = Lines(sink, b"/r/c", frozenset(), (b"/r",))
    lines.feed(START.encode())
    piece = "".join(
        f'7 vfork() = {pid}\n{pid} open("f{pid}", O_RDONLY) = 3</r/c/f{pid}>\n{pid} +++ exited with 0 +++\n'
        for pid in range(100, 1100)
    ).encode()
    lines.feed(piece)
    tracemalloc.start()
    try:
        for _ in range(20):
            lines.feed(piece)
        assert tracemalloc.get_traced_memory()[0] < 100_000
    finally:
        tracemalloc.stop()




def test_what_a_dead_worker_or_an_earlier_attempt_wrote_nobody_has_seen():
    def traced(*results):
        tracing = Tracing(None, None, {}, asked=True, strict=True)
        for result in results:
            tracing.judge("a:b", None, result)
        return tracing.whole

    clean = StepResult(ok=True, trace={})
    assert not traced()
    assert traced(clean, clean)
    assert not traced(clean, StepResult(ok=False, message="worker gw0 crashed"))
    assert not traced(clean, StepResult(ok=True, trace={}, attempts=2))
