"""The local store: blobs and records as files in one folder, shared by all checkouts and processes of a user.

    v1/blobs/ab/cdef…     the bytes of a file, under their SHA-256; read-only
    v1/records/ab/cdef…   SHA-256 of a record, a line feed, the record
    v1/quarantine/        what was found damaged, for who wants to look
    v1/tmp/               what is being written
    v1/added              how many bytes came since eviction last counted

No daemon, and no lock but for replacing a record. What is written gets its name when it is whole, by one rename (a
blob) or link (a record, write-once). Nothing is synced to the disk: after a power cut a file may be short or empty;
its digest shows that when it is read, and then it counts as absent. Everything that is read is verified.

A file's modification time says when it was last used; eviction goes by that. Knows neither what a record says nor when
to evict.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import itertools
import os
import re
import stat
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from build_tests.cache.copying import ReadError, copy_hashed, read, write
from build_tests.cache.model import CHUNK, Blob, CorruptError, StoreError

VERSION = "v1"
"""The folder below the store's. Another layout gets another number, and leaves this one alone."""
HOUR = 3600.0
"""Seconds. Uses closer together than this need not all be noted."""
BELIEVED = 60.0
"""Seconds. As HOUR, for a blob that someone believes present: it must not grow old before its record is written."""
REPORT = 16 << 20
"""Bytes after which a process tells the others how much it has added."""
BLOCK = 4096
"""Bytes. What a file occupies is a multiple of it; sizes are counted so, or a million small files would seem free."""
LOCK_SECONDS = 5.0
ATTEMPTS = 3
"""How often a folder that vanishes while something is written to it is made again."""

_HEX = re.compile("[0-9a-f]{64}")
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # a fifo must not make anyone wait
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
_TAG = (
    b"Signature: 8a477f597d28d172789f06886806bc55\n# A cache: what lies here can be made again (bford.info/cachedir).\n"
)


def default_folder(environ: Mapping[str, str]) -> str:
    """Where the user's store lies: below `$XDG_CACHE_HOME` (where that is absolute), else below `~/.cache`."""
    base = environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):
        base = os.path.join(environ.get("HOME") or os.path.expanduser("~"), ".cache")
    return os.path.join(base, "pytest-build")


def occupied(size: int) -> int:
    """Bytes that a file of a size takes, in whole blocks."""
    return -(-size // BLOCK) * BLOCK


class LocalStore:
    """A Store in a folder, which is made when something is first kept.

    Args:
        folder: absolute, or from the current folder.
        clock: seconds since 1970; for the times of use.
    """

    name = "local"

    def __init__(self, folder: str, *, clock: Callable[[], float] = time.time) -> None:
        self.folder = os.path.abspath(folder)
        self.base = os.path.join(self.folder, VERSION)
        self.blobs = os.path.join(self.base, "blobs")
        self.records = os.path.join(self.base, "records")
        self.quarantine = os.path.join(self.base, "quarantine")
        self.temporary = os.path.join(self.base, "tmp")
        self.added = os.path.join(self.base, "added")
        self.clock = clock
        self.quarantined = 0
        """Damaged entries that this object came upon."""
        self._token = os.urandom(6).hex()
        self._numbers = itertools.count()
        self._unreported = 0
        self._counting = threading.Lock()

    # Records

    def read_record(self, name: str) -> bytes | None:
        """As Store says. Counts as use. A damaged record is quarantined, and None."""
        path = self._path(self.records, name)
        found = self._read(path)
        if found is None:
            return None
        framed, seen = found
        record = _unframed(framed)
        if record is None:
            self._put_away(path, seen)
        else:
            self._note_use(path, seen, HOUR)
        return record

    def peek(self, name: str) -> bytes | None:
        """A record, or None where it is absent or damaged. No use, and nothing is changed. Raises StoreError."""
        found = self._read(self._path(self.records, name))
        return None if found is None else _unframed(found[0])

    def write_record(
        self,
        name: str,
        record: bytes,
        blobs: Sequence[Blob],  # noqa: ARG002 - they lie beside it
        *,
        over: bytes | None = None,
    ) -> bool:
        """As Store says."""
        path = self._path(self.records, name)
        framed = _head(record) + record

        def publish(temporary: str, path: str) -> bool:
            return self._link(temporary, path) if over is None else self._replace(temporary, path, over)

        for _ in range(2):
            if self._keep(path, lambda target: write(target, framed), publish):
                self._note_added(len(framed))
                return True
            # A damaged file is no record: reading puts it out of the way.
            if over is not None or self.read_record(name) is not None:
                return False
        return False

    def _link(self, temporary: str, path: str) -> bool:
        """Give a finished file its name if nothing has it."""
        try:
            os.link(temporary, path)
        except FileExistsError:
            os.unlink(temporary)
            return False
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            return self._rename_if_absent(temporary, path)
        os.unlink(temporary)
        return True

    def _rename_if_absent(self, temporary: str, path: str) -> bool:
        """The same where the file system has no hard links; there all do it this way."""
        with self._locked():
            absent = not os.path.lexists(path)
            if absent:
                os.rename(temporary, path)
        if not absent:
            os.unlink(temporary)
        return absent

    def _replace(self, temporary: str, path: str, over: bytes) -> bool:
        """Give a finished file the name that exactly `over` has now; where nothing has it, that will do."""
        with self._locked():
            found = self._read(path)
            same = found is not None and found[0] == _head(over) + over
            if same:
                os.rename(temporary, path)
        if same:
            return True
        return self._link(temporary, path)

    # Blobs

    def missing(self, blobs: Collection[Blob]) -> set[Blob]:
        """As Store says; one stat each. Counts as use of those that are there."""
        return {blob for blob in blobs if not self._is_there(self._path(self.blobs, blob.digest), blob.size)}

    def path_of(self, blob: Blob) -> str | None:
        """The file that holds a blob, for uploads: read-only, and gone when it is evicted. None: there is none."""
        path = self._path(self.blobs, blob.digest)
        return path if self._is_there(path, blob.size) else None

    def _is_there(self, path: str, size: int) -> bool:
        try:
            seen = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise self._error(error) from error
        # A blob that was cut short shows here already, and is stored again.
        if seen.st_size != size:
            return False
        self._note_use(path, seen, BELIEVED)
        return True

    def store(self, blob: Blob, source: str) -> None:
        """As Store says. A link as source is refused (OSError)."""
        path = self._path(self.blobs, blob.digest)
        if self._is_there(path, blob.size):
            return
        descriptor = os.open(source, _READ)
        try:
            seen = os.fstat(descriptor)
            if seen.st_size != blob.size or not stat.S_ISREG(seen.st_mode):
                raise _no_longer(blob)
            if blob.size <= CHUNK:
                self._store_small(blob, descriptor, path)
            else:
                self._store_big(blob, descriptor, path)
        except ReadError as error:
            raise OSError(error.error.errno, error.error.strerror, source) from error
        finally:
            os.close(descriptor)
        self._note_added(blob.size)

    def _store_small(self, blob: Blob, source: int, path: str) -> None:
        content = _read_all(source, blob.size)
        _compare(blob, hashlib.sha256(content).hexdigest(), len(content))
        self._keep(path, lambda target: write(target, content), _rename)

    def _store_big(self, blob: Blob, source: int, path: str) -> None:
        def fill(target: int) -> None:
            os.lseek(source, 0, os.SEEK_SET)
            _compare(blob, *copy_hashed(source, target))

        self._keep(path, fill, _rename)

    def fetch(self, blob: Blob, destination: str) -> bool:
        """As Store says. Counts as use."""
        path = self._path(self.blobs, blob.digest)
        source = self._open(path)
        if source is None:
            return False
        try:
            seen = os.fstat(source)
            if seen.st_size != blob.size or not stat.S_ISREG(seen.st_mode):
                self._judge(blob, source, seen, path)
            self._note_use(source, seen, HOUR)
            actual = self._copy_out(blob, source, destination)
            if actual != blob.digest:
                self._put_away(path, seen)
                raise CorruptError(f"{self.folder}: a blob was damaged, and put aside: {blob.digest}")
        except ReadError as error:
            raise self._error(error.error) from error
        finally:
            os.close(source)
        return True

    def _copy_out(self, blob: Blob, source: int, destination: str) -> str:
        """Write a blob to its destination if it is what it should be; the digest of what is there."""
        if blob.size <= CHUNK:
            content = _read_all(source, blob.size)
            actual = hashlib.sha256(content).hexdigest()
            if actual == blob.digest:
                _create(destination, lambda target: write(target, content))
            return actual

        def fill(target: int) -> None:
            if (actual := copy_hashed(source, target)[0]) != blob.digest:
                raise _OtherError(actual)

        try:
            _create(destination, fill)
        except _OtherError as error:
            return error.digest
        return blob.digest

    def _judge(self, blob: Blob, source: int, seen: os.stat_result, path: str) -> None:
        """The size is not what the caller says: who is wrong, it or the store? Always raises CorruptError."""
        if stat.S_ISREG(seen.st_mode) and _digest(source) == blob.digest:
            raise CorruptError(f"{self.folder}: {blob.digest} has {seen.st_size} bytes, and {blob.size} were asked for")
        self._put_away(path, seen)
        raise CorruptError(f"{self.folder}: a blob was damaged ({seen.st_size} bytes of {blob.size}), and put aside")

    def close(self) -> None:
        """Tell eviction what was added. The store can still be used."""
        with self._counting:
            size, self._unreported = self._unreported, 0
        if size:
            self._report(size)

    # Files

    def _path(self, folder: str, name: str) -> str:
        if not _HEX.fullmatch(name):
            raise ValueError(f"no SHA-256 in hex: {name!r}")
        return f"{folder}/{name[:2]}/{name[2:]}"

    def _open(self, path: str) -> int | None:
        try:
            return os.open(path, _READ)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise self._error(error) from error
        with contextlib.suppress(OSError):
            self._put_away(path, os.lstat(path))  # a link; nothing of ours makes any
        return None

    def _read(self, path: str) -> tuple[bytes, os.stat_result] | None:
        descriptor = self._open(path)
        if descriptor is None:
            return None
        try:
            seen = os.fstat(descriptor)
            return _read_all(descriptor, seen.st_size), seen
        except ReadError as error:
            if isinstance(error.error, IsADirectoryError):
                return b"", seen
            raise self._error(error.error) from error
        finally:
            os.close(descriptor)

    def _keep(self, path: str, fill: Callable[[int], None], publish: Callable[[str, str], bool]) -> bool:
        """Fill a temporary file and give it its name. Folders that are not there, or vanish meanwhile, are made."""
        for _ in range(ATTEMPTS):
            if (kept := self._try_to_keep(path, fill, publish)) is not None:
                return kept
            self._make_folders(os.path.dirname(path))
        raise StoreError(f"{self.folder}: vanishes while it is written to")

    def _try_to_keep(self, path: str, fill: Callable[[int], None], publish: Callable[[str, str], bool]) -> bool | None:
        """None = a folder is not there."""
        temporary = f"{self.temporary}/{self._unique()}"
        try:
            target = os.open(temporary, _NEW, 0o444)
            try:
                _fill_and_close(target, fill)
                return self._publish(temporary, path, publish)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)
                raise
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._error(error) from error

    def _publish(self, temporary: str, path: str, publish: Callable[[str, str], bool]) -> bool:
        try:
            return publish(temporary, path)
        except FileNotFoundError:
            # Mostly the first file of a shard: no reason to write it all again.
            with contextlib.suppress(FileExistsError):
                os.mkdir(os.path.dirname(path))
            return publish(temporary, path)

    def _unique(self) -> str:
        # The process beside the token: a fork has the same token. The token beside the process: containers that share
        # a folder have the same processes.
        return f"{os.getpid()}-{self._token}-{next(self._numbers)}"

    def _make_folders(self, shard: str) -> None:
        try:
            os.makedirs(self.base, 0o700, exist_ok=True)
            for folder in (self.temporary, shard):
                os.makedirs(folder, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                _create(os.path.join(self.folder, "CACHEDIR.TAG"), lambda target: write(target, _TAG))
        except OSError as error:
            raise self._error(error) from error

    def _put_away(self, path: str, seen: os.stat_result) -> None:
        """Quarantine what was found damaged, unless another lies there by now."""
        self.quarantined += 1
        aside = os.path.join(self.quarantine, f"{os.path.basename(path)}-{self._unique()}")
        # Where the store can't be changed, a damaged entry stays and is found damaged each time.
        with contextlib.suppress(OSError):
            if os.lstat(path).st_ino == seen.st_ino:
                os.makedirs(self.quarantine, exist_ok=True)
                os.rename(path, aside)

    def _note_use(self, file: str | int, seen: os.stat_result, interval: float) -> None:
        now = self.clock()
        # Of a time in the future (a clock was wrong) nobody could say when it is over.
        if abs(now - seen.st_mtime) > interval:
            with contextlib.suppress(OSError):
                os.utime(file, (now, now))

    def _note_added(self, size: int) -> None:
        with self._counting:
            self._unreported += occupied(size)
            if self._unreported < REPORT:
                return
        self.close()

    def _report(self, size: int) -> None:
        with contextlib.suppress(OSError):
            descriptor = os.open(self.added, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                write(descriptor, b"%d\n" % size)
            finally:
                os.close(descriptor)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Alone among those who replace records."""
        descriptor = os.open(os.path.join(self.base, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            end = time.monotonic() + LOCK_SECONDS
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError as error:
                    if time.monotonic() > end:
                        raise StoreError(f"{self.folder}: another process keeps the lock of records") from error
                    time.sleep(0.002)
            yield
        finally:
            os.close(descriptor)

    def _error(self, error: OSError) -> StoreError:
        return StoreError(f"{self.folder}: {error.strerror or error}")


class _OtherError(Exception):
    """A copy turned out to have another digest."""

    def __init__(self, digest: str) -> None:
        super().__init__(digest)
        self.digest = digest


def _digest(source: int) -> str:
    sha = hashlib.sha256()
    while piece := read(source, CHUNK):
        sha.update(piece)
    return sha.hexdigest()


def _unframed(framed: bytes) -> bytes | None:
    record = framed[65:]
    return record if framed[:65] == _head(record) else None


def _head(record: bytes) -> bytes:
    return hashlib.sha256(record).hexdigest().encode() + b"\n"


def _compare(blob: Blob, digest: str, size: int) -> None:
    if (digest, size) != (blob.digest, blob.size):
        raise _no_longer(blob)


def _no_longer(blob: Blob) -> CorruptError:
    return CorruptError(f"a file is not, or no longer, {blob.digest} of {blob.size} bytes; it was not kept")


def _rename(temporary: str, path: str) -> bool:
    os.rename(temporary, path)
    return True


def _read_all(source: int, size: int) -> bytes:
    """The whole of a file, or one byte more than `size` if it is longer. Raises ReadError."""
    content = read(source, size + 1)
    while len(content) <= size and (more := read(source, size + 1 - len(content))):
        content += more
    return content


def _create(path: str, fill: Callable[[int], None]) -> None:
    """A new plain file; none is left where filling it fails. Raises OSError, naming the file."""
    target = os.open(path, _NEW, 0o666)
    try:
        _fill_and_close(target, fill)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(path)
        if isinstance(error, OSError) and error.filename is None:
            raise OSError(error.errno, error.strerror, path) from error
        raise


def _fill_and_close(target: int, fill: Callable[[int], None]) -> None:
    try:
        fill(target)
    finally:
        os.close(target)
