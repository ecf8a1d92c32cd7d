"""What strace writes, line by line, as accesses to files. Knows strace's language; no repository and no step.

Lines come as `PID call(arguments) = result`. File descriptors and the working folder stand with their paths (`-y`), so
only calls without a folder of their own (`rename`, `stat` of older C libraries) need to know where a process stands:
that is followed through fork, chdir and threads that share it. Of a trace of any length only the living processes and
the calls that have not returned are kept.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum
from typing import Protocol


class How(Enum):
    """What was done to a path."""

    READ = "read"
    WRITE = "write"
    """Opened for writing as it was; both, where it was opened for reading too."""
    MAKE = "make"
    """Made, unless it was there."""
    REMOVE = "remove"
    FOLDER = "folder"
    """A folder was made."""
    SEEN = "seen"
    """Only its being there was asked for."""
    MISSING = "missing"
    """It was looked for and is not there."""
    LISTED = "listed"
    """The names in a folder were read."""


class Sink(Protocol):
    """Takes what is found."""

    def access(self, how: How, path: bytes, real: bytes) -> None:
        """`path`: absolute, as it was asked for; `real`: where it led, b"" where strace can't tell."""

    def moved(self, old: bytes, new: bytes) -> None:
        """A rename, of a file or of a folder with all in it."""

    def ran(self, path: bytes) -> None:
        """A program was started."""

    def obstacle(self, why: str, *, hinders: bool = False) -> None:
        """What keeps the trace from being whole ("" = nothing); `hinders`: the tool may have failed because of us."""


FILE_CALLS = (
    "open,openat,?openat2,creat,execve,?execveat,rename,renameat,?renameat2,link,linkat,symlink,symlinkat,unlink,"
    "unlinkat,mkdir,mkdirat,truncate,chmod,fchmod,fchmodat,?fchmodat2,getdents,getdents64,chdir,fchdir,clone,?clone3,"
    "fork,vfork"
)
LOOKS = "readlink,readlinkat,stat,lstat,newfstatat,?statx,access,faccessat,?faccessat2"
"""Calls that only ask whether a file is there: most of all calls, and no finding comes of them."""
OTHER_CALLS = "connect,bind,getsockname,io_uring_setup,unshare,setns,chroot,pivot_root,mount,ptrace,open_by_handle_at"
CALLS = f"{FILE_CALLS},{OTHER_CALLS}"
"""What strace is asked to show; a leading ? = where the system knows it."""
DECODED = "openat2,clone3,connect,bind,getsockname"
"""Whose structures are shown."""

_QUOTED = rb'"((?:[^"\\]|\\.)*)"(?:\.\.\.)?'
_HELD = rb"<((?:[^>\\]|\\.)*)>(?:\(deleted\))?"
_AT = rb"(AT_FDCWD|-?\d+)(?:" + _HELD + rb")?"
_RESULT = rb"\) += (-?\d+|\?)(?:" + _HELD + rb")?(?: (E[A-Z0-9]+))?(?: .*)?\Z"
_ONE = re.compile(rb"\w+\(" + _QUOTED + rb"([^)]*|.*?)" + _RESULT)
_ONE_AT = re.compile(rb"\w+\(" + _AT + rb", " + _QUOTED + rb"([^)]*|.*?)" + _RESULT)
_TWO = re.compile(rb"\w+\(" + _QUOTED + rb", " + _QUOTED + rb"(.*?)" + _RESULT)
_TWO_AT = re.compile(rb"\w+\(" + _AT + rb", " + _QUOTED + rb", " + _AT + rb", " + _QUOTED + rb"(.*?)" + _RESULT)
_LINK_AT = re.compile(rb"\w+\(" + _QUOTED + rb", " + _AT + rb", " + _QUOTED + rb"(.*?)" + _RESULT)
_HANDLE = re.compile(rb"\w+\((-?\d+)(?:" + _HELD + rb")?(.*?)" + _RESULT)
_PLAIN = re.compile(rb"\w+\((.*?)" + _RESULT)
_NO_PATH = re.compile(rb"\w+\((?:" + _AT + rb", )?(?:NULL|0x[0-9a-f]+|\"[^\"]*\", NULL)")
_ESCAPED = re.compile(rb"\\([0-7]{1,3}|.)", re.DOTALL)
_LETTERS = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"v": b"\v", b"f": b"\f", b"a": b"\a", b"b": b"\b"}
_UNFINISHED, _RESUMED = b" <unfinished ...>", b" resumed>"
_PID_CHANGED = re.compile(rb" <pid changed to (\d+) \.\.\.>\Z")
_SUPERSEDED = re.compile(rb"\+\+\+ superseded by execve in pid (\d+) \+\+\+")
_ADDRESS = re.compile(rb'sun_path=(@?"[^"]*")|port=htons\((\d+)\).*"(127\.[0-9.]+|::1|::ffff:127\.[0-9.]+)"')
_HARMLESS = re.compile(rb'"(?:/var)?/run/(?:nscd|systemd)/|"/dev/log"')
"""Name services and the system's log: they read no file of a repository for us."""
_NEW_VIEW = (b"CLONE_NEWNS", b"CLONE_NEWUSER", b"CLONE_NEWPID", b"CLONE_UNTRACED")
_FORKS = (b"clone(", b"clone3(", b"fork(", b"vfork(")
_GONE = (b"ENOENT", b"ENOTDIR")
DNS = 53
WAITING = 20_000
"""Lines at most that are kept for processes whose parent is not known yet."""

Cell = list[bytes]
"""The working folder of a process, or of several that share it; empty = not known."""


class Lines:
    """Takes a trace in pieces, gives its accesses to a sink.

    Args:
        folder: where the tool starts, absolute.
        named: loopback ports that the tool was told of in its environment: proxies, registries.
        roots: only paths that hold one of these are looked at closer; b"" for all.
    """

    def __init__(self, sink: Sink, folder: bytes, named: frozenset[int], roots: tuple[bytes, ...]) -> None:
        self._sink = sink
        self._folder = folder
        self._roots = roots
        self._rest = b""
        self._cells: dict[bytes, Cell] = {}
        self._calling: dict[bytes, bytes] = {}
        """The call that a process has begun and that has not returned."""
        self._orphans: dict[bytes, list[bytes]] = {}
        self._waiting = 0
        self._own: set[bytes] = {str(port).encode() for port in (*named, 0, DNS)}
        """Addresses that need no tracing: named ones, and those that the tool itself listens at."""
        self._announced: set[bytes] = set()
        """Processes that their parent's call gave back, still living."""
        self._ended_early: set[bytes] = set()
        """Processes that had ended by the time their parent heard of them."""
        self._started = False
        self.first = True
        self.count = 0
        self.unreadable = b""
        """A line that was not understood, if there was one."""

    def feed(self, data: bytes) -> None:
        """Take the next piece."""
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        self.count += len(lines)
        for line in lines:
            pid, _, text = line.partition(b" ")
            self._line(pid, text.lstrip(b" "))

    def close(self) -> None:
        """The trace is over: whoever has not ended by now was not seen to the end."""
        if self.first:
            self._sink.obstacle("strace showed nothing of it", hinders=True)
        elif self._cells or self._orphans or self._rest:
            self._sink.obstacle("the trace ends before its processes do")
        if self.unreadable:
            self._sink.obstacle(f"a line of the trace was not understood: {self.unreadable[:200]!r}")

    # Lines

    def _line(self, pid: bytes, text: bytes) -> None:
        if pid not in self._cells and not self._adopt(pid, text):
            return
        if text[:1] == b"+":
            self._ended(pid, text)
            return
        if text[:1] == b"-":  # a signal
            return
        if text.startswith(b"<... "):
            begun = self._calling.pop(pid, b"")
            text = begun + text[text.find(_RESUMED) + len(_RESUMED) :]
            if not begun:
                return
        elif text.endswith(_UNFINISHED):
            self._calling[pid] = text[: -len(_UNFINISHED)]
            return
        elif text.endswith(b" ...>") and (changed := _PID_CHANGED.search(text)):
            self._calling[changed[1]] = text[: changed.start()]
            return
        self._call(pid, text)

    def _call(self, pid: bytes, text: bytes) -> None:
        name = text[: text.find(b"(")]
        call = _READING.get(name)
        if call is not None:
            pattern, act = call
            if self._is_outside(pattern, len(name) + 1, text):
                return
        elif (call := _OTHERS.get(name)) is not None:
            pattern, act = call
            if name in _CHANGES and text.endswith(b")"):
                return  # the name of an error: nothing was changed
        else:
            if not text.startswith(b"exit"):
                self._puzzle(text)
            return
        found = pattern.match(text)
        if found is not None:
            act(self, pid, name, found)
        elif not _NO_PATH.match(text):
            self._puzzle(text)

    def _is_outside(self, pattern: re.Pattern[bytes], begin: int, text: bytes) -> bool:
        """Whether a call that only reads has to do with no root. True of most: libraries, the tool itself."""
        if pattern is _ONE:
            if not text.startswith(b'"/', begin):
                return False
        elif pattern is _ONE_AT and (named := text.find(b'>, "/', begin)) > 0:
            begin = named  # where the process stands is of no matter to a path from the top
        for root in self._roots:  # noqa: SIM110 - the innermost loop: a generator would cost more than all the rest
            if text.find(root, begin) >= 0:
                return False
        return True

    def _puzzle(self, text: bytes) -> None:
        self.unreadable = self.unreadable or text or b"?"

    # Processes

    def _adopt(self, pid: bytes, text: bytes) -> bool:
        """A process that was not heard of: where does it stand? False = its lines wait until its parent is known."""
        if self.first:
            self.first = False
            self._cells[pid] = [self._folder]
            self._announced.add(pid)
            if not text.startswith(b"execve("):
                self._sink.obstacle("the trace has no beginning")
            return True
        if pid in self._orphans:
            self._wait(pid, text)
            return False
        # A child may be heard before its parent hears of it: the parent is one of those that are forking.
        parents = [p for p, call in self._calling.items() if call.startswith(_FORKS) and p in self._cells]
        folders = {tuple(self._cells[parent]) for parent in parents}
        if len(folders) == 1:
            self._cells[pid] = list(folders.pop())
            return True
        self._orphans[pid] = []
        self._wait(pid, text)
        return False

    def _wait(self, pid: bytes, text: bytes) -> None:
        self._waiting += 1
        if self._waiting > WAITING:
            self._sink.obstacle("processes whose parent was not seen")
            self._cells[pid] = []
            self._orphans.pop(pid)
        else:
            self._orphans[pid].append(text)

    def _forked(self, pid: bytes, name: bytes, found: re.Match[bytes]) -> None:
        flags, child = found[1], found[2]
        if any(flag in flags for flag in _NEW_VIEW) and child[:1] != b"-":
            self._sink.obstacle(f"{name.decode()} with a view of the files of its own")
        if child[:1] in (b"-", b"?"):
            return
        if child in self._ended_early:
            self._ended_early.discard(child)
            return
        self._announced.add(child)
        cell = self._cells[pid]
        if b"CLONE_FS" in flags:
            self._cells[child] = cell
        elif child not in self._cells:
            self._cells[child] = list(cell)
        for line in self._orphans.pop(child, ()):
            self._waiting -= 1
            self._line(child, line)

    def _ended(self, pid: bytes, text: bytes) -> None:
        if took_over := _SUPERSEDED.match(text):
            # A thread that starts a program becomes its process.
            cell = self._cells.pop(took_over[1], None)
            self._announced.discard(took_over[1])
            if cell is not None:
                self._cells[pid] = cell
            return
        if pid in self._announced:
            self._announced.discard(pid)
        else:
            self._ended_early.add(pid)
        self._cells.pop(pid, None)
        self._calling.pop(pid, None)

    # Paths

    def _path(self, pid: bytes, handle: bytes, folder: bytes | None, text: bytes) -> bytes | None:
        """The absolute path that a folder and a name mean; None where it can't be told."""
        name = unescape(text)
        if handle == b"AT_FDCWD" and folder is not None:
            self._cells[pid][:] = [unescape(folder)]
        if name[:1] == b"/":
            return name
        if handle and folder is not None:
            base = unescape(folder)
        elif handle in (b"", b"AT_FDCWD") and self._cells[pid]:
            base = self._cells[pid][0]
        else:
            self._sink.obstacle("a path whose folder strace did not show (strace 5.17 or newer shows it)")
            return None
        return base + b"/" + name if name else base

    # Calls

    def _open(self, name: bytes, path: bytes | None, flags: bytes, found: re.Match[bytes]) -> None:
        result, real, error = found.groups()[-3:]
        if path is None or result == b"?":
            return
        if error is not None:
            if error in _GONE and b"O_CREAT" not in flags and name != b"creat":
                self._sink.access(How.MISSING, path, b"")
            return
        # What has no name any more is nobody's input.
        where = b"" if found[0].endswith(b">(deleted)") else unescape(real or b"")
        if b"O_PATH" in flags:
            self._sink.access(How.SEEN, path, where)
        elif name == b"creat" or (b"O_CREAT" in flags and b"O_RDONLY" not in flags):
            self._sink.access(How.MAKE, path, where)
        elif b"O_TMPFILE" in flags:
            return
        elif b"O_WRONLY" in flags or b"O_RDWR" in flags:
            if b"O_RDWR" in flags and b"O_TRUNC" not in flags:
                self._sink.access(How.READ, path, where)
            self._sink.access(How.WRITE, path, where)
        elif b"O_DIRECTORY" not in flags:
            self._sink.access(How.READ, path, where)

    def _open_one(self, pid: bytes, name: bytes, found: re.Match[bytes]) -> None:
        self._open(name, self._path(pid, b"", None, found[1]), found[2], found)

    def _open_at(self, pid: bytes, name: bytes, found: re.Match[bytes]) -> None:
        self._open(name, self._path(pid, found[1], found[2], found[3]), found[4], found)

    def _look_one(self, pid: bytes, _name: bytes, found: re.Match[bytes]) -> None:
        self._looked(self._path(pid, b"", None, found[1]), found)

    def _look_at(self, pid: bytes, name: bytes, found: re.Match[bytes]) -> None:
        # An empty name asks for what is open already. faccessat is how access is written.
        if found[3] or name == b"readlinkat":
            self._looked(self._path(pid, found[1], found[2], found[3]), found)

    def _looked(self, path: bytes | None, found: re.Match[bytes]) -> None:
        result, _, error = found.groups()[-3:]
        if path is not None and result != b"?":
            if error in _GONE:
                self._sink.access(How.MISSING, path, b"")
            elif error is None or error == b"EINVAL":  # readlink of what is no link
                self._sink.access(How.SEEN, path, b"")

    def _changed(self, how: How, path: bytes | None, found: re.Match[bytes]) -> None:
        result, _, error = found.groups()[-3:]
        if path is not None and error is None and result != b"?":
            self._sink.access(how, path, b"")

    def _change_one(self, pid: bytes, name: bytes, found: re.Match[bytes]) -> None:
        self._changed(_CHANGES[name], self._path(pid, b"", None, found[1]), found)

    def _change_at(self, pid: bytes, name: bytes, found: re.Match[bytes]) -> None:
        if b"AT_REMOVEDIR" not in found[4]:
            self._changed(_CHANGES[name], self._path(pid, found[1], found[2], found[3]), found)

    def _change_held(self, _pid: bytes, _name: bytes, found: re.Match[bytes]) -> None:
        if found[2] is not None:
            self._changed(How.WRITE, unescape(found[2]), found)

    def _list(self, _pid: bytes, _name: bytes, found: re.Match[bytes]) -> None:
        if found[2] is not None and found[4] not in (b"0", b"?"):
            self._sink.access(How.LISTED, unescape(found[2]), b"")

    def _two(self, name: bytes, old: bytes | None, new: bytes | None, found: re.Match[bytes]) -> None:
        result, _, error = found.groups()[-3:]
        if old is None or new is None or error is not None or result == b"?":
            return
        if not name.startswith(b"rename"):
            self._sink.access(How.READ, old, b"")
            self._sink.access(How.MAKE, new, b"")
        elif b"RENAME_EXCHANGE" in found.groups()[-4]:
            self._sink.access(How.WRITE, old, b"")
            self._sink.access(How.WRITE, new, b"")
        else:
            self._sink.moved(old, new)

    def _two_paths(self, pid: bytes, name: bytes, found: re.Match[bytes]) -> None:
        self._two(name, self._path(pid, b"", None, found[1]), self._path(pid, b"", None, found[2]), found)

    def _two_at(self, pid: bytes, name: bytes, found: re.Match[bytes]) -> None:
        old = self._path(pid, found[1], found[2], found[3])
        self._two(name, old, self._path(pid, found[4], found[5], found[6]), found)

    def _symlink(self, pid: bytes, _name: bytes, found: re.Match[bytes]) -> None:
        self._changed(How.MAKE, self._path(pid, b"", None, found[2]), found)

    def _symlink_at(self, pid: bytes, _name: bytes, found: re.Match[bytes]) -> None:
        self._changed(How.MAKE, self._path(pid, found[2], found[3], found[4]), found)

    def _exec(self, path: bytes | None, found: re.Match[bytes]) -> None:
        error = found.groups()[-1]
        if path is not None and error is None:
            self._sink.access(How.READ, path, b"")
            self._sink.ran(path)
        elif path is not None and error in _GONE:
            self._sink.access(How.MISSING, path, b"")
        if error is not None and not self._started:
            self._sink.obstacle("it could not be started", hinders=True)
        self._started = True

    def _exec_one(self, pid: bytes, _name: bytes, found: re.Match[bytes]) -> None:
        self._exec(self._path(pid, b"", None, found[1]), found)

    def _exec_at(self, pid: bytes, _name: bytes, found: re.Match[bytes]) -> None:
        self._exec(self._path(pid, found[1], found[2], found[3]), found)

    def _chdir(self, pid: bytes, _name: bytes, found: re.Match[bytes]) -> None:
        path = self._path(pid, b"", None, found[1])
        if path is not None and found.groups()[-1] is None:
            self._cells[pid][:] = [path]

    def _fchdir(self, pid: bytes, _name: bytes, found: re.Match[bytes]) -> None:
        if found[2] is not None and found.groups()[-1] is None:
            self._cells[pid][:] = [unescape(found[2])]

    def _bound(self, _pid: bytes, _name: bytes, found: re.Match[bytes]) -> None:
        if at := _ADDRESS.search(found[1]):
            self._own.add(at[1] or at[2])
        elif (port := re.search(rb"port=htons\((\d+)\)", found[1])) is not None:
            self._own.add(port[1])

    def _connected(self, _pid: bytes, _name: bytes, found: re.Match[bytes]) -> None:
        at = _ADDRESS.search(found[1])
        if at is None or found.groups()[-1] not in (None, b"EINPROGRESS", b"EISCONN"):
            return
        if (at[1] or at[2]) not in self._own and not _HARMLESS.search(at[0]):
            where = at[1].decode("utf-8", "replace").replace('"', "") if at[1] else f"port {at[2].decode()}"
            self._sink.obstacle(f"it talked to another program of this machine ({where}), which is not traced")

    def _apart(self, _pid: bytes, name: bytes, found: re.Match[bytes]) -> None:
        error = found.groups()[-1]
        if error is None and (name != b"unshare" or any(flag in found[1] for flag in _NEW_VIEW)):
            self._sink.obstacle(f"{name.decode()}: it made a view of the files of its own")

    def _refused(self, _pid: bytes, name: bytes, _found: re.Match[bytes]) -> None:
        self._sink.obstacle(f"{name.decode()} is refused while tracing", hinders=True)

    def _ring(self, _pid: bytes, _name: bytes, _found: re.Match[bytes]) -> None:
        self._sink.obstacle("", hinders=True)


def unescape(text: bytes) -> bytes:
    """The bytes that strace wrote with backslashes."""
    if b"\\" not in text:
        return text
    return _ESCAPED.sub(_plain_byte, text)


def _plain_byte(found: re.Match[bytes]) -> bytes:
    code = found[1]
    return bytes([int(code, 8) & 0xFF]) if code.isdigit() else _LETTERS.get(code, code)


_Call = tuple[re.Pattern[bytes], Callable[[Lines, bytes, bytes, re.Match[bytes]], None]]

# Lines' own methods: the table lies below the class, since it names them.
_READING: dict[bytes, _Call] = {
    **dict.fromkeys((b"open", b"creat"), (_ONE, Lines._open_one)),  # noqa: SLF001
    **dict.fromkeys((b"openat", b"openat2"), (_ONE_AT, Lines._open_at)),  # noqa: SLF001
    **dict.fromkeys((b"stat", b"lstat", b"access", b"readlink"), (_ONE, Lines._look_one)),  # noqa: SLF001
    **dict.fromkeys(
        (b"newfstatat", b"statx", b"faccessat", b"faccessat2", b"readlinkat"),
        (_ONE_AT, Lines._look_at),  # noqa: SLF001
    ),
    **dict.fromkeys((b"getdents", b"getdents64"), (_HANDLE, Lines._list)),  # noqa: SLF001
}
_CHANGES = {
    **dict.fromkeys((b"unlink", b"unlinkat"), How.REMOVE),
    **dict.fromkeys((b"mkdir", b"mkdirat"), How.FOLDER),
    **dict.fromkeys((b"truncate", b"chmod", b"fchmodat", b"fchmodat2"), How.WRITE),
}
_OTHERS: dict[bytes, _Call] = {
    **dict.fromkeys((b"unlink", b"mkdir", b"truncate", b"chmod"), (_ONE, Lines._change_one)),  # noqa: SLF001
    **dict.fromkeys((b"unlinkat", b"mkdirat", b"fchmodat", b"fchmodat2"), (_ONE_AT, Lines._change_at)),  # noqa: SLF001
    b"fchmod": (_HANDLE, Lines._change_held),  # noqa: SLF001
    **dict.fromkeys((b"rename", b"link"), (_TWO, Lines._two_paths)),  # noqa: SLF001
    **dict.fromkeys((b"renameat", b"renameat2", b"linkat"), (_TWO_AT, Lines._two_at)),  # noqa: SLF001
    b"symlink": (_TWO, Lines._symlink),  # noqa: SLF001
    b"symlinkat": (_LINK_AT, Lines._symlink_at),  # noqa: SLF001
    b"execve": (_ONE, Lines._exec_one),  # noqa: SLF001
    b"execveat": (_ONE_AT, Lines._exec_at),  # noqa: SLF001
    b"chdir": (_ONE, Lines._chdir),  # noqa: SLF001
    b"fchdir": (_HANDLE, Lines._fchdir),  # noqa: SLF001
    **dict.fromkeys((b"clone", b"clone3", b"fork", b"vfork"), (_PLAIN, Lines._forked)),  # noqa: SLF001
    **dict.fromkeys((b"bind", b"getsockname"), (_PLAIN, Lines._bound)),  # noqa: SLF001
    b"connect": (_PLAIN, Lines._connected),  # noqa: SLF001
    **dict.fromkeys(
        (b"unshare", b"setns", b"chroot", b"pivot_root", b"mount", b"open_by_handle_at"),
        (_PLAIN, Lines._apart),  # noqa: SLF001
    ),
    b"ptrace": (_PLAIN, Lines._refused),  # noqa: SLF001
    b"io_uring_setup": (_PLAIN, Lines._ring),  # noqa: SLF001
}
