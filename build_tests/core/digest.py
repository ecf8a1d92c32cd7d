"""What lies in a file, as a digest, read only when its stat says that it may have changed.

Knows nothing of steps, globs or the state file: `FileTable.export()` gives plain rows, someone else keeps them.

The short cut is git's: a file whose size, times, inode and mode are those of the last time is not read again. The times
come from a clock with coarse ticks, so a file written just before *and* just after it was read may show the same time
twice. A row is therefore trusted later only if the file was already older than `SLACK_NS` when it was read; a younger
one (or one from the future) is read again.
"""

from __future__ import annotations

import errno
import os
import stat as st
import time
from collections.abc import Iterable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from build_tests.core.errors import UnreadableError

__all__ = ["SLACK_NS", "FileState", "FileTable", "Memo", "Stat", "UnreadableError", "digest_of", "settled", "stat_of"]

SLACK_NS = 20_000_000
"""Nanoseconds. Kernels stamp files at ticks of 1 to 10 ms; twice the coarsest."""
CHUNK = 1 << 20
"""Bytes held while hashing."""
SMALL = 1 << 16
"""Bytes. Opening and reading such a file takes longer than hashing it twice."""
ATTEMPTS = 3
"""How often a file that changes while it is read is read again."""
_KINDS = {st.S_IFIFO: "a fifo", st.S_IFSOCK: "a socket", st.S_IFCHR: "a device", st.S_IFBLK: "a device"}

T = TypeVar("T")
Row = list[Any]
"""Path, the five fields of Stat, 1 if trusted, mode, digest."""


class Stat(NamedTuple):
    """What betrays a change. Times in nanoseconds, size in bytes; `mode` is the whole st_mode."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    mode: int


class FileState(NamedTuple):
    """What a step can see of a file.

    `mode` is f(ile), x (an executable file), l(ink: the digest of its text) or d (a folder: no digest).
    """

    mode: str
    digest: str


def stat_of(path: str) -> Stat | None:
    """The stat of a path itself, not of what it links to. None = absent. Raises OSError for anything else."""
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return Stat(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_mode)


def settled(stat: Stat, read_ns: int) -> bool:
    """Whether an edit after `read_ns` (time.time_ns) must show in the stat: what was read can be trusted later."""
    return max(stat.mtime_ns, stat.ctime_ns) < read_ns - SLACK_NS


def digest_of(data: bytes) -> str:
    """xxh3_128 in hex: for local change only, never a name in a shared store."""
    import xxhash

    return xxhash.xxh3_128_hexdigest(data)


class Memo(Generic[T]):
    """What was seen in this run, by path. Forgetting a whole folder costs no search."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[T, int]] = {}
        self._forgotten: dict[str, int] = {}
        self._now = 0

    def get(self, path: str) -> tuple[T, int] | None:
        """The value with the moment it was put, or None if there is none or it was forgotten since."""
        found = self._seen.get(path)
        if found is not None and found[1] != self._now and self._stale(path, found[1]):
            return None
        return found

    def put(self, path: str, value: T) -> None:
        """Remember."""
        self._seen[path] = (value, self._now)

    def forget(self, path: str) -> None:
        """One path."""
        self._seen.pop(path, None)

    def forget_under(self, folder: str) -> None:
        """A path and everything below it; "" = everything."""
        if not folder:
            self._seen.clear()
            return
        self._now += 1
        self._forgotten[folder] = self._now

    def _stale(self, path: str, moment: int) -> bool:
        end = len(path)
        while end > 0:
            if self._forgotten.get(path[:end], 0) > moment:
                return True
            end = path.rfind("/", 0, end)
        return False


class _Seen:
    """A file in this run: its stat, and once someone asked for it, its state."""

    __slots__ = ("stat", "state")

    def __init__(self, stat: Stat | None) -> None:
        self.stat = stat
        self.state: FileState | None = None


class FileTable:
    """The states of files below a root, each path stat'ed at most once until it is forgotten.

    Args:
        root: absolute.
        known: what `export` gave in an earlier run. Rows that are no rows are dropped.
        trust: take the stat short cut. Without it every file is read once in this run, whatever is known.
        shared: take the SHA-256 of each small file that is read as well, for `sha256`.
    """

    def __init__(
        self, root: str, known: Iterable[Row] | None = None, *, trust: bool = True, shared: bool = False
    ) -> None:
        self._base = root.rstrip("/") + "/"
        self._rows: dict[str, Row] = {row[0]: row for row in known or () if isinstance(row, list) and len(row) == 9}  # noqa: PLR2004
        self._memo: Memo[_Seen] = Memo()
        self._trust = trust
        self._read_now: set[str] = set()
        self._same: set[str] = set()
        self._shared: dict[str, tuple[str, str]] | None = {} if shared else None
        self.dirty = False
        """Whether anything differs from what was known."""
        self.stats = 0
        self.hashes = 0
        self.bytes_hashed = 0

    @property
    def trust(self) -> bool:
        """Whether what an earlier run knew may spare reading."""
        return self._trust

    def stat(self, path: str) -> Stat | None:
        """The stat of a path, None = absent. Raises UnreadableError."""
        return self._see(path).stat

    def lookup(self, path: str) -> FileState | None:
        """The state of a path, None = absent.

        Raises:
            UnreadableError: it can't be read, or is a fifo, socket or device (those are never opened).
        """
        seen = self._see(path)
        if seen.stat is not None and seen.state is None:
            seen.state = self._remembered(path, seen.stat) or self._read(path, seen)
        if seen.stat is None and self._rows.pop(path, None) is not None:
            self.dirty = True
        return seen.state

    def same(self, states: Iterable[Sequence[str]]) -> bool:
        """Whether every (path, mode, digest) still holds, as far as stats tell; False = look closer.

        The short way through `lookup` for thousands of files that nobody has touched.
        """
        rows, seen, lstat = self._rows, self._same, os.lstat
        for path, mode, digest in states:
            row = rows.get(path)
            if row is None or not row[6] or row[8] != digest or row[7] != mode or not self._trust:
                return False
            if path in seen:
                continue
            self.stats += 1
            try:
                now = lstat(self._base + path)
            except OSError:
                return False
            if (
                now.st_mtime_ns != row[2] or now.st_size != row[1] or now.st_ctime_ns != row[3]
                or now.st_ino != row[4] or now.st_mode != row[5]
            ):  # fmt: skip
                return False
            seen.add(path)
        return True

    def require(self, path: str) -> FileState:
        """The state of a path that was just seen. Raises UnreadableError also when it is gone."""
        state = self.lookup(path)
        if state is None:
            raise UnreadableError(path, "it was there a moment ago and is gone")
        return state

    def sha256(self, path: str, digest: str) -> str | None:
        """SHA-256, in hex, of the content in which this digest was seen; None = not known from one read of both."""
        seen, sha = (self._shared or {}).get(path, ("", ""))
        return sha if seen == digest else None

    def settled(self, path: str) -> bool:
        """Whether a later edit of a path that was looked up must show in its stat."""
        row = self._rows.get(path)
        return row is not None and bool(row[6])

    def recheck(self, path: str, state: FileState | None) -> bool:
        """Whether a path is still what it was, by a fresh stat; read again only where the stat can't tell."""
        self.forget((path,))
        try:
            return self.lookup(path) == state
        except UnreadableError:
            return False

    def forget(self, paths: Iterable[str]) -> None:
        """These paths may have changed since they were seen."""
        self._same.clear()
        for path in paths:
            self._memo.forget(path)

    def forget_under(self, prefix: str) -> None:
        """This path and all below it may have changed; "" = everything."""
        self._same.clear()
        self._memo.forget_under(prefix.rstrip("/"))

    def entries(self, paths: Iterable[str]) -> list[Row]:
        """The rows of these paths, for another process's table."""
        return [row for path in paths if (row := self._rows.get(path)) is not None]

    def settle(self, limit: int = 1 << 24) -> None:
        """Read again what was read too soon after it was written, now that its times can be trusted.

        Without this the next run would have to. Files above `limit` bytes are left to it.
        """
        young = [row for row in self._rows.values() if not row[6] and row[1] <= limit and row[0] in self._read_now]
        wait_ns = max((max(row[2], row[3]) for row in young), default=0) + SLACK_NS + 1_000_000 - time.time_ns()
        if 0 < wait_ns <= 2 * SLACK_NS:
            time.sleep(wait_ns / 1e9)
        for row in young:
            self._memo.forget(row[0])
            self.lookup(row[0])

    def export(self, *, prune: bool = False) -> list[Row]:
        """All known rows, as plain lists of text and numbers. `prune` drops those of files that are gone."""
        if prune:
            for path in [path for path in self._rows if self._memo.get(path) is None]:
                self.lookup(path) if self.stat(path) is None else None
        return list(self._rows.values())

    def _see(self, path: str) -> _Seen:
        found = self._memo.get(path)
        if found is not None:
            return found[0]
        seen = _Seen(self._lstat(path))
        self._memo.put(path, seen)
        return seen

    def _lstat(self, path: str) -> Stat | None:
        self.stats += 1
        try:
            return stat_of(self._base + path)
        except OSError as error:
            if error.errno == errno.ELOOP:  # a folder on the way is a link to itself: there is no such file
                return None
            raise UnreadableError(path, error.strerror or str(error)) from error

    def _remembered(self, path: str, stat: Stat) -> FileState | None:
        row = self._rows.get(path)
        if row is None or not row[6] or row[1:6] != [*stat]:
            return None
        return FileState(row[7], row[8]) if self._trust or path in self._read_now else None

    def _read(self, path: str, seen: _Seen) -> FileState | None:
        """Hash until the stats before and after agree, or attempts run out. Leaves the last stat in `seen`."""
        state = None
        for _ in range(ATTEMPTS):
            stat = seen.stat
            if stat is None:
                return None
            if st.S_ISDIR(stat.mode):
                return FileState("d", "")
            read_ns = time.time_ns()
            state = self._hash(path, stat)
            seen.stat = self._lstat(path)
            if state is not None and seen.stat == stat:
                self._remember(path, stat, state, trusted=settled(stat, read_ns))
                return state
        if state is None and seen.stat is not None:
            raise UnreadableError(path, "it keeps changing while it is read")
        if state is not None and seen.stat is not None:
            self._remember(path, seen.stat, state, trusted=False)
        return state if seen.stat is not None else None

    def _remember(self, path: str, stat: Stat, state: FileState, *, trusted: bool) -> None:
        row = [path, *stat, int(trusted), *state]
        if self._rows.get(path) != row:
            self._rows[path] = row
            self.dirty = True
        self._read_now.add(path)

    def _hash(self, path: str, stat: Stat) -> FileState | None:
        """None = it is no longer what the stat says."""
        if (kind := _KINDS.get(st.S_IFMT(stat.mode))) is not None:
            raise UnreadableError(path, f"it is {kind}")
        self.hashes += 1
        try:
            if st.S_ISLNK(stat.mode):
                return FileState("l", digest_of(os.fsencode(os.readlink(self._base + path))))
            digest = self._hash_file(path, stat.size)
        except OSError as error:
            # Gone, or another kind of thing by now: the stat that follows shows it.
            if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EINVAL, errno.ENXIO}:
                return None
            raise UnreadableError(path, error.strerror or str(error)) from error
        return None if digest is None else FileState("x" if stat.mode & 0o111 else "f", digest)

    def _hash_file(self, path: str, size: int) -> str | None:
        # Never through a link, never waiting for the writer of a fifo that took the file's place.
        handle = os.open(self._base + path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if not st.S_ISREG(os.fstat(handle).st_mode):
                return None
            # No further than its size: a file that grows as fast as it is read must not hold us for ever.
            return self._small(path, os.read(handle, size)) if size <= SMALL else self._large(handle, size)
        finally:
            os.close(handle)

    def _small(self, path: str, data: bytes) -> str:
        import xxhash

        digest = xxhash.xxh3_128_hexdigest(data)
        self.bytes_hashed += len(data)
        if self._shared is not None:
            import hashlib

            self._shared[path] = (digest, hashlib.sha256(data).hexdigest())
        return digest

    def _large(self, handle: int, size: int) -> str:
        import xxhash

        content = xxhash.xxh3_128()
        while size > 0 and (data := os.read(handle, min(size, CHUNK))):
            content.update(data)
            size -= len(data)
            self.bytes_hashed += len(data)
        return content.hexdigest()
